"""The bytes of requests that a listener holds for all its clients together are bounded, and others are served meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from switch_proxy.core.config.models import LimitSettings, TimeoutSettings
from switch_proxy.http1.request_budget import UNCOUNTED, RequestBudget
from tests.shell.http1.raw_peer import turn, working
from tests.shell.http1.tokens import access_token
from tests.shell.http1.world import until

if TYPE_CHECKING:
    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.raw_client import RawClient
    from tests.shell.http1.raw_upstream import UpstreamSide
    from tests.shell.http1.world import World

LIMIT = 65536
LIMITS = LimitSettings(request_buffers=LIMIT, replay_buffer=32768)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
CLOSING = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
PARTIAL_HEAD = b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 30_000
PUT = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n"
BODY = bytes(range(250)) * 240
CLIENTS = 12


def budget(world: World) -> RequestBudget:
    return world.listener._context.budget


def held(world: World) -> int:
    """Return what is really held in buffers for all clients, counted or not."""
    return sum(
        len(client.codec.unread) + (0 if client._exchange is None else client._exchange.held_bytes)
        for client in world.listener._clients
    )


async def fill(world: World, data: bytes, count: int = CLIENTS) -> list[RawClient]:
    """Have clients send what the proxy has to hold, until its listener holds as much as it may."""
    clients = [await world.client() for _ in range(count)]
    for client in clients:
        client.socket.send(data)
    await until(lambda: budget(world).is_used_up, lambda: f"only {budget(world).held} bytes are held")
    for _ in range(10):
        await turn()
    return clients


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PARTIAL_HEAD, id="unfinished heads"),
        pytest.param(GET + GET * 1200, id="pipelines"),
        pytest.param(PUT + BODY[:30_000], id="bodies"),
    ],
)
async def test_many_clients_hold_no_more_than_the_listener_may(start_world: StartWorld, data: bytes) -> None:
    """Past the bound each holds some kilobytes more, whatever it sends."""
    world = await start_world(limits=LIMITS, token=None)
    await fill(world, data)
    assert held(world) <= LIMIT + len(data) + CLIENTS * 2 * UNCOUNTED
    assert CLIENTS * len(data) > 2 * LIMIT
    world.tokens.give(access_token())


async def test_others_are_served_while_the_budget_is_used_up(start_world: StartWorld) -> None:
    """Those that hold nothing are read, in small pieces: uploads pass through."""
    world = await start_world(limits=LIMITS)
    await fill(world, PARTIAL_HEAD)
    client = await world.client()
    await client.send(GET)
    server = await world.upstream.accept()
    await server.receive_head()
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"
    body = BODY * 20
    async with working(client.send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)):
        await server.receive_head()
        assert await server.receive(len(body)) == body
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"


async def test_a_head_that_is_not_read_in_time_gets_503_and_the_budget_is_free_again(start_world: StartWorld) -> None:
    """It is not the client's fault, so it is no 408."""
    world = await start_world(limits=LIMITS, timeouts=TimeoutSettings(request_head=5.0))
    clients = await fill(world, PARTIAL_HEAD)
    world.pass_time(6.0)
    assert not budget(world).is_used_up
    refused = [record for record in world.records.all if record.failure == "request-buffers-full"]
    assert refused
    assert len(refused) == len(world.records.all) < len(clients)
    for client in clients:
        # Those whose turn has come now are read, and have the time for a head anew.
        with suppress(ConnectionError):
            await client.send(b"\r\n\r\n")
    for _ in range(len(clients) - len(refused)):
        server = await world.upstream.accept()
        assert len((await server.receive_head()).value("X") or b"") == 30_000
        await server.send(CLOSING)
    responses = [await client.receive_response() for client in clients]
    assert sorted({response.head.status for response in responses}) == [200, 503]
    refusal = next(response for response in responses if response.head.status == 503)
    assert b"urn:switch-proxy:problem:request-buffers-full" in refusal.body
    assert refusal.head.value("Retry-After") == b"1"
    assert budget(world).held == 0


