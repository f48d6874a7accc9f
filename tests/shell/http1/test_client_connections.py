"""The client's connection from request to request: persistence, pipelining, ends and departures."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from switch_proxy.core.config.models import LimitSettings, TimeoutSettings
from tests.shell.http1.raw_peer import bounded, send_until_stopped, until_steady, working
from tests.shell.http1.test_broken_upstreams import kind
from tests.shell.http1.world import World, until

if TYPE_CHECKING:
    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.raw_upstream import UpstreamSide

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def get(target: bytes = b"/", *lines: bytes) -> bytes:
    return b"\r\n".join((b"GET " + target + b" HTTP/1.1", b"Host: x", *lines, b"", b""))


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


# Persistence.


async def test_a_connection_serves_one_request_after_the_other(world: World) -> None:
    """RFC 9112 §9.3: persistent unless said otherwise, on both sides."""
    client, server, _ = await world.begin(get(b"/0"))
    for number in range(1, 4):
        await server.send(answer(b"%d" % number))
        response = await client.receive_response()
        assert response.body == b"%d" % number
        assert response.head.value("Connection") is None
        await client.send(get(b"/%d" % number))
        assert (await server.receive_head()).start == b"GET /%d HTTP/1.1" % number
    assert world.snapshot().upstream_connects == 1


@pytest.mark.parametrize("line", [b"Connection: close", b"connection: Close", b"Connection: x-a, close"])
async def test_a_client_that_asks_to_close_gets_the_connection_closed(world: World, line: bytes) -> None:
    """RFC 9112 §9.6; its request says nothing about the upstream's connection."""
    client, server, head = await world.begin(get(b"/", line))
    assert head.value("Connection") is None
    await server.send(OK)
    response = await client.receive_response()
    assert response.head.value("Connection") == b"close"
    assert await client.receive_to_end() == b""
    assert world.snapshot().upstream_idle == 1


async def test_nothing_is_answered_after_a_request_that_closes(world: World) -> None:
    """RFC 9112 §9.6: no further request is processed."""
    client, server, _ = await world.begin(get(b"/1", b"Connection: close") + get(b"/2"))
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"
    assert await client.receive_to_end() == b""
    await client.close()
    await world.until(lambda now: now.client_connections == 0)
    assert world.snapshot().upstream_idle == 1
    assert len(world.records.all) == 1


