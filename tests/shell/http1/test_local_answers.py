"""Requests that the proxy answers itself: methods it does not forward, hop limits, and problems as a client reads them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from switch_proxy.core.config.models import PoolSettings, TimeoutSettings
from tests.shell.http1.test_broken_upstreams import kind, problem
from tests.shell.http1.tokens import TOKEN, access_token
from tests.shell.http1.world import DATE

if TYPE_CHECKING:
    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.world import World

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


# Methods.


@pytest.mark.parametrize("target", [b"api.example:443", b"/", b"*"])
async def test_connect_is_a_405_and_what_follows_is_not_read_as_a_request(world: World, target: bytes) -> None:
    """RFC 9110 §9.3.6: this is no general proxy; the bytes behind would be a tunnel's."""
    client = await world.client()
    await client.send(b"CONNECT " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
    response = await client.receive_response()
    assert kind(response) == (405, "method-not-allowed")
    assert response.head.value("Allow") == METHODS
    assert await client.receive_to_end() == b""
    assert not world.upstream.has_connection_waiting()


@pytest.mark.parametrize("method", [b"TRACE", b"TRACK"])
@pytest.mark.parametrize("more", [b"", b"Max-Forwards: 0\r\n"], ids=["", "no forwards left"])
async def test_trace_is_a_405_because_its_response_would_show_the_token(
    world: World, more: bytes, method: bytes
) -> None:
    """RFC 9110 §9.3.8; TRACK is TRACE under another name."""
    client = await world.client()
    await client.send(method + b" / HTTP/1.1\r\nHost: x\r\n" + more + b"\r\n")
    response = await client.receive_response()
    assert kind(response) == (405, "method-not-allowed")
    assert response.head.value("Allow") == METHODS
    assert not world.upstream.has_connection_waiting()


async def test_after_a_trace_the_connection_goes_on(world: World) -> None:
    client, server, _ = await world.begin(b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
    await server.send(OK)
    assert [(await client.receive_response()).status for _ in range(2)] == [405, 200]


async def test_options_of_the_server_as_a_whole_are_asked_of_the_upstream(start_world: StartWorld) -> None:
    """RFC 9112 §3.2.4: the asterisk stays one, whatever the base path."""
    world = await start_world(base_path="/api")
    client, server, head = await world.begin(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.start == b"OPTIONS * HTTP/1.1"
    await server.send(b"HTTP/1.1 204 No Content\r\nAllow: GET\r\n\r\n")
    assert (await client.receive_response()).head.value("Allow") == b"GET"


@pytest.mark.parametrize("target", [b"/", b"*", b"/a"])
async def test_options_with_no_forwards_left_is_answered_here(world: World, target: bytes) -> None:
    """RFC 9110 §7.6.2, §9.3.7."""
    client = await world.client()
    await client.send(b"OPTIONS " + target + b" HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n")
    response = await client.receive_response()
    assert (response.status, response.head.value("Allow"), response.body) == (200, METHODS, b"")
    assert response.head.value("Date") == DATE
    assert not world.upstream.has_connection_waiting()


async def test_after_an_answer_of_the_final_recipient_the_connection_goes_on(world: World) -> None:
    client, server, _ = await world.begin(b"OPTIONS / HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n" + GET)
    await server.send(OK)
    assert [(await client.receive_response()).status for _ in range(2)] == [200, 200]


async def test_an_answer_of_the_final_recipient_to_a_request_with_a_body_closes(world: World) -> None:
    """RFC 9112 §9.3: the body is not read."""
    client = await world.client()
    await client.send(b"OPTIONS / HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\nContent-Length: 50\r\n\r\n" + GET)
    assert (await client.receive_response()).head.value("Connection") == b"close"
    assert await client.receive_to_end() == b""


@pytest.mark.parametrize(("received", "sent"), [(b"1", b"0"), (b"10", b"9")])
async def test_max_forwards_of_options_is_counted_down(world: World, received: bytes, sent: bytes) -> None:
    """RFC 9110 §7.6.2."""
    _, _, head = await world.begin(b"OPTIONS / HTTP/1.1\r\nHost: x\r\nMax-Forwards: " + received + b"\r\n\r\n")
    assert head.value("Max-Forwards") == sent


@pytest.mark.parametrize("value", [b"0", b"5", b"007", b"many"])
async def test_max_forwards_of_other_methods_passes_as_it_is(world: World, value: bytes) -> None:
    """RFC 9110 §7.6.2: it means nothing there."""
    _, _, head = await world.begin(b"GET / HTTP/1.1\r\nHost: x\r\nMax-Forwards: " + value + b"\r\n\r\n")
    assert head.value("Max-Forwards") == value


# Tokens.


async def test_without_a_token_the_answer_is_a_503_and_nothing_is_forwarded(start_world: StartWorld) -> None:
    """The rule that does not bend."""
    world = await start_world(token=None, wait_for_token=0.02)
    client = await world.client()
    await client.send(GET)
    response = await client.receive_response()
    assert kind(response) == (503, "token-unavailable")
    assert response.head.value("Retry-After") == b"8"
    detail = problem(response)["detail"]
    assert "switch" in detail
    assert "the authorization server cannot be reached" in detail
    assert response.head.value("Connection") is None
    assert not world.upstream.has_connection_waiting()


@pytest.mark.parametrize("request_", [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + bytes(1000)])
async def test_without_a_token_a_request_with_a_body_is_a_503_that_closes(
    start_world: StartWorld, request_: bytes
) -> None:
    """RFC 9112 §9.3: the body is not read."""
    world = await start_world(token=None, wait_for_token=0.02)
    client = await world.client()
    await client.send(request_)
    response = await client.receive_response()
    assert (response.status, response.head.value("Connection")) == (503, b"close")
    assert await client.receive_to_end() == b""


async def test_a_request_waits_for_the_token_that_is_being_fetched(start_world: StartWorld) -> None:
    world = await start_world(token=None)
    client = await world.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel")
    await world.until(lambda now: now.requests_in_flight == 1)
    assert not world.upstream.has_connection_waiting()
    await client.send(b"lo")
    world.tokens.give(access_token("late"))
    server = await world.upstream.accept()
    assert (await server.receive_head()).value("Authorization") == b"Bearer late"
    assert await server.receive(5) == b"hello"
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"


async def test_a_token_that_expires_while_the_request_waits_for_a_connection_is_not_sent(
    start_world: StartWorld,
) -> None:
    """Nothing is forwarded without a valid token."""
    world = await start_world(
        token=access_token("first", expires_at=1000.0), pool=PoolSettings(max_connections=1), wait_for_token=0.05
    )
    client, server, _ = await world.begin(GET)
    waiter = await world.client()
    await waiter.send(GET)
    await world.until(lambda now: now.waiting_for_upstream == 1)
    world.tokens.give(None)
    await server.send(OK)
    assert kind(await waiter.receive_response()) == (503, "token-unavailable")
    # The connection is there for the next request, which brings a token; nothing was sent on it in between.
    world.tokens.give(access_token("second"))
    assert (await client.receive_response()).body == b"hi"
    await client.send(GET)
    assert (await server.receive_head()).value("Authorization") == b"Bearer second"


async def test_a_token_that_is_replaced_while_the_request_waits_for_a_connection_is_not_sent(
    start_world: StartWorld,
) -> None:
    """The fresh one is."""
    world = await start_world(pool=PoolSettings(max_connections=1))
    _, server, _ = await world.begin(GET)
    waiter = await world.client()
    await waiter.send(GET)
    await world.until(lambda now: now.waiting_for_upstream == 1)
    world.tokens.give(access_token("second", generation=2))
    await server.send(OK)
    assert (await server.receive_head()).value("Authorization") == b"Bearer second"


async def test_a_provider_that_fails_unexpectedly_is_a_500_and_the_failure_is_reported(
    start_world: StartWorld,
) -> None:
    """A fault of ours is told as one, without its text, and is not lost."""
    world = await start_world(token=None)
    world.tokens.failure = RuntimeError("not for clients")
    client = await world.client()
    await client.send(GET)
    response = await client.receive_response()
    assert kind(response) == (500, "internal")
    assert b"not for clients" not in response.body
    assert [context["exception"] for context in world.unexpected] == [world.tokens.failure]
    world.unexpected.clear()


# Problems.


async def test_a_problem_says_what_happened_where_and_for_which_request(world: World) -> None:
    """RFC 9457 §3; RFC 9209 §2."""
    client, server, _ = await world.begin(b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: abc-1\r\n\r\n")
    server.reset()
    response = await client.receive_response()
    assert response.head.start == b"HTTP/1.1 502 Bad Gateway"
    assert json.loads(response.body) == {
        "type": "urn:switch-proxy:problem:upstream-closed",
        "title": "The upstream closed the connection before it responded",
        "status": 502,
        "detail": "the upstream reset the connection before it responded",
        "request_id": "abc-1",
    }
    assert response.head.value("Proxy-Status") == (
        b'"switch-proxy"; error=connection_terminated; next-hop="' + world.host + b'"; '
        b'details="the upstream reset the connection before it responded"'
    )
    assert response.head.value("Cache-Control") == b"no-store"
    assert response.head.value("Date") == DATE
    assert response.head.value("Retry-After") == b"1"


async def test_a_problem_names_the_proxy_as_via_does(start_world: StartWorld) -> None:
    """RFC 9209 §2: the same name in both."""
    world = await start_world(via="edge-7")
    client, server, _ = await world.begin(GET)
    server.reset()
    value = (await client.receive_response()).head.value("Proxy-Status")
    assert value is not None
    assert value.startswith(b'"edge-7"; ')


async def test_a_problem_in_answer_to_head_has_no_body(world: World) -> None:
    """RFC 9110 §9.3.2."""
    client, server, _ = await world.begin(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
    server.reset()
    head = (await client.receive_response(to="HEAD")).head
    assert head.status == 502
    assert int(head.value("Content-Length") or 0) > 0
    fresh = await world.upstream.accept()
    await fresh.receive_head()
    await fresh.send(OK)
    assert (await client.receive_response()).body == b"hi"


async def test_a_problem_with_a_request_id_that_is_no_utf_8_is_still_told(world: World) -> None:
    client, server, _ = await world.begin(b'GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: \xff"\\\xe4\r\n\r\n')
    server.reset()
    assert kind(await client.receive_response()) == (502, "upstream-closed")


async def test_no_problem_shows_the_token(start_world: StartWorld) -> None:
    """Neither ours nor one the client sent."""
    world = await start_world(timeouts=TimeoutSettings(response_head=0.03))
    client, _, _ = await world.begin(b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer clients-own\r\n\r\n")
    response = await client.receive_response()
    assert response.status == 504
    for secret in (TOKEN.encode(), b"clients-own"):
        assert secret not in response.head.raw + response.body


async def test_a_refusal_does_not_repeat_the_value_it_is_about(world: World) -> None:
    """An Authorization with a control character in it must not be read back."""
    client = await world.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\x01\r\n\r\n")
    response = await client.receive_response()
    assert response.status == 400
    assert b"secret" not in response.head.raw + response.body
    assert b"authorization" in response.body.lower()
