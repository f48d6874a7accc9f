"""What all exchanges of one route share: its settings, parsers, pool, tokens and observer."""

from __future__ import annotations

import os
from email.utils import formatdate
from typing import TYPE_CHECKING

from switch_proxy.core.exchange_record import ExchangeRecord
from switch_proxy.core.http.header_rules import RouteHeaders
from switch_proxy.core.http.request import RequestParser
from switch_proxy.http1.pool import Pool

if TYPE_CHECKING:
    from switch_proxy.clock import Clock
    from switch_proxy.core.config.models import RouteSettings
    from switch_proxy.core.http.problems import Problem
    from switch_proxy.http1.connector import Connector
    from switch_proxy.http1.peers import ExchangeObserver, TokenProvider


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
        "headers",
        "is_draining",
        "is_leaving",
        "next_hop",
        "now",
        "observer",
        "pool",
        "proxy_name",
        "replay_buffer",
        "replays",
        "request_parser",
        "retries",
        "route",
        "scope_refusals",
        "token_refusals",
        "tokens",
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
        self.is_leaving = False
        self.is_draining = False
        self.retries = 0
        self.replays = 0
        self.token_refusals = 0
        self.scope_refusals = 0
        self.replay_buffer = route.limits.replay_buffer
        upstream = route.upstream
        self.next_hop = upstream.host_header
        self.proxy_name = route.via or "switch-proxy"
        self.base_path = upstream.base_path.encode("ascii").rstrip(b"/")
        self.headers = RouteHeaders(host=upstream.host_header, via=route.via)
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
