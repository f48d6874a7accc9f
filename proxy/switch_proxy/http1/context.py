"""What all exchanges of one route share: its settings, parsers, pool, tokens and observer."""

from __future__ import annotations

import os
from email.utils import formatdate
from typing import TYPE_CHECKING, Protocol

from switch_proxy.core.exchange_record import ExchangeRecord
from switch_proxy.core.http.request import RequestParser
from switch_proxy.core.http.response import ResponseParser
from switch_proxy.http1.pool import Pool

if TYPE_CHECKING:
    from switch_proxy.clock import Clock
    from switch_proxy.core.config.models import RouteSettings
    from switch_proxy.core.http.problems import Problem
    from switch_proxy.core.tokens import AccessToken
    from switch_proxy.http1.connector import Connector


class TokenProvider(Protocol):
    """Where the data plane gets its tokens from; it never fetches one itself."""

    def peek(self) -> AccessToken | None:
        """Return the token that is usable now, or None; no I/O."""

    async def acquire(self, timeout: float, *, newer_than: int = 0) -> AccessToken:  # noqa: ASYNC109 - told in the error
        """
        Wait at most `timeout` seconds for the fetch in flight, of a token of a generation after `newer_than`.

        Raises TokenUnavailableError: at once where no such fetch is under way.
        """

    def reject(self, generation: int) -> None:
        """Say that the upstream refused the token of this generation with 401."""


class ExchangeObserver(Protocol):
    """Who is told of each finished exchange: called on the hot path, so it must be quick and must not raise."""

    def exchange_finished(self, record: ExchangeRecord) -> None:
        """Take note of one finished exchange."""


class RouteContext:
    """The shared, long-lived half of every exchange of a route."""

    __slots__ = (
        "_date",
        "_date_second",
        "_request_id_prefix",
        "_requests",
        "base_path",
        "clock",
        "connector",
        "host_line",
        "is_draining",
        "is_leaving",
        "kept_body",
        "next_hop",
        "now",
        "observer",
        "pool",
        "proxy_name",
        "replays",
        "request_parser",
        "response_parser",
        "retries",
        "route",
        "scope_refusals",
        "token_refusals",
        "tokens",
        "via_lines",
        "wall",
    )

    def __init__(
        self,
        *,
        route: RouteSettings,
        tokens: TokenProvider,
        observer: ExchangeObserver,
        connector: Connector,
        clock: Clock,
    ) -> None:
        self.route = route
        self.connector = connector
        self.pool = Pool(settings=route.pool, opener=connector.open)
        self.clock = clock
        self.now = clock.now
        self.wall = clock.wall
        self.tokens = tokens
        self.observer = observer
        self.request_parser = RequestParser(
            max_request_line=route.limits.request_line, max_field_lines=route.limits.field_lines
        )
        self.response_parser = ResponseParser(max_field_lines=route.limits.field_lines)
        self.is_leaving = False
        self.is_draining = False
        self.retries = 0
        self.replays = 0
        self.token_refusals = 0
        self.scope_refusals = 0
        self.kept_body = route.limits.kept_body
        upstream = route.upstream
        self.next_hop = upstream.host_header
        self.proxy_name = route.via or "switch-proxy"
        # The upstream's Host comes first among the lines (RFC 9110 §7.2), so it shares a piece with the request line.
        self.host_line = b" HTTP/1.1\r\nHost: " + upstream.host_header.encode("ascii") + b"\r\n"
        self.base_path = upstream.base_path.encode("ascii").rstrip(b"/")
        via = route.via.encode("ascii") if route.via else None
        # The protocol in Via is the one received (RFC 9110 §7.6.3), so there is a line for each minor version.
        self.via_lines = tuple(b"" if via is None else b"Via: 1.%d %s\r\n" % (minor, via) for minor in (0, 1))
        self._request_id_prefix = os.urandom(6).hex().encode("ascii")
        self._requests = 0
        self._date_second = 0
        self._date = b""

    def new_request_id(self) -> bytes:
        """Return an id no other request has: random for the process, counted within it."""
        self._requests += 1
        return b"%s-%x" % (self._request_id_prefix, self._requests)

    def observe_refusal(self, problem: Problem, status: int, request_id: bytes) -> None:
        """Report bytes that never became a request, and what they were answered with."""
        self.observer.exchange_finished(
            ExchangeRecord(
                route=self.route.name,
                method=b"-",
                target=b"-",
                request_id=request_id,
                status=status,
                request_body_bytes=0,
                response_body_bytes=0,
                duration=0.0,
                upstream_duration=None,
                failure=problem.value.name,
                started_at_wall=self.clock.wall(),
            )
        )

    def date(self) -> bytes:
        """Return the value of Date for now (RFC 9110 §6.6.1), rendered once a second."""
        second = int(self.clock.wall())
        if second != self._date_second:
            self._date_second = second
            self._date = formatdate(second, usegmt=True).encode("ascii")
        return self._date
