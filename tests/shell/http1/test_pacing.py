"""A route with rate limits: requests wait for their turn in order, and those whose turn would come too late get 429."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from switch_proxy.core.config.models import RateLimitSettings
from switch_proxy.core.path_pattern import parse_path_pattern
from switch_proxy.core.rate import parse_rate
from tests.shell.http1.test_broken_upstreams import kind, problem
from tests.shell.http1.world import until

if TYPE_CHECKING:
    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.raw_client import RawClient
    from tests.shell.http1.world import World

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
LAST = OK.replace(b"Content-Length", b"Connection: close\r\nContent-Length")
"""The upstream's connection ends with it, so that the next request comes on another."""
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def post(name: bytes, body: bytes = b"") -> bytes:
    return b"POST /api/readings?%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (name, len(body), body)


def limit(*rates: str, **changes: Any) -> RateLimitSettings:
    return RateLimitSettings(
        **{
            "methods": ("POST",),
            "paths": (parse_path_pattern("/api/readings"),),
            "limits": tuple(map(parse_rate, rates)),
            "max_wait": 300.0,
            **changes,
        }
    )


async def until_waiting(world: World, count: int) -> None:
    pacing = world.route.pacing
    assert pacing is not None
    await until(lambda: pacing.waiting == count, lambda: f"{pacing.waiting} wait")


async def send_and_serve(world: World, request: bytes) -> None:
    client, server, _ = await world.begin(request)
    await server.send(LAST)
    assert (await client.receive_response()).status == 200


async def waiting_client(world: World, request: bytes, count: int) -> RawClient:
    client = await world.client()
    await client.send(request)
    await until_waiting(world, count)
    return client


async def test_a_request_beyond_the_limit_waits_for_its_turn_and_is_then_sent_with_its_body(
    start_world: StartWorld,
) -> None:
    world = await start_world(base_path="/v1", rate_limits=(limit("1/min"),))
    await send_and_serve(world, post(b"1"))
    client = await world.client()
    request = post(b"2", b"a body of more than one piece")
    await client.send(request[:-9])
    await until_waiting(world, 1)
    await client.send(request[-9:])
    # Others are not held: another method, another path.
    await send_and_serve(world, GET)
    await send_and_serve(world, b"GET /api/readings HTTP/1.1\r\nHost: x\r\n\r\n")
    assert not world.upstream.has_connection_waiting()
    world.pass_time(62.0)
    server = await world.upstream.accept()
    assert (await server.receive_head()).start == b"POST /v1/api/readings?2 HTTP/1.1"
    assert await server.receive(29) == b"a body of more than one piece"
    await server.send(OK)
    assert (await client.receive_response()).status == 200


async def test_those_that_wait_go_in_the_order_in_which_they_came(start_world: StartWorld) -> None:
    world = await start_world(rate_limits=(limit("1/s"),))
    await send_and_serve(world, post(b"0"))
    for number in range(1, 4):
        await waiting_client(world, post(b"%d" % number), number)
    for number in range(1, 4):
        world.pass_time(1.1)
        server = await world.upstream.accept()
        assert (await server.receive_head()).start == b"POST /api/readings?%d HTTP/1.1" % number
        await until_waiting(world, 3 - number)


async def test_a_client_that_leaves_loses_its_place(start_world: StartWorld) -> None:
    world = await start_world(rate_limits=(limit("1/min"),))
    await send_and_serve(world, post(b"0"))
    leaving = await waiting_client(world, post(b"1"), 1)
    await waiting_client(world, post(b"2"), 2)
    leaving.socket.close()
    await until_waiting(world, 1)
    world.pass_time(62.0)
    server = await world.upstream.accept()
    assert (await server.receive_head()).start == b"POST /api/readings?2 HTTP/1.1"


@pytest.mark.parametrize(
    "changes", [{"max_wait": 30.0}, {"mode": "reject"}, {"max_waiting": 0}], ids=["too late", "mode reject", "too many"]
)
async def test_a_request_that_may_not_wait_is_a_429_that_says_when_to_come_back(
    start_world: StartWorld, changes: dict[str, Any]
) -> None:
    world = await start_world(rate_limits=(limit("9/s", "1/min", **changes),))
    await send_and_serve(world, post(b"0"))
    client = await world.client()
    await client.send(post(b"1") + GET)
    response = await client.receive_response()
    assert kind(response) == (429, "rate-limited")
    assert 58 <= int(response.head.value("Retry-After") or b"0") <= 62
    assert b"error=" in (response.head.value("Proxy-Status") or b"")
    assert "9/s, 1/min" in problem(response)["detail"]
    server = await world.upstream.accept()
    await server.receive_head()
    await server.send(OK)
    assert (await client.receive_response()).status == 200


async def test_a_429_of_the_api_holds_the_requests_behind_it(start_world: StartWorld) -> None:
    world = await start_world(rate_limits=(limit("9/s"),))
    client, server, _ = await world.begin(post(b"0"))
    await server.send(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n")
    assert (await client.receive_response()).status == 429
    waiting = await waiting_client(world, post(b"1"), 1)
    world.pass_time(29.0)
    assert world.route.pacing is not None
    assert world.route.pacing.waiting == 1
    world.pass_time(1.5)
    await server.receive_head()
    await server.send(OK)
    assert (await waiting.receive_response()).status == 200


async def test_a_request_is_counted_by_every_limit_that_is_for_it(start_world: StartWorld) -> None:
    everything = RateLimitSettings(limits=(parse_rate("2/min"),), mode="reject")
    world = await start_world(rate_limits=(limit("9/s"), everything))
    await send_and_serve(world, post(b"0"))
    await send_and_serve(world, GET)
    client = await world.client()
    await client.send(post(b"1"))
    assert kind(await client.receive_response()) == (429, "rate-limited")


async def test_what_waits_ends_with_the_proxy(start_world: StartWorld) -> None:
    world = await start_world(rate_limits=(limit("1/min"),))
    await send_and_serve(world, post(b"0"))
    client = await waiting_client(world, post(b"1"), 1)
    world.listener.stop_accepting()
    await world.listener.drain(0.0)
    assert kind(await client.receive_response()) == (503, "shutting-down")
    await until_waiting(world, 0)
