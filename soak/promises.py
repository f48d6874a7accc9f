"""What the proxy promises while its tokens are in trouble, computed: docs/token-lifecycle.md in numbers."""

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
"""The part of a token's life after which it is replaced at the earliest, and"""
USABLE: Final = 0.95
"""until which it is used, where it lives less than 200 s."""

SLACK: Final = 0.5
"""Seconds by which two processes of a busy machine may see the same moment differently."""

LONGEST_FIRST_WAIT: Final = 1.0
"""Seconds: the window of the first retry in an outage; each is twice the one before it."""

LONGEST_WAIT: Final = 60.0

MOST_GROWTH: Final = 4 * 2**20
"""Bytes that the memory of a process may come and go by without growing: a few arenas of the allocator."""

_FEWEST_SAMPLES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one request, from and to Unix times in seconds; `status` is 0 where there was no answer."""

    began_at: float
    ended_at: float
    status: int
    has_retry_after: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Excuse:
    """A time in which there may be no token, and why: a request may then be answered with 503, saying when to come."""

    begin: float
    end: float
    why: str

    def covers(self, outcome: Outcome) -> bool:
        """Tell whether this is a failure that it excuses."""
        is_told = outcome.status == 503 and outcome.has_retry_after  # noqa: PLR2004 - the one that is promised
        return is_told and self.begin <= outcome.ended_at and outcome.began_at <= self.end


def usable_until(issued_at: float, lifetime: float) -> float:
    """Return until when a token is used, as its issuer sees it."""
    return issued_at + USABLE * lifetime


def longest_wait_after(failures: int) -> float:
    """Return the longest wait for the next try after so many failures in a row, in seconds: one backoff step."""
    return float(min(LONGEST_WAIT, LONGEST_FIRST_WAIT * 2 ** (failures - 1))) if failures else 0.0


def failures_of_promise(outcomes: Iterable[Outcome], excuses: Sequence[Excuse]) -> Sequence[Outcome]:
    """Return the requests that failed although nothing excuses them."""
    failed = (outcome for outcome in outcomes if outcome.status not in SERVED)
    return [outcome for outcome in failed if not any(excuse.covers(outcome) for excuse in excuses)]


def most_token_calls(issued: Sequence[tuple[float, float]], *, until: float, extra: int) -> int:
    """
    Return how many token requests there may have been for tokens issued with these times and lifetimes.

    A token is replaced after three quarters of its life at the earliest; `extra` are what troubles may have cost
    besides: tries that failed, a secret or a token that came to its end before its time.
    """
    if not issued:
        return extra + 1
    needed = 1.0
    for (begin, lifetime), (end, _) in pairwise([*issued, (until, 0.0)]):
        needed += min(1.0, max(0.0, end - begin) / (REFRESH_EARLIEST * lifetime))
    return ceil(needed) + extra


def growth(samples: Sequence[float]) -> float:
    """Return by how much the last quarter lies above the second one, by their medians; 0 where there are too few."""
    if len(samples) < _FEWEST_SAMPLES:
        return 0.0
    quarter = len(samples) // 4
    return median(samples[-quarter:]) - median(samples[quarter : 2 * quarter])


def told(outcomes: Iterable[Outcome]) -> str:
    """Return how many requests had which status."""
    counts = Counter(outcome.status for outcome in outcomes)
    return ", ".join(f"{count} × {status or 'no answer'}" for status, count in sorted(counts.items()))
