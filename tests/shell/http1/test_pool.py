"""The connections to the upstream: which is used next, how many there may be, and for how long."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from switch_proxy.core.config.models import PoolSettings, TimeoutSettings
from switch_proxy.resolver import Resolver
from tests.shell.http1.test_broken_upstreams import kind

if TYPE_CHECKING:
    from switch_proxy.core.known_name import SocketAddress
    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.raw_client import RawClient
    from tests.shell.http1.raw_upstream import UpstreamSide
    from tests.shell.http1.world import World

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def busy(world: World, count: int) -> list[tuple[RawClient, UpstreamSide]]:
    """Return `count` clients that each wait for an answer on a connection of their own."""
    return [(client, server) for client, server, _ in [await world.begin(GET) for _ in range(count)]]


async def finish(client: RawClient, server: UpstreamSide) -> None:
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"


async def test_an_idle_connection_is_used_again_by_another_client(world: World) -> None:
    ((client, server),) = await busy(world, 1)
    await finish(client, server)
    other = await world.client()
    await other.send(GET)
    await server.receive_head()
    await finish(other, server)
    snapshot = world.snapshot()
    assert (snapshot.upstream_connects, snapshot.upstream_reuses) == (1, 1)


async def test_the_most_recently_used_idle_connection_is_used_first(world: World) -> None:
    """The warm one; the others may grow old and be closed."""
    (one, one_side), (two, two_side), (three, three_side) = await busy(world, 3)
    for client, side in ((one, one_side), (three, three_side), (two, two_side)):
        await finish(client, side)
    for client, side in ((one, two_side), (two, three_side), (three, one_side)):
        await client.send(GET)
        await side.receive_head()


async def test_two_requests_never_share_a_connection(world: World) -> None:
    """RFC 9112 §9.3.2: nothing is pipelined to the upstream."""
    (one, one_side), (two, two_side) = await busy(world, 2)
    assert world.snapshot().upstream_busy == 2
    await finish(two, two_side)
    await finish(one, one_side)
    assert world.snapshot().upstream_idle == 2


# How many.


async def test_no_more_connections_are_opened_than_allowed(start_world: StartWorld) -> None:
    world = await start_world(pool=PoolSettings(max_connections=2))
    (one, one_side), _ = await busy(world, 2)
    third = await world.client()
    await third.send(GET)
    await world.until(lambda now: now.waiting_for_upstream == 1)
    assert not world.upstream.has_connection_waiting()
    await finish(one, one_side)
    await one_side.receive_head()
    await finish(third, one_side)
    snapshot = world.snapshot()
    assert (snapshot.upstream_connects, snapshot.upstream_busy, snapshot.waiting_for_upstream) == (2, 1, 0)


async def test_those_who_wait_are_served_in_order(start_world: StartWorld) -> None:
    world = await start_world(pool=PoolSettings(max_connections=1))
    ((client, server),) = await busy(world, 1)
    waiting = []
    for number in range(3):
        waiter = await world.client()
        await waiter.send(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
        await world.until(lambda now, number=number: now.waiting_for_upstream == number + 1)  # type: ignore[misc]
        waiting.append(waiter)
    for number in range(3):
        await finish(client, server)
        client = waiting[number]
        assert (await server.receive_head()).start == b"GET /%d HTTP/1.1" % number


@pytest.mark.parametrize("end", ["close line", "reset", "malformed"])
async def test_one_who_waits_opens_a_connection_where_the_one_in_use_ends(start_world: StartWorld, end: str) -> None:
    world = await start_world(pool=PoolSettings(max_connections=1))
    ((client, server),) = await busy(world, 1)
    waiter = await world.client()
    await waiter.send(GET)
    await world.until(lambda now: now.waiting_for_upstream == 1)
    if end == "close line":
        await server.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    elif end == "reset":
        server.reset()
    else:
        await server.send(b"nonsense\r\n\r\n")
    fresh = await world.upstream.accept()
    await fresh.receive_head()
    await finish(waiter, fresh)
    assert (await client.receive_response()).status in {200, 502}


async def test_one_who_waits_opens_a_connection_where_the_client_of_the_one_in_use_goes_away(
    start_world: StartWorld,
) -> None:
    world = await start_world(pool=PoolSettings(max_connections=1))
    ((client, _),) = await busy(world, 1)
    waiter = await world.client()
    await waiter.send(GET)
    await world.until(lambda now: now.waiting_for_upstream == 1)
    client.reset()
    fresh = await world.upstream.accept()
    await fresh.receive_head()
    await finish(waiter, fresh)


async def test_one_who_waits_too_long_gets_a_503_with_the_time_to_come_back(start_world: StartWorld) -> None:
    """RFC 9110 §10.2.3."""
    world = await start_world(pool=PoolSettings(max_connections=1, acquire_timeout=0.04))
    ((client, server),) = await busy(world, 1)
    waiter = await world.client()
    await waiter.send(GET)
    response = await waiter.receive_response()
    assert kind(response) == (503, "upstream-busy")
    assert response.head.value("Retry-After") == b"1"
    assert response.head.value("Connection") is None
    await finish(client, server)


async def test_where_too_many_wait_already_the_next_gets_a_503_at_once(start_world: StartWorld) -> None:
    world = await start_world(pool=PoolSettings(max_connections=1, max_waiting=2))
    ((client, server),) = await busy(world, 1)
    waiting = [await world.client() for _ in range(2)]
    for waiter in waiting:
        await waiter.send(GET)
    await world.until(lambda now: now.waiting_for_upstream == 2)
    extra = await world.client()
    await extra.send(GET)
    assert kind(await extra.receive_response()) == (503, "upstream-busy")
    await finish(client, server)
    for waiter in waiting:
        await server.receive_head()
        await finish(waiter, server)


async def test_with_no_places_to_wait_one_too_many_gets_a_503_at_once(start_world: StartWorld) -> None:
    world = await start_world(pool=PoolSettings(max_connections=1, max_waiting=0))
    ((client, server),) = await busy(world, 1)
    extra = await world.client()
    await extra.send(GET)
    assert kind(await extra.receive_response()) == (503, "upstream-busy")
    await finish(client, server)


async def test_one_who_goes_away_while_it_waits_gives_its_place_up(start_world: StartWorld) -> None:
    world = await start_world(pool=PoolSettings(max_connections=1, max_waiting=1))
    ((client, server),) = await busy(world, 1)
    gone = await world.client()
    await gone.send(GET)
    await world.until(lambda now: now.waiting_for_upstream == 1)
    await gone.close()
    await world.until(lambda now: now.waiting_for_upstream == 0)
    waiter = await world.client()
    await waiter.send(GET)
    await world.until(lambda now: now.waiting_for_upstream == 1)
    await finish(client, server)
    await server.receive_head()
    await finish(waiter, server)


async def test_a_failed_connection_gives_its_place_up(start_world: StartWorld) -> None:
    world = await start_world(pool=PoolSettings(max_connections=1, acquire_timeout=0.04))
    world.upstream.stop_listening()
    for _ in range(3):
        client = await world.client()
        await client.send(GET)
        assert kind(await client.receive_response()) == (502, "upstream-refused")
    assert world.snapshot().upstream_busy == 0


async def test_a_burst_of_requests_is_served_over_few_connections(start_world: StartWorld) -> None:
    world = await start_world(pool=PoolSettings(max_connections=3))
    clients = [await world.client() for _ in range(60)]

    async def serve(side: UpstreamSide) -> None:
        while True:
            await side.receive_head()
            await side.send(OK)

    for client in clients:
        await client.send(GET)
    serving = [asyncio.get_running_loop().create_task(serve(await world.upstream.accept())) for _ in range(3)]
    try:
        for client in clients:
            assert (await client.receive_response()).body == b"hi"
    finally:
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
    snapshot = world.snapshot()
    assert (snapshot.upstream_connects, snapshot.upstream_reuses, snapshot.upstream_busy) == (3, 57, 0)


# For how long.


async def test_an_idle_connection_is_closed_when_its_time_is_over(start_world: StartWorld) -> None:
    world = await start_world(pool=PoolSettings(idle_timeout=0.03), timeouts=TimeoutSettings(idle=0.03))
    ((client, server),) = await busy(world, 1)
    await finish(client, server)
    assert await server.receive_to_any_end() == b""
    assert world.snapshot().upstream_idle == 0


async def test_a_connection_that_works_does_not_grow_idle(start_world: StartWorld) -> None:
    world = await start_world(pool=PoolSettings(idle_timeout=5), timeouts=TimeoutSettings(keep_alive=5))
    ((client, server),) = await busy(world, 1)
    world.pass_time(10)
    await finish(client, server)


async def test_a_connection_past_its_lifetime_is_closed_after_the_exchange(start_world: StartWorld) -> None:
    """So that an upstream that has moved is followed."""
    world = await start_world(pool=PoolSettings(lifetime=30))
    ((client, server),) = await busy(world, 1)
    world.pass_time(31)
    await finish(client, server)
    assert await server.receive_to_any_end() == b""
    await client.send(GET)
    fresh = await world.upstream.accept()
    await fresh.receive_head()
    await finish(client, fresh)


KEEP_ALIVE = {
    "timeout of nought": (b"Keep-Alive: timeout=0", False),
    "timeout of a second, which is too short to be sure of": (b"Keep-Alive: timeout=1", False),
    "timeout of a minute": (b"Keep-Alive: timeout=60, max=5", True),
    "max only": (b"Keep-Alive: max=5", True),
    "nonsense": (b"Keep-Alive: timeout=soon", True),
    "timeout far away": (b"Keep-Alive: timeout=999999", True),
    "timeout beyond all numbers": (b"Keep-Alive: timeout=99999999999999999999", True),
}


@pytest.mark.parametrize(("line", "is_kept"), KEEP_ALIVE.values(), ids=KEEP_ALIVE.keys())
async def test_a_connection_is_kept_no_longer_than_the_upstream_says(world: World, line: bytes, is_kept: bool) -> None:
    """RFC 2068 §19.7.1.1: a client that uses it at the last moment would lose the race against the close."""
    ((client, server),) = await busy(world, 1)
    await server.send(b"HTTP/1.1 200 OK\r\n" + line + b"\r\nContent-Length: 0\r\n\r\n")
    await client.receive_response()
    await world.until(lambda now: now.upstream_busy == 0)
    assert world.snapshot().upstream_idle == int(is_kept)


async def test_a_connection_is_opened_to_where_the_name_points_now(start_world: StartWorld) -> None:
    """A name is resolved for each new connection: localhost may be ::1 and 127.0.0.1, and only one may answer."""
    world = await start_world(host="localhost")
    client, server, head = await world.begin(GET)
    assert head.value("Host") == b"localhost:%d" % world.upstream.port
    await finish(client, server)


async def test_a_name_that_cannot_be_resolved_is_a_502(start_world: StartWorld) -> None:
    """RFC 6761 §6.4: names under invalid. never do."""
    world = await start_world(host="api.invalid", allow_plaintext=True)
    client = await world.client()
    await client.send(GET)
    assert kind(await client.receive_response()) == (502, "upstream-name-unknown")


async def test_a_name_for_which_dns_does_not_respond_is_told_as_such_in_time(start_world: StartWorld) -> None:
    """The upstream is not to blame."""
    responds = threading.Event()

    def hang(_: str) -> tuple[SocketAddress, ...]:
        responds.wait()
        return ()

    resolver = Resolver(used_by="route api", now=lambda: 0.0, look_up=hang)
    world = await start_world(
        host="api.example.com", resolver=resolver, allow_plaintext=True, timeouts=TimeoutSettings(connect=0.1)
    )
    client = await world.client()
    await client.send(GET)
    response = await client.receive_response()
    assert kind(response) == (502, "upstream-name-unknown")
    assert b"the name api.example.com was not resolved within 0.1 seconds: DNS does not respond" in response.body
    responds.set()


async def test_if_dns_fails_a_new_connection_goes_to_the_last_addresses(start_world: StartWorld) -> None:
    has_failed = threading.Event()

    def fail_later(_: str) -> tuple[SocketAddress, ...]:
        if has_failed.is_set():
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return (("127.0.0.1", 0),)

    resolver = Resolver(used_by="route api", now=lambda: 0.0, look_up=fail_later)
    world = await start_world(host="api.example.com", resolver=resolver, allow_plaintext=True)
    client, server, _ = await world.begin(GET)
    has_failed.set()
    other, other_server, _ = await world.begin(GET)
    await finish(client, server)
    await finish(other, other_server)
    assert world.snapshot().upstream_connects == 2


async def test_a_connection_that_grew_idle_since_the_last_look_is_not_used(start_world: StartWorld) -> None:
    """The upstream may be about to close it; the timer that closes idle ones has not run yet."""
    world = await start_world(pool=PoolSettings(idle_timeout=30))
    ((client, server),) = await busy(world, 1)
    await finish(client, server)
    world.clock.skip(30)
    await client.send(GET)
    assert await server.receive_to_any_end() == b""
    fresh = await world.upstream.accept()
    await fresh.receive_head()
    await finish(client, fresh)


async def test_a_connection_past_its_lifetime_is_not_given_to_one_who_waits(start_world: StartWorld) -> None:
    """Under load it would never be idle, and an upstream that has moved would never be followed."""
    world = await start_world(pool=PoolSettings(lifetime=30, max_connections=1))
    ((client, server),) = await busy(world, 1)
    waiter = await world.client()
    await waiter.send(GET)
    await world.until(lambda now: now.waiting_for_upstream == 1)
    world.pass_time(30)
    await finish(client, server)
    assert await server.receive_to_any_end() == b""
    fresh = await world.upstream.accept()
    await fresh.receive_head()
    await finish(waiter, fresh)
