"""
Metrics: plain integers on the hot path, rendered as Prometheus samples at a scrape.

`count` adds to integers that it finds with one look-up for each exchange. State (connections, tokens) is not counted here
but read from snapshots at the scrape, so it cannot drift. prometheus_client is imported at the first scrape, so a pod
that is never scraped does not load it.

Names start with switch_proxy_ and end in their unit. Labels have few values: routes and credentials of the
configuration, the methods of RFC 9110 (any other is `other`), status codes, names of problems.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from switch_proxy.core.health import judge_readiness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from prometheus_client import CollectorRegistry, Metric

    from switch_proxy.core.exchange_record import ExchangeRecord
    from switch_proxy.core.health import HealthSnapshot
    from switch_proxy.core.lifecycle import CredentialStatus
    from switch_proxy.core.route_snapshot import ListenerSnapshot, RouteSnapshot

_PREFIX: Final = "switch_proxy_"

_METHODS: Final = frozenset(
    {b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"QUERY", b"CONNECT", b"TRACE"}
)  # RFC 9110 §9, and RFC 5789

_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""
Seconds, the upper bounds of the histograms' buckets: the defaults of Prometheus, with finer ones below for a proxy on
localhost, and coarser ones above up to the default time limit of an upstream's response.
"""


class _Histogram:
    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(_BOUNDS) + 1)
        self.total = 0.0

    def cumulative(self) -> list[tuple[str, float]]:
        """Return the buckets as Prometheus expects them: each includes all below it."""
        buckets, so_far = [], 0
        for bound, count in zip((*map(str, _BOUNDS), "+Inf"), self.counts, strict=True):
            so_far += count
            buckets.append((bound, float(so_far)))
        return buckets


class _Slot:
    """The counters of one route, method and status."""

    __slots__ = ("duration", "request_bytes", "requests", "response_bytes", "upstream_duration")

    def __init__(self, duration: _Histogram, upstream_duration: _Histogram) -> None:
        self.requests = 0
        self.request_bytes = 0
        self.response_bytes = 0
        self.duration = duration
        self.upstream_duration = upstream_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySnapshot:
    """The proxy's state at one moment, for the samples that are not counted here."""

    health: HealthSnapshot
    listeners: Sequence[ListenerSnapshot]
    log_lines_dropped: int


class Telemetry:
    """Counts exchanges, and renders everything for Prometheus."""

    def __init__(
        self, *, state: Callable[[], TelemetrySnapshot], routes: Iterable[str], build: Mapping[str, str]
    ) -> None:
        """Create the samples of each route at zero; `build` holds the labels of build_info."""
        self._state = state
        self._build = build
        self._histograms = {route: (_Histogram(), _Histogram()) for route in routes}
        self._slots: dict[tuple[str, bytes, int], _Slot] = {}
        self._failures: dict[tuple[str, str], int] = {}
        self._process_metrics: Sequence[Metric] = ()
        self._registry: CollectorRegistry | None = None

    def count(self, records: Iterable[ExchangeRecord]) -> None:
        """Count finished exchanges."""
        slots = self._slots
        for record in records:
            slot = slots.get((record.route, record.method, record.status))
            if slot is None:
                slot = self._slot_for(record)
            slot.requests += 1
            slot.request_bytes += record.request_body_bytes
            slot.response_bytes += record.response_body_bytes
            duration = record.duration
            histogram = slot.duration
            histogram.counts[bisect_left(_BOUNDS, duration)] += 1
            histogram.total += duration
            upstream_duration = record.upstream_duration
            if upstream_duration is not None:
                histogram = slot.upstream_duration
                histogram.counts[bisect_left(_BOUNDS, upstream_duration)] += 1
                histogram.total += upstream_duration
            if record.failure is not None:
                key = (record.route, record.failure)
                self._failures[key] = self._failures.get(key, 0) + 1

    def _slot_for(self, record: ExchangeRecord) -> _Slot:
        # A client may send any method; only the known ones get their own samples.
        method = record.method if record.method in _METHODS else b"other"
        histograms = self._histograms.get(record.route)
        if histograms is None:
            histograms = self._histograms[record.route] = (_Histogram(), _Histogram())
        return self._slots.setdefault((record.route, method, record.status), _Slot(*histograms))

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in the format that an Accept header selects, and their content type."""
        # The import and the reads of system files run in a thread, so that requests in flight do not wait for them.
        self._process_metrics = await asyncio.to_thread(_collect_process)
        if self._registry is None:
            self._registry = _make_registry(self)
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 - see above

        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Return all metrics; prometheus_client calls this at each scrape."""
        state = self._state()
        is_ready = judge_readiness(state.health).is_ok
        yield _metric("gauge", "ready", "Whether /readyz returns 200.", (), [((), is_ready)])
        yield from self._collect_exchanges()
        routes = [route for listener in state.listeners for route in listener.routes]
        yield from _collect_parts("listener", _LISTENER_METRICS, state.listeners)
        yield from _collect_parts("route", _ROUTE_METRICS, routes)
        yield _metric(
            "gauge",
            "route_tls_usable",
            "Whether the TLS files towards the upstream can be used; the last good ones stay in use.",
            ("route",),
            (((route.name,), route.tls_error is None) for route in routes),
        )
        yield from _collect_credentials(state.health)
        text = "Lines of the log that could not be written."
        yield _metric("counter", "log_lines_dropped", text, (), [((), state.log_lines_dropped)])
        text = "Always 1; the labels name the versions in use."
        yield _metric("gauge", "build_info", text, tuple(self._build), [(tuple(self._build.values()), 1)])
        yield from self._process_metrics

    def _collect_exchanges(self) -> Iterator[Metric]:
        slots = self._slots.items()
        yield _metric(
            "counter",
            "requests",
            "Finished requests, by the status sent to the client; 0 if the client was gone before.",
            ("route", "method", "code"),
            (((route, method.decode("ascii"), str(code)), slot.requests) for (route, method, code), slot in slots),
        )
        yield _metric(
            "counter",
            "request_failures",
            "Requests that the proxy could not serve in full, by problem (see docs/errors.md).",
            ("route", "problem"),
            self._failures.items(),
        )
        for name, text, size in (
            ("request_body_bytes", "Bytes of body received from clients.", attrgetter("request_bytes")),
            ("response_body_bytes", "Bytes of body sent to clients.", attrgetter("response_bytes")),
        ):
            sums = dict.fromkeys(self._histograms, 0)
            for (route, _, _), slot in slots:
                sums[route] += size(slot)
            yield _metric("counter", name, text, ("route",), (((route,), total) for route, total in sums.items()))
        yield _histogram(
            "request_duration_seconds",
            "From the head of a request to the last byte of its response, as the client sees it.",
            {route: histogram for route, (histogram, _) in self._histograms.items()},
        )
        yield _histogram(
            "upstream_duration_seconds",
            "From sending a request's head upstream to receiving the head of the response.",
            {route: histogram for route, (_, histogram) in self._histograms.items()},
        )


