"""What the pool does when the one it gives a connection to has given up in the same moment: nothing may be lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from switch_proxy.core.config.models import PoolSettings
from switch_proxy.core.http.response import ResponseParser
from switch_proxy.http1.pool import Pool, PoolExhaustedError
from switch_proxy.http1.upstream_codec import UpstreamCodec
from switch_proxy.http1.upstream_connection import UpstreamConnection
from tests.shell.http1.raw_peer import turn
from tests.shell.http1.raw_upstream import RawUpstream
from tests.shell.http1.world import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Opening:
    """Opens real connections, each when it is let."""

    def __init__(self, upstream: RawUpstream) -> None:
        self._upstream = upstream
        self.opened: list[UpstreamConnection] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def open(self) -> UpstreamConnection:
        await self.may_go_on.wait()
        connection = UpstreamConnection(
            codec=UpstreamCodec(parser=ResponseParser(max_field_lines=100), max_head=65536), now=0.0
        )
        await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", self._upstream.port)
        self.opened.append(connection)
        return connection


@pytest.fixture
async def opening() -> AsyncIterator[Opening]:
    upstream = RawUpstream()
    opening = Opening(upstream)
    yield opening
    for connection in opening.opened:
        connection.close()
    upstream.close()
    await turn()


def pool_of(opening: Opening, *, size: int, idle: float = 60, lifetime: float = 3600) -> Pool:
    return Pool(
        settings=PoolSettings(max_connections=size, acquire_timeout=5, idle_timeout=idle, lifetime=lifetime),
        opener=opening.open,
    )


async def waiter_for(pool: Pool) -> asyncio.Task[UpstreamConnection]:
    """Return a request that waits for a connection."""
    before = pool.waiting
    task = asyncio.get_running_loop().create_task(pool.acquire())
    await until(lambda: pool.waiting > before, lambda: "it does not wait")
    return task


async def end(task: asyncio.Task[UpstreamConnection]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_connection_handed_to_one_who_gives_up_in_that_moment_goes_to_the_next(opening: Opening) -> None:
    pool = pool_of(opening, size=1)
    connection = await pool.acquire()
    first, second = await waiter_for(pool), await waiter_for(pool)
    pool.release(connection, 0.0, None)
    await end(first)
    assert await second is connection
    assert (pool.busy, pool.idle, pool.waiting) == (1, 0, 0)


async def test_a_connection_handed_to_the_last_one_who_gives_up_in_that_moment_becomes_idle(opening: Opening) -> None:
    pool = pool_of(opening, size=1)
    connection = await pool.acquire()
    only = await waiter_for(pool)
    pool.release(connection, 0.0, None)
    await end(only)
    assert (pool.busy, pool.idle, pool.waiting) == (0, 1, 0)
    assert pool.take(1.0) is connection


async def test_a_place_given_to_one_who_gives_up_in_that_moment_goes_to_the_next(opening: Opening) -> None:
    pool = pool_of(opening, size=1)
    connection = await pool.acquire()
    first, second = await waiter_for(pool), await waiter_for(pool)
    connection.close()
    await end(first)
    assert await second is opening.opened[1]
    assert (pool.busy, pool.idle, pool.waiting) == (1, 0, 0)


async def test_a_place_given_to_the_last_one_who_gives_up_in_that_moment_is_free(opening: Opening) -> None:
    pool = pool_of(opening, size=1)
    connection = await pool.acquire()
    only = await waiter_for(pool)
    connection.close()
    await end(only)
    assert (pool.busy, pool.idle, pool.waiting) == (0, 0, 0)
    assert await pool.acquire() is opening.opened[1]


async def test_a_connection_that_closes_between_being_handed_over_and_taken_up_gives_its_place_up(
    opening: Opening,
) -> None:
    pool = pool_of(opening, size=1)
    connection = await pool.acquire()
    waiter = await waiter_for(pool)
    pool.release(connection, 0.0, None)
    connection.close()
    assert (await waiter).is_closed
    assert (pool.busy, pool.idle, pool.waiting) == (0, 0, 0)


async def test_one_who_gives_up_while_its_connection_is_opened_gives_its_place_to_the_next(opening: Opening) -> None:
    pool = pool_of(opening, size=1)
    opening.may_go_on.clear()
    opener = asyncio.get_running_loop().create_task(pool.acquire())
    await turn()
    waiter = await waiter_for(pool)
    await end(opener)
    opening.may_go_on.set()
    assert await waiter is opening.opened[0]
    assert (pool.busy, pool.waiting) == (1, 0)


async def test_one_whose_connection_cannot_be_opened_gives_its_place_to_the_next(opening: Opening) -> None:
    async def fail() -> UpstreamConnection:
        await opening.may_go_on.wait()
        raise ConnectionRefusedError

    pool = Pool(settings=PoolSettings(max_connections=1), opener=fail)
    opening.may_go_on.clear()
    opener = asyncio.get_running_loop().create_task(pool.acquire())
    await turn()
    waiter = await waiter_for(pool)
    opening.may_go_on.set()
    for each in (opener, waiter):
        with pytest.raises(ConnectionRefusedError):
            await each
    assert (pool.busy, pool.waiting) == (0, 0)


async def test_one_who_waits_in_vain_leaves_no_trace(opening: Opening) -> None:
    pool = Pool(settings=PoolSettings(max_connections=1, acquire_timeout=0.01), opener=opening.open)
    connection = await pool.acquire()
    with pytest.raises(PoolExhaustedError):
        await pool.acquire()
    pool.release(connection, 0.0, None)
    assert (pool.busy, pool.idle, pool.waiting) == (0, 1, 0)


async def test_a_connection_is_idle_up_to_its_limit_and_not_beyond(opening: Opening) -> None:
    """At, before and after the moment."""
    pool = pool_of(opening, size=1, idle=60)
    connection = await pool.acquire()
    pool.release(connection, 100.0, None)
    assert pool.take(159.9) is connection
    pool.release(connection, 200.0, None)
    assert pool.take(260.0) is None
    assert connection.is_closed
    assert (pool.busy, pool.idle) == (0, 0)


async def test_the_upstreams_word_shortens_the_idle_time_and_never_lengthens_it(opening: Opening) -> None:
    pool = pool_of(opening, size=2, idle=60)
    one, two = await pool.acquire(), await pool.acquire()
    pool.release(one, 0.0, 5.0)
    pool.release(two, 0.0, 500.0)
    pool.expire(4.9)
    assert pool.idle == 2
    pool.expire(5.0)
    assert (one.is_closed, two.is_closed) == (True, False)
    pool.expire(60.0)
    assert two.is_closed


async def test_a_connection_is_not_kept_once_its_lifetime_is_over(opening: Opening) -> None:
    pool = pool_of(opening, size=2, lifetime=3600)
    one, two = await pool.acquire(), await pool.acquire()
    pool.release(one, 3599.9, None)
    pool.release(two, 3600.0, None)
    assert (one.is_closed, two.is_closed) == (False, True)


async def test_an_idle_connection_does_not_outlive_its_lifetime_by_waiting(opening: Opening) -> None:
    """It is not used again once it is that old: an upstream that has moved is followed."""
    pool = pool_of(opening, size=1, idle=60, lifetime=3600)
    connection = await pool.acquire()
    pool.release(connection, 3590.0, None)
    assert pool.take(3601.0) is None
