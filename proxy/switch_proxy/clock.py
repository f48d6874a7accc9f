"""
Time for the shell: seconds since boot for durations, Unix time for people, and sleeping until a moment.

Durations are measured on CLOCK_BOOTTIME if the system has it: it never jumps, and it continues while the machine sleeps,
as a token's life does. Other systems use the monotonic clock.
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
Seconds. The event loop's timers stop while the machine sleeps, so a long wait reads the clock this often. A moment that
passed meanwhile is noticed at most this much later.
"""


class Clock(Protocol):
    """Current time, and sleeping."""

    def now(self) -> float:
        """Return the seconds since a fixed moment; the clock never jumps and never stops."""

    def wall(self) -> float:
        """Return Unix time in seconds, which may jump."""

    async def sleep_until(self, at: float) -> None:
        """Return when `now()` is `at` or later."""


class SystemClock:
    """The machine's clock."""

    __slots__ = ("_longest_nap", "now", "wall")

    now: Callable[[], float]
    """Return the seconds since boot, including those asleep."""
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
