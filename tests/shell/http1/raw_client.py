"""A client that sends what the test says and reads responses strictly."""

from __future__ import annotations

import asyncio
import socket

from tests.shell.http1.messages import Head, Response, parse_head
from tests.shell.http1.raw_peer import RawPeer, bounded


class RawClient(RawPeer):
    """The client's end of one connection."""

    async def receive_head(self) -> Head:
        """Return the next response's head, interim ones too."""
        return parse_head(await self.receive_until(b"\r\n\r\n"))

    async def receive_response(self, *, to: str = "GET") -> Response:
        """Return the next response, whole, to a request of method `to` (RFC 9112 §6.3)."""
        head = await self.receive_head()
        has_no_body = to == "HEAD" or head.status < 200 or head.status in {204, 304}
        if has_no_body:
            return Response(head, b"")
        if head.value("Transfer-Encoding") is not None:
            assert head.value("Transfer-Encoding") == b"chunked"
            assert head.value("Content-Length") is None
            return await self._receive_chunks(head)
        length = head.value("Content-Length")
        if length is not None:
            return Response(head, await self.receive(int(length)))
        return Response(head, await self.receive_to_end())

    async def _receive_chunks(self, head: Head) -> Response:
        chunks = []
        while True:
            chunk = await self.receive_chunk()
            if not chunk:
                break
            chunks.append(chunk)
        trailers = []
        while (line := await self.receive_until(b"\r\n")) != b"\r\n":
            trailers.append(line[:-2])
        return Response(head, b"".join(chunks), chunks, trailers)


async def connect(address: tuple[str, int], *, receive_buffer: int | None = None) -> RawClient:
    """Connect to the proxy; `receive_buffer` in bytes, where the kernel is not to choose."""
    connected = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    connected.setblocking(False)  # noqa: FBT003 - the standard library's
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if receive_buffer is not None:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    async with bounded("the connection to be accepted"):
        try:
            await asyncio.get_running_loop().sock_connect(connected, address)
        except OSError:
            connected.close()
            raise
    return RawClient(connected)
