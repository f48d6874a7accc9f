"""The journal: every record reaches every reader once and in order, together or a moment later."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from switch_proxy.core.exchange_record import ExchangeRecord
from switch_proxy.record_batcher import ExchangeJournal

if TYPE_CHECKING:
    from collections.abc import Sequence


def record(number: int) -> ExchangeRecord:
    return ExchangeRecord(
        route="switch-api",
        method=b"GET",
        target=b"/",
        request_id=b"%d" % number,
        status=200,
        request_body_bytes=0,
        response_body_bytes=0,
        duration=0.0,
        upstream_duration=None,
        failure=None,
        started_at_wall=0.0,
    )


class Reader:
    def __init__(self) -> None:
        self.handfuls: list[list[int]] = []

    def read(self, records: Sequence[ExchangeRecord]) -> None:
        self.handfuls.append([int(record.request_id) for record in records])

    @property
    def numbers(self) -> list[int]:
        return [number for handful in self.handfuls for number in handful]


async def test_records_are_handed_to_every_reader_once_and_in_order() -> None:
    one, other = Reader(), Reader()
    journal = ExchangeJournal(one.read, other.read)
    for number in range(100):
        journal.exchange_finished(record(number))
    journal.close()
    assert one.numbers == other.numbers == list(range(100))


async def test_a_handful_is_handed_over_at_once() -> None:
    reader = Reader()
    journal = ExchangeJournal(reader.read)
    for number in range(15):
        journal.exchange_finished(record(number))
    assert reader.handfuls == []
    journal.exchange_finished(record(15))
    assert reader.handfuls == [list(range(16))]
    journal.close()


async def test_fewer_are_handed_over_a_moment_later() -> None:
    handed_over = asyncio.Event()
    reader = Reader()
    journal = ExchangeJournal(reader.read, lambda _: handed_over.set())
    for number in range(2):
        for _ in range(number + 1):
            journal.exchange_finished(record(number))
        async with asyncio.timeout(10):
            await handed_over.wait()
        handed_over.clear()
    assert reader.handfuls == [[0], [1, 1]]


async def test_whoever_asks_gets_what_there_is() -> None:
    reader = Reader()
    journal = ExchangeJournal(reader.read)
    journal.exchange_finished(record(1))
    journal.flush()
    journal.flush()
    assert reader.handfuls == [[1]]
    journal.close()


async def test_a_closed_journal_leaves_no_timer() -> None:
    reader = Reader()
    journal = ExchangeJournal(reader.read)
    journal.exchange_finished(record(1))
    journal.close()
    assert reader.handfuls == [[1]]
    assert journal._timer is None
