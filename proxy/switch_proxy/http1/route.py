"""One route: its upstream's connections, its tokens, its header lines and rules, and what it counts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from switch_proxy.core.errors import TokenUnavailableError
from switch_proxy.core.http.header_rules import RouteHeaders
from switch_proxy.core.http.line_edits import LineEdits
from switch_proxy.core.http.locations import LocationRewriter
from switch_proxy.core.http.problems import Identity
from switch_proxy.core.http.response import ResponseParser
from switch_proxy.core.policy.route_policy import admission_of, rate_rules_of
from switch_proxy.core.route_snapshot import RouteSnapshot
from switch_proxy.http1.connector import Connector
from switch_proxy.http1.pacer import Pacer, Pacing
from switch_proxy.http1.pool import Pool
from switch_proxy.http1.upstream_budget import UpstreamBudget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from switch_proxy.clock import Clock
    from switch_proxy.core.config.listeners import RouteModel
    from switch_proxy.core.config.models import (
        RateLimitSettings,
        RequestHeaderSettings,
        ResponseHeaderSettings,
    )
    from switch_proxy.core.egress import EgressProxy
    from switch_proxy.core.events import RouteEvent
    from switch_proxy.core.tokens import AccessToken
    from switch_proxy.http1.peers import TokenProvider
    from switch_proxy.http1.tls_stream import TlsBuffers
    from switch_proxy.http1.upstream_connection import UpstreamConnection
    from switch_proxy.resolver import Resolver

_PROXY_NAME = "switch-proxy"


async def prepare_tls(routes: Iterable[Route]) -> None:
    """Read the TLS files of the routes for the first time, all at once. Raises TlsFilesError."""
    prepared = await asyncio.gather(*(route.connector.prepare_tls() for route in routes), return_exceptions=True)
    for error in prepared:
        if error is not None:
            raise error


class Route:
    """The long-lived half of every exchange with one upstream."""

    __slots__ = (
        "_clock",
        "admission",
        "connector",
        "headers",
        "identity",
        "keeps_authorization",
        "model",
        "name",
        "now",
        "pacing",
        "pool",
        "reflected_tokens",
        "replay_buffer",
        "replays",
        "retries",
        "scope_refusals",
        "timeouts",
        "token_refusals",
        "tokens",
        "wait_for_token",
    )

    def __init__(
        self,
        model: RouteModel,
        *,
        tokens: TokenProvider,
        clock: Clock,
        egress_proxy: EgressProxy | None = None,
        resolver: Resolver | None = None,
        budget: UpstreamBudget | None = None,
        on_exhausted: Callable[[], None] = lambda: None,
        tls_buffers: TlsBuffers | None = None,
        connector: Connector | None = None,
        pacers: dict[tuple[str, RateLimitSettings], Pacer] | None = None,
    ) -> None:
        """
        Prepare; nothing is read or opened yet.

        `budget` bounds the connections of all routes together. `on_exhausted` is called if none can be opened for want of
        file descriptors. `connector` is for tests that open no connections. `pacers`: of all routes, by credential and
        limit; what is missing is added.
        """
        settings = model.settings
        upstream = settings.upstream
        self._clock = clock
        self.model = model
        self.name = settings.name
        self.now = clock.now
        self.tokens = tokens
        self.connector = connector or Connector(
            route=settings,
            egress_proxy=egress_proxy,
            now=clock.now,
            resolver=resolver,
            response_parser=_response_parser(model),
            on_exhausted=on_exhausted,
            tls_buffers=tls_buffers,
        )
        budget = budget or UpstreamBudget(settings.pool.max_connections)
        self.pool = Pool(settings=settings.pool, opener=self.connector.open, make_room=budget.make_room)
        budget.join(self.pool)
        self.headers = RouteHeaders(host=upstream.host_header, via=settings.via, edits=_edits(settings.request_headers))
        self.keeps_authorization = settings.authorization == "keep"
        self.admission = admission_of(model)
        self.pacing: Pacing | None = None
        if settings.rate_limits:
            known = {} if pacers is None else pacers
            self.pacing = Pacing(
                rate_rules_of(model),
                [
                    known.setdefault((settings.credential, limit), Pacer(limit, clock=clock))
                    for limit in settings.rate_limits
                ],
                base_path_length=len(upstream.base_path.rstrip("/")),
            )
        self.identity = Identity(
            name=settings.name, proxy_name=settings.via or _PROXY_NAME, next_hop=upstream.host_header
        )
        self.timeouts = settings.timeouts
        self.wait_for_token = settings.wait_for_token
        self.replay_buffer = settings.limits.replay_buffer
        self.retries = 0
        self.replays = 0
        self.token_refusals = 0
        self.scope_refusals = 0
        self.reflected_tokens = 0

    def __repr__(self) -> str:
        return f"<Route {self.name} {self.pool!r}>"

    async def acquire(self, *, is_new: bool) -> tuple[AccessToken, UpstreamConnection]:
        """
        Wait for what is not there at once: a token, a free place in the pool, a new connection.

        `is_new`: take no connection that was used before. Raises TokenUnavailableError, PoolExhaustedError,
        UpstreamConnectError.
        """
        wait = self.wait_for_token
        # A second time only if the token has run out while the connection was opened.
        for _ in range(2):
            begun_at = self.now()
            if self.tokens.peek() is None:
                await self.tokens.acquire(wait)
            wait = max(0.0, wait - (self.now() - begun_at))
            upstream = await self._acquire_connection(is_new=is_new)
            token = self.tokens.peek()
            if token is not None:
                return token, upstream
            self.pool.release(upstream, self.now(), None)
        raise TokenUnavailableError(
            credential=self.model.settings.credential,
            reason="the access token expired before the request could be sent",
            retry_after=1.0,
        )

    async def _acquire_connection(self, *, is_new: bool) -> UpstreamConnection:
        while True:
            upstream = None if is_new else self.pool.take(self.now())
            if upstream is None:
                upstream = await self.pool.acquire(is_new=is_new)
            if not upstream.is_closed:
                return upstream

    async def follow_tls_files(self, observe: Callable[[RouteEvent], None]) -> None:
        """Use changed TLS files towards the upstream, until cancelled."""
        await self.connector.follow_tls_files(
            clock=self._clock, on_changed=lambda: self.pool.retire(self.now()), observe=observe
        )

    def snapshot(self, *, requests_in_flight: int) -> RouteSnapshot:
        """Return what the route is doing now."""
        pool = self.pool
        return RouteSnapshot(
            name=self.name,
            requests_in_flight=requests_in_flight,
            upstream_idle=pool.idle,
            upstream_busy=pool.busy,
            waiting_for_upstream=pool.waiting,
            upstream_connects=pool.connects,
            upstream_reuses=pool.reuses,
            retries=self.retries,
            token_refusals=self.token_refusals,
            replays=self.replays,
            scope_refusals=self.scope_refusals,
            reflected_tokens=self.reflected_tokens,
            tls_error=self.connector.tls_error,
        )


def _response_parser(model: RouteModel) -> ResponseParser:
    settings = model.settings
    prefix = "".join(f"/{segment}" for segment in model.match_segments) if model.strip_prefix else ""
    return ResponseParser(
        max_field_lines=settings.limits.field_lines,
        edits=_edits(settings.response_headers),
        locations=LocationRewriter(settings.upstream, prefix=prefix) if settings.rewrite_location else None,
    )


def _edits(settings: RequestHeaderSettings | ResponseHeaderSettings) -> LineEdits | None:
    return LineEdits(replaced=settings.set, removed=settings.remove) if settings.set or settings.remove else None
