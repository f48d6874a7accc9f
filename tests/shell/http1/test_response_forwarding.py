"""What of a response reaches the client, and how its end is told."""

from __future__ import annotations

import pytest

from tests.shell.http1.world import DATE, World

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


async def test_lines_keep_their_order_spelling_and_white_space(world: World) -> None:
    """RFC 9110 §5.3; nothing is decoded, joined or sorted."""
    lines = [
        b"date: Tue, 01 Jan 2030 00:00:00 GMT",
        b"Set-Cookie: a=b; Path=/",
        b"X-One:two  ",
        b"set-cookie:  c=d",
        b"Content-Encoding: gzip",
        b'ETag: "a"',
        b"Vary: accept",
        b"X-Empty:",
        b"X-Latin: caf\xe9",
        b"Server: x",
        b"Via: 1.1 inner",
        b"WWW-Authenticate: Bearer",
        b"Content-Range: bytes 0-1/5",
        b"Content-Length: 2",
        b"VARY: origin",
    ]
    client, server, _ = await world.begin(GET)
    await server.send(b"\r\n".join((b"HTTP/1.1 206 Partial Content", *lines, b"", b"\x1f\x8b")))
    response = await client.receive_response()
    assert response.head.start == b"HTTP/1.1 206 Partial Content"
    assert list(response.head.lines) == lines
    assert response.body == b"\x1f\x8b"


