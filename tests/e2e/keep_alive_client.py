"""A client that keeps its connection as long as possible and never repeats a request."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_LENGTH = re.compile(rb"^content-length: *([0-9]+)\r$", re.MULTILINE | re.IGNORECASE)
_CLOSE = re.compile(rb"^connection: *close\r$", re.MULTILINE | re.IGNORECASE)


class KeepAliveClient:
    """
    Connects to the address that `where` returns at that moment.

    It reads a response before it sends the next request, and treats a connection as closed if its close was announced. So
    RFC 9112 §9.3.1 excuses no failure: a missing response is an error.
    """

    def __init__(self, where: Callable[[], str]) -> None:
        self._where = where
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.connections = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._forget()

    def _forget(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body. Raises OSError or asyncio.IncompleteReadError if there is no whole response."""
        async with asyncio.timeout(20):
            # A close between two requests is not a failure: the client sees it before it sends.
            if self._streams is not None and self._streams[0].at_eof():
                self._forget()
            if self._streams is None:
                host, port = self._where().removeprefix("http://").split(":")
                self._streams = await asyncio.open_connection(host, int(port))
                self.connections += 1
            reader, writer = self._streams
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("ascii"))
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            assert length is not None, head
            body = await reader.readexactly(int(length[1]))
            if _CLOSE.search(head):
                self._forget()
            return int(head.split(b" ", 2)[1]), body
