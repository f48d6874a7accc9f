"""
A strict reader for what the proxy writes, which shares no code with it.

It accepts what RFC 9112 lets a sender generate and nothing else, so that whatever the proxy was fed, what comes out of
it is fit for any reader.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([^\x00-\x20\x7f]+) HTTP/1\.1")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([1-9][0-9][0-9]) ([^\x00-\x08\x0a-\x1f\x7f]*)")
_SIZE: Final = re.compile(rb"(?:0|[1-9a-f][0-9a-f]*)")
_DIGITS: Final = re.compile(rb"[0-9]+")


@dataclass(slots=True, kw_only=True)
class Message:
    """One message as written."""

    start: tuple[bytes, ...]
    pairs: list[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    is_whole: bool = False
    ends_with_connection: bool = False

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of all lines of `name`, given in lower case."""
        return [value for field_name, value in self.pairs if field_name == name]

    @property
    def status(self) -> int:
        """Return the status of a response."""
        return int(self.start[0])


def read_requests(data: bytes) -> list[Message]:
    """Return the requests in `data`, the last of which may not be whole. Raises AssertionError for what is no HTTP."""
    messages = []
    while data:
        head, separator, rest = data.partition(b"\r\n\r\n")
        if not separator:
            break
        line, _, section = head.partition(b"\r\n")
        match = _REQUEST_LINE.fullmatch(line)
        assert match is not None, f"no request line: {line!r}"
        message = Message(start=(match[1], match[2]), pairs=_pairs(section))
        assert len(message.values(b"host")) == 1, f"not one Host: {head!r}"
        data = _read_body(message, rest, without_length=b"")
        messages.append(message)
        if message.values(b"upgrade"):
            # What follows is either the next request or another protocol: only the upstream knows.
            break
    return messages


def read_responses(data: bytes, methods: list[bytes]) -> list[Message]:
    """
    Return the responses in `data`, final and interim, the last of which may not be whole.

    `methods` are those of the requests, in order. Raises AssertionError for what is no HTTP.
    """
    messages = []
    answered = 0
    while data:
        head, separator, rest = data.partition(b"\r\n\r\n")
        if not separator:
            break
        line, _, section = head.partition(b"\r\n")
        match = _STATUS_LINE.fullmatch(line)
        assert match is not None, f"no status line: {line!r}"
        message = Message(start=(match[1], match[2]), pairs=_pairs(section))
        messages.append(message)
        if message.status == 101:
            message.is_whole = True
            break
        method = methods[answered] if answered < len(methods) else b""
        if message.status < 200:
            assert not message.values(b"content-length"), "an interim response has a length (RFC 9110 §8.6)"
            message.is_whole = True
            data = rest
            continue
        answered += 1
        if method == b"HEAD" or message.status in {204, 304}:
            message.is_whole = True
            data = rest
        else:
            data = _read_body(message, rest, without_length=None)
        if b"close" in [value.lower() for value in message.values(b"connection")]:
            assert not data, f"bytes behind the last answer: {data!r}"
            break
    return messages


def _pairs(section: bytes) -> list[tuple[bytes, bytes]]:
    pairs = []
    for line in section.split(b"\r\n") if section else []:
        name, colon, value = line.partition(b":")
        assert colon, f"no colon: {line!r}"
        assert _NAME.fullmatch(name), f"no name: {line!r}"
        assert _CONTROL.search(value) is None, f"a control character: {line!r}"
        pairs.append((name.lower(), value.strip(b" \t")))
    return pairs


def _read_body(message: Message, data: bytes, *, without_length: bytes | None) -> bytes:
    """Read a body into `message` and return what follows; `without_length` is the body where nothing frames one."""
    codings = message.values(b"transfer-encoding")
    lengths = message.values(b"content-length")
    assert not (codings and lengths), "both Transfer-Encoding and Content-Length"
    assert len(lengths) <= 1, "more than one Content-Length"
    assert codings in ([], [b"chunked"]), f"codings: {codings!r}"
    if codings:
        return _read_chunks(message, data)
    if lengths:
        assert _DIGITS.fullmatch(lengths[0]), f"no length: {lengths[0]!r}"
        length = int(lengths[0])
        message.body = data[:length]
        message.is_whole = len(message.body) == length
        return data[length:]
    message.is_whole = True
    if without_length is None:
        message.body = data
        message.ends_with_connection = True
        return b""
    return data


def _read_chunks(message: Message, data: bytes) -> bytes:
    pieces: list[bytes] = []
    place = 0
    while True:
        line_end = data.find(b"\r\n", place)
        if line_end < 0:
            line = data[place:].removesuffix(b"\r")
            assert not line or _SIZE.fullmatch(line), f"no size: {line!r}"
            message.body = b"".join(pieces)
            return b""
        line = data[place:line_end]
        assert _SIZE.fullmatch(line), f"no size: {line!r}"
        size = int(line, 16)
        place = line_end + 2
        if size == 0:
            break
        pieces.append(data[place : place + size])
        end = data[place + size : place + size + 2]
        assert b"\r\n".startswith(end), "no line end behind a chunk"
        place += size + 2
    message.body = b"".join(pieces)
    rest = data[place:]
    if rest.startswith(b"\r\n"):
        message.is_whole = True
        return rest[2:]
    section, separator, rest = rest.partition(b"\r\n\r\n")
    if separator:
        message.trailers = _pairs(section)
        message.is_whole = True
    return rest
