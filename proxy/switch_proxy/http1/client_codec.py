"""
The client's side of HTTP/1.1: its bytes as the heads, bodies and ends of requests, and responses as bytes.

One for each client connection. It does no I/O and knows no exchange: bytes are added to `unread`, and `read_head` and
`read_body` take them from there, in order.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from switch_proxy.core.errors import RequestError
from switch_proxy.core.http.chunked import ChunkedDecoder, ChunkSyntaxError, encode_chunk, last_chunk
from switch_proxy.core.http.grammar import END_BYTES
from switch_proxy.core.http.header_rules import added_to_response
from switch_proxy.core.http.other_protocols import find_other_protocol_of_client
from switch_proxy.core.http.request import find_head_fault, head_too_large

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switch_proxy.core.config.models import ListenerLimitSettings
    from switch_proxy.core.http.request import RequestHead, RequestParser

_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)+")


class ClientCodec:
    """Reads requests and writes responses, one after the other."""

    __slots__ = (
        "_body_left",
        "_decoder",
        "_is_response_chunked",
        "_limits",
        "_minor",
        "_parser",
        "_seen",
        "is_close_delimited",
        "is_request_complete",
        "trailers",
        "unread",
    )

    def __init__(self, *, parser: RequestParser, limits: ListenerLimitSettings) -> None:
        self._parser = parser
        self._limits = limits
        self.unread = b""
        """Bytes that have arrived and have not been read: part of a head, or requests that wait their turn."""
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

    def take_unread(self) -> bytes:
        """Return the bytes that wait, and forget them: they belong to no request."""
        unread, self.unread = self.unread, b""
        self._seen = 0
        return unread

    def read_head(self) -> RequestHead | None:
        """Return the next request's head, None while it has not arrived in full. Raises RequestError."""
        buffer = self.unread
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
        if seen:
            self._seen = 0
        if head_end > limits.head:
            fault = find_head_fault(buffer, max_request_line=limits.request_line, max_head=limits.head, seen=seen)
            raise fault or head_too_large(limits.head)
        try:
            head = self._parser.parse(buffer[:head_end])
        except RequestError as error:
            raise find_other_protocol_of_client(buffer) or error from None
        self.unread = buffer[head_end + 4 :]
        self._minor = head.minor
        meaning = head.meaning
        self.is_request_complete = True
        if meaning.content_length > 0:
            self._body_left = meaning.content_length
            self._decoder = None
            self.is_request_complete = False
        elif meaning.is_chunked:
            self._decoder = ChunkedDecoder(dropped=meaning.dropped)
            self.trailers = b""
            self.is_request_complete = False
        return head

    def _skip_empty_lines(self) -> bytes:
        """Pass over empty lines before a request line (RFC 9112 §2.2)."""
        empty_lines = _EMPTY_LINES.match(self.unread)
        if empty_lines is not None:
            self.unread = self.unread[empty_lines.end() :]
        self._seen = 0
        return self.unread

    def read_body(self) -> Sequence[bytes]:
        """Return what has arrived of the request's body, in order, without its framing. Raises RequestError."""
        data = self.unread
        self.unread = b""
        if self._decoder is not None:
            return self._read_chunks(self._decoder, data)
        left = self._body_left
        if len(data) >= left:
            self.is_request_complete = True
            if len(data) > left:
                self.unread = data[left:]
                data = data[:left]
        self._body_left = left - len(data)
        return (data,) if data else ()

    def _read_chunks(self, decoder: ChunkedDecoder, data: bytes) -> Sequence[bytes]:
        try:
            pieces = decoder.feed(data)
        except ChunkSyntaxError as error:
            raise RequestError(400, f"in the chunked body, {error} (RFC 9112 §7.1)") from None
        if decoder.is_complete:
            self.is_request_complete = True
            self.trailers = decoder.trailers
            self.unread = decoder.rest
        return pieces

    def abandon_request(self) -> None:
        """Read no more of the request: where it ends is in doubt, or what follows is no request."""
        self.is_request_complete = False

    # Responses.

    def encode_response(
        self,
        lines: bytes,
        *,
        length: int,
        date: bytes | None,
        closes: bool,
        body: Sequence[bytes],
        trailers: bytes | None,
    ) -> bytes:
        """
        Return a response's head, and what there is of its body, in one piece.

        `lines`: status line and field lines, each with its CRLF. `length`: bytes of the whole body, -1 if that is not known.
        `date`: the Date to add, None if there is one. `closes`: whether the connection ends with this response.
        `trailers`: trailer lines if the response ends here, else None.
        """
        minor = self._minor
        is_chunked = self._is_response_chunked = length < 0 and minor == 1
        self.is_close_delimited = length < 0 and not is_chunked
        added = b""
        if is_chunked or closes or date is not None or not minor:
            added = added_to_response(date, is_chunked=is_chunked, closes=closes, minor=minor)
        if is_chunked:
            return b"".join((lines, added, b"\r\n", self.encode_body(body, trailers=trailers)))
        return b"".join((lines, added, b"\r\n", *body))

    def encode_body(self, pieces: Sequence[bytes], *, trailers: bytes | None) -> bytes:
        """Return more of a response's body, framed; `trailers` as for `encode_response`."""
        if not self._is_response_chunked:
            return b"".join(pieces)
        chunk = encode_chunk(pieces) if pieces else b""
        return chunk if trailers is None else chunk + last_chunk(trailers)
