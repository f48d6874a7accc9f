"""
The admin plane: /livez, /readyz, /metrics and /refresh, on their own listener.

It is bound with the other listeners, before anything slow, and served a moment later: an early probe waits instead of
being refused. aiohttp.web is imported only when serving begins. The content of the responses is decided elsewhere
(core/health.py) and passed in as callables, so this module knows no secret.
"""

from __future__ import annotations

import asyncio
import json
import logging
from math import inf
from typing import TYPE_CHECKING, Final

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger

from switch_proxy.core.addresses import is_loopback_host
from switch_proxy.core.errors import RequestError
from switch_proxy.core.events import AdminRequestMalformed
from switch_proxy.core.health import judge_readiness, render_verdict
from switch_proxy.core.http.request import host_of
from switch_proxy.listening_sockets import bind

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from switch_proxy.core.config.models import Address
    from switch_proxy.core.health import HealthSnapshot
    from switch_proxy.core.policy.browsers import BrowserGuard
    from switch_proxy.resolver import Resolver

_BACKLOG: Final = 128
"""Probes and scrapers are few; the kernel holds the connections that arrive before serving begins."""

_REFRESH_INTERVAL: Final = 5.0
"""Seconds between two refreshes: a loop of them must not lock the client out at the authorization server."""

_SHUTDOWN_TIMEOUT: Final = 1.0
"""Seconds for the responses in flight when the listener is closed."""


class AdminServer:
    """Responds to probes and scrapes."""

    def __init__(
        self,
        *,
        listen: Address,
        health: Callable[[], HealthSnapshot],
        metrics: Callable[[str], Awaitable[tuple[bytes, str]]],
        observe: Callable[[AdminRequestMalformed], None],
        refresh: Callable[[], None],
        resolver: Resolver,
        guard: BrowserGuard,
    ) -> None:
        """
        Open nothing yet.

        `health` returns the present state. `metrics` returns the metrics rendered for an Accept header, and their content
        type. `observe` is told of what is not HTTP. `refresh` makes the proxy read its secrets again and try
        refused credentials at once. `resolver` is for the name of the address, if it is one. `guard` judges what a web page
        may have sent.
        """
        self._listen = listen
        self._health = health
        self._metrics = metrics
        self._logger = _Logger(observe)
        self._refresh = refresh
        self._resolver = resolver
        self._guard = guard
        self._refreshed_at = -inf
        self._sockets: list[socket.socket] = []
        self._runner: web.AppRunner | None = None

    def __repr__(self) -> str:
        return f"<AdminServer {self._listen} {'serving' if self._runner else 'not serving'}>"

    async def bind(self) -> None:
        """Bind the address (each address of a name); connections wait for `serve`. Raises ListenError."""
        self._sockets = await bind(
            self._listen, backlog=_BACKLOG, described="the admin listener", resolver=self._resolver
        )

    @property
    def address(self) -> tuple[str, int]:
        """Return host and port as bound; the system chose the port if the configuration says 0."""
        host, port = self._sockets[0].getsockname()[:2]
        return str(host), int(port)

    async def serve(self) -> None:
        """Respond to requests from now on, those that waited included."""
        from aiohttp import web  # noqa: PLC0415 - a tenth of the start-up time, which no request waits for

        @web.middleware
        async def guard(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            return self._refuse_web_page(request) or await handler(request)

        application = web.Application(middlewares=[guard])
        # A GET route serves HEAD too, and any other method gets 405.
        application.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._scrape),
                web.post("/refresh", self._refresh_credentials),
            ]
        )
        application.on_response_prepare.append(_finish_header)
        self._runner = web.AppRunner(
            application, access_log=None, logger=self._logger, shutdown_timeout=_SHUTDOWN_TIMEOUT
        )
        await self._runner.setup()
        for bound in self._sockets:
            await web.SockSite(self._runner, bound, backlog=_BACKLOG).start()

    async def close(self) -> None:
        """Close the listening sockets and all connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        for bound in self._sockets:
            bound.close()
        self._sockets.clear()

    def _refuse_web_page(self, request: web.Request) -> web.Response | None:
        address = request.get_extra_info("sockname")
        if not isinstance(address, tuple) or not is_loopback_host(address[0]):
            return None
        hosts, origins, sites = (
            [value.encode(errors="surrogateescape") for value in request.headers.getall(name, ())]
            for name in ("Host", "Origin", "Sec-Fetch-Site")
        )
        authority = b",".join(hosts)
        try:
            host = host_of(authority)
        except RequestError:
            host = authority
        refusal = self._guard.judge(host=host, authority=authority, origins=origins, sites=sites)
        if refusal is None:
            return None
        return _json_response(refusal.problem.value.status, {"status": "refused", "reason": refusal.detail})

    async def _livez(self, request: web.Request) -> web.Response:
        # A running event loop is all that "alive" means.
        return _json_response(200, {"status": "alive"})

    async def _readyz(self, request: web.Request) -> web.Response:
        verdict = judge_readiness(self._health())
        return _json_response(200 if verdict.is_ok else 503, render_verdict(verdict))

    async def _refresh_credentials(self, request: web.Request) -> web.Response:
        # For `switch-proxy refresh` beside the proxy. Each one may cause a token request, so nobody else may send it: no
        # other pod, and no page in a developer's browser.
        if not is_loopback_host(request.remote or "") or "Origin" in request.headers:
            return _json_response(403, {"status": "refused", "reason": "a refresh is accepted from this machine alone"})
        now = asyncio.get_running_loop().time()
        if now < self._refreshed_at + _REFRESH_INTERVAL:
            reason = f"the last refresh was less than {_REFRESH_INTERVAL:g} seconds ago"
            return _json_response(429, {"status": "refused", "reason": reason})
        self._refreshed_at = now
        self._refresh()
        return _json_response(200, {"status": "refreshing"})

    async def _scrape(self, request: web.Request) -> web.Response:
        from aiohttp import web  # noqa: PLC0415 - imported by `serve`

        content, content_type = await self._metrics(request.headers.get("Accept", ""))
        return web.Response(body=content, headers={"Content-Type": content_type})


class _Logger(logging.Logger):
    """aiohttp's logger: what is not HTTP (a port scanner, a TLS client) is no error of the proxy, and worth no traceback."""

    def __init__(self, observe: Callable[[AdminRequestMalformed], None]) -> None:
        super().__init__(server_logger.name, logging.DEBUG)
        self.parent = logging.getLogger()
        self._observe = observe

    def handle(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            self._observe(AdminRequestMalformed(reason=type(error).__name__))
        else:
            super().handle(record)


def _json_response(status: int, document: dict[str, object]) -> web.Response:
    from aiohttp import web  # noqa: PLC0415 - imported by `serve`

    return web.Response(status=status, text=json.dumps(document, indent=2) + "\n", content_type="application/json")


async def _finish_header(_: web.BaseRequest, response: web.StreamResponse) -> None:
    response.headers["Cache-Control"] = "no-store"
    # A probe need not learn the versions in use.
    response.headers["Server"] = "switch-proxy"
