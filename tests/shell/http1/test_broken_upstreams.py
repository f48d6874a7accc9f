"""Upstreams that refuse, hang, break off or talk nonsense: what the client is told, and what is never told it."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from switch_proxy.core.config.models import LimitSettings, TimeoutSettings
from tests.shell.http1.raw_peer import working
from tests.shell.http1.raw_upstream import RawUpstream

if TYPE_CHECKING:
    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.messages import Response
    from tests.shell.http1.world import World

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\n\r\n"
GET_1_0_KEPT = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def problem(response: Response) -> dict[str, Any]:
    """Return the problem that a response is (RFC 9457)."""
    assert response.head.value("Content-Type") == b"application/problem+json"
    value = json.loads(response.body)
    assert isinstance(value, dict)
    assert value["status"] == response.status
    return value


def kind(response: Response) -> tuple[int, str]:
    """Return the status and the name of a problem."""
    return response.status, problem(response)["type"].removeprefix("urn:switch-proxy:problem:")


@pytest.mark.parametrize("request_", [GET, POST], ids=["GET", "POST"])
async def test_an_upstream_that_refuses_connections_is_a_502(world: World, request_: bytes) -> None:
    world.upstream.stop_listening()
    client = await world.client()
    await client.send(request_)
    assert kind(await client.receive_response()) == (502, "upstream-refused")


async def test_after_a_502_the_clients_connection_goes_on(world: World) -> None:
    """RFC 9112 §9.3: nothing is in doubt about the client's side."""
    client, server, _ = await world.begin(GET)
    server.reset()
    assert (await client.receive_response()).status == 502
    await client.send(GET)
    server = await world.upstream.accept()
    await server.receive_head()
    await server.send(OK)
    assert (await client.receive_response()).status == 200


async def test_an_upstream_that_accepts_no_connection_in_time_is_a_504(start_world: StartWorld) -> None:
    upstream = RawUpstream(backlog=0)
    # The one place in its queue is taken, so that the kernel answers no further SYN.
    fillers = [socket.socket() for _ in range(3)]
    for filler in fillers:
        filler.setblocking(False)  # noqa: FBT003 - the standard library's
        filler.connect_ex(("127.0.0.1", upstream.port))
    try:
        world = await start_world(upstream=upstream, timeouts=TimeoutSettings(connect=0.05))
        client = await world.client()
        await client.send(GET)
        assert kind(await client.receive_response()) == (504, "upstream-connect-timeout")
    finally:
        for filler in fillers:
            filler.close()


async def test_an_upstream_that_does_not_answer_in_time_is_a_504(start_world: StartWorld) -> None:
    world = await start_world(timeouts=TimeoutSettings(response_head=0.04))
    client, server, _ = await world.begin(GET)
    assert kind(await client.receive_response()) == (504, "upstream-timeout")
    assert await server.receive_to_any_end() == b""


async def test_an_upstream_that_stops_in_the_middle_of_its_head_is_a_504(start_world: StartWorld) -> None:
    world = await start_world(timeouts=TimeoutSettings(response_head=0.1))
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\nContent-")
    assert kind(await client.receive_response()) == (504, "upstream-timeout")


async def test_an_upstream_that_only_sends_interim_responses_is_a_504(start_world: StartWorld) -> None:
    world = await start_world(timeouts=TimeoutSettings(response_head=0.1))
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 102 Processing\r\n\r\n")
    assert (await client.receive_head()).status == 102
    assert kind(await client.receive_response()) == (504, "upstream-timeout")


