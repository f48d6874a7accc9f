"""
TLS on a plain connection of the event loop: a protocol to that connection, and a transport to the upstream connection.

The event loops have TLS of their own. It keeps buffers of 256 KiB and more for each connection, and on uvloop the end of the
socket looks the same with close_notify and without (docs/decisions/0007). Here what arrives is decrypted within the callback
that brings it, so all connections share two buffers. A connection keeps only the part of a record that has arrived so far,
and two BIOs of OpenSSL, which never shrink: so they are given a record at a time to read, and few to write.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from switch_proxy.core.tls_records import LARGEST_RECORD, find_end_of_records

if TYPE_CHECKING:
    from collections.abc import Callable

    from switch_proxy.http1.peers import UpstreamTransport

_RECEIVED_AT_ONCE: Final = 98304
"""
Bytes that are read at once: the largest piece that may have to wait for a client that does not keep up. More than a body of
64 KiB with its head; less than the 128 KiB from which on glibc asks the system for memory each time.
"""

_ENCRYPTED_AT_ONCE: Final = 98304
"""Bytes that are encrypted at once, in whole records. As many, and a third more, stay allocated in the connection's BIO."""

_LARGEST_PLAINTEXT: Final = 16384
"""Bytes that a record can hold (RFC 8446 §5.1)."""

_LARGEST_REPLIES: Final = 65536
"""Bytes of replies to key updates and the like that may wait for a peer that does not read."""

_RICH: Final = 7 / 8
"""A full read is costly if less than this part of its records was plaintext: they are many and small."""


class TlsBuffers:
    """What all TLS connections of an event loop receive into, and decrypt into: needed only within one callback."""

    __slots__ = ("encrypted", "plain", "received")

    def __init__(self) -> None:
        # Besides what is read at once, the part of a record that came before.
        size = _RECEIVED_AT_ONCE + LARGEST_RECORD
        self.encrypted = memoryview(bytearray(size))
        self.received = self.encrypted[:_RECEIVED_AT_ONCE]
        self.plain = memoryview(bytearray(size))


