"""Requests that two readers could take for different ones are refused, and nothing of them is forwarded as a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.shell.http1.raw_client import RawClient
    from tests.shell.http1.world import World

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
"""What an attacker would like to see read as a request of its own."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


async def assert_refused(client: RawClient, status: int) -> None:
    """Check that the answer is the last one on the connection."""
    response = await client.receive_response()
    assert response.status == status
    assert response.head.value("Content-Type") == b"application/problem+json"
    assert response.head.value("Connection") == b"close"
    assert await client.receive_to_end() == b""


def with_lines(*lines: bytes) -> bytes:
    """Return a POST with these field lines and a body of five bytes, and the smuggled request behind it."""
    return b"\r\n".join((b"POST /readings HTTP/1.1", b"Host: x", *lines, b"", b"")) + b"hello" + SMUGGLED


FRAMING = {
    "content-length with transfer-encoding": (400, [b"Content-Length: 5", b"Transfer-Encoding: chunked"]),
    "transfer-encoding with content-length": (400, [b"Transfer-Encoding: chunked", b"Content-Length: 5"]),
    "content-length named by connection": (
        400,
        [b"Connection: content-length", b"Content-Length: 5", b"Transfer-Encoding: chunked"],
    ),
    "content-length twice, the same": (400, [b"Content-Length: 5", b"Content-Length: 5"]),
    "content-length twice, different": (400, [b"Content-Length: 5", b"Content-Length: 6"]),
    "content-length twice, in other case": (400, [b"Content-Length: 5", b"CONTENT-LENGTH: 5"]),
    "content-length as a list": (400, [b"Content-Length: 5, 5"]),
    "content-length as a list of different ones": (400, [b"Content-Length: 5, 6"]),
    "content-length with a plus": (400, [b"Content-Length: +5"]),
    "content-length with a minus": (400, [b"Content-Length: -5"]),
    "content-length of minus zero": (400, [b"Content-Length: -0"]),
    "content-length in hexadecimal": (400, [b"Content-Length: 0x5"]),
    "content-length with an underscore": (400, [b"Content-Length: 0_5"]),
    "content-length with a fraction": (400, [b"Content-Length: 5.0"]),
    "content-length with a space in it": (400, [b"Content-Length: 5 0"]),
    "content-length with a form feed": (400, [b"Content-Length: \x0c5"]),
    "content-length with a vertical tab": (400, [b"Content-Length: 5\x0b"]),
    "content-length in other digits": (400, ["Content-Length: \u0665".encode()]),
    "content-length empty": (400, [b"Content-Length:"]),
    "content-length of letters": (400, [b"Content-Length: five"]),
    "content-length beyond 64 bits": (400, [b"Content-Length: 18446744073709551621"]),
    "transfer-encoding chunked twice": (400, [b"Transfer-Encoding: chunked, chunked"]),
    "transfer-encoding chunked on two lines": (400, [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"]),
    "transfer-encoding chunked before another": (400, [b"Transfer-Encoding: chunked, identity"]),
    "transfer-encoding chunked before another on two lines": (
        400,
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"],
    ),
    "transfer-encoding of a word that ends in chunked": (400, [b"Transfer-Encoding: xchunked"]),
    "transfer-encoding of a word that begins with chunked": (400, [b"Transfer-Encoding: chunkedx"]),
    "transfer-encoding with a parameter": (400, [b"Transfer-Encoding: chunked;q=1"]),
    "transfer-encoding in quotes": (400, [b'Transfer-Encoding: "chunked"']),
    "transfer-encoding with a vertical tab": (400, [b"Transfer-Encoding: chunked\x0b"]),
    "transfer-encoding with a vertical tab before": (400, [b"Transfer-Encoding: \x0bchunked"]),
    "transfer-encoding with NUL": (400, [b"Transfer-Encoding: chunked\x00"]),
    "transfer-encoding with a no-break space": (400, [b"Transfer-Encoding: \xa0chunked"]),
    "transfer-encoding empty": (400, [b"Transfer-Encoding:"]),
    "transfer-encoding identity": (400, [b"Transfer-Encoding: identity"]),
    "transfer-encoding identity with content-length": (400, [b"Transfer-Encoding: identity", b"Content-Length: 5"]),
    "transfer-encoding gzip": (400, [b"Transfer-Encoding: gzip"]),
    "transfer-encoding gzip and chunked": (501, [b"Transfer-Encoding: gzip, chunked"]),
    "transfer-encoding identity and chunked": (501, [b"Transfer-Encoding: identity, chunked"]),
    "space before the colon": (400, [b"Content-Length : 5"]),
    "space before the colon of transfer-encoding": (400, [b"Transfer-Encoding : chunked"]),
    "tab before the colon": (400, [b"Transfer-Encoding\t: chunked"]),
    "folded value": (400, [b"Content-Length: 5", b"X-A: b", b" c"]),
    "folded value of transfer-encoding": (400, [b"Transfer-Encoding:", b" chunked"]),
    "folded with a tab": (400, [b"X-A: b", b"\tTransfer-Encoding: chunked"]),
    "first line folded": (400, [b" Transfer-Encoding: chunked"]),
    "bare CR in a value": (400, [b"X-A: b\rTransfer-Encoding: chunked"]),
    "bare CR at the end of a value": (400, [b"Content-Length: 5\r"]),
    "bare LF between lines": (400, [b"X-A: b\nTransfer-Encoding: chunked"]),
    "bare LF at the end of the head": (400, [b"Content-Length: 5\n\n"]),
    "NUL in a value": (400, [b"X-A: b\x00c"]),
    "DEL in a value": (400, [b"X-A: b\x7fc"]),
    "control character in a value": (400, [b"X-A: b\x01c"]),
    "NUL in a name": (400, [b"X\x00A: b"]),
    "underline with a space in a name": (400, [b"X A: b"]),
    "byte above ASCII in a name": (400, [b"X-\xe4: b"]),
    "parenthesis in a name": (400, [b"X(A): b"]),
    "empty name": (400, [b": b"]),
    "line without a colon": (400, [b"nonsense"]),
    "second host": (400, [b"Host: y"]),
    "second host, the same": (400, [b"Host: x"]),
    "second host in other case": (400, [b"HOST: y"]),
}


@pytest.mark.parametrize(("status", "lines"), FRAMING.values(), ids=FRAMING.keys())
async def test_a_request_with_doubtful_lines_is_refused_and_nothing_is_forwarded(
    world: World, status: int, lines: list[bytes]
) -> None:
    """RFC 9112 §11.2: framing that is in doubt ends the connection; §5.1, §5.2, §6.1, §6.3, RFC 9110 §5.5, §8.6."""
    client = await world.client()
    await client.send(with_lines(*lines))
    await assert_refused(client, status)
    assert not world.upstream.has_connection_waiting()


START = {
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "host with a space": (400, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    "host with a slash": (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "host with a user": (400, b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n"),
    "host with a comma and another": (400, b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    "host with a port of letters": (400, b"GET / HTTP/1.1\r\nHost: a:http\r\n\r\n"),
    "host with NUL": (400, b"GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n"),
    "host with a question mark": (400, b"GET / HTTP/1.1\r\nHost: a?b\r\n\r\n"),
    "method with a control character": (400, b"GE\x01T / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "method with a colon": (400, b"GET: / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "method with a slash": (400, b"GET/ / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "method above ASCII": (400, b"G\xc3\x89T / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "method empty": (400, b" / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "trace in lower case": (501, b"trace / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "connect in lower case": (501, b"connect x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n"),
    "head in mixed case": (501, b"Head / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "two spaces after the method": (400, b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "two spaces after the target": (400, b"GET /  HTTP/1.1\r\nHost: x\r\n\r\n"),
    "tab after the method": (400, b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    "space at the end of the line": (400, b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n"),
    "space at the beginning of the line": (400, b" GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "space in the target": (400, b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "tab in the target": (400, b"GET /a\tb HTTP/1.1\r\nHost: x\r\n\r\n"),
    "bare CR in the target": (400, b"GET /a\rb HTTP/1.1\r\nHost: x\r\n\r\n"),
    "NUL in the target": (400, b"GET /a\x00b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "fragment in the target": (400, b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "target without a slash": (400, b"GET readings HTTP/1.1\r\nHost: x\r\n\r\n"),
    "target is a whole URL": (421, b"GET http://x/readings HTTP/1.1\r\nHost: x\r\n\r\n"),
    "target is a whole https URL": (421, b"GET https://elsewhere.example/ HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n"),
    "target is an authority": (400, b"GET x:443 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "target is a question mark": (400, b"GET ?a=b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "target is an asterisk for GET": (400, b"GET * HTTP/1.1\r\nHost: x\r\n\r\n"),
    "no target": (400, b"GET HTTP/1.1\r\nHost: x\r\n\r\n"),
    "no version": (400, b"GET /\r\nHost: x\r\n\r\n"),
    "version in lower case": (400, b"GET / http/1.1\r\nHost: x\r\n\r\n"),
    "version of two digits": (400, b"GET / HTTP/1.10\r\nHost: x\r\n\r\n"),
    "version without a dot": (400, b"GET / HTTP/1\r\nHost: x\r\n\r\n"),
    "version of another protocol": (400, b"GET / ICY/1.1\r\nHost: x\r\n\r\n"),
    "version 2": (505, b"GET / HTTP/2.0\r\nHost: x\r\n\r\n"),
    "HTTP/2's preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "version 0.9": (505, b"GET / HTTP/0.9\r\nHost: x\r\n\r\n"),
    "bare LF after the request line": (400, b"GET / HTTP/1.1\nHost: x\r\n\r\n"),
    "bare LF everywhere": (400, b"GET / HTTP/1.1\nHost: x\n\n"),
    "bare CR after the request line": (400, b"GET / HTTP/1.1\rHost: x\r\n\r\n"),
    "two CRs after the request line": (400, b"GET / HTTP/1.1\r\r\nHost: x\r\n\r\n"),
    "a TLS hello": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    "transfer-encoding in HTTP/1.0": (
        400,
        b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "transfer-encoding with content-length in HTTP/1.0": (
        400,
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    "second host in HTTP/1.0": (400, b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n"),
}


@pytest.mark.parametrize(("status", "request_"), START.values(), ids=START.keys())
async def test_a_malformed_request_is_refused_and_nothing_is_forwarded(
    world: World, status: int, request_: bytes
) -> None:
    """RFC 9112 §3, §3.2: an invalid request line or Host is refused, and what follows is not read as a request."""
    client = await world.client()
    await client.send(request_ + SMUGGLED)
    await assert_refused(client, status)
    assert not world.upstream.has_connection_waiting()


CHUNKS = {
    "size in C notation": b"0x5\r\nhello\r\n0\r\n\r\n",
    "size with a plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "size with a minus": b"-1\r\nhello\r\n0\r\n\r\n",
    "size of minus zero": b"-0\r\n\r\n",
    "size with an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "size with a fraction": b"5.0\r\nhello\r\n0\r\n\r\n",
    "size with a space before": b" 5\r\nhello\r\n0\r\n\r\n",
    "size with a space after": b"5 \r\nhello\r\n0\r\n\r\n",
    "size with a tab after": b"5\t\r\nhello\r\n0\r\n\r\n",
    "size with a vertical tab": b"5\x0b\r\nhello\r\n0\r\n\r\n",
    "size in quotes": b'"5"\r\nhello\r\n0\r\n\r\n',
    "size beyond 64 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "size of sixteen digits": b"0000000000000005\r\nhello\r\n0\r\n\r\n",
    "size empty": b"\r\nhello\r\n0\r\n\r\n",
    "size of letters": b"five\r\nhello\r\n0\r\n\r\n",
    "size in other digits": "\u0665\r\nhello\r\n0\r\n\r\n".encode(),
    "extension without a size": b";a=b\r\nhello\r\n0\r\n\r\n",
    "extension with NUL": b"5;a=\x00\r\nhello\r\n0\r\n\r\n",
    "extension with bare LF": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "extension with bare CR": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "extension without end": b"5;" + b"a" * 70_000,
    "extension too long": b"5;" + b"a" * 70_000 + b"\r\nhello\r\n0\r\n\r\n",
    "bare LF after the size": b"5\nhello\r\n0\r\n\r\n",
    "bare CR after the size": b"5\rhello\r\n0\r\n\r\n",
    "bare LF after the data": b"5\r\nhello\n0\r\n\r\n",
    "no line end after the data": b"5\r\nhello0\r\n\r\n",
    "data longer than the size": b"4\r\nhello\r\n0\r\n\r\n",
    "two bytes before the line end": b"5\r\nhelloab\r\n0\r\n\r\n",
    "bare LF after the last chunk": b"5\r\nhello\r\n0\n\r\n",
    "bare LF at the end": b"5\r\nhello\r\n0\r\n\n",
    "trailer with a space before the colon": b"0\r\nX-A : b\r\n\r\n",
    "trailer without a colon": b"0\r\nnonsense\r\n\r\n",
    "trailer folded": b"0\r\nX-A: b\r\n c\r\n\r\n",
    "trailer with bare LF": b"0\r\nX-A: b\nX-B: c\r\n\r\n",
    "trailer with NUL": b"0\r\nX-A: \x00\r\n\r\n",
    "trailers too large": b"0\r\n" + b"X-A: " + b"a" * 70_000 + b"\r\n\r\n",
}

CHUNKED_HEAD = b"POST /readings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
async def test_a_malformed_chunk_that_comes_with_the_head_is_refused_and_nothing_is_forwarded(
    world: World, chunks: bytes
) -> None:
    """RFC 9112 §7.1: a chunk that another reader could measure differently is no chunk."""
    client = await world.client()
    await client.send(CHUNKED_HEAD + chunks + SMUGGLED)
    answer = await client.receive_response()
    assert answer.status == 400
    assert await client.receive_to_end() == b""
    while world.upstream.has_connection_waiting():
        # What is longer than one read may have begun before its fault was seen.
        server = await world.upstream.accept()
        assert_incomplete(await server.receive_to_any_end())


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
async def test_a_malformed_chunk_that_comes_later_ends_both_connections_before_the_request_is_whole(
    world: World, chunks: bytes
) -> None:
    """RFC 9112 §7.1, §8: a request that breaks off is incomplete for the upstream, which must not act on it."""
    client, server, _ = await world.begin(CHUNKED_HEAD)
    await client.send(b"3\r\nabc\r\n")
    await client.send(chunks + SMUGGLED)
    assert_incomplete(await server.receive_to_any_end())
    answer = await client.receive_response()
    assert answer.status == 400
    assert answer.head.value("Connection") == b"close"
    assert await client.receive_to_end() == b""
    assert not world.upstream.has_connection_waiting()


def assert_incomplete(received: bytes) -> None:
    """Check that a chunked body that the upstream got has no last chunk and nothing smuggled."""
    assert b"\r\n0\r\n" not in received
    assert b"/smuggled" not in received


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
async def test_a_malformed_chunk_is_refused_however_it_is_segmented(world: World, chunks: bytes) -> None:
    """RFC 9112 §7.1: where reads happen to end changes nothing."""
    client, server, _ = await world.begin(CHUNKED_HEAD)
    shown = chunks[:40]
    await client.send(*(shown[at : at + 1] for at in range(len(shown))), chunks[40:] + SMUGGLED)
    assert_incomplete(await server.receive_to_any_end())
    assert (await client.receive_response()).status == 400


async def test_what_follows_a_refused_request_is_swallowed_so_that_the_answer_can_be_read(world: World) -> None:
    """RFC 9112 §9.6: closing with unread bytes would reset the connection and lose the answer."""
    client = await world.client()
    await client.send(b"GET / HTTP/1.1\r\n\r\n")
    await client.send(SMUGGLED * 1000)
    await assert_refused(client, 400)


async def test_a_request_behind_a_body_of_chunks_is_a_request_of_its_own(world: World) -> None:
    """RFC 9112 §7.1: the body ends where its last chunk says, to the byte."""
    client, server, _ = await world.begin(CHUNKED_HEAD + b"5;a=b\r\nhello\r\n0\r\n\r\n" + SMUGGLED)
    assert await server.receive(15) == b"5\r\nhello\r\n0\r\n\r\n"
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"
    assert (await server.receive_head()).start == b"GET /smuggled HTTP/1.1"


@pytest.mark.parametrize("line", [b"Content-Length:5", b"Content-Length: \t 5 \t", b"content-LENGTH: 005"])
async def test_white_space_around_a_length_and_zeros_before_it_are_read_as_nothing(world: World, line: bytes) -> None:
    """RFC 9112 §5: optional white space around a value is not part of it; RFC 9110 §8.6: 1*DIGIT."""
    client, server, head = await world.begin(with_lines(line))
    assert head.value("Content-Length") in {b"5", b"005"}
    assert await server.receive(5) == b"hello"
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"
    assert (await server.receive_head()).start == b"GET /smuggled HTTP/1.1"


@pytest.mark.parametrize("coding", [b"chunked", b"CHUNKED", b" \tChunked\t "])
async def test_the_name_of_the_chunked_coding_may_be_in_any_case(world: World, coding: bytes) -> None:
    """RFC 9112 §7: coding names are case-insensitive."""
    _, server, head = await world.begin(
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:" + coding + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    )
    assert head.values("Transfer-Encoding") == [b"chunked"]
    assert await server.receive(15) == b"5\r\nhello\r\n0\r\n\r\n"