HTTP_1_0 = {
    "plain": (b"GET / HTTP/1.0\r\n\r\n", b"close"),
    "with keep-alive": (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"keep-alive"),
    "with keep-alive in other case": (b"GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n", b"keep-alive"),
    "with close": (b"GET / HTTP/1.0\r\nConnection: close\r\n\r\n", b"close"),
    "with both": (b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", b"close"),
    "with proxy-connection": (b"GET / HTTP/1.0\r\nProxy-Connection: keep-alive\r\n\r\n", b"close"),
}


@pytest.mark.parametrize(("request_", "connection"), HTTP_1_0.values(), ids=HTTP_1_0.keys())
async def test_an_http_1_0_connection_stays_open_only_where_the_client_asks_for_it(
    world: World, request_: bytes, connection: bytes
) -> None:
    """RFC 9112 §9.3: and it must be told so."""
    client, server, _ = await world.begin(request_)
    await server.send(OK)
    response = await client.receive_response()
    assert response.head.value("Connection") == connection
    assert response.body == b"hi"
    if connection == b"close":
        assert await client.receive_to_end() == b""
    else:
        await client.send(request_)
        await server.receive_head()


async def test_an_http_1_0_client_that_stays_gets_a_problem_and_may_go_on(world: World) -> None:
    """RFC 9112 §9.3."""
    client, server, _ = await world.begin(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    server.reset()
    response = await client.receive_response()
    assert (response.status, response.head.value("Connection")) == (502, b"keep-alive")


# Pipelining.


async def test_pipelined_requests_are_answered_in_order(world: World) -> None:
    """RFC 9112 §9.3.2."""
    client, server, _ = await world.begin(b"".join(get(b"/%d" % number) for number in range(5)))
    for number in range(5):
        if number:
            assert (await server.receive_head()).start == b"GET /%d HTTP/1.1" % number
        await server.send(answer(b"%d" % number))
        assert (await client.receive_response()).body == b"%d" % number


async def test_a_pipelined_request_is_sent_only_when_the_one_before_is_answered(world: World) -> None:
    """Answers would otherwise have to be kept for the one in front."""
    client, server, _ = await world.begin(get(b"/1") + get(b"/2"))
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh")
    await client.receive_head()
    assert await client.receive(1) == b"h"
    assert not world.upstream.has_connection_waiting()
    await server.send(b"i")
    assert (await server.receive_head()).start == b"GET /2 HTTP/1.1"


async def test_pipelined_requests_with_bodies_are_told_apart(world: World) -> None:
    """RFC 9112 §6."""
    post = b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    chunked = b"PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    client, server, head = await world.begin(post % 1 + chunked + post % 2 + get(b"/end"))
    assert head.start == b"POST /1 HTTP/1.1"
    assert await server.receive(3) == b"abc"
    await server.send(OK)
    assert (await server.receive_head()).start == b"PUT /c HTTP/1.1"
    assert await server.receive(13) == b"3\r\nabc\r\n0\r\n\r\n"
    await server.send(OK)
    assert (await server.receive_head()).start == b"POST /2 HTTP/1.1"
    assert await server.receive(3) == b"abc"
    await server.send(OK)
    assert (await server.receive_head()).start == b"GET /end HTTP/1.1"
    for _ in range(3):
        assert (await client.receive_response()).body == b"hi"


async def test_pipelined_requests_are_told_apart_in_any_segmentation(world: World) -> None:
    requests = get(b"/1") + b"POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + get(b"/3")
    client = await world.client()
    await client.send(*(requests[at : at + 1] for at in range(len(requests))))
    server = await world.upstream.accept()
    assert (await server.receive_head()).start == b"GET /1 HTTP/1.1"
    await server.send(OK)
    assert (await server.receive_head()).start == b"POST /2 HTTP/1.1"
    assert await server.receive(3) == b"abc"
    await server.send(OK)
    assert (await server.receive_head()).start == b"GET /3 HTTP/1.1"


async def test_a_malformed_request_behind_a_good_one_is_refused_after_that_is_answered(world: World) -> None:
    """RFC 9112 §9.3.2, §11.2."""
    client, server, _ = await world.begin(get() + b"nonsense\r\n\r\n" + get())
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"
    assert (await client.receive_response()).status == 400
    assert await client.receive_to_end() == b""


async def test_pipelined_refusals_of_our_own_come_in_order(world: World) -> None:
    """RFC 9112 §9.3.2: those that are answered without the upstream, too."""
    client, server, _ = await world.begin(
        b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n" + get() + b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    assert (await client.receive_response()).status == 405
    await server.send(OK)
    assert (await client.receive_response()).status == 200
    assert (await client.receive_response()).status == 405


async def test_a_thousand_pipelined_requests_are_all_answered(world: World) -> None:
    """Neither the stack nor the buffer for waiting requests may set a limit."""
    client = await world.client()
    async with working(client.send(b"".join(get(b"/%d" % at) for at in range(1000)))):
        server = await world.upstream.accept()
        for number in range(1000):
            assert (await server.receive_head()).start == b"GET /%d HTTP/1.1" % number
            await server.send(OK)
    for _ in range(1000):
        assert (await client.receive_response()).body == b"hi"


async def answer_each(server: UpstreamSide, body: bytes) -> None:
    """Answer requests for ever; the first is there already."""
    while True:
        await server.send(answer(body))
        await server.receive_until(b"\r\n\r\n")


async def test_a_client_that_pipelines_without_reading_is_stopped(world: World) -> None:
    """Memory per connection is bounded: neither what the client does not read may pile up, nor what it asks for."""
    client = await world.narrow_client()
    await client.send(get() * 100)
    server = await world.upstream.accept()
    await server.receive_head()
    async with working(answer_each(server, bytes(50_000))):
        assert await until_steady(lambda: len(world.records.all)) < 10
        sent = await send_until_stopped(client.socket, get() * 1000, limit=32 << 20)
    assert sent < 32 << 20, "everything that was sent was taken"


# Ends.


async def test_a_client_that_has_ended_its_side_is_still_answered(world: World) -> None:
    """RFC 9112 §9.6: a half-closed connection can still be written to."""
    client, server, _ = await world.begin(get())
    await client.end()
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"
    assert await client.receive_to_end() == b""


async def test_a_client_that_ends_its_side_before_a_connection_is_there_is_still_answered(world: World) -> None:
    client = await world.client()
    await client.send(get())
    await client.end()
    server = await world.upstream.accept()
    await server.receive_head()
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"
    assert await client.receive_to_end() == b""


async def test_a_client_that_pipelines_and_ends_its_side_is_answered_in_full(world: World) -> None:
    """RFC 9112 §9.6: as printf … | nc does."""
    client, server, _ = await world.begin(get(b"/1") + get(b"/2") + get(b"/3"))
    await client.end()
    await server.send(OK)
    for _ in range(2):
        await server.receive_head()
        await server.send(OK)
    for _ in range(3):
        assert (await client.receive_response()).body == b"hi"
    assert await client.receive_to_end() == b""


async def test_a_half_closed_client_that_reads_late_gets_its_answer_and_then_the_end(world: World) -> None:
    """The end comes after the last byte, whether or not the answer fitted into the socket at once."""
    client = await world.narrow_client()
    await client.send(get())
    server = await world.upstream.accept()
    await server.receive_head()
    await client.end()
    body = bytes(100_000)
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + body[:50_000], body[50_000:])
    await world.record()
    assert len((await client.receive_response()).body) == len(body)
    assert await client.receive_to_end() == b""


async def test_a_half_closed_client_whose_answers_do_not_fit_at_once_is_answered_in_full(world: World) -> None:
    """RFC 9112 §9.6: requests that wait for a slow reader are requests all the same."""
    client = await world.narrow_client()
    await client.send(get() * 10)
    server = await world.upstream.accept()
    await server.receive_head()
    async with working(answer_each(server, bytes(50_000))):
        assert await until_steady(lambda: len(world.records.all)) < 10
        await client.end()
        for _ in range(10):
            assert len((await client.receive_response()).body) == 50_000
        assert await client.receive_to_end() == b""


@pytest.mark.parametrize(
    "partial",
    [b"GET / HTTP/1.1\r\nHo", b"\r\n", b"G"],
)
async def test_a_client_that_ends_in_the_middle_of_a_head_gets_the_end(world: World, partial: bytes) -> None:
    """RFC 9112 §8: an incomplete request is none; the connection is closed."""
    client = await world.client()
    await client.send(partial)
    await client.end()
    await client.receive_to_any_end()
    assert not world.upstream.has_connection_waiting()


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ],
    ids=["length", "chunked", "chunked, before the trailers' end"],
)
async def test_a_client_that_ends_in_the_middle_of_a_body_leaves_the_upstream_an_incomplete_request(
    world: World, request_: bytes
) -> None:
    """RFC 9112 §8: the upstream must be able to tell."""
    client, server, _ = await world.begin(request_)
    await client.end()
    received = await server.receive_to_any_end()
    assert received in {b"hello", b"5\r\nhello\r\n"}
    await client.receive_to_any_end()


