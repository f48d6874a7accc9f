"""
Response heads: parsed as strictly as requests, judged once, and made ready to be sent on.

An API sends few different heads within a second, so a whole head is remembered under its bytes. If a line differs from
response to response, the judgement of the lines that mean something is, as in `request.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from switch_proxy.core.errors import ResponseError
from switch_proxy.core.http.fields import FieldSyntaxError, LineMemory, list_members, parse_field_lines
from switch_proxy.core.http.grammar import CONTENT_LENGTH, END_BYTES, STATUS_LINE, has_bare_line_feed
from switch_proxy.core.http.header_rules import DATE, SIGNIFICANT_IN_RESPONSES, dropped_from_response
from switch_proxy.core.http.other_protocols import LONGEST_OPENING, find_other_protocol_of_upstream, no_status_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switch_proxy.core.http.fields import FieldLine
    from switch_proxy.core.http.line_edits import LineEdits
    from switch_proxy.core.http.locations import LocationRewriter

_REMEMBERED: Final = 256
_LONGEST_REMEMBERED: Final = 2048

_NO_CONTENT: Final = 204
_NOT_MODIFIED: Final = 304
_FINAL: Final = 200

_KEEP_ALIVE_TIMEOUT: Final = re.compile(rb"(?:^|[,;\s])timeout\s*=\s*([0-9]{1,6})")


@dataclass(frozen=True, slots=True)
class ResponseFraming:
    """
    How a response's body ends: `length` bytes, by its last chunk, or (both unset) with the connection.

    RFC 9112 §6.3. `length` is -1 if it is not known.
    """

    length: int
    is_chunked: bool


NO_BODY: Final = ResponseFraming(0, is_chunked=False)
CHUNKED: Final = ResponseFraming(-1, is_chunked=True)
UNTIL_CLOSE: Final = ResponseFraming(-1, is_chunked=False)


@dataclass(slots=True)
class ResponseMeaning:
    """What a status line and the significant lines say. Never changed once made (not frozen: that costs more)."""

    status: int
    minor: int
    """1 for HTTP/1.1 and later, 0 for HTTP/1.0."""
    framing: ResponseFraming
    is_persistent: bool
    status_line: bytes
    """The line to send on, with its CRLF; its version is ours (RFC 9110 §6.2)."""
    upgrade: bytes | None
    keep_alive_timeout: int | None
    """Seconds that the upstream says it keeps an idle connection, if it says so (Keep-Alive: timeout=…)."""
    dropped: frozenset[bytes]
    """The names of the lines that do not pass."""
    has_location: bool
    """Whether there is a Location or a Content-Location."""


@dataclass(slots=True)
class ResponseHead:
    """One response head, ready to be sent on. But for `is_free_of` never changed once made: it is remembered and shared."""

    status: int
    meaning: ResponseMeaning
    framing: ResponseFraming
    """How the body ends, unless the request was HEAD."""
    is_persistent: bool
    """Whether the upstream keeps the connection open after this exchange (RFC 9112 §9.3)."""
    passed: bytes
    """
    Status line and the lines to send on, in the order and spelling received, each with its CRLF.

    The version is ours (RFC 9110 §6.2). Content-Length is among them; Transfer-Encoding and Connection are not.
    """
    has_date: bool
    is_free_of: bytes | None = None
    """The access token that the head has been searched for in vain, so that it is searched once for each."""


class ResponseParser:
    """Turns response heads into values; remembers the heads it has judged. One for each listener."""

    def __init__(
        self, *, max_field_lines: int, edits: LineEdits | None = None, locations: LocationRewriter | None = None
    ) -> None:
        """Take what the configuration changes in final responses: `edits` sets and removes lines, `locations` leads back."""
        self._edits = edits
        self._locations = locations
        self._max_field_lines = max_field_lines
        self._lines = LineMemory(significant=SIGNIFICANT_IN_RESPONSES, noted=DATE)
        self.known: dict[bytes, ResponseHead] = {}
        """The heads that are remembered, by their bytes; what is not among them is to be parsed."""
        self._meanings: dict[bytes, ResponseMeaning] = {}

    def parse(self, head: bytes) -> ResponseHead:
        """Parse a head that ends before its empty line (RFC 9112 §4). Raises ResponseError."""
        known = self.known.get(head)
        if known is None:
            known = self._judge(head)
            if len(head) <= _LONGEST_REMEMBERED:
                if len(self.known) >= _REMEMBERED:
                    self.known.clear()
                self.known[head] = known
        return known

    def _judge(self, head: bytes) -> ResponseHead:
        line, _, section = head.partition(b"\r\n")
        if section.count(b"\r\n") >= self._max_field_lines:
            raise ResponseError(f"the upstream's response has more than {self._max_field_lines} header lines")
        try:
            split = self._lines.split(section)
        except FieldSyntaxError as error:
            raise ResponseError(f"in the upstream's response, {error}") from None
        significant = b"\r\n".join(split.significant)
        key = line + b"\r\n" + significant
        meaning = self._meanings.get(key)
        if meaning is None:
            meaning = judge_response(line, parse_field_lines(significant))
            if len(key) <= _LONGEST_REMEMBERED:
                if len(self._meanings) >= _REMEMBERED:
                    self._meanings.clear()
                self._meanings[key] = meaning
        return ResponseHead(
            meaning.status,
            meaning,
            meaning.framing,
            meaning.is_persistent,
            meaning.status_line + self._edit(self._lines.without(split, meaning.dropped), meaning),
            split.noted is not None and DATE not in meaning.dropped,
        )

    def _edit(self, lines: bytes, meaning: ResponseMeaning) -> bytes:
        if meaning.status < _FINAL:
            return lines
        if meaning.has_location and self._locations is not None:
            lines = self._locations.apply(lines)
        return lines if self._edits is None else self._edits.apply(lines)


def _framing(status: int, minor: int, *, has_transfer_encoding: bool, content_length: int) -> ResponseFraming:
    """Decide how the body of a response to anything but HEAD ends (RFC 9112 §6.3). Raises ResponseError."""
    if has_transfer_encoding and minor == 0:
        raise ResponseError("the upstream's response is HTTP/1.0 but has a Transfer-Encoding (RFC 9112 §6.1)")
    if status < _FINAL and (has_transfer_encoding or content_length > 0):
        raise ResponseError("an interim response of the upstream announces a body, which none has (RFC 9110 §8.6)")
    if status < _FINAL or status in (_NO_CONTENT, _NOT_MODIFIED):
        return NO_BODY
    if has_transfer_encoding:
        return CHUNKED
    if content_length >= 0:
        return ResponseFraming(content_length, is_chunked=False)
    return UNTIL_CLOSE


def find_response_head_fault(partial: bytes, *, max_head: int, seen: int = 0) -> ResponseError | None:
    """
    Judge a response head that has not ended yet: say now what no further byte can mend.

    Returns None while it may still become a good one. `max_head` is in bytes; the first `seen` were judged before.
    """
    if seen < LONGEST_OPENING:
        other_protocol = find_other_protocol_of_upstream(partial)
        if other_protocol is not None:
            return other_protocol
    if has_bare_line_feed(partial, seen=seen):
        return ResponseError("a line of the upstream's response ends in a bare LF (RFC 9112 §2.2)")
    if len(partial) - END_BYTES > max_head:
        return ResponseError(f"the head of the upstream's response is larger than {max_head} bytes")
    return None


def judge_response(status_line: bytes, lines: Sequence[FieldLine]) -> ResponseMeaning:
    """
    Decide what a response's status line and significant lines mean.

    Raises ResponseError if they break the rules or leave the framing in doubt.
    """
    match = STATUS_LINE.fullmatch(status_line)
    if match is None:
        raise find_other_protocol_of_upstream(status_line) or no_status_line()
    status, minor = int(match[2]), min(int(match[1]), 1)
    values: dict[bytes, list[bytes]] = {}
    for line in lines:
        values.setdefault(line.name, []).append(line.value)

    connection = list_members(values.get(b"connection", ()))
    content_length = _content_length(values)
    has_transfer_encoding = b"transfer-encoding" in values
    if has_transfer_encoding:
        if b"content-length" in values:
            raise ResponseError("in the upstream's response, Content-Length and Transfer-Encoding stand side by side")
        if [value.lower() for value in values[b"transfer-encoding"]] != [b"chunked"]:
            raise ResponseError("the upstream's response has a transfer coding other than chunked")
    is_persistent = b"close" not in connection and (minor == 1 or b"keep-alive" in connection)
    if status == _NO_CONTENT and (has_transfer_encoding or content_length > 0):
        # The upstream may believe that a body follows; on this connection nothing more would be certain.
        is_persistent = False
    upgrade = b""
    if b"upgrade" in connection:
        upgrade = b", ".join(value for value in values.get(b"upgrade", ()) if value)
    return ResponseMeaning(
        status=status,
        minor=minor,
        framing=_framing(status, minor, has_transfer_encoding=has_transfer_encoding, content_length=content_length),
        is_persistent=is_persistent,
        status_line=b"HTTP/1.1 " + match[2] + b" " + (match[3] or b"") + b"\r\n",
        upgrade=upgrade or None,
        keep_alive_timeout=_keep_alive_timeout(values),
        dropped=dropped_from_response(connection, status=status),
        has_location=b"location" in values or b"content-location" in values,
    )


def field_values(lines: bytes, name: bytes) -> list[bytes]:
    """Return the values of the field `name` (in lower case) among lines that each end in CRLF, in order."""
    found = [line.partition(b":") for line in lines.split(b"\r\n")]
    return [value.strip(b" \t") for name_of_line, _, value in found if name_of_line.lower() == name]


def _content_length(values: dict[bytes, list[bytes]]) -> int:
    lengths = values.get(b"content-length")
    if lengths is None:
        return -1
    if len(lengths) > 1 or CONTENT_LENGTH.fullmatch(lengths[0]) is None:
        raise ResponseError("the Content-Length of the upstream's response is not one number of bytes (RFC 9112 §6.3)")
    return int(lengths[0])


def _keep_alive_timeout(values: dict[bytes, list[bytes]]) -> int | None:
    match = _KEEP_ALIVE_TIMEOUT.search(b",".join(values.get(b"keep-alive", ())).lower())
    return int(match[1]) if match else None
