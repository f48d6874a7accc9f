"""Statistics of samples: medians, spreads, percentiles, ratios round by round. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The metrics of one system in one round of one workload, by name."""

    workload: str
    system: str
    round: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A workload in which a system failed, and why."""

    workload: str
    system: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A median with the smallest and the largest value."""

    median: float
    low: float
    high: float
    count: int


def median(values: Sequence[float]) -> float:
    """Return the middle value, or the mean of the two middle ones. Raises ValueError if there is none."""
    if not values:
        raise ValueError("no values, no median")
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile of values in ascending order. Raises ValueError if there is none."""
    if not ordered:
        raise ValueError("no values, no percentile")
    rank = math.ceil(round(len(ordered) * percent / 100, 6))  # Rounded: 99.9 % of 1,000 is 999, not a hair more.
    return ordered[max(0, rank - 1)]


def spread(values: Sequence[float]) -> Spread:
    """Return the median of `values` with their extremes. Raises ValueError if there is none."""
    return Spread(median=median(values), low=min(values), high=max(values), count=len(values))


def values_of(samples: Iterable[Sample], *, workload: str, system: str, metric: str) -> dict[int, float]:
    """Return a metric's value by round."""
    return {
        sample.round: sample.values[metric]
        for sample in samples
        if sample.workload == workload and sample.system == system and metric in sample.values
    }


def spread_of(samples: Iterable[Sample], *, workload: str, system: str, metric: str) -> Spread | None:
    """Return the spread of a metric over the rounds, or None if it was not measured."""
    found = values_of(samples, workload=workload, system=system, metric=metric)
    return spread(list(found.values())) if found else None


def ratio_of(samples: Sequence[Sample], *, workload: str, system: str, reference: str, metric: str) -> Spread | None:
    """Return the spread of system ÷ reference, with pairs of the same round, or None if there is no pair.

    Pairs of one round were measured within the same minute, so a machine that is slow for a while slows both.
    """
    ours = values_of(samples, workload=workload, system=system, metric=metric)
    theirs = values_of(samples, workload=workload, system=reference, metric=metric)
    ratios = [ours[number] / theirs[number] for number in ours if theirs.get(number)]
    return spread(ratios) if ratios else None


def order_of_round(systems: Sequence[str], number: int) -> list[str]:
    """Return the order of round `number`: it rotates, so that no system is always first or last."""
    start = number % len(systems) if systems else 0
    return [*systems[start:], *systems[:start]]
