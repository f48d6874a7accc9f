"""The proxy's goals, each judged by the samples of one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from summary import Sample, Spread, ratio_of, spread_of

if TYPE_CHECKING:
    from collections.abc import Sequence

SUBJECT = "switch-proxy"
REFERENCE = "envoy"
# The suffix of the same two systems without an access log.
WITHOUT_LOG = "-no-log"
_BULK = tuple(
    f"{direction}-{size}-{upstream}"
    for size in ("64k", "100m")
    for direction in ("download", "upload")
    for upstream in ("plain", "tls")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A bound on one figure: on its ratio to the reference, or on the figure itself if `is_absolute`."""

    work: str
    workload: str
    metric: str
    limit: float
    is_at_least: bool = False
    is_absolute: bool = False

    @property
    def text(self) -> str:
        sign = "≥" if self.is_at_least else "≤"
        return f"{sign} {self.limit:g} s" if self.is_absolute else f"{sign} {self.limit:.2f} × Envoy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A goal and its measured figure; if nothing was measured, both are None."""

    goal: Goal
    measured: Spread | None
    is_reached: bool | None


GOALS = (
    Goal(work="CPU per small request, plain upstream", workload="small-plain", metric="cpu_us_per_request", limit=0.65),
    Goal(work="CPU per small request, TLS upstream", workload="small-tls", metric="cpu_us_per_request", limit=0.95),
    Goal(
        work="requests per second, one core, plain",
        workload="small-plain",
        metric="requests_per_second",
        limit=1.5,
        is_at_least=True,
    ),
    Goal(work="p99 at half of Envoy's own peak, plain", workload="latency-plain", metric="p99_ms", limit=1.0),
    Goal(work="p99 at half of Envoy's own peak, TLS", workload="latency-tls", metric="p99_ms", limit=1.0),
    *(
        Goal(
            work=f"bytes per CPU second, {name.replace('-', ' ')}",
            workload=name,
            metric="mib_per_cpu_second",
            limit=1.0,
            is_at_least=True,
        )
        for name in _BULK
    ),
    Goal(work="resident memory, idle", workload="start-memory", metric="resident_idle_mib", limit=0.7),
    Goal(
        work="resident memory, 1,000 idle connections",
        workload="start-memory",
        metric="resident_connections_mib",
        limit=0.7,
    ),
    Goal(
        work="start to first proxied request",
        workload="start-memory",
        metric="start_seconds",
        limit=0.5,
        is_absolute=True,
    ),
)


def judge(goal: Goal, samples: Sequence[Sample], *, subject: str = SUBJECT, reference: str = REFERENCE) -> Verdict:
    """Judge a goal by the median over the rounds."""
    if goal.is_absolute:
        measured = spread_of(samples, workload=goal.workload, system=subject, metric=goal.metric)
    else:
        measured = ratio_of(samples, workload=goal.workload, system=subject, reference=reference, metric=goal.metric)
    if measured is None:
        return Verdict(goal=goal, measured=None, is_reached=None)
    is_reached = measured.median >= goal.limit if goal.is_at_least else measured.median <= goal.limit
    return Verdict(goal=goal, measured=measured, is_reached=is_reached)
