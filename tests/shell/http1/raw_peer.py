"""
One end of a connection, byte by byte: nothing is sent or read that a test does not ask for.

Every wait is bounded, and one that runs out fails the test with what had arrived until then.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

WITHIN: Final = 5.0
"""Seconds that anything may take on this machine before the test is given up."""

_READ_SIZE: Final = 262144
_STEADY_LOOKS: Final = 15
_RESET: Final = struct.pack("ii", 1, 0)


@asynccontextmanager
async def bounded(what: str, arrived: bytes | bytearray = b"") -> AsyncIterator[None]:
    """Fail with `what` was awaited when it does not come in time."""
    try:
        async with asyncio.timeout(WITHIN):
            yield
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what}; what came last: {bytes(arrived[-300:])!r}") from None


async def turn() -> None:
    """Let the loop look at its sockets, so that what was sent is read before more is sent."""
    for _ in range(3):
        await asyncio.sleep(0)


@asynccontextmanager
async def working(steps: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Let `steps` run beside the body of the block, and end them with it; a failure of theirs fails the test."""
    task = asyncio.get_running_loop().create_task(steps)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until_steady(measure: Callable[[], int]) -> int:
    """Wait until a number that has only ever grown has stayed the same for 30 ms, and return it."""
    last, seen = -1, 0
    async with bounded("something to come to a standstill"):
        while seen < _STEADY_LOOKS:
            value = measure()
            seen = seen + 1 if value == last else 0
            last = value
            await asyncio.sleep(0.002)
    return last


async def send_until_stopped(connected: socket.socket, data: bytes, *, limit: int) -> int:
    """Send `data` again and again until nothing more has been taken for 30 ms, or `limit` bytes; return how many."""
    sent, refused = 0, 0
    async with bounded("a sender to be stopped"):
        while sent < limit and refused < _STEADY_LOOKS:
            try:
                sent += connected.send(data[sent % len(data) :])
                refused = 0
                await asyncio.sleep(0)
            except BlockingIOError:
                refused += 1
                await asyncio.sleep(0.002)
    return sent


class Stream(Protocol):
    """Bytes on top of a socket: plain or in TLS."""

    async def read(self) -> bytes:
        """Return what is there, or wait for it; empty at the end."""

    async def write(self, data: bytes) -> None:
        """Send all of `data`."""

    async def write_end(self) -> None:
        """Say in order that nothing more comes (TLS: close_notify)."""


class PlainStream:
    """A socket as it is."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    async def read(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._socket, _READ_SIZE)

    async def write(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def write_end(self) -> None:
        """Nothing is said but the socket's own FIN."""


class TlsStream:
    """The server's side of a TLS connection, with the record layer in the test's hand."""

    def __init__(self, connected: socket.socket, context: ssl.SSLContext) -> None:
        self._plain = PlainStream(connected)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def handshake(self) -> None:
        """Do the handshake. Raises ssl.SSLError after the alert has been sent."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLError:
                await self._flush()
                raise
            else:
                await self._flush()
                return

    async def read(self) -> bytes:
        while True:
            try:
                return self.tls.read(_READ_SIZE)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view) :]
            await self._flush()

    async def write_end(self) -> None:
        # The other side's close_notify is not waited for.
        with suppress(ssl.SSLError):
            self.tls.unwrap()
        await self._flush()

    async def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            await self._plain.write(data)

    async def _fill(self) -> None:
        data = await self._plain.read()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()


class RawPeer:
    """A connected socket with a buffer of what has arrived and has not been taken yet."""

    def __init__(self, connected: socket.socket, stream: Stream | None = None) -> None:
        self.socket = connected
        self.stream = stream or PlainStream(connected)
        self.buffer = bytearray()

    async def send(self, *segments: bytes) -> None:
        """Send each segment so that the other side can read it before the next."""
        for index, segment in enumerate(segments):
            if index:
                await turn()
            async with bounded(f"{len(segment)} bytes to be taken", self.buffer):
                await self.stream.write(segment)

    async def receive(self, count: int) -> bytes:
        """Return exactly the next `count` bytes."""
        async with bounded(f"{count} bytes", self.buffer):
            while len(self.buffer) < count:
                await self._read_more(f"{count} bytes")
        return self._take(count)

    async def receive_until(self, end: bytes) -> bytes:
        """Return the next bytes up to and with `end`."""
        async with bounded(repr(end), self.buffer):
            while (found := self.buffer.find(end)) < 0:
                await self._read_more(repr(end))
        return self._take(found + len(end))

    async def receive_chunk(self) -> bytes:
        """Return the next chunk's data; after the last chunk, the trailer section is still to be read."""
        size = int(await self.receive_until(b"\r\n"), 16)
        if not size:
            return b""
        data = await self.receive(size)
        assert await self.receive(2) == b"\r\n"
        return data

    async def receive_to_end(self) -> bytes:
        """Return everything up to the orderly end of the connection; a reset fails the test."""
        async with bounded("the end of the connection", self.buffer):
            while data := await self.stream.read():
                self.buffer += data
        return self._take(len(self.buffer))

    async def receive_to_reset(self) -> bytes:
        """Return everything up to the connection's reset; an orderly end fails the test."""
        async with bounded("the reset of the connection", self.buffer):
            try:
                while data := await self.stream.read():
                    self.buffer += data
            except ConnectionError:
                return self._take(len(self.buffer))
        raise AssertionError(f"the connection ended in order after {bytes(self.buffer[-300:])!r}")

    async def receive_to_any_end(self) -> bytes:
        """Return everything up to the end of the connection, in order or by a reset."""
        async with bounded("any end of the connection", self.buffer):
            try:
                while data := await self.stream.read():
                    self.buffer += data
            except ConnectionError:
                pass
        return self._take(len(self.buffer))

    async def _read_more(self, what: str) -> None:
        data = await self.stream.read()
        if not data:
            raise AssertionError(f"the connection ended before {what}; what came last: {bytes(self.buffer[-300:])!r}")
        self.buffer += data

    def _take(self, count: int) -> bytes:
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    async def end(self) -> None:
        """Half-close: nothing more is sent, reading goes on."""
        await self.stream.write_end()
        self.socket.shutdown(socket.SHUT_WR)

    async def close(self) -> None:
        """Close in order."""
        await self.stream.write_end()
        self.socket.close()

    def truncate(self) -> None:
        """Close the socket in order, without the TLS layer's goodbye."""
        self.socket.close()

    def reset(self) -> None:
        """Close with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.socket.close()
