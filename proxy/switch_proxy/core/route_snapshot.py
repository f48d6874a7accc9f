"""What listeners and routes are doing at one moment, as plain numbers: for the metrics and for tests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSnapshot:
    """Gauges first, then totals since start."""

    name: str
    requests_in_flight: int
    upstream_idle: int
    upstream_busy: int
    waiting_for_upstream: int
    upstream_connects: int
    upstream_reuses: int
    retries: int
    token_refusals: int
    replays: int
    scope_refusals: int
    reflected_tokens: int
    tls_error: str | None = None
    """Why the TLS files cannot be used now; None if they can, or there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSnapshot:
    """A listener's gauge, and its routes."""

    name: str
    client_connections: int
    routes: tuple[RouteSnapshot, ...]
