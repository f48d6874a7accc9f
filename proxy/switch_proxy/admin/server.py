"""
The admin plane: /livez, /readyz and /metrics, on a listener of its own.

It is bound with the other listeners, before anything that takes time, and served a moment later: a probe that comes
early waits instead of being refused. aiohttp.web is imported then, and not before. What is told is decided elsewhere
(core/health.py) and handed in as callables, so nothing here knows a secret.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Final

from switch_proxy.core.errors import ListenError
from switch_proxy.core.health import judge_readiness, render_verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from switch_proxy.core.config.models import Address
    from switch_proxy.core.health import HealthSnapshot

_BACKLOG: Final = 128
"""Probes and scrapers are few; this is what the kernel holds for those that come before serving has begun."""

_LAST_ANSWERS: Final = 1.0
"""Seconds that an answer may take to be finished when the listener is closed."""


class AdminServer:
    """Answers probes and scrapes."""

    def __init__(
        self,
        *,
        listen: Address,
        health: Callable[[], HealthSnapshot],
        metrics: Callable[[str], Awaitable[tuple[bytes, str]]],
    ) -> None:
        """
        Take what is told: `health` at this moment, and `metrics` rendered for an Accept header, with its content type.

        Nothing is opened yet.
        """
        self._listen = listen
        self._health = health
        self._metrics = metrics
        self._sockets: list[socket.socket] = []
        self._runner: web.AppRunner | None = None

    def __repr__(self) -> str:
        return f"<AdminServer {self._listen} {'serving' if self._runner else 'not serving'}>"

    async def bind(self) -> None:
        """Take the address (each, where a name has several); connections wait for `serve`. Raises ListenError."""
        loop = asyncio.get_running_loop()
        try:
            for family, _, _, _, address in await loop.getaddrinfo(
                self._listen.host, self._listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            ):
                place = (str(address[0]), int(address[1]))
                self._sockets.append(socket.create_server(place, family=family, backlog=_BACKLOG))
        except OSError as error:
            await self.close()
            raise ListenError(
                f"the admin listener cannot listen on {self._listen}: {error.strerror or error}; "
                "is another process using the port?"
            ) from None

    @property
    def address(self) -> tuple[str, int]:
        """Return host and port as bound; the port is the system's choice where the configuration says 0."""
        host, port = self._sockets[0].getsockname()[:2]
        return str(host), int(port)

    async def serve(self) -> None:
        """Answer from now on, and those who have waited."""
        from aiohttp import web  # noqa: PLC0415 - a tenth of the start-up, which nobody need wait for

        application = web.Application()
        # A GET route answers HEAD too, and its resource any other method with 405.
        application.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._scrape),
            ]
        )
        application.on_response_prepare.append(_finish_header)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_LAST_ANSWERS)
        await self._runner.setup()
        for bound in self._sockets:
            await web.SockSite(self._runner, bound, backlog=_BACKLOG).start()

    async def close(self) -> None:
        """Let go of the address and of all connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        for bound in self._sockets:
            bound.close()
        self._sockets.clear()

    async def _livez(self, request: web.Request) -> web.Response:
        # That this runs is the answer: the loop turns.
        return _json_response(200, {"status": "alive"})

    async def _readyz(self, request: web.Request) -> web.Response:
        verdict = judge_readiness(self._health())
        return _json_response(200 if verdict.is_ok else 503, render_verdict(verdict))

    async def _scrape(self, request: web.Request) -> web.Response:
        from aiohttp import web  # noqa: PLC0415 - imported by `serve`

        content, content_type = await self._metrics(request.headers.get("Accept", ""))
        return web.Response(body=content, headers={"Content-Type": content_type})


def _json_response(status: int, document: dict[str, object]) -> web.Response:
    from aiohttp import web  # noqa: PLC0415 - imported by `serve`

    return web.Response(status=status, text=json.dumps(document, indent=2) + "\n", content_type="application/json")


async def _finish_header(_: web.BaseRequest, response: web.StreamResponse) -> None:
    response.headers["Cache-Control"] = "no-store"
    # Which versions run here is nobody's business who merely probes.
    response.headers["Server"] = "switch-proxy"
