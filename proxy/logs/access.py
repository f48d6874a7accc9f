"""
The access log: takes note of each finished exchange and hands the lines over in batches.

One hand-over for many lines keeps the writing thread asleep most of the time. A line waits a quarter of a second at most.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.core.exchange_record import ExchangeRecord

_BATCH: Final = 64
"""Lines; some 20 KiB, which a pipe takes in one write, and the loop takes 20 µs to join and look through."""

_LONGEST_WAIT: Final = 0.25
"""Seconds that a line waits for others; what `tail -f` shows still looks immediate."""


class Renderer(Protocol):
    """Turns records into lines."""

    def render(self, record: ExchangeRecord) -> bytes:
        """Return the line, with its line end; empty where the exchange gets none."""


class AccessLog:
    """Collects lines of finished exchanges; told of them on the hot path."""

    __slots__ = ("_lines", "_render", "_timer", "_write")

    def __init__(self, *, renderer: Renderer, write: Callable[[bytes], None]) -> None:
        self._render = renderer.render
        self._write = write
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    def exchange_finished(self, record: ExchangeRecord) -> None:
        """Take note of one finished exchange."""
        line = self._render(record)
        if line:
            lines = self._lines
            lines.append(line)
            if len(lines) >= _BATCH:
                self.flush()
            elif self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(_LONGEST_WAIT, self._time_is_up)

    def flush(self) -> None:
        """Hand over what has been collected."""
        lines = self._lines
        if lines:
            self._lines = []
            self._write(b"".join(lines))

    def close(self) -> None:
        """Hand over what has been collected, for good."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()

    def _time_is_up(self) -> None:
        self._timer = None
        self.flush()
