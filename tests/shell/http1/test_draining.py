"""The listener's way out: nothing new, what is under way finishes, and what does not finish in time is cut."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from switch_proxy.core.config.listeners import own_listener
from switch_proxy.core.config.models import Address, Origin, RouteSettings
from switch_proxy.core.errors import ListenError
from switch_proxy.http1.listener import Listener
from switch_proxy.http1.route import Route
from tests.shell.http1.raw_client import connect
from tests.shell.http1.test_broken_upstreams import kind
from tests.shell.http1.world import Records, SkippingClock, StaticTokens

if TYPE_CHECKING:
    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.world import World

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_an_address_that_is_taken_is_an_error_that_names_route_and_address(world: World) -> None:
    host, port = world.listener.address
    route = RouteSettings(
        name="second",
        listen=Address(host=host, port=port),
        upstream=Origin(scheme="http", host="127.0.0.1", port=1),
        credential="switch",
    )
    clock, model = SkippingClock(), own_listener(route, Address(host=host, port=port))
    routes = [Route(each, tokens=StaticTokens(None), clock=clock) for each in model.routes]
    listener = Listener(model, routes=routes, observer=Records(), clock=clock)
    with pytest.raises(ListenError, match=rf"route 'second' cannot listen on 127\.0\.0\.1:{port}: .*in use"):
        await listener.start()


async def test_before_the_end_each_answer_has_the_word_to_close_and_idle_connections_stay(world: World) -> None:
    """So that a client which is about to send does not find its connection closed."""
    client, server, _ = await world.begin(GET)
    await server.send(OK)
    await client.receive_response()
    world.listener.announce_end()
    newcomer = await world.client()
    for each in (client, newcomer):
        await each.send(GET)
        await server.receive_head()
        await server.send(OK)
        response = await each.receive_response()
        assert (response.body, response.head.value("Connection")) == (b"hi", b"close")
        assert await each.receive_to_end() == b""


async def test_before_the_end_a_connection_that_was_not_told_to_close_is_kept(world: World) -> None:
    """The head of the response that has begun went out before; the next one says it."""
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh")
    await client.receive_head()
    world.listener.announce_end()
    await server.send(b"i")
    await client.receive(2)
    await client.send(GET)
    await server.receive_head()
    await server.send(OK)
    assert (await client.receive_response()).head.value("Connection") == b"close"


async def test_no_connection_is_accepted_any_more(world: World) -> None:
    address = world.listener.address
    world.listener.stop_accepting()
    with pytest.raises(ConnectionRefusedError):
        await connect(address)


async def test_an_idle_connection_is_closed(world: World) -> None:
    """RFC 9112 §9.5: a client must be ready for it at any time."""
    client, server, _ = await world.begin(GET)
    await server.send(OK)
    await client.receive_response()
    silent = await world.client()
    await world.until(lambda now: now.client_connections == 2)
    world.listener.stop_accepting()
    assert await client.receive_to_end() == b""
    assert await silent.receive_to_end() == b""
    assert await world.listener.drain(5) == 0


async def test_a_request_that_waits_for_its_answer_gets_it_with_the_word_to_close(world: World) -> None:
    """RFC 9112 §9.6."""
    client, server, _ = await world.begin(GET)
    world.listener.stop_accepting()
    draining = asyncio.get_running_loop().create_task(world.listener.drain(5))
    await server.send(OK)
    response = await client.receive_response()
    assert (response.body, response.head.value("Connection")) == (b"hi", b"close")
    assert await client.receive_to_end() == b""
    assert await draining == 0


async def test_a_response_that_has_begun_is_finished_and_then_the_connection_is_closed(world: World) -> None:
    """Its head said nothing of closing, but it is idle now, and idle connections are closed."""
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh")
    await client.receive_head()
    world.listener.stop_accepting()
    draining = asyncio.get_running_loop().create_task(world.listener.drain(5))
    await server.send(b"i")
    assert await client.receive_to_end() == b"hi"
    assert await draining == 0


async def test_an_upload_that_has_begun_is_finished(world: World) -> None:
    client, server, _ = await world.begin(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
    world.listener.stop_accepting()
    draining = asyncio.get_running_loop().create_task(world.listener.drain(5))
    await client.send(b"world")
    assert await server.receive(10) == b"helloworld"
    await server.send(OK)
    assert (await client.receive_response()).status == 200
    assert await draining == 0


async def test_a_problem_while_draining_has_the_word_to_close(world: World) -> None:
    client, server, _ = await world.begin(GET)
    world.listener.stop_accepting()
    server.reset()
    response = await client.receive_response()
    assert (response.status, response.head.value("Connection")) == (502, b"close")
    assert await client.receive_to_end() == b""


async def test_a_head_that_has_begun_is_closed(world: World) -> None:
    """It is no request yet; the client sends it again elsewhere (RFC 9112 §9.3.1)."""
    client = await world.client()
    await client.send(b"GET / HTTP/1.1\r\nHo")
    await world.until(lambda now: now.client_connections == 1)
    world.listener.stop_accepting()
    await client.receive_to_any_end()
    assert await world.listener.drain(5) == 0


async def test_a_request_that_is_not_answered_in_time_gets_a_503_and_counts_as_cut(world: World) -> None:
    client, server, _ = await world.begin(GET)
    world.listener.stop_accepting()
    assert await world.listener.drain(0.02) == 1
    response = await client.receive_response()
    assert kind(response) == (503, "shutting-down")
    assert response.head.value("Connection") == b"close"
    assert await client.receive_to_end() == b""
    assert await server.receive_to_any_end() == b""


async def test_a_response_that_does_not_end_in_time_is_cut(world: World) -> None:
    """RFC 9112 §8: without a last chunk."""
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
    await client.receive_head()
    world.listener.stop_accepting()
    assert await world.listener.drain(0.02) == 1
    assert await client.receive_to_any_end() == b"2\r\nhi\r\n"
    assert (await world.record()).failure == "shutting-down"


async def test_a_request_that_waits_for_a_token_when_time_is_up_gets_a_503(start_world: StartWorld) -> None:
    world = await start_world(token=None)
    client = await world.client()
    await client.send(GET)
    await world.until(lambda now: now.requests_in_flight == 1)
    world.listener.stop_accepting()
    assert await world.listener.drain(0.02) == 1
    assert kind(await client.receive_response()) == (503, "shutting-down")


async def test_pipelined_requests_are_answered_while_there_is_time(world: World) -> None:
    """Those that had arrived: the first answer says to close, so the rest are the client's to repeat."""
    client, server, _ = await world.begin(GET + GET)
    world.listener.stop_accepting()
    draining = asyncio.get_running_loop().create_task(world.listener.drain(5))
    await server.send(OK)
    response = await client.receive_response()
    assert response.head.value("Connection") == b"close"
    assert await client.receive_to_end() == b""
    await client.close()
    assert await draining == 0
    assert len(world.records.all) == 1


async def test_draining_with_nothing_under_way_is_over_at_once(world: World) -> None:
    world.listener.stop_accepting()
    assert await world.listener.drain(5) == 0


async def test_a_connection_accepted_in_the_last_moment_is_not_left_open(world: World) -> None:
    """The kernel may have taken it just before the socket was closed."""
    client = await world.client()
    world.listener.stop_accepting()
    await client.receive_to_any_end()
    assert await world.listener.drain(5) == 0


async def test_closing_without_draining_ends_everything(world: World) -> None:
    busy, server, _ = await world.begin(GET)
    idle = await world.client()
    await world.until(lambda now: now.client_connections == 2)
    await world.listener.close()
    await busy.receive_to_any_end()
    await idle.receive_to_any_end()
    await server.receive_to_any_end()


async def test_idle_upstream_connections_are_closed_in_the_end(world: World) -> None:
    client, server, _ = await world.begin(GET)
    await server.send(OK)
    await client.receive_response()
    world.listener.stop_accepting()
    await world.listener.drain(5)
    await world.listener.close()
    assert await server.receive_to_any_end() == b""
