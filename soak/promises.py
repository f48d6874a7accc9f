"""The proxy's promises while its token requests fail: docs/token-lifecycle.md in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SERVED: Final = frozenset({200, 204})

REFRESH_EARLIEST: Final = 0.75
"""A token is replaced after this part of its lifetime at the earliest."""
USABLE: Final = 0.95
"""A token is used until this part of its lifetime, if it lives less than 200 s."""

SLACK: Final = 0.5
"""Seconds by which the clocks of two processes on a busy machine may seem to differ."""

LONGEST_FIRST_WAIT: Final = 1.0
"""Seconds: the window of the first retry in an outage. Each window is twice the previous one."""

LONGEST_WAIT: Final = 60.0

MOST_GROWTH: Final = 4 * 2**20
"""Bytes by which the memory of a process may vary without growing: a few arenas of the allocator."""

_FEWEST_SAMPLES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of one request, with Unix times in seconds. `status` is 0 if there was no response."""

    began_at: float
    ended_at: float
    status: int
    has_retry_after: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Excuse:
    """A period in which there may be no token, and why: a request may then get 503 with Retry-After."""

    begin: float
    end: float
    why: str

    def covers(self, outcome: Outcome) -> bool:
        """Return whether this failure is excused."""
        is_told = outcome.status == 503 and outcome.has_retry_after  # noqa: PLR2004 - the promised status
        return is_told and self.begin <= outcome.ended_at and outcome.began_at <= self.end


def usable_until(issued_at: float, lifetime: float) -> float:
    """Return when the use of a token ends, by its issuer's clock."""
    return issued_at + USABLE * lifetime


def longest_wait_after(failures: int) -> float:
    """Return the longest wait before the next try after this many failures in a row, in seconds."""
    return float(min(LONGEST_WAIT, LONGEST_FIRST_WAIT * 2 ** (failures - 1))) if failures else 0.0


def failures_of_promise(outcomes: Iterable[Outcome], excuses: Sequence[Excuse]) -> Sequence[Outcome]:
    """Return the failed requests that have no excuse."""
    failed = (outcome for outcome in outcomes if outcome.status not in SERVED)
    return [outcome for outcome in failed if not any(excuse.covers(outcome) for excuse in excuses)]


def most_token_calls(issued: Sequence[tuple[float, float]], *, until: float, extra: int) -> int:
    """
    Return the most token requests allowed for tokens issued with these times and lifetimes.

    A token is replaced after three quarters of its lifetime at the earliest. `extra` are the requests caused by
    disturbances: failed tries, and secrets or tokens that ended early.
    """
    if not issued:
        return extra + 1
    needed = 1.0
    for (begin, lifetime), (end, _) in pairwise([*issued, (until, 0.0)]):
        needed += min(1.0, max(0.0, end - begin) / (REFRESH_EARLIEST * lifetime))
    return ceil(needed) + extra


def growth(samples: Sequence[float]) -> float:
    """Return the median of the last quarter minus that of the second one; 0 if there are too few samples."""
    if len(samples) < _FEWEST_SAMPLES:
        return 0.0
    quarter = len(samples) // 4
    return median(samples[-quarter:]) - median(samples[quarter : 2 * quarter])


def told(outcomes: Iterable[Outcome]) -> str:
    """Return the number of requests for each status, as text."""
    counts = Counter(outcome.status for outcome in outcomes)
    return ", ".join(f"{count} × {status or 'no response'}" for status, count in sorted(counts.items()))