STATUS_LINES = {
    "ordinary": (b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK"),
    "without a reason": (b"HTTP/1.1 200 ", b"HTTP/1.1 200 "),
    "without a reason and its space": (b"HTTP/1.1 200", b"HTTP/1.1 200 "),
    "reason of several words": (b"HTTP/1.1 404 Not  Here", b"HTTP/1.1 404 Not  Here"),
    "reason above ASCII": (b"HTTP/1.1 500 \xc3\x85", b"HTTP/1.1 500 \xc3\x85"),
    "unknown status": (b"HTTP/1.1 299 Odd", b"HTTP/1.1 299 Odd"),
    "status beyond the classes": (b"HTTP/1.1 999 Request denied", b"HTTP/1.1 999 Request denied"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK", b"HTTP/1.1 200 OK"),
    "higher minor version": (b"HTTP/1.2 200 OK", b"HTTP/1.1 200 OK"),
}


@pytest.mark.parametrize(("sent", "expected"), STATUS_LINES.values(), ids=STATUS_LINES.keys())
async def test_status_and_reason_pass_and_the_version_is_ours(world: World, sent: bytes, expected: bytes) -> None:
    """RFC 9112 §4, RFC 9110 §6.2."""
    client, server, _ = await world.begin(GET)
    await server.send(sent + b"\r\nContent-Length: 2\r\n\r\nhi")
    response = await client.receive_response()
    assert (response.head.start, response.body) == (expected, b"hi")


async def test_a_response_without_date_gets_one(world: World) -> None:
    """RFC 9110 §6.6.1: a recipient with a clock adds what is missing when it forwards."""
    client, server, _ = await world.begin(GET)
    await server.send(OK)
    assert (await client.receive_response()).head.value("Date") == DATE


@pytest.mark.parametrize(
    "lines",
    [
        [b"Connection: keep-alive", b"Keep-Alive: timeout=60"],
        [b"Connection: close"],
        [b"Proxy-Connection: keep-alive"],
        [b"Proxy-Authenticate: Basic"],
        [b"Proxy-Authentication-Info: x"],
        [b"TE: trailers"],
        [b"Upgrade: h2c"],
        [b"Connection: upgrade", b"Upgrade: h2c"],
        [b"Connection: x-private,X-Other", b"x-PRIVATE: a", b"X-other: b"],
        [b"X-Private: a", b"Connection: x-private"],
    ],
    ids=lambda lines: b" ".join(lines).decode(),
)
async def test_lines_for_one_hop_do_not_pass(world: World, lines: list[bytes]) -> None:
    """RFC 9110 §7.6.1."""
    client, server, _ = await world.begin(GET)
    await server.send(b"\r\n".join((b"HTTP/1.1 200 OK", b"A: 1", *lines, b"Content-Length: 2", b"B: 2", b"", b"hi")))
    response = await client.receive_response()
    assert response.head.without("Date") == [b"A: 1", b"Content-Length: 2", b"B: 2"]


async def test_a_connection_line_cannot_have_the_framing_removed(world: World) -> None:
    """RFC 9112 §6.3: without its length, the client would take the body for the next response."""
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 2\r\n\r\nhi")
    response = await client.receive_response()
    assert (response.head.value("Content-Length"), response.body) == (b"2", b"hi")


async def test_a_body_with_a_length_passes_with_its_length(world: World) -> None:
    """RFC 9112 §6.2."""
    body = bytes(range(256)) * 1000
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 256000\r\n\r\n" + body)
    response = await client.receive_response()
    assert response.head.value("Content-Length") == b"256000"
    assert response.body == body


async def test_a_body_is_passed_on_as_it_comes(world: World) -> None:
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
    assert (await client.receive_head()).status == 200
    for piece in (b"a", b"bcd", b"ef"):
        await server.send(piece)
        assert await client.receive(len(piece)) == piece


async def test_a_head_is_read_in_any_segmentation(world: World) -> None:
    client, server, _ = await world.begin(GET)
    answer = b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n" + OK
    await server.send(*(answer[at : at + 1] for at in range(len(answer))))
    assert (await client.receive_head()).status == 103
    assert (await client.receive_response()).body == b"hi"


async def test_a_chunked_body_passes_chunked(world: World) -> None:
    """RFC 9112 §7.1: data as it comes, extensions for one hop."""
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    head = await client.receive_head()
    assert head.value("Transfer-Encoding") == b"chunked"
    assert head.value("Content-Length") is None
    assert head.value("Connection") is None
    await server.send(b"5;a=b\r\nhello\r\n")
    assert await client.receive_chunk() == b"hello"
    await server.send(b"01\r\n!\r\n")
    assert await client.receive_chunk() == b"!"
    await server.send(b"0\r\n\r\n")
    assert await client.receive(5) == b"0\r\n\r\n"


async def test_trailers_of_a_response_pass(world: World) -> None:
    """RFC 9110 §6.5."""
    client, server, _ = await world.begin(b"GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: TE\r\n\r\n")
    await server.send(
        b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nhi\r\n0\r\nX-Sum: 1\r\nx-b:2\r\n\r\n"
    )
    response = await client.receive_response()
    assert response.head.value("Trailer") == b"X-Sum"
    assert (response.body, response.trailers) == (b"hi", [b"X-Sum: 1", b"x-b:2"])


@pytest.mark.parametrize(
    "trailer",
    [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Set-Cookie: a=b", b"Connection: close", b"X-Private: a"],
    ids=lambda trailer: trailer.decode(),
)
async def test_a_trailer_of_a_response_that_must_not_be_one_does_not_pass(world: World, trailer: bytes) -> None:
    """RFC 9110 §6.5.1, §7.6.1."""
    client, server, _ = await world.begin(GET)
    await server.send(
        b"HTTP/1.1 200 OK\r\nConnection: x-private\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\nX-A: b\r\n" + trailer + b"\r\n\r\n"
    )
    assert (await client.receive_response()).trailers == [b"X-A: b"]


@pytest.mark.parametrize("coding", [b"Chunked", b" chunked "])
async def test_the_name_of_the_chunked_coding_may_be_in_any_case(world: World, coding: bytes) -> None:
    """RFC 9112 §7."""
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding:" + coding + b"\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
    assert (await client.receive_response()).body == b"hi"


async def test_a_body_that_ends_with_the_connection_passes_chunked(world: World) -> None:
    """RFC 9112 §6.3: the client's connection can then stay open, and a cut can be told from the end."""
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    assert (await client.receive_head()).value("Transfer-Encoding") == b"chunked"
    await server.send(b"one")
    assert await client.receive_chunk() == b"one"
    await server.send(b"two")
    await server.close()
    assert await client.receive_chunk() == b"two"
    assert await client.receive(5) == b"0\r\n\r\n"
    await client.send(GET)
    assert (await (await world.upstream.accept()).receive_head()).start == b"GET / HTTP/1.1"


async def test_an_empty_body_that_ends_with_the_connection_is_whole(world: World) -> None:
    """RFC 9112 §6.3."""
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.0 200 OK\r\n\r\n")
    await server.close()
    response = await client.receive_response()
    assert (response.status, response.body) == (200, b"")


NO_BODY = {
    "204": (GET, b"HTTP/1.1 204 No Content\r\n\r\n", None),
    "204 with content-length": (GET, b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", None),
    "304": (GET, b"HTTP/1.1 304 Not Modified\r\nETag: a\r\n\r\n", None),
    "304 with content-length": (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", b"500"),
    "304 with transfer-encoding": (GET, b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", None),
    "HEAD": (HEAD, b"HTTP/1.1 200 OK\r\n\r\n", None),
    "HEAD with content-length": (HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", b"500"),
    "HEAD with transfer-encoding": (HEAD, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
    "HEAD with 404": (HEAD, b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n", b"9"),
    "length nought": (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"0"),
}


@pytest.mark.parametrize(("request_", "answer", "length"), NO_BODY.values(), ids=NO_BODY.keys())
async def test_a_response_without_a_body_ends_with_its_head_and_both_connections_go_on(
    world: World, request_: bytes, answer: bytes, length: bytes | None
) -> None:
    """RFC 9112 §6.3: HEAD, 204 and 304 have none whatever the head says; RFC 9110 §8.6 for the length itself."""
    client, server, _ = await world.begin(request_)
    await server.send(answer)
    head = await client.receive_head()
    assert head.value("Content-Length") == length
    assert head.value("Transfer-Encoding") is None
    assert head.value("Connection") is None
    await client.send(GET)
    assert (await server.receive_head()).start == b"GET / HTTP/1.1"
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"


FORBIDDEN_BODIES = {
    "204 with transfer-encoding": (GET, b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "204 with a length": (GET, b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
    "204 with bytes behind it": (GET, b"HTTP/1.1 204 No Content\r\n\r\nhello"),
    "304 with bytes behind it": (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello"),
    "HEAD with bytes behind it": (HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    "more bytes than the length": (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n\r\n"),
    "bytes behind the last chunk": (GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nhello"),
}


@pytest.mark.parametrize(("request_", "answer"), FORBIDDEN_BODIES.values(), ids=FORBIDDEN_BODIES.keys())
async def test_bytes_that_belong_to_no_response_are_not_passed_and_end_the_upstream_connection(
    world: World, request_: bytes, answer: bytes
) -> None:
    """RFC 9112 §6.3, §9.2: what is left over would be taken for the answer to someone else's request."""
    client, server, _ = await world.begin(request_)
    await server.send(answer)
    response = await client.receive_response(to=request_.split()[0].decode())
    assert response.status in {200, 204, 304}
    assert b"hello" not in response.body
    await client.send(GET)
    fresh = await world.upstream.accept()
    await fresh.receive_head()
    await fresh.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nfresh")
    assert (await client.receive_response()).body == b"fresh"
    assert await server.receive_to_any_end() == b""


async def test_bytes_on_an_idle_upstream_connection_end_it(world: World) -> None:
    """RFC 9112 §9.2: a response nobody asked for must not be matched with the next request."""
    client, server, _ = await world.begin(GET)
    await server.send(OK)
    await client.receive_response()
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
    await server.receive_to_any_end()
    await client.send(GET)
    fresh = await world.upstream.accept()
    await fresh.receive_head()
    await fresh.send(OK)
    assert (await client.receive_response()).body == b"hi"


async def test_an_http_1_0_client_gets_a_chunked_body_up_to_the_end_of_the_connection(world: World) -> None:
    """RFC 9112 §6.1: no transfer coding goes to a client that has not said HTTP/1.1."""
    client, server, _ = await world.begin(GET_1_0)
    await server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
    head = await client.receive_head()
    assert head.start == b"HTTP/1.1 200 OK"
    assert head.value("Transfer-Encoding") is None
    assert head.value("Connection") == b"close"
    await server.send(b"1\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n")
    assert await client.receive_to_end() == b"hi!"


async def test_an_http_1_0_client_gets_a_body_without_length_as_it_comes(world: World) -> None:
    client, server, _ = await world.begin(GET_1_0)
    await server.send(b"HTTP/1.1 200 OK\r\n\r\nhi")
    assert (await client.receive_head()).value("Connection") == b"close"
    assert await client.receive(2) == b"hi"
    await server.close()
    assert await client.receive_to_end() == b""


async def test_a_response_that_closes_the_upstreams_connection_leaves_the_clients_open(world: World) -> None:
    """RFC 9110 §7.6.1: Connection is for one hop."""
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
    response = await client.receive_response()
    assert response.head.value("Connection") is None
    await server.receive_to_any_end()
    await client.send(GET)
    assert (await (await world.upstream.accept()).receive_head()).start == b"GET / HTTP/1.1"


UPSTREAM_PERSISTENCE = {
    "HTTP/1.1": (b"HTTP/1.1 200 OK\r\n", True),
    "HTTP/1.1 with close": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", False),
    "HTTP/1.1 with close among others": (b"HTTP/1.1 200 OK\r\nConnection: x-a, Close\r\n", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n", False),
    "HTTP/1.0 with keep-alive": (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n", True),
}


@pytest.mark.parametrize(("start", "is_kept"), UPSTREAM_PERSISTENCE.values(), ids=UPSTREAM_PERSISTENCE.keys())
async def test_an_upstream_connection_is_kept_where_the_upstream_keeps_it(
    world: World, start: bytes, is_kept: bool
) -> None:
    """RFC 9112 §9.3."""
    client, server, _ = await world.begin(GET)
    await server.send(start + b"Content-Length: 2\r\n\r\nhi")
    await client.receive_response()
    await world.until(lambda now: now.upstream_busy == 0)
    assert world.snapshot().upstream_idle == int(is_kept)
