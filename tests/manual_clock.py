"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_TURNS = 50
"""Turns of the loop in which everything that does no I/O comes to rest."""


class ManualClock:
    """
    A `switch_proxy.clock.Clock` whose time is a number.

    `advance` wakes each sleeper at its own moment, in order, and lets the loop come to rest in between: what a sleeper
    does at its moment it does at that time, even where it goes to sleep again before the end of the advance.
    """

    def __init__(self, now: float = 1000.0, *, wall_ahead: float = 1_700_000_000.0) -> None:
        self._now = now
        self._wall_ahead = wall_ahead
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()

    def now(self) -> float:
        """Return the time it has been set to, in seconds."""
        return self._now

    def wall(self) -> float:
        """Return Unix time in seconds, which runs beside."""
        return self._now + self._wall_ahead

    async def sleep_until(self, at: float) -> None:
        """Return once the clock has been moved to `at` or later."""
        if at > self._now:
            woken = asyncio.get_running_loop().create_future()
            heapq.heappush(self._sleepers, (at, next(self._order), woken))
            await woken

    async def advance(self, seconds: float) -> None:
        """Let this much time pass."""
        end = self._now + seconds
        await self.settle()
        while (due := self._next_sleeper()) is not None and due[0] <= end:
            heapq.heappop(self._sleepers)
            self._now = max(self._now, due[0])
            due[2].set_result(None)
            await self.settle()
        self._now = end
        await self.settle()

    def skip(self, seconds: float) -> None:
        """Let this much time pass with nobody awake, as on a machine that sleeps: timers are late."""
        self._now += seconds

    @staticmethod
    async def settle() -> None:
        """Let all that is ready run until nothing but time or I/O can go on."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    @property
    def sleepers(self) -> int:
        """Return how many are waiting for a moment."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    @property
    def next_wake_at(self) -> float | None:
        """Return when the first sleeper is due; None where nobody sleeps."""
        sleeper = self._next_sleeper()
        return None if sleeper is None else sleeper[0]

    def _next_sleeper(self) -> tuple[float, int, asyncio.Future[None]] | None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)  # one that was cancelled
        return self._sleepers[0] if self._sleepers else None


async def until(predicate: Callable[[], object], *, within: float = 10.0) -> None:
    """Wait, in real time, for a predicate that threads or sockets make true. Raises TimeoutError."""
    async with asyncio.timeout(within):
        while not predicate():  # noqa: ASYNC110 - what a thread or a peer does has no event here
            await asyncio.sleep(0.002)
