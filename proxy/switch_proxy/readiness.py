"""
Reports when the proxy becomes ready and when it is no longer ready, at that moment, whether or not anybody asks.

core/health.py decides what ready means. Most changes follow an event, and then `look_again` is called. A token that expires
makes no event, so a timer is set for the earliest moment at which the verdict may change by itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from switch_proxy.core.events import ProxyBecameReady, ProxyBecameUnready
from switch_proxy.core.health import judge_readiness, next_change_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from switch_proxy.clock import Clock
    from switch_proxy.core.health import HealthSnapshot


class ReadinessWatch:
    """Compares the verdict with the one before, and reports the difference."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], HealthSnapshot],
        clock: Clock,
        observe: Callable[[ProxyBecameReady | ProxyBecameUnready], None],
    ) -> None:
        self._snapshot = snapshot
        self._clock = clock
        self._observe = observe
        self._was_ready = False
        self._has_changed = asyncio.Event()

    def look_again(self) -> None:
        """Judge readiness again soon, after the current callback."""
        self._has_changed.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._has_changed.clear()
                snapshot = self._snapshot()
                self._compare(snapshot)
                at = next_change_at(snapshot)
                timer = None if at is None else tasks.create_task(self._look_again_at(at), name="timer of readiness")
                await self._has_changed.wait()
                if timer is not None:
                    timer.cancel()

    async def _look_again_at(self, at: float) -> None:
        await self._clock.sleep_until(at)
        self.look_again()

    def _compare(self, snapshot: HealthSnapshot) -> None:
        verdict = judge_readiness(snapshot)
        if verdict.is_ok and not self._was_ready:
            self._observe(ProxyBecameReady())
        elif self._was_ready and not verdict.is_ok and snapshot.draining_since is None:
            self._observe(ProxyBecameUnready(reasons=verdict.reasons))
        self._was_ready = verdict.is_ok

    def __repr__(self) -> str:
        return f"<ReadinessWatch {'ready' if self._was_ready else 'not ready'}>"
