"""
Request heads: parsed strictly, judged once, and made ready to be sent on.

A head is the request line and the field section. The section is judged apart from the line, because an app sends the
same section again and again: what was found out about it is kept under its bytes (`RequestParser`), and the next
request with the same section costs one dictionary look-up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.core.errors import RequestError
from proxy.core.http.fields import HOP_BY_HOP, FieldLine, FieldSyntaxError, list_members, parse_field_lines
from proxy.core.http.grammar import (
    BARE_LINE_FEED,
    CONTENT_LENGTH,
    HOST,
    HTTP_VERSION,
    REQUEST_TARGET,
    TOKEN,
)

_REMEMBERED_SECTIONS: Final = 256
"""As many different field sections as are remembered; the memory is emptied when full, which costs little."""

_LONGEST_REMEMBERED: Final = 2048
"""Bytes; longer sections are judged anew each time, so that the memory stays below a megabyte."""

_NOT_FORWARDED: Final = HOP_BY_HOP | {b"host", b"authorization", b"max-forwards"}
"""Lines that are dropped or written anew: hop-by-hop, the upstream's Host, the bearer, the counted-down hop limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFields:
    """What a request's field section says, once and for all requests that carry the same one."""

    forwarded: bytes
    """The lines to send on, in the order and spelling received, each with its CRLF; framing included."""
    has_host: bool
    content_length: int
    """Bytes; -1 where the section has no Content-Length."""
    is_chunked: bool
    wants_close: bool
    wants_keep_alive: bool
    expects_continue: bool
    upgrade: bytes | None
    """The protocols asked for, where the request asks for an upgrade (RFC 9110 §7.8)."""
    request_id: bytes | None
    max_forwards: int | None


@dataclass(slots=True)
class RequestHead:
    """One request head. `minor` is 1 for HTTP/1.1 and later, 0 for HTTP/1.0."""

    method: bytes
    target: bytes
    minor: int
    fields: RequestFields
    raw: bytes
    """The head as received, without the empty line."""

    @property
    def is_persistent(self) -> bool:
        """Say whether the client lets the connection stay open after this exchange (RFC 9112 §9.3)."""
        if self.fields.wants_close:
            return False
        return self.minor == 1 or self.fields.wants_keep_alive


class RequestParser:
    """Turns request heads into values; remembers the field sections it has judged. One for each listener."""

    def __init__(self, *, max_request_line: int, max_field_lines: int) -> None:
        self._max_request_line = max_request_line
        self._max_field_lines = max_field_lines
        self._remembered: tuple[dict[bytes, RequestFields], dict[bytes, RequestFields]] = ({}, {})

    def parse(self, head: bytes) -> RequestHead:
        """
        Parse a head that ends before its empty line (RFC 9112 §2.1).

        Raises RequestError with the status to refuse it with.
        """
        line, _, section = head.partition(b"\r\n")
        if len(line) > self._max_request_line:
            raise RequestError(414, f"the request line is longer than {self._max_request_line} bytes")
        parts = line.split(b" ")
        if len(parts) != 3:  # noqa: PLR2004 - method, target, version
            raise RequestError(400, "the request line is not 'METHOD target HTTP/1.1' (RFC 9112 §3)")
        method, target, version = parts
        if version == b"HTTP/1.1":
            minor = 1
        else:
            minor = _minor_version(version)
        fields = self._remembered[minor].get(section)
        if fields is None:
            fields = self._judge(section, minor)
        if TOKEN.fullmatch(method) is None:
            raise RequestError(400, "the method has a character that methods cannot have (RFC 9110 §9.1)")
        if REQUEST_TARGET.fullmatch(target) is None:
            raise RequestError(400, "the request target has a character that targets cannot have (RFC 9112 §3.2)")
        return RequestHead(method, target, minor, fields, head)

    def _judge(self, section: bytes, minor: int) -> RequestFields:
        try:
            lines = parse_field_lines(section)
        except FieldSyntaxError as error:
            raise RequestError(400, str(error)) from None
        if len(lines) > self._max_field_lines:
            raise RequestError(431, f"the request has more than {self._max_field_lines} header lines")
        fields = judge_request_fields(lines, minor=minor)
        if len(section) <= _LONGEST_REMEMBERED:
            remembered = self._remembered[minor]
            if len(remembered) >= _REMEMBERED_SECTIONS:
                remembered.clear()
            remembered[section] = fields
        return fields


