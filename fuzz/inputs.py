"""Where inputs come from: good messages, messages with one evil piece, and mutations of both."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random

METHODS: Final = [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"QUERY"]
EVIL_METHODS: Final = [b"get", b"trace", b"G ET", b"", b"GET\t", b"P\x00ST", b"PRI", b"M-SEARCH", b"G\xc9T"]

TARGETS: Final = [b"/", b"/a", b"/a/b?c=d&e=%20", b"/%2Fa//b/./c", b"/a/../b", b"/?x=../..", b"/\xc3\xa9", b"/;p=1"]
EVIL_TARGETS: Final = [
    b"*", b"http://elsewhere/", b"//elsewhere/", b"elsewhere:443", b"/../x", b"/%2e%2e/x", b"/a%2fb/../..", b"/..;/x",
    b"/a\\..\\..", b"/a#b", b"/a b", b"/\x00", b"/a\rb", b"/" + b"a" * 9000, b"", b"?", b"\\",
]  # fmt: skip

VERSIONS: Final = [b"HTTP/1.1"] * 6 + [b"HTTP/1.0"]
EVIL_VERSIONS: Final = [b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.1 ", b"http/1.1", b"HTTP/1.10", b"HTTP/1.\xb2"]

STATUS_LINES: Final = [b"HTTP/1.1 200 OK"] * 6 + [
    b"HTTP/1.0 200 OK", b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 404 Not Found",
    b"HTTP/1.1 100 Continue", b"HTTP/1.1 103 Early Hints", b"HTTP/1.1 205 Reset Content", b"HTTP/1.1 500",
    b"HTTP/1.1 200 ", b"HTTP/1.1 401 Unauthorized", b"HTTP/1.1 101 Switching Protocols",
]  # fmt: skip
EVIL_STATUS_LINES: Final = [
    b"HTTP/2.0 200 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 200OK", b"ICY 200 OK",
    b"HTTP/1.1 200 O\rK", b"HTTP/1.1 999 \xff", b"HTTP/1.9 200 OK", b"HTTP/1.1\t200 OK", b"", b"HTTP/1.1 -20 OK",
]  # fmt: skip

LINES: Final = [
    b"Accept: */*", b"User-Agent: fuzz/1", b"X-Request-Id: abc", b"x-request-id:", b"Cookie: a=b", b"cookie: c=d",
    b"Content-Type: text/plain", b"Set-Cookie: a=b", b"Date: Tue, 15 Nov 1994 08:12:31 GMT", b"Via: 1.1 other",
    b"X-A: 1", b"x-a:2", b"X-B:", b"X-Bytes: \xe9\xff", b"X-Tab: a\tb ", b"Authorization: Bearer theirs",
    b"Connection: close", b"Connection: keep-alive", b"Connection: x-a, close", b"Connection: TE, upgrade",
    b"Keep-Alive: timeout=5, max=3", b"Proxy-Connection: keep-alive", b"Proxy-Authorization: Basic eA==",
    b"TE: trailers", b"TE: gzip", b"Upgrade: websocket", b"Upgrade: h2c", b"Expect: 100-continue", b"Max-Forwards: 0",
    b"Max-Forwards: 3", b"Trailer: Digest", b"Range: bytes=0-1", b'If-None-Match: "x"', b"Content-Encoding: gzip",
]  # fmt: skip
EVIL_LINES: Final = [
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: identity", b"Transfer-Encoding : chunked", b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding:\r\n chunked", b"transfer-encoding: Chunked ,", b"Transfer_Encoding: chunked",
    b"Transfer-Encoding: x\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked;a=b", b"Transfer-Encoding:",
    b"Content-Length: 0", b"Content-Length: 4", b"Content-Length: 4, 4", b"Content-Length: +4", b"Content-Length: 0x4",
    b"Content-Length: 04", b"Content-Length: -1", b"Content-Length: 4 4", b"Content-Length:", b"Content-Length : 4",
    b"Content-Length: 99999999999999999999", b"Content-Length: 4\x0b", b"content_length: 4", b"Content-Length: 1_0",
    b"Host: other", b"host:", b"Host: a b", b"Host: a,b", b" Folded: x", b"\tFolded: x", b"No-Colon", b": no-name",
    b"Bad Name: x", b"Bad\x00Name: x", b"N: \x00", b"N: a\rb", b"N: a\nEvil: b", b"N: a\r", b"\xefName: x", b"",
    b"Connection: host, content-length, transfer-encoding", b"Connection: authorization, via, x-request-id, expect",
    b"N:" + b" " * 3000 + b"\x01", b"N: a" + b" " * 9000 + b"b", b"N: " + b"long" * 3000,
]  # fmt: skip

TOKENS: Final = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b" ", b"\t", b"\x00", b"\x0b", b"\x0c", b"\x7f", b"\x85", b"\xa0", b"\xff",
    b":", b",", b";", b"=", b'"', b"\\", b"/", b"..", b"%2e", b"%2f", b"#", b"?", b"0", b"1", b"a", b"f", b"+", b"-", b"_",
    b"0x", b"0\r\n\r\n", b"5\r\nhello\r\n", b"HTTP/1.1", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"chunked",
    b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"HTTP/1.1 200 OK\r\n",
]  # fmt: skip

TRAILERS: Final = [b"Digest: abc\r\n", b"x-sum:1\r\n", b"Host: evil\r\n", b"Content-Length: 3\r\n", b"X-A: 1\r\n"]
EXTENSIONS: Final = [b"", b"", b"", b";a", b" ;a=b", b';a="b"', b"\t;\xff"]


def maybe(rng: random.Random, probability: float) -> bool:
    """Say yes with `probability`."""
    return rng.random() < probability


def pick(rng: random.Random, good: list[bytes], evil: list[bytes], *, evil_share: float = 0.05) -> bytes:
    """Choose a good piece, or now and then an evil one."""
    return rng.choice(evil if maybe(rng, evil_share) else good)


def body(rng: random.Random) -> bytes:
    """Return some content, which at times looks like a message of its own."""
    kind = rng.randrange(4)
    if kind == 0:
        return b""
    if kind == 1:
        return rng.choice(
            [b"GET /inner HTTP/1.1\r\nHost: a\r\n\r\n", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\r\n"]
        )
    return rng.randbytes(rng.randrange(1, 60 if kind == 2 else 3000))


def chunked(rng: random.Random, content: bytes) -> bytes:
    """Return `content` in the chunked coding, as senders of all sorts write it."""
    wire = b""
    for piece in cut(rng, content, at_most=4):
        size = rng.choice([b"%x", b"%X", b"0%x"]) % len(piece)
        wire += size + rng.choice(EXTENSIONS) + b"\r\n" + piece + b"\r\n"
    trailers = b"".join(rng.choice(TRAILERS) for _ in range(rng.choice([0, 0, 0, 1, 3])))
    return wire + rng.choice([b"0", b"0", b"000"]) + rng.choice(EXTENSIONS) + b"\r\n" + trailers + b"\r\n"


def lines(rng: random.Random, *, first: list[bytes], evil_share: float = 0.05) -> list[bytes]:
    """Return the lines of a section: `first` and some more, in any order."""
    section = [*first, *(pick(rng, LINES, EVIL_LINES, evil_share=evil_share) for _ in range(rng.randrange(7)))]
    rng.shuffle(section)
    return section


def framed(rng: random.Random, content: bytes) -> tuple[list[bytes], bytes]:
    """Return a way to frame `content`: the line that says so, and the bytes on the wire."""
    if maybe(rng, 0.4):
        return [b"Transfer-Encoding: chunked"], chunked(rng, content)
    return [b"Content-Length: %d" % len(content)], content


def request(rng: random.Random) -> bytes:
    """Return a request, mostly a good one."""
    head = b" ".join([
        pick(rng, METHODS, EVIL_METHODS), pick(rng, TARGETS, EVIL_TARGETS), pick(rng, VERSIONS, EVIL_VERSIONS),
    ])  # fmt: skip
    first, wire = framed(rng, body(rng)) if maybe(rng, 0.6) else ([], b"")
    section = lines(rng, first=[b"Host: localhost", *first])
    return b"\r\n".join([head, *section]) + b"\r\n\r\n" + wire


def response(rng: random.Random) -> bytes:
    """Return a response, mostly a good one."""
    head = pick(rng, STATUS_LINES, EVIL_STATUS_LINES)
    content = body(rng)
    first, wire = framed(rng, content) if maybe(rng, 0.8) else ([], content)
    return b"\r\n".join([head, *lines(rng, first=first)]) + b"\r\n\r\n" + wire


def plain_request(rng: random.Random) -> bytes:
    """Return a request that must be accepted."""
    first, wire = framed(rng, body(rng)) if maybe(rng, 0.5) else ([], b"")
    line = b"%s /plain HTTP/1.1" % rng.choice([b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS"])
    return b"\r\n".join([line, b"Host: localhost", *first]) + b"\r\n\r\n" + wire


def plain_response(rng: random.Random) -> bytes:
    """Return a response that must be passed on, whatever the method; a body behind HEAD is too much."""
    first, wire = framed(rng, body(rng))
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"Server: plain", *first]) + b"\r\n\r\n" + wire


def mutated(rng: random.Random, data: bytes, *, share: float = 0.5) -> bytes:
    """Return `data` with up to four small changes, or (1 - `share`) as it is."""
    if not maybe(rng, share):
        return data
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        place, other = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
        short = min(other, place + rng.choice([1, 1, 2, 8]))
        change = rng.randrange(6)
        if change <= 1:
            data = data[:place] + rng.choice(TOKENS) + data[place:]
        elif change == 2:
            data = data[:place] + data[short:]
        elif change == 3:
            data = data[:place] + rng.choice(TOKENS) + data[short:]
        elif change == 4:
            data = data[:other] + data[place:other] + data[other:]
        else:
            data = data[:place] + rng.randbytes(1) + data[place + 1 :]
    return data


def cut(rng: random.Random, data: bytes, *, at_most: int = 12) -> list[bytes]:
    """Cut `data` into pieces, none of them empty, mostly where it hurts: next to line ends."""
    if not data:
        return []
    if maybe(rng, 0.05) and len(data) < 2000:
        return [data[place : place + 1] for place in range(len(data))]
    ends = [place for place in range(len(data)) if data[place] in b"\r\n"]
    places = {0, len(data)}
    for _ in range(rng.randrange(at_most)):
        place = rng.choice(ends) + rng.choice([0, 1]) if ends and maybe(rng, 0.6) else rng.randrange(len(data))
        places.add(place)
    return [data[start:end] for start, end in pairwise(sorted(places))]