@pytest.mark.parametrize("is_reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize("request_", [GET, POST], ids=["GET", "POST"])
async def test_an_upstream_that_breaks_off_before_it_answers_is_a_502(
    world: World, request_: bytes, is_reset: bool
) -> None:
    """On a fresh connection nothing is repeated: it was not stale (RFC 9110 §9.2.2)."""
    client, server, _ = await world.begin(request_)
    if is_reset:
        server.reset()
    else:
        await server.receive(len(request_.partition(b"\r\n\r\n")[2]))
        await server.close()
    assert kind(await client.receive_response()) == (502, "upstream-closed")
    assert not world.upstream.has_connection_waiting()


@pytest.mark.parametrize("is_reset", [False, True], ids=["closes", "resets"])
async def test_an_upstream_that_ends_each_connection_at_once_is_a_502(world: World, is_reset: bool) -> None:
    """What a load balancer without backends does: to be told to the client, not to be tried for ever."""
    accepted = 0

    async def end_each() -> None:
        nonlocal accepted
        while True:
            side = await world.upstream.accept()
            accepted += 1
            if is_reset:
                side.reset()
            else:
                await side.close()

    async with working(end_each()):
        client = await world.client()
        await client.send(GET)
        assert kind(await client.receive_response()) == (502, "upstream-closed")
    assert accepted <= 2


async def test_an_upstream_that_breaks_off_in_its_head_is_a_502(world: World) -> None:
    """RFC 9112 §8."""
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n")
    await server.close()
    assert kind(await client.receive_response()) == (502, "upstream-closed")


async def test_an_upstream_that_breaks_off_after_an_interim_response_is_a_502(world: World) -> None:
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n")
    await client.receive_head()
    await server.close()
    assert kind(await client.receive_response()) == (502, "upstream-closed")


MALFORMED = {
    "no status line": b"hello\r\n\r\n",
    "nothing but an empty line": b"\r\n\r\n",
    "an empty line before the status line": b"\r\n" + OK,
    "HTTP/2": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/0.9": b"<html>hello</html>\r\n\r\n",
    "another protocol": b"ICY 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "another protocol's greeting": b"220 mail.example ESMTP\r\n\r\n",
    "version in lower case": b"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "two spaces before the status": b"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nhi",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nhi",
    "status below 100": b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nhi",
    "status with a sign": b"HTTP/1.1 +20 OK\r\nContent-Length: 2\r\n\r\nhi",
    "status of letters": b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nhi",
    "NUL in the reason": b"HTTP/1.1 200 O\x00K\r\nContent-Length: 2\r\n\r\nhi",
    "bare CR in the reason": b"HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nhi",
    "bare LF after the status line": b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nhi",
    "bare LF everywhere": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
    "content-length with transfer-encoding": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    ),
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
    "the same length twice": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    "a list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi",
    "length with a plus": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi",
    "length of letters": b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nhi",
    "length empty": b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhi",
    "length beyond 64 bits": b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nhi",
    "transfer-encoding gzip": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhi",
    "transfer-encoding gzip, chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "transfer-encoding chunked twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "transfer-encoding identity": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhi",
    "transfer-encoding empty": b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\nhi",
    "transfer-encoding with a vertical tab": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\x0b\r\n\r\n0\r\n\r\n",
    "transfer-encoding in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "space before a colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nhi",
    "folded line": b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nhi",
    "line without a colon": b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 2\r\n\r\nhi",
    "empty name": b"HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 2\r\n\r\nhi",
    "bare CR in a value": b"HTTP/1.1 200 OK\r\nX-A: b\rSet-Cookie: c\r\nContent-Length: 2\r\n\r\nhi",
    "bare LF in a value": b"HTTP/1.1 200 OK\r\nX-A: b\nSet-Cookie: c\r\nContent-Length: 2\r\n\r\nhi",
    "NUL in a value": b"HTTP/1.1 200 OK\r\nX-A: \x00\r\nContent-Length: 2\r\n\r\nhi",
    "head without end": b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 70_000,
    "head too large": b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 70_000 + b"\r\nContent-Length: 2\r\n\r\nhi",
    "too many lines": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 128 + b"Content-Length: 2\r\n\r\nhi",
    "protocols switched unasked": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "malformed after an interim response": b"HTTP/1.1 103 Early\r\n\r\nnonsense\r\n\r\n",
}


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_answer_is_a_502_and_its_connection_is_not_used_again(world: World, answer: bytes) -> None:
    """RFC 9112 §2.2, §4, §5, §6.3: to be answered with 502 and the connection closed."""
    client, server, _ = await world.begin(GET)
    await server.send(answer)
    response = await client.receive_response()
    if response.status == 103:
        response = await client.receive_response()
    assert kind(response) == (502, "upstream-malformed")
    assert await server.receive_to_any_end() == b""
    await client.send(GET)
    server = await world.upstream.accept()
    await server.receive_head()
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"


