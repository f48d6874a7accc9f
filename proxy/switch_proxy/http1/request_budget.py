"""
The bytes of requests that a listener holds for all its clients together, and how its connections keep to that bound.

Each connection says how much it holds beyond a few kilobytes: a head that is not whole, requests that wait their turn, a body
that waits to be sent or is kept to be sent again. While the sum is above the limit, no connection that holds anything is read,
and the others are read in small pieces (`SmallReads`), so that many clients cannot add a large piece each.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

UNCOUNTED: Final = 4096
"""Bytes that a connection may hold without being counted: most requests, so that most cost no counting."""


class RequestBudget:
    """
    The sum for one listener, in bytes, and whether it is used up.

    It is used up from `limit` on until half of that is free again: in between, going back and forth would be work for
    nothing. `on_changed` is called when it is, and when it no longer is.
    """

    __slots__ = ("_buffer", "_limit", "held", "is_used_up", "on_changed")

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray(UNCOUNTED)
        self.held = 0
        self.is_used_up = False
        self.on_changed: Callable[[], None] = _ignore

    def change(self, by: int) -> None:
        """Add what a connection holds more than before, or less."""
        self.held += by
        is_used_up = self.held > (self._limit // 2 if self.is_used_up else self._limit)
        if is_used_up != self.is_used_up:
            self.is_used_up = is_used_up
            self.on_changed()

    def small_reads(self, protocol: asyncio.Protocol) -> SmallReads:
        """Return what stands in for a connection's protocol while the budget is used up."""
        return SmallReads(protocol, self._buffer)


def _ignore() -> None:
    pass


class SmallReads(asyncio.BufferedProtocol):
    """A protocol whose transport reads no more than the buffer holds, which all connections of a listener share."""

    __slots__ = ("_buffer", "_protocol")

    def __init__(self, protocol: asyncio.Protocol, buffer: bytearray) -> None:
        self._protocol = protocol
        self._buffer = buffer

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return where to read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on what was read."""
        self._protocol.data_received(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> bool | None:
        """Hand on the end."""
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on the loss."""
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """Hand on that the write buffer is full."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Hand on that it has drained."""
        self._protocol.resume_writing()
