"""
Time as the shell reads it: seconds since boot for durations, Unix time for people, and sleeping until a moment.

Durations are measured on CLOCK_BOOTTIME where there is one: it never jumps, and it goes on while the machine sleeps,
as a token's life does. Elsewhere the monotonic clock has to do.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_NAP: Final = 30.0
"""
Seconds. The event loop's timers stand still while the machine sleeps, so a long wait looks at the clock this often:
that late, at most, is noticed what fell due meanwhile.
"""


class Clock(Protocol):
    """What tells the time."""

    def now(self) -> float:
        """Return the seconds since some fixed moment; never jumps, never stands still."""

    def wall(self) -> float:
        """Return Unix time in seconds, which may jump."""

    async def sleep_until(self, at: float) -> None:
        """Return when `now()` is `at` or later."""


class SystemClock:
    """The machine's clock."""

    __slots__ = ("_longest_nap", "now", "wall")

    now: Callable[[], float]
    """Return the seconds since boot, those asleep included."""
    wall: Callable[[], float]
    """Return Unix time in seconds."""

    def __init__(self, *, longest_nap: float = LONGEST_NAP) -> None:
        # The system calls themselves and no methods around them: they are read several times for each request.
        self.now = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))  # noqa: TID251 - this is the Clock
        self.wall = time.time  # noqa: TID251 - this is the Clock
        self._longest_nap = longest_nap

    async def sleep_until(self, at: float) -> None:
        """Return when `now()` is `at` or later."""
        while (left := at - self.now()) > 0:  # noqa: ASYNC110 - time has no event
            await asyncio.sleep(min(left, self._longest_nap))

    def __repr__(self) -> str:
        return f"<SystemClock now={self.now():.3f}>"
