"""When the proxy becomes ready and when it ceases to be is reported at that moment, without anybody asking."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from switch_proxy.core.events import ProxyBecameReady, ProxyBecameUnready
from switch_proxy.core.tokens import Freshness
from switch_proxy.readiness import ReadinessWatch
from tests.credential_statuses import HELD, NEVER_HELD, NOW, READY
from tests.manual_clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from switch_proxy.core.health import HealthSnapshot
    from switch_proxy.core.lifecycle import CredentialStatus


class World:
    """One credential whose token is usable until a moment."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.credential: CredentialStatus = NEVER_HELD
        self.draining_since: float | None = None
        self.events: list[ProxyBecameReady | ProxyBecameUnready] = []
        self.watch = ReadinessWatch(snapshot=self.snapshot, clock=self.clock, observe=self.events.append)

    def snapshot(self) -> HealthSnapshot:
        credential = self.credential
        if credential.usable_until is not None and self.clock.now() >= credential.usable_until:
            credential = replace(credential, freshness=Freshness.EXPIRED)
        return replace(READY, now=self.clock.now(), credentials=(credential,), draining_since=self.draining_since)

    async def change(self, credential: CredentialStatus) -> None:
        """Let an event change the credential."""
        self.credential = credential
        self.watch.look_again()
        await self.clock.settle()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(self.watch.run())
        await self.clock.settle()
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self.clock.settle()
        assert not self.clock.sleepers


async def test_it_is_not_reported_that_it_is_not_ready_yet() -> None:
    world = World()
    async with world.running():
        await world.change(NEVER_HELD)
    assert world.events == []


async def test_a_first_token_makes_it_ready_and_is_reported_once() -> None:
    world = World()
    async with world.running():
        await world.change(HELD)
        await world.change(HELD)
        await world.change(replace(HELD, generation=8))
    assert world.events == [ProxyBecameReady()]


async def test_a_token_that_expires_is_reported_at_that_moment_though_nobody_asks() -> None:
    world = World()
    async with world.running():
        await world.change(replace(HELD, usable_until=NOW + 60))
        await world.clock.advance(59.999)
        assert world.events == [ProxyBecameReady()]
        await world.clock.advance(0.001)
        (_, event) = world.events
        assert event == ProxyBecameUnready(
            reasons=("credential switch: has no usable token: the last one has expired, and another is being fetched",)
        )
        await world.clock.advance(3600)
        assert len(world.events) == 2
        await world.change(replace(HELD, usable_until=NOW + 7200))
        assert world.events[-1] == ProxyBecameReady()


async def test_a_token_that_is_replaced_in_time_is_no_news() -> None:
    world = World()
    async with world.running():
        await world.change(replace(HELD, usable_until=NOW + 60))
        await world.clock.advance(50)
        await world.change(replace(HELD, usable_until=NOW + 110))
        await world.clock.advance(50)
    assert world.events == [ProxyBecameReady()]


async def test_the_end_is_not_reported_as_a_loss() -> None:
    """`proxy.draining` says it."""
    world = World()
    async with world.running():
        await world.change(replace(HELD, usable_until=NOW + 60))
        world.draining_since = NOW
        await world.clock.advance(120)
    assert world.events == [ProxyBecameReady()]
