"""The machine's clock."""

from __future__ import annotations

import asyncio
import time

import pytest

from switch_proxy.clock import SystemClock


def test_time_goes_on_while_the_machine_sleeps() -> None:
    """It is the clock that counts from boot, including the time asleep, if the system has one."""
    source = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    before = time.clock_gettime(source)
    now = SystemClock().now()
    assert before <= now <= time.clock_gettime(source)


def test_where_no_such_clock_is_the_monotonic_one_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    assert before <= SystemClock().now() <= time.clock_gettime(time.CLOCK_MONOTONIC)


def test_the_wall_clock_is_unix_time() -> None:
    before = time.time()
    assert before <= SystemClock().wall() <= time.time()


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 0.02], ids=["an hour ago", "now", "soon"])
async def test_sleeping_ends_at_the_moment_and_not_before(ahead: float) -> None:
    clock = SystemClock()
    at = clock.now() + ahead
    await clock.sleep_until(at)
    assert clock.now() >= at


async def test_what_fell_due_while_the_machine_slept_is_noticed_within_one_nap() -> None:
    """The loop's own timers stand still meanwhile: an hour's wait would last an hour from then on."""
    clock = SystemClock(longest_nap=0.005)
    offset = 0.0
    read = clock.now
    clock.now = lambda: read() + offset
    waiting = asyncio.get_running_loop().create_task(clock.sleep_until(clock.now() + 3600.0))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    offset = 7200.0
    await asyncio.wait_for(waiting, 10)
