"""Calls that may hang: shared while under way, in threads of their own, of which there are few."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from switch_proxy.shared_call import DOUBTED_AFTER, MOST_THREADS, CallHangsError, SharedCall
from tests.e2e.proxy_process import ROOT
from tests.manual_clock import until

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator


_T = TypeVar("_T")


class Work:
    """A function whose calls return when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.begun: list[threading.Event] = []
        self.results: dict[int, object] = {}

    def __call__(self) -> object:
        number = len(self.begun)
        released = threading.Event()
        self.begun.append(released)
        released.wait()
        result = self.results.get(number, number)
        if isinstance(result, Exception):
            raise result
        return result

    def release(self) -> None:
        for each in self.begun:
            each.set()


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    work.release()


def shared(work: Work) -> SharedCall[object]:
    return SharedCall(work, now=lambda: work.now)


def begin(asked: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
    return asyncio.create_task(asked)  # noqa: TID251 - awaited or cancelled by the test


async def hangs(call: SharedCall[object], *, within: float = 0.0) -> None:
    with pytest.raises(CallHangsError):
        await call.result(within=within)


async def test_all_who_ask_while_it_is_under_way_share_one_call(work: Work) -> None:
    call = shared(work)
    async with asyncio.TaskGroup() as tasks:
        waiters = [tasks.create_task(call.result()) for _ in range(50)]
        await until(lambda: work.begun)
        await asyncio.sleep(0)
        work.release()
    assert [waiter.result() for waiter in waiters] == [0] * 50
    assert len(work.begun) == 1
    assert not call.is_under_way


async def test_after_its_end_the_next_who_asks_begins_another(work: Work) -> None:
    call = shared(work)
    for number in range(3):
        asked = begin(call.result())
        await until(lambda: len(work.begun) > number)  # noqa: B023 - called in this turn of the loop
        work.release()
        assert await asked == number


async def test_whoever_waits_gets_the_error_and_nobody_need_wait_for_it(work: Work) -> None:
    call = shared(work)
    work.results[0] = work.results[1] = OSError("no such thing")
    asked = begin(call.result())
    await until(lambda: work.begun)
    work.release()
    with pytest.raises(OSError, match="no such thing"):
        await asked
    await hangs(call)
    await until(lambda: len(work.begun) == 2)
    work.release()
    await until(lambda: not call.is_under_way)


async def test_one_who_gives_up_takes_the_call_from_nobody_else(work: Work) -> None:
    call = shared(work)
    impatient, patient = begin(call.result()), begin(call.result())
    await until(lambda: work.begun)
    impatient.cancel()
    await asyncio.wait([impatient])
    work.release()
    assert await patient == 0


async def test_once_it_has_taken_too_long_others_are_told_at_once(work: Work) -> None:
    call = shared(work)
    await hangs(call, within=0.01)
    work.now = 5.0
    await hangs(call, within=5.0)
    assert len(work.begun) == 1


async def test_a_call_that_is_taken_for_lost_gets_another_beside_it_and_the_first_result_counts(work: Work) -> None:
    call = shared(work)
    await hangs(call)
    work.now = DOUBTED_AFTER[0] - 0.001
    await hangs(call)
    assert len(work.begun) == 1
    work.now = DOUBTED_AFTER[0]
    asked = begin(call.result())
    await until(lambda: len(work.begun) == 2)
    work.begun[1].set()
    assert await asked == 1
    assert call.is_under_way


async def test_the_result_of_a_lost_call_is_not_taken_for_a_newer_one(work: Work) -> None:
    """What it has read may be older than what was read meanwhile."""
    call = shared(work)
    await hangs(call)
    work.now = DOUBTED_AFTER[0]
    asked = begin(call.result())
    await until(lambda: len(work.begun) == 2)
    work.begun[1].set()
    assert await asked == 1
    asked = begin(call.result())
    await until(lambda: len(work.begun) == 3)
    work.begun[0].set()
    await until(lambda: call._under_way == 1)
    assert not asked.done()
    work.begun[2].set()
    assert await asked == 2


async def test_threads_that_hang_for_ever_are_few_and_the_first_that_returns_ends_it(work: Work) -> None:
    call = shared(work)
    for _ in range(20):
        await hangs(call)
        work.now += max(DOUBTED_AFTER)
    await until(lambda: len(work.begun) == MOST_THREADS)
    asked = begin(call.result())
    await asyncio.sleep(0)
    assert len(work.begun) == MOST_THREADS
    work.begun[2].set()
    assert await asked == 2


async def test_while_all_of_its_threads_are_lost_the_first_that_returns_works_for_the_next(work: Work) -> None:
    call = shared(work)
    for _ in range(MOST_THREADS):
        await hangs(call)
        work.now += max(DOUBTED_AFTER)
    await until(lambda: len(work.begun) == MOST_THREADS)
    work.begun[0].set()
    await until(lambda: call._under_way == MOST_THREADS - 1)
    # All places are taken again: the three that are lost, and this one.
    await hangs(call)
    work.now += max(DOUBTED_AFTER)
    await hangs(call)
    await until(lambda: len(work.begun) == MOST_THREADS + 1)
    work.begun[MOST_THREADS].set()
    await until(lambda: call._under_way == MOST_THREADS - 1)
    asked = begin(call.result())
    await until(lambda: len(work.begun) == MOST_THREADS + 2)
    work.release()
    assert await asked == MOST_THREADS + 1


async def test_others_calls_and_the_pool_of_threads_are_not_held_up(work: Work) -> None:
    calls = [shared(work) for _ in range(40)]
    for call in calls:
        await hangs(call)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "done"), 10) == "done"
    assert await asyncio.wait_for(SharedCall(lambda: "mine", now=lambda: 0.0).result(), 10) == "mine"


def test_the_process_ends_although_a_call_hangs() -> None:
    program = (
        "import asyncio, time; from switch_proxy.shared_call import SharedCall, CallHangsError\n"
        "async def main():\n"
        "    try: await SharedCall(lambda: time.sleep(3600), now=lambda: 0.0).result(within=0)\n"
        "    except CallHangsError: print('hangs')\n"
        "asyncio.run(main())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert (ended.stdout, ended.stderr) == ("hangs\n", "")