@pytest.mark.parametrize("is_before", [True, False], ids=["before the request", "after it"])
async def test_an_upstream_of_http_2_alone_is_called_that(start_world: StartWorld, *, is_before: bool) -> None:
    """RFC 9113 §3.4: its SETTINGS come at once, and it waits for those of the client, or goes."""
    world = await start_world()
    client = await world.client()
    await client.send(GET)
    server = await world.upstream.accept()
    if not is_before:
        await server.receive_head()
    await server.send(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64")
    response = await client.receive_response()
    assert response.status == 502
    assert "the upstream speaks HTTP/2 alone" in json.loads(response.body)["detail"]
    assert (await world.record()).detail == json.loads(response.body)["detail"]
    await server.receive_to_any_end()


@pytest.mark.parametrize(
    ("greeting", "detail"),
    [
        pytest.param(b"220 mail.example ESMTP\r\n", "does not begin with an HTTP/1.x status line", id="a greeting"),
        pytest.param(OK, "the upstream sent a response before there was a request", id="a response"),
    ],
)
async def test_an_upstream_that_speaks_before_it_is_asked_is_not_called_closed(
    world: World, greeting: bytes, detail: str
) -> None:
    """RFC 9112 §9.2: what no request asked for is no response to the next one."""
    client = await world.client()
    await client.send(GET)
    server = await world.upstream.accept()
    await server.send(greeting)
    response = await client.receive_response()
    assert kind(response) == (502, "upstream-malformed")
    assert detail in json.loads(response.body)["detail"]


async def test_a_head_of_the_largest_size_passes(start_world: StartWorld) -> None:
    """The limit is the head without its empty line."""
    world = await start_world(limits=LimitSettings(request_line=256, head=1024, field_lines=2))
    start = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: "
    client, server, _ = await world.begin(GET)
    head = start + b"a" * (1024 - len(start))
    await server.send(head, b"\r", b"\n\r", b"\nhi")
    response = await client.receive_response()
    assert (response.status, response.body) == (200, b"hi")
    await client.send(GET)
    await server.receive_head()
    await server.send(head + b"a\r\n\r\nhi")
    assert (await client.receive_response()).status == 502


BAD_CHUNKS = {
    "size in C notation": b"0x2\r\nhi\r\n0\r\n\r\n",
    "negative size": b"-2\r\nhi\r\n0\r\n\r\n",
    "size with a space before it": b" 2\r\nhi\r\n0\r\n\r\n",
    "size of letters": b"two\r\nhi\r\n0\r\n\r\n",
    "size beyond 64 bits": b"10000000000000002\r\nhi\r\n0\r\n\r\n",
    "bare LF after the size": b"2\nhi\r\n0\r\n\r\n",
    "no line end after the data": b"2\r\nhi0\r\n\r\n",
    "bare LF at the end": b"2\r\nhi\r\n0\r\n\n",
    "folded trailer": b"0\r\nX-A: b\r\n c\r\n\r\n",
}


@pytest.mark.parametrize("chunks", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
@pytest.mark.parametrize("is_later", [False, True], ids=["with the head", "after the head"])
async def test_a_malformed_chunk_leaves_the_clients_message_incomplete(
    world: World, chunks: bytes, is_later: bool
) -> None:
    """RFC 9112 §7.1, §8: what has begun as 200 cannot become a 502, so it is cut."""
    client, server, _ = await world.begin(GET)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    await server.send(*((head, chunks) if is_later else (head + chunks,)))
    received = await client.receive_to_any_end()
    assert not received.endswith(b"0\r\n\r\n")
    assert b"\r\n0\r\n" not in received
    assert (await world.record()).failure == "upstream-malformed"


CUTS = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", b"hello"),
    "length with nothing of it": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", b""),
    "chunked, between chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n"),
    "chunked, in a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"a\r\nhello"),
    "chunked, in a size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n5"),
    "chunked, in the last chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n0\r\n"),
    "chunked, in the trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\nX-A: b\r\n"),
}


