"""
A clock that stands still until a test moves it, and the event loop that tells when nothing is left to do.

The clock moves on only once the loop is quiet: no callback is ready, no job is in a thread, and no work that a test
has marked with `working` is in flight. How long that takes depends on the machine, so it is awaited, not guessed.
"""

from __future__ import annotations

import asyncio
import heapq
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_QUIET_TURNS: Final = 3
"""Turns in a row with nothing ready: a future that is done wakes its task a turn later."""

_UNCOUNTED_TURNS: Final = 50
"""Turns of a loop that does not show its ready queue (uvloop), in which whatever does no I/O comes to rest."""

_SETTLE_TIMEOUT: Final = 20.0
"""Seconds of real time. Work that takes longer hangs, and the test should say so."""


class CountingLoop(asyncio.SelectorEventLoop):
    """The standard event loop, which also counts the jobs that it has handed to threads."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs_in_flight = 0

    def run_in_executor(self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts) -> asyncio.Future[_T]:
        """Run a function in a thread. The job counts until its result is in the loop."""
        future = super().run_in_executor(executor, func, *args)
        self.jobs_in_flight += 1
        future.add_done_callback(self._forget_job)
        return future

    def is_quiet(self) -> bool:
        """Return whether nothing is ready and no thread is at work; True only between callbacks."""
        return not self._ready and not self.jobs_in_flight  # type: ignore[attr-defined]

    def _forget_job(self, _: asyncio.Future[Any]) -> None:
        self.jobs_in_flight -= 1


class ManualClock:
    """
    A `switch_proxy.clock.Clock` whose time is a number.

    `advance` wakes each sleeper at its own moment, in order, and waits for quiescence in between. So whatever a sleeper
    does, it does at its own moment, even if it goes to sleep again before the end of the advance.
    """

    def __init__(self, now: float = 1000.0, *, wall_ahead: float = 1_700_000_000.0) -> None:
        self._now = now
        self._wall_ahead = wall_ahead
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()
        self._in_flight = 0

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
        """Let this much time pass without waking sleepers, as on a machine that sleeps: timers are late."""
        self._now += seconds

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count what is done in this block, such as a request to a fake, as work that `settle` waits for."""
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    async def settle(self) -> None:
        """Wait until only the passing of time can make anything happen. Raises TimeoutError."""
        loop = asyncio.get_running_loop()
        if not isinstance(loop, CountingLoop):
            for _ in range(_UNCOUNTED_TURNS):
                await asyncio.sleep(0)
            return
        async with asyncio.timeout(_SETTLE_TIMEOUT):
            quiet_turns = 0
            while quiet_turns < _QUIET_TURNS:
                # Threads and sockets get the processor while they are waited for.
                await asyncio.sleep(0.001 if self._in_flight or loop.jobs_in_flight else 0)
                quiet_turns = quiet_turns + 1 if loop.is_quiet() and not self._in_flight else 0

    @property
    def sleepers(self) -> int:
        """Return how many are waiting for a moment."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    @property
    def next_wake_at(self) -> float | None:
        """Return when the first sleeper is due; None if there is none."""
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