_LISTENER_METRICS: Final = (("gauge", "client_connections", "Connections open from clients.", "client_connections"),)
_ROUTE_METRICS: Final = (
    ("gauge", "requests_in_flight", "Requests that have begun and are not finished.", "requests_in_flight"),
    ("gauge", "upstream_connections_idle", "Connections to the upstream that wait for a request.", "upstream_idle"),
    ("gauge", "upstream_connections_busy", "Connections to the upstream in use.", "upstream_busy"),
    ("gauge", "requests_waiting", "Requests that wait for a connection to the upstream.", "waiting_for_upstream"),
    ("counter", "upstream_connects", "Connections opened to the upstream.", "upstream_connects"),
    ("counter", "upstream_reuses", "Requests sent on a connection that was used before.", "upstream_reuses"),
    ("counter", "upstream_retries", "Requests sent again because a pooled connection had gone stale.", "retries"),
    ("counter", "upstream_token_refusals", "Responses with 401 that may be about the token.", "token_refusals"),
    ("counter", "upstream_replays", "Requests sent again with a newer token, after such a 401.", "replays"),
    (
        "counter",
        "upstream_scope_refusals",
        "Responses with 403 because of missing scope (insufficient_scope).",
        "scope_refusals",
    ),
    (
        "counter",
        "upstream_reflected_tokens",
        "Responses whose head had the access token in it, which was masked.",
        "reflected_tokens",
    ),
)
"""Kind, name, description, and the attribute of a route's snapshot."""

_CREDENTIAL_METRICS: Final = (
    ("gauge", "token_usable", "Whether there is a usable token.", "is_usable"),
    (
        "counter",
        "tokens_issued",
        "Tokens issued to this process, those included that could not be used.",
        "tokens_issued",
    ),
    ("gauge", "token_generation", "Number of tokens fetched so far.", "generation"),
    (
        "gauge",
        "token_fetch_consecutive_failures",
        "Failed fetches since the last successful one.",
        "consecutive_failures",
    ),
)
_CREDENTIAL_INSTANTS: Final = (
    ("token_expiry_timestamp_seconds", "When the token expires, Unix time.", "expires_at"),
    ("token_next_fetch_timestamp_seconds", "When the next token is fetched, Unix time.", "next_fetch_at"),
)
"""Name, description, and the attribute of a credential's status; if it is None there is no sample."""


def _collect_parts(
    label: str,
    metrics: Iterable[tuple[str, str, str, str]],
    parts: Sequence[ListenerSnapshot | RouteSnapshot | CredentialStatus],
) -> Iterator[Metric]:
    for kind, name, text, attribute in metrics:
        yield _metric(kind, name, text, (label,), (((part.name,), getattr(part, attribute)) for part in parts))


