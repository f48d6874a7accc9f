"""Where the records of a TLS stream end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.tls_records import LARGEST_RECORD, find_end_of_records

_LARGEST_FRAGMENT = LARGEST_RECORD - 5


def record(length: int) -> bytes:
    return b"\x17\x03\x03" + length.to_bytes(2, "big") + bytes(length)


@pytest.mark.parametrize(
    ("data", "end"),
    [
        pytest.param(b"", 0, id="nothing"),
        pytest.param(record(3)[:4], 0, id="part of a header"),
        pytest.param(record(3)[:5], 0, id="a header alone"),
        pytest.param(record(3)[:7], 0, id="all but one byte"),
        pytest.param(record(3), 8, id="one record"),
        pytest.param(record(0), 5, id="an empty record"),
        pytest.param(record(300), 305, id="a length of two bytes"),
        pytest.param(record(3) + record(4), 17, id="two records"),
        pytest.param(record(3) + record(4)[:-1], 8, id="two records but for a byte"),
        pytest.param(record(3) + record(4)[:2], 8, id="a record and part of a header"),
        pytest.param(record(_LARGEST_FRAGMENT), LARGEST_RECORD, id="the largest record"),
        pytest.param(record(_LARGEST_FRAGMENT)[:-1], 0, id="the largest record but for a byte"),
        pytest.param(record(_LARGEST_FRAGMENT) + record(0), LARGEST_RECORD, id="no more than the largest at once"),
        pytest.param(record(_LARGEST_FRAGMENT - 5) + record(0), LARGEST_RECORD, id="as many as the largest has"),
        pytest.param(record(_LARGEST_FRAGMENT + 1)[:5], 5, id="too long a record"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n", 26, id="no record at all"),
    ],
)
def test_the_end_of_the_whole_records_is_found(data: bytes, end: int) -> None:
    assert find_end_of_records(data, 0, len(data)) == end


def test_bytes_before_and_behind_are_not_looked_at() -> None:
    data = b"\xff" * 7 + record(3) + record(4)
    assert find_end_of_records(data, 7, len(data) - 1) == 15


@given(lengths=st.lists(st.integers(0, _LARGEST_FRAGMENT), max_size=6), rest=st.integers(0, 4))
def test_records_are_taken_one_after_the_other_until_none_is_whole(lengths: list[int], rest: int) -> None:
    data = b"".join(record(length) for length in lengths) + record(9)[:rest]
    found = 0
    while (end := find_end_of_records(data, found, len(data))) > found:
        assert end - found <= LARGEST_RECORD
        found = end
    assert found == len(data) - rest
