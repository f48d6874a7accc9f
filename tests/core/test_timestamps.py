"""Instants as RFC 3339 text."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.timestamps import rfc3339


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
