"""Instants as RFC 3339 text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.timestamps import clock_time, rfc3339

NOON: Final = 1789992000.0
"""2026-09-21T12:00:00Z"""


@pytest.mark.parametrize(
    ("unix_time", "text"),
    [
        pytest.param(0.0, "1970-01-01T00:00:00.000Z", id="the epoch"),
        pytest.param(1790000000.1234, "2026-09-21T14:13:20.123Z", id="milliseconds are cut, not rounded"),
        pytest.param(1790000000.9999, "2026-09-21T14:13:20.999Z", id="nor carried into the next second"),
        pytest.param(-5.0, "1970-01-01T00:00:00.000Z", id="before the epoch"),
        pytest.param(float("inf"), "9999-12-31T23:59:59.999Z", id="a token that never expires"),
    ],
)
def test_instants_are_written_in_utc_with_milliseconds(unix_time: float, text: str) -> None:
    assert rfc3339(unix_time) == text


@given(st.integers(min_value=0, max_value=253402300799))
def test_what_is_written_can_be_read_back(second: int) -> None:
    assert datetime.fromisoformat(rfc3339(second)) == datetime.fromtimestamp(second, tz=UTC)


@pytest.mark.parametrize(
    ("unix_time", "expected"),
    [
        pytest.param(NOON + 43200.0, "00:00 UTC", id="midnight"),
        pytest.param(NOON + 43199.0, "00:00 UTC", id="a second before: counted in whole seconds"),
        pytest.param(NOON + 43201.6, "00:00 UTC", id="a second after"),
        pytest.param(NOON + 43190.0, "23:59:50 UTC", id="no full minute"),
        pytest.param(NOON + 20.4, "12:00:20 UTC", id="rounded"),
        pytest.param(NOON + 86401.0, "12:00 UTC", id="in a day"),
        pytest.param(NOON + 86403.0, "2026-09-22 12:00:03 UTC", id="in more than a day"),
        pytest.param(NOON + 2.5 * 86400 - 1, "2026-09-24 00:00 UTC", id="in days, just before midnight"),
        pytest.param(-5.0, "00:00 UTC", id="before 1970"),
        pytest.param(1e300, "9999-12-31 23:59:57 UTC", id="after 9999"),
    ],
)
def test_a_sentence_has_the_time_of_day(unix_time: float, expected: str) -> None:
    assert clock_time(unix_time, now=NOON) == expected
