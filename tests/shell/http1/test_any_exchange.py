"""Any valid request and response, in any segmentation, arrive as they were sent: raw sockets on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.shell.http1.tokens import BEARER

if TYPE_CHECKING:
    from tests.shell.http1.raw_peer import RawPeer
    from tests.shell.http1.world import World

TOKEN_CHARACTERS: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
KNOWN_METHODS: Final = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")

MEANINGFUL: Final = frozenset(
    b"connection content-length date expect host authorization keep-alive max-forwards proxy-authenticate"
    b" proxy-authentication-info proxy-authorization proxy-connection te trailer transfer-encoding upgrade via"
    b" x-request-id".split()
)
"""Names that mean something to the proxy: tests of their own are about them."""


def characters(allowed: bytes, *, shortest: int = 0, longest: int) -> st.SearchStrategy[bytes]:
    text = st.text(alphabet=allowed.decode("latin-1"), min_size=shortest, max_size=longest)
    return text.map(lambda drawn: drawn.encode("latin-1"))


TARGET_CHARACTERS: Final = bytes(set(range(0x21, 0x100)) - {0x7F, ord("#")})
VALUE_CHARACTERS: Final = bytes({0x09} | set(range(0x20, 0x100)) - {0x7F})

methods = st.sampled_from(KNOWN_METHODS) | characters(
    bytes(set(TOKEN_CHARACTERS) - set(range(ord("a"), ord("z") + 1))), shortest=1, longest=12
).filter(lambda method: method not in {b"CONNECT", b"TRACE"})
targets = characters(TARGET_CHARACTERS, longest=60).map(lambda rest: b"/" + rest)
names = characters(TOKEN_CHARACTERS, shortest=1, longest=20).filter(lambda name: name.lower() not in MEANINGFUL)
white_space = characters(b" \t", longest=3)
lines = st.builds(
    lambda name, before, value, after: name + b":" + before + value + after,
    names,
    white_space,
    characters(VALUE_CHARACTERS, longest=40),
    white_space,
)
sections = st.lists(lines, max_size=8)
cuts = st.lists(st.integers(min_value=0, max_value=4000), max_size=12)


@dataclass(frozen=True, slots=True)
class Body:
    """A body in pieces, and how it is framed."""

    pieces: list[bytes]
    framing: str
    extension: bytes
    trailers: list[bytes]

    @property
    def content(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def framing_lines(self) -> list[bytes]:
        if self.framing == "length":
            return [b"Content-Length: %d" % len(self.content)]
        return [b"Transfer-Encoding: chunked"] if self.framing == "chunked" else []

    def framed(self) -> bytes:
        if self.framing != "chunked":
            return self.content
        chunks = [b"%X%s\r\n%s\r\n" % (len(piece), self.extension, piece) for piece in self.pieces if piece]
        return b"".join([*chunks, b"0\r\n", *(trailer + b"\r\n" for trailer in self.trailers), b"\r\n"])


FORBIDDEN_TRAILERS: Final = frozenset(
    b"cache-control content-encoding content-range content-type cookie set-cookie www-authenticate".split()
)


def bodies(*framings: str) -> st.SearchStrategy[Body]:
    return st.builds(
        Body,
        pieces=st.lists(st.binary(max_size=300), max_size=5),
        framing=st.sampled_from(framings),
        extension=st.sampled_from([b"", b";a=b", b' ; a="c d"']),
        trailers=st.lists(
            lines.filter(lambda line: line.partition(b":")[0].lower() not in FORBIDDEN_TRAILERS), max_size=3
        ),
    ).map(lambda body: Body([], "none", b"", []) if body.framing == "none" else body)


@dataclass(frozen=True, slots=True)
class Request:
    method: bytes
    target: bytes
    lines: list[bytes]
    body: Body

    def raw(self) -> bytes:
        start = self.method + b" " + self.target + b" HTTP/1.1"
        return b"\r\n".join([start, b"Host: x", *self.lines, *self.body.framing_lines, b"", self.body.framed()])


@dataclass(frozen=True, slots=True)
class Answer:
    interims: list[bytes]
    status: int
    reason: bytes
    lines: list[bytes]
    body: Body

    def raw(self) -> bytes:
        start = b"HTTP/1.1 %d %s" % (self.status, self.reason)
        head = b"\r\n".join([start, *self.lines, *self.body.framing_lines, b"", b""])
        return b"".join(self.interims) + head + self.body.framed()


requests = st.builds(Request, methods, targets, sections, bodies("none", "length", "chunked"))
answers = st.builds(
    Answer,
    interims=st.lists(st.sampled_from([b"HTTP/1.1 102 P\r\n\r\n", b"HTTP/1.1 103 E\r\nLink: a\r\n\r\n"]), max_size=2),
    status=st.sampled_from([200, 201, 206, 302, 400, 401, 404, 500, 503, 299, 999]),
    reason=characters(VALUE_CHARACTERS, longest=20),
    lines=sections,
    body=bodies("length", "chunked", "close"),
)


def segments(raw: bytes, at: list[int]) -> list[bytes]:
    """Cut bytes at the given places."""
    places = sorted({0, len(raw), *(place for place in at if place < len(raw))})
    return [raw[start:end] for start, end in pairwise(places)]


async def receive_body(peer: RawPeer, body: Body) -> tuple[bytes, list[bytes]]:
    """Return content and trailers of a body that is framed as `body` is."""
    if body.framing != "chunked":
        return await peer.receive(len(body.content)), []
    content = b""
    while chunk := await peer.receive_chunk():
        content += chunk
    trailers = []
    while (line := await peer.receive_until(b"\r\n")) != b"\r\n":
        trailers.append(line[:-2])
    return content, trailers


any_exchange = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@any_exchange
@given(request=requests, answer=answers, request_cuts=cuts, answer_cuts=cuts)
async def test_any_exchange_arrives_as_it_was_sent(
    world: World, request: Request, answer: Answer, request_cuts: list[int], answer_cuts: list[int]
) -> None:
    """Bytes that are not ours to change pass unchanged, wherever reads happen to end."""
    client = await world.client()
    await client.send(*segments(request.raw(), request_cuts))
    server = await world.upstream.accept()
    head = await server.receive_head()
    assert head.start == request.method + b" " + request.target + b" HTTP/1.1"
    assert head.passed == [*request.lines, *request.body.framing_lines]
    assert head.values("Authorization") == [BEARER]
    assert head.values("Host") == [world.host]
    assert await receive_body(server, request.body) == (
        request.body.content,
        request.body.trailers if request.body.framing == "chunked" else [],
    )

    has_body = request.method != b"HEAD"
    raw = answer.raw() if has_body else answer.raw()[: len(answer.raw()) - len(answer.body.framed())]
    await server.send(*segments(raw, answer_cuts))
    await server.close()
    for interim in answer.interims:
        assert await client.receive(len(interim)) == interim
    response = await client.receive_response(to=request.method.decode())
    assert response.head.start == b"HTTP/1.1 %d %s" % (answer.status, answer.reason)
    assert response.head.without("Date", "Content-Length", "Transfer-Encoding") == answer.lines
    if has_body:
        assert response.body == answer.body.content
        assert response.trailers == (answer.body.trailers if answer.body.framing == "chunked" else [])
    await client.close()


@any_exchange
@given(pipelined=st.lists(requests, min_size=2, max_size=4), request_cuts=cuts)
async def test_any_pipelined_requests_are_told_apart(
    world: World, pipelined: list[Request], request_cuts: list[int]
) -> None:
    """RFC 9112 §9.3.2: each ends where its own framing says, to the byte."""
    client = await world.client()
    await client.send(*segments(b"".join(request.raw() for request in pipelined), request_cuts))
    server = await world.upstream.accept()
    for number, request in enumerate(pipelined):
        head = await server.receive_head()
        assert head.start == request.method + b" " + request.target + b" HTTP/1.1"
        assert head.passed == [*request.lines, *request.body.framing_lines]
        assert (await receive_body(server, request.body))[0] == request.body.content
        await server.send(b"HTTP/1.1 200 OK\r\nX-Number: %d\r\nContent-Length: 0\r\n\r\n" % number)
        response = await client.receive_response(to=request.method.decode())
        assert response.head.value("X-Number") == b"%d" % number
    await client.close()
    await server.close()
    await world.until(lambda now: now.upstream_idle == 0)