@pytest.mark.parametrize("is_reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize(("head", "body"), CUTS.values(), ids=CUTS.keys())
async def test_a_body_cut_short_is_incomplete_for_the_client_too(
    world: World, head: bytes, body: bytes, is_reset: bool
) -> None:
    """RFC 9112 §8: never made to look complete."""
    client, server, _ = await world.begin(GET)
    await server.send(head)
    received = await client.receive_head()
    await server.send(body)
    if body.startswith(b"5\r\nhello"):
        assert await client.receive_chunk() == b"hello"
    if is_reset:
        server.reset()
    else:
        await server.close()
    rest = await client.receive_to_any_end()
    if received.value("Content-Length") is not None:
        assert len(rest) < 10
    else:
        assert b"0\r\n" not in rest
    assert (await world.record()).failure == "upstream-incomplete"


async def test_a_body_without_length_that_is_reset_is_incomplete_for_the_client(world: World) -> None:
    """RFC 9112 §8: only an orderly close ends such a body."""
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
    await client.receive_head()
    assert await client.receive_chunk() == b"hello"
    server.reset()
    assert await client.receive_to_any_end() == b""
    assert (await world.record()).failure == "upstream-incomplete"


@pytest.mark.parametrize("request_", [GET_1_0, GET_1_0_KEPT], ids=["close", "keep-alive"])
@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"hello"),
    ],
    ids=["chunked", "without length"],
)
async def test_an_http_1_0_client_whose_body_ends_with_the_connection_gets_a_reset_when_it_is_cut_short(
    world: World, request_: bytes, head: bytes, body: bytes
) -> None:
    """RFC 9112 §8: an orderly close would make it look complete."""
    client, server, _ = await world.begin(request_)
    await server.send(head + body)
    assert (await client.receive_head()).value("Connection") == b"close"
    assert await client.receive(5) == b"hello"
    server.reset()
    assert await client.receive_to_reset() == b""


async def test_a_stalled_body_is_cut(start_world: StartWorld) -> None:
    """The idle limit is between two bytes of a body."""
    world = await start_world(timeouts=TimeoutSettings(idle=0.04))
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    await client.receive_head()
    assert await client.receive_to_any_end() == b"hello"
    assert await server.receive_to_any_end() == b""
    assert (await world.record()).failure == "upstream-timeout"


async def test_an_upstream_that_stops_reading_the_body_is_a_504(start_world: StartWorld) -> None:
    world = await start_world(timeouts=TimeoutSettings(idle=0.05))
    client, server, _ = await world.begin(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
    async with working(client.send(bytes(100_000_000))):
        assert kind(await client.receive_response()) == (504, "upstream-stalled")
    await server.receive_to_any_end()


async def test_a_client_that_stops_sending_its_body_is_a_408_and_the_upstream_is_told_by_the_end_of_its_connection(
    start_world: StartWorld,
) -> None:
    """RFC 9110 §15.5.9; RFC 9112 §8."""
    world = await start_world(timeouts=TimeoutSettings(idle=0.04))
    client, server, _ = await world.begin(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
    assert kind(await client.receive_response()) == (408, "request-timeout")
    assert await client.receive_to_end() == b""
    assert await server.receive_to_any_end() == b"hello"
