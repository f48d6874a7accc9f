"""
The upstream's side of HTTP/1.1: requests as bytes, and its bytes as the heads, bodies and ends of responses.

One for each upstream connection, for one exchange at a time. It does no I/O: bytes are added to `unread`, and `read_head`
and `read_body` take them from there, in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from switch_proxy.core.errors import ResponseError
from switch_proxy.core.http.chunked import ChunkedDecoder, ChunkSyntaxError, encode_chunk, last_chunk
from switch_proxy.core.http.grammar import END_BYTES
from switch_proxy.core.http.response import NO_BODY, find_response_head_fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switch_proxy.core.http.request import RequestHead
    from switch_proxy.core.http.response import ResponseHead, ResponseParser

_FINAL: Final = 200
_NO_REQUEST_YET: Final = cast("RequestHead", None)


class UpstreamCodec:
    """Writes a request and reads its response; `encode_request` begins anew."""

    __slots__ = (
        "_decoder",
        "_known",
        "_max_head",
        "_parser",
        "_position",
        "_request",
        "_seen",
        "body_left",
        "head",
        "interim_responses",
        "is_complete",
        "is_costly",
        "is_reusable",
        "trailers",
        "unread",
    )

    def __init__(self, *, parser: ResponseParser, max_head: int) -> None:
        self._parser = parser
        self._known = parser.known
        self._max_head = max_head
        self._request = _NO_REQUEST_YET
        self.unread = b""
        """Bytes that have arrived and have not been read; of a chunked body, those from `_position` on."""
        self._position = 0
        self._seen = 0
        """Bytes of the buffer in which no end of a head has been found."""
        self.interim_responses = 0
        """How many have come since the request was sent."""
        self.head: ResponseHead | None = None
        """The final response's head, once it is there. What follows here is of use only then."""
        self._decoder: ChunkedDecoder | None = None
        self.body_left = 0
        """Bytes of body still to come; -1 if it ends by its last chunk, or with the connection."""
        self.is_complete = False
        """Whether `read_body` has read the response to its end."""
        self.is_costly = False
        """Whether part of a body was much work, so that others should have their turn. Who has given it to them sets it back."""
        self.is_reusable = False
        """
        Whether the connection is good for another request once this response is complete (RFC 9112 §9.3): the upstream keeps
        it open, the response has an end of its own, and nothing came behind that.
        """
        self.trailers = b""
        """The trailer lines which may be forwarded, once a response of unknown length is complete."""

    # The request.

    def encode_request(
        self,
        head: RequestHead,
        target: bytes,
        lines: Sequence[bytes],
        body: Sequence[bytes] = (),
        trailers: bytes | None = b"",
    ) -> bytes:
        """
        Return a request's head, and what there is of its body, in one piece.

        `lines`: the field lines, each with its CRLF. `trailers`: trailer lines if the request ends here, else None.
        """
        # The rest of the state is set when the response's head is read.
        self._request = head
        self.head = None
        self.interim_responses = 0
        if head.meaning.is_chunked:
            body = (self.encode_body(body, trailers=trailers),)
        return b"".join((head.method, b" ", target, b" HTTP/1.1\r\n", *lines, b"\r\n", *body))

    def encode_body(self, pieces: Sequence[bytes], *, trailers: bytes | None) -> bytes:
        """Return more of the request's body, framed; `trailers` as for `encode_request`."""
        if not self._request.meaning.is_chunked:
            return b"".join(pieces)
        chunk = encode_chunk(pieces) if pieces else b""
        return chunk if trailers is None else chunk + last_chunk(trailers)

    # The upstream's bytes.

    @property
    def has_received(self) -> bool:
        """Say whether a head has come back since the request was sent, or part of one."""
        return self.head is not None or self.interim_responses > 0 or bool(self.unread)

    @property
    def has_partial_head(self) -> bool:
        """Say whether a head has begun to arrive and has not ended."""
        return self.head is None and bool(self.unread)

    def take_unread(self) -> bytes:
        """Return the bytes that wait, and forget them: behind 101 they are those of another protocol."""
        unread, self.unread = self.unread, b""
        return unread

    def read_head(self) -> ResponseHead | None:
        """Return the next head, interim ones included; None while it has not arrived in full. Raises ResponseError."""
        buffer = self.unread
        seen = self._seen
        head_end = buffer.find(b"\r\n\r\n", seen - END_BYTES if seen > END_BYTES else 0)
        if head_end < 0 or head_end > self._max_head:
            fault = find_response_head_fault(buffer, max_head=self._max_head, seen=seen)
            if fault is not None:
                raise fault
            self._seen = len(buffer)
            return None
        raw = buffer[:head_end]
        head = self._known.get(raw) or self._parser.parse(raw)
        self.unread = buffer[head_end + 4 :]
        if seen:
            self._seen = 0
        if head.status < _FINAL:
            self.interim_responses += 1
            return head
        self.head = head
        self.is_reusable = head.is_persistent
        framing = NO_BODY if self._request.method == b"HEAD" else head.framing
        self.body_left = framing.length
        if framing.length < 0:
            self.is_complete = False
            self.trailers = b""
            self._decoder = (
                ChunkedDecoder(dropped=head.meaning.dropped, takes_padding=True) if framing.is_chunked else None
            )
        return head

    def read_body(self) -> Sequence[bytes]:
        """Return what has arrived of the response's body, in order, without its framing. Raises ResponseError."""
        data = self.unread
        self.unread = b""
        left = self.body_left
        if len(data) == left:
            self.body_left = 0
            self.is_complete = True
            return (data,) if data else ()
        if left < 0:
            return self._read_body_of_unknown_length(data)
        if len(data) > left:
            self.is_reusable = False
            data = data[:left]
        self.body_left = left = left - len(data)
        self.is_complete = not left
        return (data,) if data else ()

    def _read_body_of_unknown_length(self, data: bytes) -> Sequence[bytes]:
        decoder = self._decoder
        if decoder is None:
            return (data,) if data else ()
        try:
            pieces = decoder.feed(data, self._position)
        except ChunkSyntaxError as error:
            raise ResponseError(f"in the chunked body of the upstream's response, {error} (RFC 9112 §7.1)") from None
        self._position = decoder.position
        if decoder.is_costly:
            decoder.is_costly = False
            self.is_costly = True
        if decoder.is_complete:
            self.is_complete = True
            self.trailers = decoder.trailers
            self._position = 0
            if decoder.unread:
                self.is_reusable = False
        else:
            self.unread = decoder.unread
        return pieces

    def receive_end(self) -> bool:
        """Learn that the upstream has ended its side; say whether that completes the response (RFC 9112 §6.3)."""
        self.is_reusable = False
        self.is_complete = self.head is not None and self.body_left < 0 and self._decoder is None
        return self.is_complete
