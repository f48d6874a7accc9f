"""
Which upstream connection next: the most recently used idle one, else a new one, else a bounded wait.

The decisions (`take`, `release`, `expire`) await nothing and change the lists in one go; what must be closed is closed
by the caller or at once without waiting. Opening is given in as a function.
"""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from switch_proxy.core.config.models import PoolSettings
    from switch_proxy.http1.upstream_connection import UpstreamConnection

    Opener = Callable[[], Awaitable[UpstreamConnection]]


class PoolExhaustedError(Exception):
    """No connection could be had: too many requests wait already, or this one has waited its time."""


class Pool:
    """The connections of one route. Times are the listener's clock's, in seconds."""

    __slots__ = (
        "_idle",
        "_make_room",
        "_open",
        "_retired_at",
        "_settings",
        "_total",
        "_waiters",
        "connects",
        "reuses",
    )

    def __init__(self, *, settings: PoolSettings, opener: Opener, make_room: Callable[[], None] = lambda: None) -> None:
        """`make_room` is called before a connection is opened."""
        self._settings = settings
        self._make_room = make_room
        self._open = opener
        self._idle: list[UpstreamConnection] = []
        self._retired_at = -inf
        self._total = 0
        """Connections that exist or are being opened."""
        self._waiters: deque[asyncio.Future[UpstreamConnection | None]] = deque()
        self.connects = 0
        self.reuses = 0

    def __repr__(self) -> str:
        return f"<Pool idle={self.idle} busy={self.busy} waiting={self.waiting}>"

    @property
    def total(self) -> int:
        """Return how many connections exist or are being opened."""
        return self._total

    @property
    def oldest_idle(self) -> UpstreamConnection | None:
        """Return the connection that has been idle for longest, None if none is."""
        return self._idle[0] if self._idle else None

    @property
    def idle(self) -> int:
        """Return how many connections wait for work."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """Return how many connections work or are being opened."""
        return self._total - len(self._idle)

    @property
    def waiting(self) -> int:
        """Return how many requests wait for a connection."""
        return len(self._waiters)

    def take(self, now: float) -> UpstreamConnection | None:
        """Return the most recently used idle connection, or None; one that has outlived its time is closed instead."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.idle_until > now and not connection.transport.is_closing():
                self.reuses += 1
                return connection
            connection.close()
        return None

    async def acquire(self, *, is_new: bool = False) -> UpstreamConnection:
        """
        Return a new connection, or one that becomes free while all are in use; it may have closed in between.

        `is_new`: open one in the place of the one that becomes free.

        Raises PoolExhaustedError, and what the opener raises.
        """
        if self._total >= self._settings.max_connections:
            connection = await self._wait()
            if connection is not None and (connection.is_closed or not is_new):
                return connection
            if connection is not None:
                self.reuses -= 1
                # Its place stays taken.
                connection.on_closed = None
                connection.close()
        else:
            self._total += 1
        # From here on this request holds a place: it is the connection's, or given up.
        try:
            self._make_room()
            connection = await self._open()
        except BaseException:
            self._release_slot()
            raise
        self.connects += 1
        if connection.is_closed:
            self._release_slot()
        else:
            connection.on_closed = self._closed
        return connection

    async def _wait(self) -> UpstreamConnection | None:
        """Wait for a connection, or (None) for the place to open one."""
        if len(self._waiters) >= self._settings.max_waiting:
            raise PoolExhaustedError(
                f"all {self._settings.max_connections} connections are in use and "
                f"{self._settings.max_waiting} requests wait for one already"
            )
        waiter: asyncio.Future[UpstreamConnection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self._settings.acquire_timeout):
                return await waiter
        except TimeoutError:
            self._return_unused(waiter)
            raise PoolExhaustedError(
                f"all {self._settings.max_connections} connections stayed in use for {self._settings.acquire_timeout:g} seconds"
            ) from None
        except asyncio.CancelledError:
            self._return_unused(waiter)
            raise

    def _return_unused(self, waiter: asyncio.Future[UpstreamConnection | None]) -> None:
        """Pass on what a waiter was given in the moment that it gave up."""
        if not waiter.done() or waiter.cancelled():
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            return
        connection = waiter.result()
        if connection is None:
            self._release_slot()
        elif not connection.is_closed and not self._hand_over(connection):
            self._idle.append(connection)

    def release(self, connection: UpstreamConnection, now: float, idle_timeout: float | None) -> None:
        """
        Take back a connection whose exchange ended cleanly.

        `idle_timeout`: seconds that the upstream said it keeps it, None if it did not say.
        """
        connection.user = None
        settings = self._settings
        if connection.is_closed:
            return
        keep = settings.idle_timeout
        if idle_timeout is not None and idle_timeout < keep:
            keep = idle_timeout
        idle_until = now + keep
        end_of_life = connection.created_at + settings.lifetime
        idle_until = min(idle_until, end_of_life)
        if idle_until <= now or connection.created_at <= self._retired_at:
            connection.close()
            return
        connection.idle_until = idle_until
        if self._waiters and self._hand_over(connection):
            return
        self._idle.append(connection)

    def _hand_over(self, connection: UpstreamConnection) -> bool:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self.reuses += 1
                waiter.set_result(connection)
                return True
        return False

    def _release_slot(self) -> None:
        """Let go of a place; the first who waits gets it, to open a connection of its own."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._total -= 1

    def _closed(self, connection: UpstreamConnection) -> None:
        """Learn that a connection is gone, whoever closed it."""
        if connection in self._idle:
            self._idle.remove(connection)
        self._release_slot()

    def expire(self, now: float) -> None:
        """Close the idle connections that have outlived their time."""
        for connection in [each for each in self._idle if each.idle_until <= now]:
            connection.close()

    def retire(self, now: float) -> None:
        """Use no connection again that was opened until `now`: close the idle ones, and busy ones when released."""
        self._retired_at = now
        self.close_idle()

    def close_idle(self) -> None:
        """Close every idle connection."""
        for connection in list(self._idle):
            connection.close()
