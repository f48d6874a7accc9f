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

_CARRIAGE_RETURN: Final = 13

_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)+")


class ClientCodec:
    """Reads requests and writes responses, one after the other."""

    __slots__ = (
        "_body_left",
        "_decoder",
        "_empty_lines",
        "_is_response_chunked",
        "_limits",
        "_minor",
        "_parser",
        "_position",
        "_seen",
        "is_close_delimited",
        "is_costly",
        "is_request_complete",
        "trailers",
        "unread",
    )

    def __init__(self, *, parser: RequestParser, limits: ListenerLimitSettings) -> None:
        self._parser = parser
        self._limits = limits
        self.unread = b""
        """
        Bytes that have arrived, empty if all have been read: part of a head, requests that wait their turn, or what is put
        off of a body. Those before `_position` have been read.
        """
        self._position = 0
        self._seen = 0
        """Bytes from there on in which no end of a head has been found."""
        self._empty_lines = 0
        """Bytes of empty lines since the request before."""
        self._decoder: ChunkedDecoder | None = None
        self._body_left = 0
        self._minor = 1
        self._is_response_chunked = False
        self.is_request_complete = True
        """Whether the request whose head was read last has been read to its end."""
        self.is_costly = False
        """Whether part of a body was much work, so that others should have their turn. Who has given it to them sets it back."""
        self.trailers = b""
        """The trailer lines of that request which may be forwarded, once it is complete."""
        self.is_close_delimited = False
        """Whether the body of the response under way ends with the connection: an HTTP/1.0 client knows no chunks."""

    # The client's bytes.

    @property
    def unread_size(self) -> int:
        """Return how many bytes wait to be read."""
        return len(self.unread) - self._position

    @property
    def is_at_head_request(self) -> bool:
        """Say whether what waits begins as a HEAD request does."""
        return self.unread.startswith(b"HEAD ", self._position)

    def append(self, data: bytes) -> None:
        """Add bytes to those that wait."""
        self.unread = self.unread[self._position :] + data
        self._position = 0

    def take_unread(self) -> bytes:
        """Return the bytes that wait, and forget them: they belong to no request."""
        unread = self.unread[self._position :]
        self.unread = b""
        self._position = self._seen = 0
        return unread

    def read_head(self) -> RequestHead | None:
        """Return the next request's head, None while it has not arrived in full. Raises RequestError."""
        buffer = self.unread
        if not buffer:
            return None
        start = self._position
        if buffer[start] == _CARRIAGE_RETURN and buffer.startswith(b"\r\n", start):
            start = self._skip_empty_lines(start)
            buffer = self.unread
        seen = self._seen
        head_end = buffer.find(b"\r\n\r\n", start + seen - END_BYTES if seen > END_BYTES else start)
        if head_end < 0:
            self._judge_partial_head(buffer, start)
            return None
        if seen:
            self._seen = 0
        if head_end - start > self._limits.head:
            raise self._judge_long_head(buffer[start:], seen)
        try:
            head = self._parser.parse(buffer[start:head_end])
        except RequestError as error:
            raise find_other_protocol_of_client(buffer[start:]) or error from None
        # An offset, because many requests that wait behind this one are not to be copied for each of them.
        position = head_end + 4
        if position == len(buffer):
            self.unread = b""
            position = 0
        self._position = position
        self._empty_lines = 0
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

    def _judge_partial_head(self, buffer: bytes, start: int) -> None:
        """Keep what has come of a head, unless no further byte can mend it. Raises RequestError."""
        if start:
            self.unread = buffer = buffer[start:]
            self._position = 0
        limits = self._limits
        fault = find_head_fault(buffer, max_request_line=limits.request_line, max_head=limits.head, seen=self._seen)
        if fault is not None:
            raise fault
        self._seen = len(buffer)

    def _judge_long_head(self, head: bytes, seen: int) -> RequestError:
        limits = self._limits
        fault = find_head_fault(head, max_request_line=limits.request_line, max_head=limits.head, seen=seen)
        return fault or head_too_large(limits.head)

    def _skip_empty_lines(self, start: int) -> int:
        """Pass over empty lines before a request line (RFC 9112 §2.2); return where they end. Raises RequestError."""
        empty_lines = _EMPTY_LINES.match(self.unread, start)
        end = start if empty_lines is None else empty_lines.end()
        self._empty_lines += end - start
        if self._empty_lines > self._limits.head:
            raise RequestError(400, f"more than {self._limits.head} bytes of empty lines stand before a request")
        if end == len(self.unread):
            self.unread = b""
            end = 0
        self._position = end
        self._seen = 0
        return end

    def read_body(self) -> Sequence[bytes]:
        """Return what has arrived of the request's body, in order, without its framing. Raises RequestError."""
        if self._decoder is not None:
            return self._read_chunks(self._decoder)
        data = self.unread
        position = self._position
        left = self._body_left
        end = position + left
        if end < len(data):
            self._position = end
            data = data[position:end]
        else:
            self.unread = b""
            if position:
                self._position = 0
                data = data[position:]
        self._body_left = left = left - len(data)
        if not left:
            self.is_request_complete = True
        return (data,) if data else ()

    def _read_chunks(self, decoder: ChunkedDecoder) -> Sequence[bytes]:
        try:
            pieces = decoder.feed(self.unread, self._position)
        except ChunkSyntaxError as error:
            raise RequestError(400, f"in the chunked body, {error} (RFC 9112 §7.1)") from None
        self.unread = decoder.unread
        self._position = decoder.position
        if decoder.is_costly:
            decoder.is_costly = False
            self.is_costly = True
        if decoder.is_complete:
            self.is_request_complete = True
            self.trailers = decoder.trailers
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