class TlsStream(asyncio.BufferedProtocol):
    """
    One TLS connection, as its client.

    `established` is done once the handshake is over. It ends with ssl.SSLError if that failed, with EOFError if the peer
    ended the socket in the middle, and with another OSError if the socket broke. From then on `protocol` is told of
    everything as by any transport: `eof_received` means close_notify. A socket that ends without it is lost, and what was under
    way is cut (RFC 8446 §6.1).
    """

    __slots__ = (
        "_buffers",
        "_decrypt",
        "_decrypt_into",
        "_encrypt",
        "_error",
        "_has_peer_ended",
        "_held",
        "_incoming",
        "_is_full",
        "_is_reading",
        "_is_reading_paused",
        "_is_writing",
        "_outgoing",
        "_protocol",
        "_tls",
        "_transport",
        "established",
    )

    def __init__(
        self,
        protocol: asyncio.Protocol,
        *,
        wrap: Callable[[ssl.MemoryBIO, ssl.MemoryBIO], ssl.SSLObject],
        buffers: TlsBuffers,
        established: asyncio.Future[None],
    ) -> None:
        """Take who is told, and the function that puts TLS upon two BIOs, incoming and outgoing; nothing is sent yet."""
        self._protocol: asyncio.Protocol | None = protocol
        self._buffers = buffers
        self.established = established
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = wrap(self._incoming, self._outgoing)
        self._decrypt = self._tls.read
        self._decrypt_into = cast("Callable[[int, memoryview], int]", self._tls.read)
        self._encrypt = self._tls.write
        self._transport = cast("asyncio.Transport", None)
        self._held = b""
        """The beginning of a record whose rest has not arrived."""
        self._is_reading = False
        """Whether what arrives is for the protocol: after the handshake, until the peer ends or this side closes."""
        self._is_writing = False
        """Whether the protocol may write."""
        self._has_peer_ended = False
        self._is_reading_paused = False
        self._is_full = False
        self._error: Exception | None = None

    # The protocol of the plain connection.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._transport = cast("asyncio.Transport", transport)
        self._shake_hands()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to receive: behind what is held of a record."""
        held = self._held
        if not held:
            return self._buffers.received
        encrypted = self._buffers.encrypted
        begin = len(held)
        encrypted[:begin] = held
        return encrypted[begin : begin + _RECEIVED_AT_ONCE]

    def buffer_updated(self, nbytes: int) -> None:
        """Decrypt the whole records that are there, and hand on in one piece what was in them."""
        count = len(self._held) + nbytes
        self._held = b""
        if self._is_reading:
            self._read_records(count)
        elif not self.established.done():
            self._incoming.write(self._buffers.encrypted[:count])
            self._shake_hands()
        # What comes after close_notify is ignored (RFC 8446 §6.1).

    def eof_received(self) -> bool:
        """Learn that the peer has ended the socket. Return whether to keep it: its close_notify has come, and it may still read."""
        if not self.established.done():
            self.established.set_exception(EOFError())
        if self._has_peer_ended:
            return self._is_writing
        if self._error is None:
            self._error = EOFError("the peer ended the connection without close_notify")
        self.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End: tell the protocol, unless it has never known the connection."""
        self._is_reading = self._is_writing = False
        # Forgotten, because the protocol has this object for its transport: both go at once.
        protocol, self._protocol = self._protocol, None
        if not self.established.done():
            self.established.set_exception(exc or ConnectionAbortedError())
        elif protocol is not None and not self.established.cancelled() and self.established.exception() is None:
            protocol.connection_lost(self._error or exc)

    def pause_writing(self) -> None:
        """Pass on that the connection takes no more bytes for now."""
        self._is_full = True
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Send the replies that have waited, and pass on that the connection takes bytes again."""
        self._is_full = False
        if self._is_writing and self._outgoing.pending:
            self._send_outgoing()
        if self._protocol is not None and not self._is_full:
            self._protocol.resume_writing()

    # The transport of the protocol.

    def write(self, data: bytes) -> None:
        """Encrypt and send; nothing once the connection ends, as any transport."""
        if not self._is_writing:
            return
        try:
            if len(data) <= _ENCRYPTED_AT_ONCE:
                self._encrypt(data)
                self._send_outgoing()
                return
            view = memoryview(data)
            for start in range(0, len(data), _ENCRYPTED_AT_ONCE):
                self._encrypt(view[start : start + _ENCRYPTED_AT_ONCE])
                self._send_outgoing()
        except ssl.SSLError as error:
            self._fail(error)

    def pause_reading(self) -> None:
        """Read no more for now. What has been read has been handed on already."""
        self._is_reading_paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on; an end that has been read already is told soon."""
        self._is_reading_paused = False
        if self._error is not None or self._has_peer_ended:
            self.established.get_loop().call_soon(self._end_reading)
        self._transport.resume_reading()

    def get_write_buffer_size(self) -> int:
        """Return how many encrypted bytes wait to be sent."""
        return self._transport.get_write_buffer_size() + self._outgoing.pending

    def can_write_eof(self) -> bool:
        """Say whether one side may end before the other: from TLS 1.3 on (RFC 8446 §6.1; RFC 5246 §7.2.1)."""
        return self._tls.version() == "TLSv1.3"

    def write_eof(self) -> None:
        """End this side with close_notify, after what has been written."""
        if not self._is_writing:
            return
        self._is_writing = False
        with suppress(ssl.SSLError):
            # Raised because the peer's close_notify has not come: it is not waited for.
            self._tls.unwrap()
        self._send_outgoing()

    def is_closing(self) -> bool:
        """Say whether the connection ends, or has ended."""
        return self._transport.is_closing()

    def close(self) -> None:
        """End this side in order, send what has been written, and read no more."""
        self.write_eof()
        self._is_reading = False
        self._transport.close()

    def abort(self) -> None:
        """Close at once, without close_notify: to the peer, what was under way is cut."""
        self._is_reading = self._is_writing = False
        self._transport.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is asked of the TLS connection (`ssl_object`) or of the plain one."""
        return self._tls if name == "ssl_object" else self._transport.get_extra_info(name, default)

    # What is between the two.

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send_outgoing()
            return
        except ssl.SSLError as error:
            # With the alert that says why.
            self._send_outgoing()
            self.established.set_exception(error.with_traceback(None))
            self.abort()
            return
        self._send_outgoing()
        self._is_reading = self._is_writing = True
        self.established.set_result(None)
        if self._protocol is not None:
            as_transport: UpstreamTransport = self
            self._protocol.connection_made(cast("asyncio.Transport", as_transport))
        # Behind the handshake, tickets may have come, and all that the peer says before it is asked.
        early = self._incoming.read()
        if early:
            self._buffers.encrypted[: len(early)] = early
            self._read_records(len(early))

    def _read_records(self, count: int) -> None:
        """Decrypt the whole records among `count` bytes received, and keep the beginning of the next."""
        end = find_end_of_records(self._buffers.encrypted, 0, count)
        data = self._decrypt_record(end) if end == count else self._decrypt_records(end, count)
        if self._outgoing.pending:
            self._send_replies()
        if count >= _RECEIVED_AT_ONCE and len(data) < (count - len(self._held)) * _RICH:
            self._let_others_go()
        protocol = self._protocol
        if data and protocol is not None:
            protocol.data_received(data)
        if self._error is not None or self._has_peer_ended:
            self._end_reading()

    def _end_reading(self) -> None:
        """Tell the end, unless the protocol has closed, or does not want to be told for now."""
        if not self._is_reading or self._is_reading_paused or self._protocol is None:
            return
        self._is_reading = False
        if self._error is not None:
            self.abort()
        elif not self._protocol.eof_received():
            self.close()

    def _decrypt_record(self, end: int) -> bytes:
        """Return what is in the whole records up to `end`, which are mostly one: then nothing is copied."""
        self._incoming.write(self._buffers.encrypted[:end])
        data = b""
        try:
            data = self._decrypt(end)
        except ssl.SSLError as error:
            self._take_error(error)
        else:
            self._has_peer_ended = not data
        if not self._incoming.pending or self._error is not None:
            return data
        size = len(data)
        plain = self._buffers.plain
        plain[:size] = data
        return bytes(plain[: self._gather(size)])

    def _decrypt_records(self, end: int, count: int) -> bytes:
        """Return what is in the whole records, the first of which end at `end`; keep what is behind them up to `count`."""
        encrypted = self._buffers.encrypted
        start = size = 0
        while end > start and self._error is None and not self._has_peer_ended:
            self._incoming.write(encrypted[start:end])
            size = self._gather(size)
            start = end
            end = find_end_of_records(encrypted, start, count)
        self._held = bytes(encrypted[end:count])
        return bytes(self._buffers.plain[:size])

    def _gather(self, size: int) -> int:
        """Decrypt the records in the BIO behind the `size` bytes that were in earlier ones; return how many there are then."""
        plain = self._buffers.plain
        incoming = self._incoming
        try:
            # Not until there is nothing to read: that is an exception, which costs as much as a small record.
            while incoming.pending:
                count = self._decrypt_into(_LARGEST_PLAINTEXT, plain[size:])
                if not count:
                    self._has_peer_ended = True
                    break
                size += count
        except ssl.SSLError as error:
            self._take_error(error)
        return size

    def _take_error(self, error: ssl.SSLError) -> None:
        if isinstance(error, ssl.SSLZeroReturnError):
            # How close_notify is told if this side has sent its own.
            self._has_peer_ended = True
        elif not isinstance(error, ssl.SSLWantReadError):
            # That one comes when the last record was a session ticket, a key update or the like.
            self._error = error.with_traceback(None)

    def _let_others_go(self) -> None:
        """Read on only after the event loop has served others: libuv reads up to 32 times in a row."""
        self._transport.pause_reading()
        self.established.get_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        if self._is_reading and not self._is_reading_paused:
            self._transport.resume_reading()

    def _send_outgoing(self) -> None:
        data = self._outgoing.read()
        if data:
            self._transport.write(data)

    def _send_replies(self) -> None:
        """Send what OpenSSL says of its own accord; give up a peer that makes it talk and does not listen."""
        if not self._is_full:
            self._send_outgoing()
        elif self._outgoing.pending > _LARGEST_REPLIES:
            self._error = ConnectionAbortedError("the peer asks for more replies than it reads")

    def _fail(self, error: ssl.SSLError) -> None:
        self._error = error.with_traceback(None)
        self.abort()