def _minor_version(version: bytes) -> int:
    match = HTTP_VERSION.fullmatch(version)
    if match is None:
        raise RequestError(400, "the request line does not end in an HTTP version such as HTTP/1.1 (RFC 9112 §2.3)")
    if match[1] != b"1":
        raise RequestError(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    # A higher minor version is read as the highest one known (RFC 9110 §2.5).
    return min(int(match[2]), 1)


def find_head_fault(partial: bytes, *, max_request_line: int, max_head: int) -> RequestError | None:
    """
    Judge a head that has not ended yet: say now what no further byte can mend.

    Returns None while it may still become a good one. Limits are in bytes.
    """
    if BARE_LINE_FEED.search(partial) is not None:
        return RequestError(400, "a line ends in a bare LF; lines end in CR LF (RFC 9112 §2.2)")
    if b"\r\n" not in partial and len(partial) > max_request_line:
        return RequestError(414, f"the request line is longer than {max_request_line} bytes")
    if len(partial) > max_head:
        return head_too_large(max_head)
    return None


def head_too_large(max_head: int) -> RequestError:
    """Return the refusal of a head of more than `max_head` bytes (RFC 6585 §5)."""
    return RequestError(431, f"the request's head is larger than {max_head} bytes")


def judge_request_fields(lines: list[FieldLine], *, minor: int) -> RequestFields:
    """
    Decide what a request's field section means: framing, persistence, and which lines pass.

    Raises RequestError for everything that two readers could take differently (RFC 9112 §6.3, §11.2).
    """
    values: dict[bytes, list[bytes]] = {}
    for line in lines:
        values.setdefault(line.name, []).append(line.value)

    _check_host(values.get(b"host", []), minor)
    is_chunked = _is_chunked(values, minor)
    content_length = _content_length(values)
    connection = list_members(values.get(b"connection", ()))
    upgrade = None
    if minor == 1 and b"upgrade" in connection and b"upgrade" in values:
        upgrade = b", ".join(values[b"upgrade"])
    expects_continue = _expects_continue(values, minor)
    # The wish for trailers can be granted: they are passed on where the framing allows.
    wants_trailers = minor == 1 and b"trailers" in list_members(values.get(b"te", ()))

    # A client may drop any line by naming it in Connection, but not the framing, which is judged already.
    dropped = _NOT_FORWARDED.union(connection) - {b"content-length"}
    if minor == 0:
        dropped |= {b"expect"}
    request_ids = values.get(b"x-request-id", []) if b"x-request-id" not in connection else []
    forwarded = [line.raw for line in lines if line.name not in dropped]
    if is_chunked:
        forwarded.append(b"Transfer-Encoding: chunked")
    hops = []
    if wants_trailers:
        hops.append(b"TE")
        forwarded.append(b"TE: trailers")
    if upgrade is not None:
        hops.append(b"Upgrade")
        forwarded.append(b"Upgrade: " + upgrade)
    if hops:
        forwarded.append(b"Connection: " + b", ".join(hops))

    return RequestFields(
        forwarded=b"".join(line + b"\r\n" for line in forwarded),
        has_host=b"host" in values,
        content_length=content_length,
        is_chunked=is_chunked,
        wants_close=b"close" in connection,
        wants_keep_alive=b"keep-alive" in connection,
        expects_continue=expects_continue,
        upgrade=upgrade,
        request_id=request_ids[0] or None if request_ids else None,
        max_forwards=_max_forwards(values),
    )


def _check_host(hosts: list[bytes], minor: int) -> None:
    if not hosts:
        if minor == 1:
            raise RequestError(400, "the Host header is missing (RFC 9112 §3.2)")
        return
    if len(hosts) > 1:
        raise RequestError(400, "the Host header is there more than once (RFC 9112 §3.2)")
    if HOST.fullmatch(hosts[0]) is None:
        raise RequestError(400, "the Host header is not a host with an optional port (RFC 9112 §3.2)")


def _is_chunked(values: dict[bytes, list[bytes]], minor: int) -> bool:
    if b"transfer-encoding" not in values:
        return False
    if minor == 0:
        raise RequestError(400, "Transfer-Encoding does not exist in HTTP/1.0 (RFC 9112 §6.1)")
    if b"content-length" in values:
        raise RequestError(400, "Content-Length and Transfer-Encoding stand side by side (RFC 9112 §6.3)")
    codings = list_members(values[b"transfer-encoding"])
    if codings == [b"chunked"]:
        return True
    if codings and codings[-1] == b"chunked" and b"chunked" not in codings[:-1]:
        raise RequestError(501, "no transfer coding but chunked is understood here (RFC 9112 §6.1)")
    raise RequestError(400, "Transfer-Encoding does not end in one chunked, so the body has no end (RFC 9112 §6.3)")


def _content_length(values: dict[bytes, list[bytes]]) -> int:
    lengths = values.get(b"content-length")
    if lengths is None:
        return -1
    if len(lengths) > 1 or b"," in lengths[0]:
        raise RequestError(400, "Content-Length is there more than once (RFC 9112 §6.3)")
    if CONTENT_LENGTH.fullmatch(lengths[0]) is None:
        raise RequestError(400, "Content-Length is not a number of bytes (RFC 9110 §8.6)")
    return int(lengths[0])


def _expects_continue(values: dict[bytes, list[bytes]], minor: int) -> bool:
    # An HTTP/1.0 client cannot be answered with 100, so its Expect is ignored (RFC 9110 §10.1.1).
    return minor == 1 and b"100-continue" in list_members(values.get(b"expect", ()))


def _max_forwards(values: dict[bytes, list[bytes]]) -> int | None:
    """Return the hop limit, None where there is none or it is not a number (RFC 9110 §7.6.2)."""
    limits = values.get(b"max-forwards")
    if limits is None or len(limits) != 1 or CONTENT_LENGTH.fullmatch(limits[0]) is None:
        return None
    return int(limits[0])