async def test_uploads_that_wait_for_a_token_arrive_whole_when_it_comes(start_world: StartWorld) -> None:
    world = await start_world(limits=LIMITS, token=None)
    clients = await fill(world, PUT + BODY[:20_000])
    world.tokens.give(access_token())

    async def serve(server: UpstreamSide) -> None:
        await server.receive_head()
        assert await server.receive(len(BODY)) == BODY
        await server.send(CLOSING)

    async def send_rest() -> None:
        await asyncio.gather(*(client.send(BODY[20_000:]) for client in clients))

    async with working(send_rest()):
        servers = [await world.upstream.accept() for _ in clients]
        await asyncio.gather(*(serve(server) for server in servers))
    for client in clients:
        assert (await client.receive_response()).body == b"hi"
    assert (budget(world).held, budget(world).is_used_up) == (0, False)


async def test_bodies_that_are_kept_to_be_sent_again_give_way_first(start_world: StartWorld) -> None:
    """The requests go on; the one whose token is refused is not sent a second time."""
    world = await start_world(limits=LIMITS)
    request = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n" + bytes(20_000)
    begun = [await world.begin(request) for _ in range(4)]
    for _, server, _ in begun:
        await server.receive(20_000)
    assert (budget(world).held, budget(world).is_used_up) == (20_000, False)
    world.tokens.give(access_token("newer", generation=2))
    client, server, _ = begun[0]
    await server.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
    assert (await client.receive_response()).body == b"no"
    client, server, _ = begun[3]
    await server.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
    await until(lambda: world.route.replays == 1, lambda: "the last one, which was still kept, is not sent again")


async def test_a_body_that_the_upstream_does_not_take_is_counted(start_world: StartWorld) -> None:
    world = await start_world(limits=LimitSettings(request_buffers=LIMIT, replay_buffer=0))
    client, server, _ = await world.begin(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n")
    async with working(client.send(bytes(50_000_000))):
        await until(lambda: budget(world).held > UNCOUNTED, lambda: "nothing is counted")
        assert len(await server.receive(50_000_000)) == 50_000_000
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"
    assert budget(world).held == 0


async def test_a_client_that_goes_frees_what_was_held_for_it(start_world: StartWorld) -> None:
    world = await start_world(limits=LIMITS)
    client = await world.client()
    await client.send(PARTIAL_HEAD)
    await until(lambda: budget(world).held == len(PARTIAL_HEAD), lambda: f"{budget(world).held} bytes are held")
    client.socket.close()
    await until(lambda: not budget(world).held, lambda: f"{budget(world).held} bytes are held")


async def test_clients_that_go_while_they_are_not_read_free_what_was_held_for_them(start_world: StartWorld) -> None:
    """Their end waits behind bytes that nobody reads: it is looked for."""
    world = await start_world(limits=LIMITS)
    clients = await fill(world, PARTIAL_HEAD)
    for client in clients:
        client.socket.close()
    await until(lambda: not world.listener._clients, lambda: f"{len(world.listener._clients)} are left")
    assert (budget(world).held, budget(world).is_used_up) == (0, False)


async def test_requests_of_a_few_kilobytes_are_not_counted(start_world: StartWorld) -> None:
    """Most requests are, and counting would cost each of them."""
    world = await start_world(limits=LIMITS)
    client = await world.client()
    await client.send(PARTIAL_HEAD[:UNCOUNTED])
    await until(lambda: held(world) == UNCOUNTED, lambda: "the head has not come")
    assert budget(world).held == 0


def test_a_budget_is_used_up_above_its_limit_until_half_of_it_is_free() -> None:
    """Going to and fro would be work for nothing."""
    changes = []
    made = RequestBudget(limit=1000)
    made.on_changed = lambda: changes.append((made.held, made.is_used_up))
    for by in (1000, 1, 500, -1000, -1, 1, -1, 499, 1):
        made.change(by)
    assert changes == [(1001, True), (500, False)]
