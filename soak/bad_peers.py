"""
Peers that misbehave beside the load: clients, an upstream of a route of their own, and whoever meets the admin listener.

What they do is a fixed list, each in its turn, on a bounded number of connections. None of it may cost a good client a request.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

CLIENTS: Final = 16
"""Connections of misbehaving clients at a time, for each listener."""

_HELD: Final = 1.0
"""Seconds that a peer keeps a connection on which nothing comes."""

_HEAD: Final = b" HTTP/1.1\r\nHost: localhost\r\n"

CLIENT_BYTES: Final[dict[str, bytes]] = {
    "half a head": b"GET /api/meter" + _HEAD + b"X-A: ",
    "a head that is too large": b"GET /" + _HEAD + b"X-A: " + b"a" * 100_000,
    "an upload that stands still": b"POST /" + _HEAD + b"Content-Length: 1000000\r\n\r\nhello",
    "one-byte chunks": b"POST /" + _HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 50_000,
    "chunk extensions": b"POST /" + _HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1;" + b"e" * 4000 + b"\r\na\r\n",
    "pipelined requests that nobody reads": (b"GET /api/meter" + _HEAD + b"\r\n") * 200,
    "pipelined refusals": (b"TRACE /" + _HEAD + b"\r\n") * 2000,
    "text that is slow to search": b"GET /" + b"eyJ." * 1000 + _HEAD + b"X-Request-Id: " + b"eyJ." * 1000 + b"\r\n\r\n",
    "a TLS handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "the PROXY protocol": b"PROXY TCP4 10.0.0.1 10.0.0.2 5000 80\r\n",
    "nothing": b"",
}
"""What a client sends before it waits, reads nothing, and resets the connection."""

UPSTREAM_BYTES: Final[dict[str, bytes | None]] = {
    "no response": b"",
    "a reset": None,
    "half a head": b"HTTP/1.1 200 OK\r\nX-A",
    "a body that stands still": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
    "interim responses without end": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20_000,
    "one-byte chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 50_000,
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "bytes behind the response": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n\r\n",
    "HTTP/2": b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64",
}
"""What an upstream responds with before it waits and closes; None resets at once."""


class BadPeers:
    """All of them; `run` lets them act until it is cancelled."""

    def __init__(self, *, listeners: tuple[str, ...], bad_route: str) -> None:
        """Take the URLs of the listeners to misbehave at, and of the route whose upstream does."""
        self._listeners = listeners
        self._bad_route = bad_route
        self.acts = 0
        """How often one of them has done its worst."""

    async def run(self) -> None:
        """Act until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for url in self._listeners:
                turns = itertools.cycle(CLIENT_BYTES.values())
                for _ in range(CLIENTS):
                    tasks.create_task(self._misbehave(url, turns))
            requests = itertools.repeat(b"GET /" + _HEAD + b"Connection: close\r\n\r\n")
            for _ in range(CLIENTS):
                tasks.create_task(self._misbehave(self._bad_route, requests))

    async def _misbehave(self, url: str, turns: Iterator[bytes]) -> None:
        host, _, port = url.removeprefix("http://").rpartition(":")
        while True:
            with suppress(OSError, TimeoutError):
                _, writer = await asyncio.open_connection(host, int(port))
                try:
                    async with asyncio.timeout(_HELD):
                        writer.write(next(turns))
                        await writer.drain()
                        await asyncio.sleep(_HELD)
                finally:
                    self.acts += 1
                    writer.transport.abort()


@asynccontextmanager
async def bad_upstream() -> AsyncIterator[str]:
    """Serve an upstream that does something else wrong each time; return its URL."""
    turns = itertools.cycle(UPSTREAM_BYTES.values())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await reader.readuntil(b"\r\n\r\n")
            response = next(turns)
            async with asyncio.timeout(_HELD):
                if response is not None:
                    writer.write(response)
                    await writer.drain()
                    await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
