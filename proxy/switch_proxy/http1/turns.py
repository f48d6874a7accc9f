"""
Work that was put off, so that a peer that sends many small parts does not hold up the others.

A connection whose bytes are much work does a share of it, stops reading, and waits here for its next turn. One of those
that wait goes on in each turn of the event loop, in the order in which they came; in between the loop serves everybody else. So
the others wait for one share, whatever a peer sends and however many such peers there are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from switch_proxy.http1.peers import Continued


class Turns:
    """The connections of one listener that have put work off, its upstreams' included."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[Continued] = deque()

    @property
    def waiting(self) -> int:
        """Return how many connections wait for their turn."""
        return len(self._waiting)

    def put_off(self, work: Continued) -> None:
        """Have `work` continued when its turn comes; it must not wait for one already."""
        self._waiting.append(work)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._continue_one)

    def _continue_one(self) -> None:
        work = self._waiting[0]
        try:
            work.go_on()
        except Exception as error:  # noqa: BLE001 - whatever it is, the others have their turns
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a connection failed unexpectedly when its turn came", "exception": error}
            )
            work.abort()
        finally:
            self._waiting.popleft()
            if self._waiting:
                # Called in the next turn of the loop, which looks at all sockets before.
                asyncio.get_running_loop().call_soon(self._continue_one)
