"""An upstream that holds every request until the test releases it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from aiohttp import web

if TYPE_CHECKING:
    from types import TracebackType


class HeldUpstream:
    """Responds `done` to every request after it is released."""

    def __init__(self) -> None:
        self._released = asyncio.Event()
        self._arrived = asyncio.Condition()
        self._count = 0

    async def __aenter__(self) -> Self:
        server = web.Server(self._serve, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._released.set()
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Return its URL."""
        host, port = self._runner.addresses[0]
        return f"http://{host}:{port}"

    def release(self) -> None:
        """Respond to the held requests, and to all that arrive from now on."""
        self._released.set()

    def hold(self) -> None:
        """Hold the requests that arrive from now on."""
        self._released.clear()

    async def arrivals(self, count: int) -> None:
        """Wait until this many requests have arrived."""
        async with asyncio.timeout(20), self._arrived:
            await self._arrived.wait_for(lambda: self._count >= count)

    async def _serve(self, request: web.BaseRequest) -> web.Response:
        async with self._arrived:
            self._count += 1
            self._arrived.notify_all()
        await self._released.wait()
        return web.Response(text="done")