# Departures.


@pytest.mark.parametrize("is_reset", [False, True], ids=["closes", "resets"])
async def test_a_client_that_goes_away_while_it_waits_cancels_the_upstreams_request(
    world: World, is_reset: bool
) -> None:
    """Nobody is there to read the answer; the upstream's work should end."""
    client, server, _ = await world.begin(get())
    if is_reset:
        client.reset()
    else:
        await client.close()
    assert await server.receive_to_any_end() == b""
    record = await world.record()
    assert (record.failure, record.status) == ("client-gone", 0)


@pytest.mark.parametrize("is_reset", [False, True], ids=["closes", "resets"])
async def test_a_client_that_goes_away_in_the_middle_of_its_body_cancels_the_upstreams_request(
    world: World, is_reset: bool
) -> None:
    client, server, _ = await world.begin(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
    assert await server.receive(5) == b"hello"
    if is_reset:
        client.reset()
    else:
        await client.close()
    assert await server.receive_to_any_end() == b""
    assert (await world.record()).failure == "client-gone"


@pytest.mark.parametrize("is_reset", [False, True], ids=["closes", "resets"])
async def test_a_client_that_goes_away_in_the_middle_of_a_response_cancels_it(world: World, is_reset: bool) -> None:
    client, server, _ = await world.begin(get())
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    await client.receive_head()
    assert await client.receive(5) == b"hello"
    if is_reset:
        client.reset()
    else:
        await client.close()
    assert await server.receive_to_any_end() == b""
    record = await world.record()
    assert (record.failure, record.status) == ("client-gone", 200)


async def test_a_client_that_goes_away_after_half_closing_is_noticed_when_it_is_written_to(world: World) -> None:
    """The kernel says so with a reset; what is then still to come is cancelled."""
    client, server, _ = await world.begin(get())
    await client.end()
    await server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await client.receive_head()
    client.socket.close()
    await server.send(b"1\r\na\r\n", b"1\r\nb\r\n")
    await server.receive_to_any_end()
    assert (await world.record()).failure == "client-gone"


async def test_a_client_on_ipv6_is_served_and_its_departure_noticed(start_world: StartWorld) -> None:
    world = await start_world(listen="::1")
    client, server, _ = await world.begin(get())
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"
    world.records.all.clear()
    await client.send(get())
    await server.receive_head()
    await client.close()
    assert await server.receive_to_any_end() == b""
    assert (await world.record()).failure == "client-gone"


async def test_a_client_that_goes_away_while_it_waits_for_a_token_is_forgotten(start_world: StartWorld) -> None:
    world = await start_world(token=None)
    client = await world.client()
    await client.send(get())
    await world.until(lambda now: now.requests_in_flight == 1)
    await client.close()
    await world.until(lambda now: now.requests_in_flight == 0)
    assert (await world.record()).failure == "client-gone"
    await until(lambda: world.tokens.waiting == 0, lambda: "the wait for a token goes on")


async def test_a_client_that_is_gone_before_its_requests_turn_comes_has_it_left_out(world: World) -> None:
    """A pipelined request behind a departure must not be made."""
    client, server, _ = await world.begin(get(b"/1") + get(b"/2"))
    client.reset()
    assert await server.receive_to_any_end() == b""
    await world.until(lambda now: now.client_connections == 0)
    assert not world.upstream.has_connection_waiting()
    assert len(world.records.all) == 1


# Limits.


@pytest.mark.parametrize("segments", [1, 2, 300], ids=["at once", "in two", "byte by byte at the end"])
async def test_a_request_line_up_to_the_limit_passes_and_a_longer_one_is_a_414(
    start_world: StartWorld, segments: int
) -> None:
    """RFC 9112 §3: 414 for a target longer than one wishes to parse."""
    world = await start_world(limits=LimitSettings(request_line=300))
    for length, status in ((300, 200), (301, 414)):
        line = b"GET /" + b"a" * (length - 14) + b" HTTP/1.1"
        assert len(line) == length
        request = line + b"\r\nHost: x\r\n\r\n"
        pieces = [request[:10], request[10:]] if segments == 2 else [request]
        if segments == 300:
            pieces = [request[:295], *(request[at : at + 1] for at in range(295, len(request)))]
        client = await world.client()
        await client.send(*pieces)
        if status == 200:
            server = await world.upstream.accept()
            await server.receive_head()
            await server.send(OK)
        assert (await client.receive_response()).status == status


async def test_a_request_line_without_end_is_a_414(world: World) -> None:
    client = await world.client()
    await client.send(b"GET /" + b"a" * 9000)
    response = await client.receive_response()
    assert (kind(response), response.head.value("Connection")) == ((414, "request-malformed"), b"close")


@pytest.mark.parametrize("is_split", [False, True], ids=["at once", "split"])
async def test_a_head_up_to_the_limit_passes_and_a_larger_one_is_a_431(start_world: StartWorld, is_split: bool) -> None:
    """RFC 6585 §5; the limit is the head without its empty line, wherever the reads end."""
    world = await start_world(limits=LimitSettings(request_line=256, head=1024))
    for size, status in ((1024, 200), (1025, 431)):
        start = b"GET / HTTP/1.1\r\nHost: x\r\nX-A: "
        request = start + b"a" * (size - len(start)) + b"\r\n\r\n"
        client = await world.client()
        await client.send(*((request[:size], b"\r", b"\n", b"\r", b"\n") if is_split else (request,)))
        if status == 200:
            server = await world.upstream.accept()
            await server.receive_head()
            await server.send(OK)
        assert (await client.receive_response()).status == status


async def test_a_head_without_end_is_a_431(world: World) -> None:
    client = await world.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 70_000)
    assert kind(await client.receive_response()) == (431, "request-malformed")
    assert await client.receive_to_end() == b""


