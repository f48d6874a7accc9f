"""How events become lines of the log."""

from __future__ import annotations

import pytest

from switch_proxy.core.events import (
    LibraryReported,
    ProxyStopped,
    SecretRefused,
    TokenRefreshed,
    TokenRefreshFailed,
    log_fields,
)


def _failed(*, remedy: str | None = None, is_first_occurrence: bool = True) -> TokenRefreshFailed:
    return TokenRefreshFailed(
        credential="switch",
        outcome="unavailable",
        error="503",
        retry_in=1.23456,
        duration=0.5,
        consecutive_failures=1,
        token_usable_for=None,
        refused_for=None,
        remedy=remedy,
        is_first_occurrence=is_first_occurrence,
    )


def test_fields_have_the_order_of_the_event_and_times_are_rounded() -> None:
    event = TokenRefreshed(
        credential="switch", generation=2, lifetime=3600.0, refresh_in=2879.99951, duration=0.0123456, after_failures=0
    )
    assert list(log_fields(event).items()) == [
        ("credential", "switch"),
        ("generation", 2),
        ("lifetime", 3600.0),
        ("refresh_in", 2880.0),
        ("duration", 0.012),
        ("after_failures", 0),
    ]


def test_an_event_without_fields_has_none() -> None:
    assert log_fields(ProxyStopped()) == {}


def test_some_fields_are_left_out_if_there_is_nothing_to_say_and_others_are_null() -> None:
    found = log_fields(_failed())
    assert "remedy" not in found
    assert found["token_usable_for"] is None
    assert log_fields(_failed(remedy="another secret"))["remedy"] == "another secret"


def test_what_decides_on_the_level_is_not_logged() -> None:
    assert "is_first_occurrence" not in log_fields(_failed())


@pytest.mark.parametrize(("is_first_occurrence", "level"), [(True, "warning"), (False, "debug")])
def test_a_repetition_is_for_debugging(is_first_occurrence: bool, level: str) -> None:
    refused = SecretRefused(
        credential="switch", source="the file /secret", error="401", is_first_occurrence=is_first_occurrence
    )
    assert (_failed(is_first_occurrence=is_first_occurrence).level, refused.level) == (level, level)


@pytest.mark.parametrize(("is_error", "level"), [(True, "error"), (False, "warning")])
def test_a_library_s_level_is_kept(is_error: bool, level: str) -> None:
    assert LibraryReported(library="aiohttp", message="x", exc_info=None, is_error=is_error).level == level
