"""A server that does what the test says, connection by connection, byte by byte."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from typing import TYPE_CHECKING, Final

from tests.shell.http1.messages import Head, parse_head
from tests.shell.http1.raw_peer import RawPeer, TlsStream, bounded

if TYPE_CHECKING:
    import ssl

_BACKLOG: Final = 128


class UpstreamSide(RawPeer):
    """The upstream's end of one connection."""

    async def receive_head(self) -> Head:
        """Return the next request's head."""
        return parse_head(await self.receive_until(b"\r\n\r\n"))


class RawUpstream:
    """A listening socket on a free loopback port; with `tls`, connections do a handshake when they are accepted."""

    def __init__(self, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, backlog: int = _BACKLOG) -> None:
        self.host = host
        self.tls = tls
        self._accepted: list[UpstreamSide] = []
        self._listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._listening.setblocking(False)  # noqa: FBT003 - the standard library's
        self._listening.bind((host, 0))
        self._listening.listen(backlog)
        self.port: int = self._listening.getsockname()[1]

    async def accept(self) -> UpstreamSide:
        """Return the next connection, in the order they were made."""
        side = await self.accept_without_handshake()
        if isinstance(side.stream, TlsStream):
            async with bounded("the TLS handshake"):
                await side.stream.handshake()
        return side

    async def accept_without_handshake(self) -> UpstreamSide:
        """Return the next connection before anything has happened on it."""
        async with bounded("a connection"):
            connected, _ = await asyncio.get_running_loop().sock_accept(self._listening)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        side = UpstreamSide(connected, None if self.tls is None else TlsStream(connected, self.tls))
        self._accepted.append(side)
        return side

    def has_connection_waiting(self) -> bool:
        """Say whether a connection is there that has not been accepted; `accept` returns it."""
        return bool(select.select([self._listening], [], [], 0)[0])

    def sockets(self) -> set[int]:
        """Return the sockets of this side, by inode."""
        sockets = [self._listening, *(side.socket for side in self._accepted)]
        return {os.fstat(each.fileno()).st_ino for each in sockets if each.fileno() >= 0}

    def stop_listening(self) -> None:
        """Refuse connections from now on; those accepted stay."""
        self._listening.close()

    def close(self) -> None:
        """Close everything."""
        self._listening.close()
        for side in self._accepted:
            side.socket.close()