async def test_lines_up_to_the_limit_pass_and_one_more_is_a_431(start_world: StartWorld) -> None:
    """RFC 6585 §5."""
    world = await start_world(limits=LimitSettings(field_lines=10))
    client, server, _ = await world.begin(get(b"/", *([b"X-A: b"] * 9)))
    await server.send(OK)
    assert (await client.receive_response()).status == 200
    await client.send(get(b"/", *([b"X-A: b"] * 10)))
    assert kind(await client.receive_response()) == (431, "request-malformed")


# Time.


@pytest.mark.parametrize("partial", [b"G", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\n\r"])
async def test_a_head_that_does_not_end_in_time_is_a_408(start_world: StartWorld, partial: bytes) -> None:
    """RFC 9110 §15.5.9: against clients that keep connections busy with nothing (slow loris)."""
    world = await start_world(timeouts=TimeoutSettings(request_head=0.1))
    client = await world.client()
    await client.send(partial)
    response = await client.receive_response()
    assert (kind(response), response.head.value("Connection")) == ((408, "request-timeout"), b"close")
    assert await client.receive_to_end() == b""


async def test_a_head_that_comes_drop_by_drop_is_a_408_all_the_same(start_world: StartWorld) -> None:
    """The limit is on the whole head, not between its bytes."""
    world = await start_world(timeouts=TimeoutSettings(request_head=0.1))
    client = await world.client()
    await client.send(b"GET / HTTP/1.1\r\n")
    async with bounded("an answer"):
        while not client_has_bytes(client.socket):
            await client.send(b"a: b\r\n")
            await asyncio.sleep(0.005)
    assert kind(await client.receive_response()) == (408, "request-timeout")


def client_has_bytes(connected: socket.socket) -> bool:
    """Say whether bytes or an end wait to be read."""
    try:
        connected.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        # Of bytes that were under way while the other side closed.
        return True
    return True


async def test_a_client_that_sends_empty_lines_for_ever_is_closed(start_world: StartWorld) -> None:
    """RFC 9112 §2.2 asks to pass over an empty line, not to wait for ever behind one."""
    world = await start_world(timeouts=TimeoutSettings(request_head=0.04, keep_alive=0.04))
    client = await world.client()
    async with bounded("the end"):
        while not client_has_bytes(client.socket):
            await client.send(b"\r\n")
            await asyncio.sleep(0.005)
    await client.receive_to_any_end()


async def test_a_client_that_says_nothing_at_all_is_closed_without_a_word(start_world: StartWorld) -> None:
    """RFC 9110 §15.5.9: a 408 on an idle connection could be taken for the answer to a request under way."""
    world = await start_world(timeouts=TimeoutSettings(request_head=0.04))
    client = await world.client()
    assert await client.receive_to_end() == b""


async def test_an_idle_connection_is_closed_without_a_word(start_world: StartWorld) -> None:
    """RFC 9112 §9.8."""
    world = await start_world(timeouts=TimeoutSettings(keep_alive=0.04))
    client, server, _ = await world.begin(get())
    await server.send(OK)
    await client.receive_response()
    assert await client.receive_to_end() == b""


async def test_a_connection_that_works_is_not_idle(start_world: StartWorld) -> None:
    """The limits on heads and idle connections do not count while an answer is awaited."""
    world = await start_world(timeouts=TimeoutSettings(keep_alive=5, request_head=5))
    client, server, _ = await world.begin(get())
    world.pass_time(10)
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"


async def test_the_limit_on_the_next_head_begins_with_its_first_byte(start_world: StartWorld) -> None:
    world = await start_world(timeouts=TimeoutSettings(request_head=5))
    client, server, _ = await world.begin(get())
    await server.send(OK)
    await client.receive_response()
    world.pass_time(10)
    await client.send(b"GET / HT")
    await client.send(b"TP/1.1\r\nHost: x\r\n\r\n")
    assert (await server.receive_head()).start == b"GET / HTTP/1.1"


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        (b" / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b" / HTTP/1.1\n", 400),
        (b" /" + b"a" * 9000, 414),
        (b" / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 70_000, 431),
        (b" / HTTP/2.0\r\n\r\n", 505),
    ],
)
@pytest.mark.parametrize("before", [b"", b"\r\n"], ids=["", "an empty line before"])
async def test_a_refusal_while_the_head_is_read_has_no_body_for_head(
    world: World, before: bytes, rest: bytes, status: int
) -> None:
    """RFC 9110 §9.3.2: its client would take the body for the next response."""
    client = await world.client()
    await client.send(before + b"HEAD" + rest)
    response = await client.receive_to_any_end()
    assert response.startswith(b"HTTP/1.1 %d " % status)
    assert response.endswith(b"\r\n\r\n")


async def test_a_head_that_is_too_large_by_its_request_line_is_a_414_in_one_segment_too(world: World) -> None:
    client = await world.client()
    await client.send(b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.receive_response()).status == 414
