"""
Response heads: parsed as strictly as requests, judged once, and made ready to be sent on.

As with requests, what was found out about a field section is kept under its bytes: an API answers with few different
ones within a second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from proxy.core.errors import ResponseError
from proxy.core.http.fields import HOP_BY_HOP, FieldLine, FieldSyntaxError, list_members, parse_field_lines
from proxy.core.http.grammar import BARE_LINE_FEED, CONTENT_LENGTH, STATUS_LINE

_REMEMBERED_SECTIONS: Final = 256
_LONGEST_REMEMBERED: Final = 2048

_NO_CONTENT: Final = 204
_NOT_MODIFIED: Final = 304
_FINAL: Final = 200

_KEEP_ALIVE_TIMEOUT: Final = re.compile(rb"(?:^|[,;\s])timeout\s*=\s*([0-9]{1,6})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseFields:
    """What a response's field section says, once and for all responses that carry the same one."""

    forwarded: bytes
    """The lines to send on, in the order and spelling received, each with its CRLF; without Content-Length."""
    content_length_line: bytes
    """The Content-Length line as received with its CRLF, or empty."""
    content_length: int
    """Bytes; -1 where there is no Content-Length."""
    is_chunked: bool
    has_transfer_encoding: bool
    wants_close: bool
    wants_keep_alive: bool
    has_date: bool
    upgrade: bytes | None
    keep_alive_timeout: int | None
    """Seconds that the upstream says it keeps an idle connection, where it says so (Keep-Alive: timeout=…)."""


@dataclass(slots=True)
class ResponseHead:
    """One response head. `minor` is 1 for HTTP/1.1 and later, 0 for HTTP/1.0."""

    status: int
    status_line: bytes
    """The line to send on, without CRLF; its version is ours (RFC 9110 §6.2)."""
    minor: int
    fields: ResponseFields

    @property
    def is_interim(self) -> bool:
        """Say whether a final response is still to come (RFC 9110 §15.2)."""
        return self.status < _FINAL

    @property
    def is_persistent(self) -> bool:
        """Say whether the upstream keeps the connection open after this exchange (RFC 9112 §9.3)."""
        if self.fields.wants_close:
            return False
        return self.minor == 1 or self.fields.wants_keep_alive


@dataclass(frozen=True, slots=True)
class ResponseFraming:
    """
    How a response's body ends: `length` bytes, by its last chunk, or (both unset) with the connection.

    RFC 9112 §6.3. `length` is -1 where it is not known.
    """

    length: int
    is_chunked: bool


NO_BODY: Final = ResponseFraming(0, is_chunked=False)
CHUNKED: Final = ResponseFraming(-1, is_chunked=True)
UNTIL_CLOSE: Final = ResponseFraming(-1, is_chunked=False)


class ResponseParser:
    """Turns response heads into values; remembers the field sections it has judged. One for each listener."""

    def __init__(self, *, max_field_lines: int) -> None:
        self._max_field_lines = max_field_lines
        self._remembered: dict[bytes, ResponseFields] = {}
        self._status_lines: dict[bytes, tuple[int, bytes, int]] = {}

    def parse(self, head: bytes) -> ResponseHead:
        """Parse a head that ends before its empty line (RFC 9112 §4). Raises ResponseError."""
        line, _, section = head.partition(b"\r\n")
        known = self._status_lines.get(line)
        if known is None:
            known = self._judge_status_line(line)
        fields = self._remembered.get(section)
        if fields is None:
            fields = self._judge(section)
        status, status_line, minor = known
        return ResponseHead(status, status_line, minor, fields)

    def _judge_status_line(self, line: bytes) -> tuple[int, bytes, int]:
        match = STATUS_LINE.fullmatch(line)
        if match is None:
            raise ResponseError("the upstream's answer does not begin with an HTTP/1.x status line (RFC 9112 §4)")
        known = (int(match[2]), b"HTTP/1.1 " + match[2] + b" " + (match[3] or b""), min(int(match[1]), 1))
        if len(self._status_lines) >= _REMEMBERED_SECTIONS:
            self._status_lines.clear()
        self._status_lines[line] = known
        return known

    def _judge(self, section: bytes) -> ResponseFields:
        try:
            lines = parse_field_lines(section)
        except FieldSyntaxError as error:
            raise ResponseError(f"in the upstream's answer, {error}") from None
        if len(lines) > self._max_field_lines:
            raise ResponseError(f"the upstream's answer has more than {self._max_field_lines} header lines")
        fields = judge_response_fields(lines)
        if len(section) <= _LONGEST_REMEMBERED:
            if len(self._remembered) >= _REMEMBERED_SECTIONS:
                self._remembered.clear()
            self._remembered[section] = fields
        return fields