def _collect_credentials(health: HealthSnapshot) -> Iterator[Metric]:
    credentials = health.credentials
    yield from _collect_parts("credential", _CREDENTIAL_METRICS, credentials)
    for name, text, attribute in _CREDENTIAL_INSTANTS:
        instants = (((part.name,), health.unix_time(getattr(part, attribute))) for part in credentials)
        samples = ((labels, at) for labels, at in instants if at is not None)
        yield _metric("gauge", name, text, ("credential",), samples)
    yield from _collect_quotas(health)
    yield from _collect_store(credentials)
    yield _metric(
        "gauge",
        "secret_readable",
        "Whether the client credential can be read from its source.",
        ("credential",),
        (((part.name,), part.secret_error is None) for part in credentials),
    )
    yield _metric(
        "gauge",
        "client_refused",
        "Whether the authorization server refuses the client's authentication.",
        ("credential",),
        (((part.name,), part.refused_since is not None) for part in credentials),
    )
    yield _metric(
        "gauge",
        "token_quota_exhausted",
        "Whether the authorization server grants the client no more tokens for now.",
        ("credential",),
        (((part.name,), part.is_exhausted) for part in credentials),
    )
    yield _metric(
        "gauge",
        "previous_secret_used",
        "Whether the newer of two client secrets is refused and the previous one is used.",
        ("credential",),
        (((part.name,), part.uses_previous_secret) for part in credentials),
    )
    yield _metric(
        "counter",
        "token_fetches",
        "Token requests by outcome: ok, or the reason of the failure.",
        ("credential", "outcome"),
        (((part.name, outcome), count) for part in credentials for outcome, count in part.fetches.items()),
    )


def _collect_store(credentials: Sequence[CredentialStatus]) -> Iterator[Metric]:
    stores = [(part, part.store) for part in credentials if part.store is not None]
    label = ("credential",)
    text = "Whether the present token was found in the store of shared tokens."
    yield _metric("gauge", "token_found", text, label, (((part.name,), part.is_found) for part, _ in stores))
    text = "Tokens found in the store: token requests that were saved."
    yield _metric("counter", "tokens_found", text, label, (((part.name,), store.found) for part, store in stores))
    text = "Whether the store of shared tokens can be used."
    usable = (((part.name,), store.error is None) for part, store in stores)
    yield _metric("gauge", "token_store_usable", text, label, usable)
    text = "Times that the store of shared tokens could not be used."
    errors = (((part.name,), store.errors) for part, store in stores)
    yield _metric("counter", "token_store_errors", text, label, errors)
    text = "Entries of the store of shared tokens that were of no use, by reason."
    ignored = (((part.name, reason), count) for part, store in stores for reason, count in store.ignored.items())
    yield _metric("counter", "token_store_entries_ignored", text, ("credential", "reason"), ignored)


def _collect_quotas(health: HealthSnapshot) -> Iterator[Metric]:
    buckets = [((part.name, bucket.name), bucket) for part in health.credentials for bucket in part.quota]
    remaining = [(labels, bucket.remaining) for labels, bucket in buckets]
    limits = [(labels, bucket.quota) for labels, bucket in buckets if bucket.quota is not None]
    resets = [(labels, health.wall + (bucket.resets_at - health.now)) for labels, bucket in buckets]
    names = ("credential", "bucket")
    text = "Tokens left in a bucket of the client's ration, as last stated."
    yield _metric("gauge", "token_quota_remaining", text, names, remaining)
    yield _metric("gauge", "token_quota_limit", "Tokens of a bucket of the client's ration.", names, limits)
    text = "When a bucket of the client's ration is full again, Unix time."
    yield _metric("gauge", "token_quota_reset_timestamp_seconds", text, names, resets)


def _metric(
    kind: str, name: str, text: str, labels: tuple[str, ...], samples: Iterable[tuple[tuple[str, ...], float]]
) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415 - see above

    family = (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(_PREFIX + name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, float(value))
    return family


def _histogram(name: str, text: str, histograms: Mapping[str, _Histogram]) -> Metric:
    from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415 - see above

    family = HistogramMetricFamily(_PREFIX + name, text, labels=("route",))
    for route, histogram in histograms.items():
        family.add_metric((route,), histogram.cumulative(), histogram.total)
    return family


def _make_registry(collector: Telemetry) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 - see above

    # Not the default registry, which the whole process shares.
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def _collect_process() -> Sequence[Metric]:
    """Return prometheus_client's metrics of this process; reads files of the system."""
    from prometheus_client import ProcessCollector  # noqa: PLC0415 - see above

    return tuple(ProcessCollector(registry=None).collect())
