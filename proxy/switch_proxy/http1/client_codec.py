"""
The client's side of HTTP/1.1: its bytes as the heads, bodies and ends of requests, and responses as bytes.

One for each client connection. It does no I/O and knows no exchange: bytes are put in by `receive`, and taken out as
`read_head` and `read_body` return them, in order; what is not taken yet waits here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from switch_proxy.core.errors import RequestError
from switch_proxy.core.http.chunked import ChunkedDecoder, ChunkSyntaxError, encode_chunk, last_chunk
from switch_proxy.core.http.grammar import END_BYTES
from switch_proxy.core.http.header_rules import added_to_response
from switch_proxy.core.http.request import find_head_fault, head_too_large

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switch_proxy.core.config.models import LimitSettings
    from switch_proxy.core.http.request import RequestHead, RequestParser

_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)+")


class ClientCodec:
    """Reads requests and writes responses, one after the other."""

    __slots__ = (
        "_body_left",
        "_buffer",
        "_decoder",
        "_is_response_chunked",
        "_limits",
        "_minor",
        "_parser",
        "_seen",
        "is_close_delimited",
        "is_request_complete",
        "trailers",
    )

    def __init__(self, *, parser: RequestParser, limits: LimitSettings) -> None:
        self._parser = parser
        self._limits = limits
        self._buffer = b""
        """What has arrived and has not been read: part of a head, or requests that wait their turn."""
        self._seen = 0
        """Bytes of the buffer in which no end of a head has been found."""
        self._decoder: ChunkedDecoder | None = None
        self._body_left = 0
        self._minor = 1
        self._is_response_chunked = False
        self.is_request_complete = True
        """Whether the request whose head was read last has been read to its end."""
        self.trailers = b""
        """The trailer lines of that request which may be forwarded, once it is complete."""
        self.is_close_delimited = False
        """Whether the body of the response under way ends with the connection: an HTTP/1.0 client knows no chunks."""

    # The client's bytes.

    def receive(self, data: bytes) -> None:
        """Take bytes as they came from the client."""
        self._buffer = self._buffer + data if self._buffer else data

    @property
    def unread(self) -> int:
        """Return how many bytes wait to be read."""
        return len(self._buffer)

    @property
    def has_begun_head(self) -> bool:
        """Say whether part of a head waits; an empty line before a request line is none (RFC 9112 §2.2)."""
        return self._buffer not in (b"", b"\r")

    def take_unread(self) -> bytes:
        """Return the bytes that wait, and forget them: they belong to no request."""
        unread, self._buffer = self._buffer, b""
        self._seen = 0
        return unread

    def read_head(self) -> RequestHead | None:
        """Return the next request's head, None while it has not arrived in full. Raises RequestError."""
        buffer = self._buffer
        if buffer.startswith(b"\r\n"):
            buffer = self._skip_empty_lines()
        seen = self._seen
        limits = self._limits
        head_end = buffer.find(b"\r\n\r\n", seen - END_BYTES if seen > END_BYTES else 0)
        if head_end < 0:
            fault = find_head_fault(buffer, max_request_line=limits.request_line, max_head=limits.head, seen=seen)
            if fault is not None:
                raise fault
            self._seen = len(buffer)
            return None
        self._seen = 0
        if head_end > limits.head:
            raise head_too_large(limits.head)
        head = self._parser.parse(buffer[:head_end])
        self._buffer = buffer[head_end + 4 :]
        self._minor = head.minor
        meaning = head.meaning
        self._body_left = left = meaning.content_length
        if meaning.is_chunked:
            self._decoder = ChunkedDecoder(dropped=meaning.dropped)
            self.is_request_complete = False
        else:
            self._decoder = None
            self.is_request_complete = left <= 0
        self.trailers = b""
        return head

    def _skip_empty_lines(self) -> bytes:
        """Pass over empty lines before a request line (RFC 9112 §2.2)."""
        empty_lines = _EMPTY_LINES.match(self._buffer)
        if empty_lines is not None:
            self._buffer = self._buffer[empty_lines.end() :]
        self._seen = 0
        return self._buffer

    def read_body(self) -> list[bytes]:
        """Return what has arrived of the request's body, in order, without its framing. Raises RequestError."""
        data, self._buffer = self._buffer, b""
        decoder = self._decoder
        if decoder is not None:
            try:
                pieces = decoder.feed(data)
            except ChunkSyntaxError as error:
                raise RequestError(400, f"in the chunked body, {error} (RFC 9112 §7.1)") from None
            if decoder.is_complete:
                self.is_request_complete = True
                self.trailers = decoder.trailers
                self._buffer = decoder.rest
            return pieces
        left = self._body_left
        if len(data) > left:
            self._buffer = data[left:]
            data = data[:left]
        self._body_left = left - len(data)
        self.is_request_complete = self._body_left == 0
        return [data] if data else []

    def abandon_request(self) -> None:
        """Read no more of the request: where it ends is in doubt, or what follows is no request."""
        self.is_request_complete = False

    # Responses.

    def encode_head(self, lines: bytes, *, length: int, date: bytes | None, closes: bool) -> bytes:
        """
        Return a response's head.

        `lines`: status line and field lines, each with its CRLF. `length`: bytes of the body, -1 if it is not known.
        `date`: the Date to add, None if there is one. `closes`: whether the connection ends with this response.
        """
        is_chunked = self._is_response_chunked = length < 0 and self._minor == 1
        self.is_close_delimited = length < 0 and not is_chunked
        return lines + added_to_response(is_chunked=is_chunked, date=date, closes=closes, minor=self._minor) + b"\r\n"

    def encode_body(self, pieces: Sequence[bytes]) -> bytes:
        """Return pieces of a response's body, framed."""
        if pieces and self._is_response_chunked:
            return encode_chunk(pieces)
        return b"".join(pieces)

    def encode_end(self, trailers: bytes) -> bytes:
        """Return the end of a response, with trailer lines that each end in CRLF, if the framing allows them."""
        return last_chunk(trailers) if self._is_response_chunked else b""
