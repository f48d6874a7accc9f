"""The soak's arithmetic: excuses, allowed token requests, growth."""

from __future__ import annotations

import pytest

from soak.promises import (
    Excuse,
    Outcome,
    failures_of_promise,
    growth,
    longest_wait_after,
    most_token_calls,
    told,
    usable_until,
)

EXCUSE = Excuse(begin=100.0, end=110.0, why="an outage")


def outcome(status: int = 503, *, begin: float = 105.0, end: float = 105.0, has_retry_after: bool = True) -> Outcome:
    return Outcome(began_at=begin, ended_at=end, status=status, has_retry_after=has_retry_after)


@pytest.mark.parametrize(
    "failed",
    [
        pytest.param(outcome(), id="in the middle"),
        pytest.param(outcome(begin=90.0, end=100.0), id="ended as it began"),
        pytest.param(outcome(begin=110.0, end=120.0), id="began as it ended"),
    ],
)
def test_a_503_within_an_excuse_is_no_broken_promise(failed: Outcome) -> None:
    assert failures_of_promise([failed], [EXCUSE]) == []


@pytest.mark.parametrize(
    "failed",
    [
        pytest.param(outcome(begin=90.0, end=99.9), id="before"),
        pytest.param(outcome(begin=110.1, end=120.0), id="after"),
        pytest.param(outcome(has_retry_after=False), id="without Retry-After"),
        pytest.param(outcome(502), id="another failure"),
        pytest.param(outcome(401), id="a token that was refused"),
        pytest.param(outcome(0), id="no answer"),
    ],
)
def test_every_other_failure_is_one(failed: Outcome) -> None:
    assert failures_of_promise([outcome(200), failed], [EXCUSE]) == [failed]


def test_tokens_may_be_asked_for_at_three_quarters_of_their_lives() -> None:
    """The first token, its successor at 1.5 s, and the one that is due now."""
    assert most_token_calls([(0.0, 2.0), (1.5, 2.0)], until=3.0, extra=0) == 3


def test_a_token_that_was_replaced_early_counts_for_what_it_lived() -> None:
    """An early replacement must be an allowed extra."""
    issued = [(0.0, 2.0), (0.15, 2.0), (1.65, 2.0)]

    assert most_token_calls(issued, until=1.65, extra=0) == 3
    assert most_token_calls([(0.1 * n, 2.0) for n in range(100)], until=9.9, extra=0) < 10


def test_a_token_that_was_not_replaced_in_time_does_not_buy_calls() -> None:
    assert most_token_calls([(0.0, 2.0)], until=1000.0, extra=3) == 2 + 3


def test_without_a_token_there_is_one_call_and_those_of_disturbances() -> None:
    assert most_token_calls([], until=10.0, extra=4) == 5


@pytest.mark.parametrize(("failures", "wait"), [(0, 0.0), (1, 1.0), (2, 2.0), (4, 8.0), (7, 60.0), (500, 60.0)])
def test_one_backoff_step_is_what_the_page_says(failures: int, wait: float) -> None:
    assert longest_wait_after(failures) == wait


def test_a_token_is_used_but_for_the_last_twentieth_of_its_life() -> None:
    assert usable_until(100.0, 2.0) == 101.9


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        pytest.param([50.0, 10.0] + [20.0] * 14, 0.0, id="what the start costs is none"),
        pytest.param([float(n) for n in range(16)], 8.0, id="what goes on is"),
        pytest.param([20.0] * 15 + [90.0], 0.0, id="a peak is none"),
        pytest.param([1.0, 2.0, 3.0], 0.0, id="too few tell nothing"),
    ],
)
def test_growth_is_from_the_second_quarter_to_the_last(samples: list[float], expected: float) -> None:
    assert growth(samples) == expected


def test_outcomes_are_told_by_status() -> None:
    assert told([outcome(200), outcome(200), outcome(503), outcome(0)]) == "1 × no response, 2 × 200, 1 × 503"
