"""Durations, sizes, counts and switches as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.errors import InvalidValueError
from switch_proxy.core.schema.units import (
    format_duration,
    is_off,
    parse_count,
    parse_duration,
    parse_size,
    parse_switch,
)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        pytest.param(5, 5.0, id="whole number"),
        pytest.param(0.25, 0.25, id="decimal number"),
        pytest.param("5", 5.0, id="number as text"),
        pytest.param("250ms", 0.25, id="milliseconds"),
        pytest.param("5s", 5.0, id="seconds"),
        pytest.param("2m", 120.0, id="minutes"),
        pytest.param("1h", 3600.0, id="hours"),
        pytest.param("1d", 86400.0, id="a day"),
        pytest.param("1.5s", 1.5, id="decimal with unit"),
        pytest.param(".5s", 0.5, id="decimal without a digit before the point"),
        pytest.param("5 s", 5.0, id="space before the unit"),
        pytest.param(0, 0.0, id="nothing"),
    ],
)
def test_duration_is_read_in_every_form_people_write(written: object, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    [
        "",
        "5 parsecs",
        "1h30m",
        "-5s",
        "5S",
        "five",
        "s",
        "0x10",
        "1e3",
        "\u0665s",
        "5s\n6",
        "9" * 41,
        True,
        None,
        [],
        {},
    ],
    ids=repr,
)
def test_text_that_is_no_duration_is_refused_with_the_right_forms(written: object) -> None:
    with pytest.raises(InvalidValueError, match="250ms, 5s, 2m, 1h"):
        parse_duration(written)


@pytest.mark.parametrize("written", [float("inf"), float("-inf"), float("nan")], ids=repr)
def test_endless_number_is_no_duration(written: float) -> None:
    with pytest.raises(InvalidValueError, match="finite"):
        parse_duration(written)


@given(st.floats(min_value=0.001, max_value=86400.0))
def test_duration_that_was_formatted_reads_as_the_same(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.001, "1ms"),
        (0.25, "250ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (59, "59s"),
        (60, "1m"),
        (90, "90s"),
        (3600, "1h"),
        (86400, "1d"),
    ],
)
def test_duration_is_shown_in_the_largest_unit_that_needs_no_fraction(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (8192, 8192),
        ("8192", 8192),
        ("8KiB", 8192),
        ("64 KiB", 65536),
        ("1MiB", 1048576),
        ("1kB", 1000),
        ("2MB", 2_000_000),
        ("1.5KiB", 1536),
        ("7B", 7),
    ],
)
def test_size_is_read_in_every_form_people_write(written: object, size: int) -> None:
    assert parse_size(written) == size


@pytest.mark.parametrize("written", ["", "8K", "8 kilobytes", "-1", "0.3B", 1.5, True, None], ids=repr)
def test_text_that_is_no_size_is_refused_with_the_right_forms(written: object) -> None:
    with pytest.raises(InvalidValueError, match="8KiB, 1MiB"):
        parse_size(written)


@pytest.mark.parametrize(("written", "number"), [(128, 128), ("128", 128), ("0", 0), (-3, -3)])
def test_count_is_read_from_a_number_and_from_its_digits(written: object, number: int) -> None:
    assert parse_count(written) == number


@pytest.mark.parametrize("written", ["", "010", "1_000", "1.0", 1.0, "9" * 19, True, None, "\u0661"], ids=repr)
def test_text_that_is_no_count_is_refused(written: object) -> None:
    with pytest.raises(InvalidValueError, match="digits alone"):
        parse_count(written)


@pytest.mark.parametrize(("written", "is_on"), [(True, True), (False, False), ("true", True), ("False", False)])
def test_switch_is_read_from_a_boolean_and_from_its_word(written: object, is_on: bool) -> None:
    assert parse_switch(written) is is_on


@pytest.mark.parametrize("written", ["yes", "on", "1", 1, 0, "", None], ids=repr)
def test_what_others_take_for_a_boolean_is_no_switch(written: object) -> None:
    """Only two words are told apart for sure; a switch that opens something must not be guessed."""
    with pytest.raises(InvalidValueError, match="write true or false"):
        parse_switch(written)


def test_off_is_known_by_its_word_and_as_the_false_that_yaml_1_1_makes_of_it() -> None:
    assert [is_off(value) for value in ("off", False, None, 0, "", "OFF")] == [True, True, False, False, False, False]