def find_response_head_fault(partial: bytes, *, max_head: int) -> ResponseError | None:
    """Judge a response head that has not ended yet; `max_head` in bytes. None while it may still become a good one."""
    if BARE_LINE_FEED.search(partial) is not None:
        return ResponseError("a line of the upstream's answer ends in a bare LF (RFC 9112 §2.2)")
    if len(partial) > max_head:
        return ResponseError(f"the head of the upstream's answer is larger than {max_head} bytes")
    return None


def judge_response_fields(lines: list[FieldLine]) -> ResponseFields:
    """Decide what a response's field section means: framing, persistence, and which lines pass."""
    values: dict[bytes, list[bytes]] = {}
    for line in lines:
        values.setdefault(line.name, []).append(line.value)

    connection = list_members(values.get(b"connection", ()))
    has_transfer_encoding = b"transfer-encoding" in values
    if has_transfer_encoding:
        if b"content-length" in values:
            raise ResponseError("in the upstream's answer, Content-Length and Transfer-Encoding stand side by side")
        if list_members(values[b"transfer-encoding"]) != [b"chunked"]:
            raise ResponseError("the upstream's answer has a transfer coding other than chunked")
    dropped = HOP_BY_HOP.union(connection) | {b"content-length"}
    return ResponseFields(
        forwarded=b"".join(line.raw + b"\r\n" for line in lines if line.name not in dropped),
        content_length_line=b"".join(line.raw + b"\r\n" for line in lines if line.name == b"content-length"),
        content_length=_content_length(values),
        is_chunked=has_transfer_encoding,
        has_transfer_encoding=has_transfer_encoding,
        wants_close=b"close" in connection,
        wants_keep_alive=b"keep-alive" in connection,
        has_date=b"date" in values,
        upgrade=b", ".join(values[b"upgrade"]) if b"upgrade" in values and b"upgrade" in connection else None,
        keep_alive_timeout=_keep_alive_timeout(values),
    )


def _content_length(values: dict[bytes, list[bytes]]) -> int:
    lengths = values.get(b"content-length")
    if lengths is None:
        return -1
    if len(lengths) > 1 or CONTENT_LENGTH.fullmatch(lengths[0]) is None:
        raise ResponseError("the Content-Length of the upstream's answer is not one number of bytes (RFC 9112 §6.3)")
    return int(lengths[0])


def _keep_alive_timeout(values: dict[bytes, list[bytes]]) -> int | None:
    match = _KEEP_ALIVE_TIMEOUT.search(b",".join(values.get(b"keep-alive", ())).lower())
    return int(match[1]) if match else None


def response_framing(head: ResponseHead, *, request_method: bytes) -> ResponseFraming:
    """
    Decide how the body of a final response ends (RFC 9112 §6.3).

    Raises ResponseError where that is in doubt.
    """
    fields = head.fields
    if fields.has_transfer_encoding and head.minor == 0:
        raise ResponseError("the upstream's answer is HTTP/1.0 but has a Transfer-Encoding (RFC 9112 §6.1)")
    if request_method == b"HEAD" or head.status in (_NO_CONTENT, _NOT_MODIFIED):
        return NO_BODY
    if fields.is_chunked:
        return CHUNKED
    if fields.content_length >= 0:
        return ResponseFraming(fields.content_length, is_chunked=False)
    return UNTIL_CLOSE
