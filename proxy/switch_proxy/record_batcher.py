"""
Takes note of each finished exchange, and hands several at once to those who make something of them.

What is done for every request is paid for by every request. Counting and rendering cost a fourth when they are done for
a handful in a row, while code and data are still in the processor's caches, than between two requests. The handful is
small, for while it is dealt with, no request is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from switch_proxy.core.exchange_record import ExchangeRecord

    Reader = Callable[[Sequence[ExchangeRecord]], None]

_HANDFUL: Final = 16
"""Exchanges; they take some 40 µs, which is about what one request takes."""

_LONGEST_WAIT: Final = 0.1
"""Seconds that an exchange waits for others."""


class ExchangeJournal:
    """Collects the records of finished exchanges for its readers."""

    __slots__ = ("_readers", "_records", "_timer")

    def __init__(self, *readers: Reader) -> None:
        """Take who is to be given the records, in their order; readers must be quick and must not raise."""
        self._readers = readers
        self._records: list[ExchangeRecord] = []
        self._timer: asyncio.TimerHandle | None = None

    def exchange_finished(self, record: ExchangeRecord) -> None:
        """Take note of one finished exchange; called on the hot path."""
        records = self._records
        records.append(record)
        if len(records) >= _HANDFUL:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LONGEST_WAIT, self._time_is_up)

    def flush(self) -> None:
        """Hand over what has been collected."""
        records = self._records
        if records:
            self._records = []
            for reader in self._readers:
                reader(records)

    def close(self) -> None:
        """Hand over what has been collected, for good."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()

    def _time_is_up(self) -> None:
        self._timer = None
        self.flush()
