"""When a request may go that is one of many in a time: never too many in any window, in order, and no later than need be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.errors import InvalidValueError
from switch_proxy.core.policy.turns import MARGIN, Turns
from switch_proxy.core.rate import Rate, parse_rate
from switch_proxy.demo.rate_limit import RateLimiter, Rule

FIVE_A_SECOND = parse_rate("5/s")
TWENTY_A_MINUTE = parse_rate("20/min")

rates = st.lists(
    st.builds(lambda count, seconds: parse_rate(f"{count}/{seconds}s"), st.integers(1, 6), st.integers(1, 20)),
    min_size=1,
    max_size=3,
)


@pytest.mark.parametrize(
    ("text", "requests", "seconds"),
    [
        ("5/s", 5, 1),
        ("20/min", 20, 60),
        ("20 / m", 20, 60),
        ("100/10s", 100, 10),
        ("3/2h", 3, 7200),
        ("10000/d", 10000, 86400),
    ],
)
def test_a_rate_is_read_and_written_as_it_was(text: str, requests: int, seconds: int) -> None:
    rate = parse_rate(text)
    assert (rate.requests, rate.seconds, str(rate)) == (requests, seconds, text)


@pytest.mark.parametrize("text", ["5", "5/", "0/s", "5/0s", "5/x", "-1/s", "5/s/s", "1/2d", "10001/s", "99999/d"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError):
        parse_rate(text)


def run(limits: list[Rate], arrivals: list[float]) -> list[float]:
    """Let requests arrive, each go when it may, and return when they went."""
    turns = Turns(limits)
    gone: list[float] = []
    for at in arrivals:
        now = max(at, gone[-1] if gone else at)
        when = turns.next_at(now)
        turns.go(when)
        gone.append(when)
    return gone


@given(rates, st.lists(st.floats(0, 100), min_size=1, max_size=60).map(sorted))
def test_no_window_has_more_requests_than_its_rate(limits: list[Rate], arrivals: list[float]) -> None:
    gone = run(limits, arrivals)
    assert gone == sorted(gone)
    for rate in limits:
        for begin in gone:
            assert sum(begin <= at < begin + rate.seconds for at in gone) <= rate.requests


def test_a_hundred_at_once_go_in_the_least_time_and_the_apis_own_limiter_refuses_none() -> None:
    """The last group begins after four full minutes and three seconds; 5 % more is the most."""
    gone = run([FIVE_A_SECOND, TWENTY_A_MINUTE], [0.0] * 100)
    assert 243.0 <= gone[-1] <= 243.0 * 1.05
    limiter = RateLimiter(Rule(requests=5, period=1.0), Rule(requests=20, period=60.0))
    assert [limiter.admit("app", at) for at in gone] == [None] * 100


def test_those_that_wait_have_their_turn_in_order_and_move_up_when_one_leaves() -> None:
    turns = Turns([parse_rate("1/s")])
    assert turns.waiting == 0
    turns.go(0.0)
    first, second, third = (turns.enter(0.0) for _ in range(3))
    assert [place.at for place in (first, second, third)] == pytest.approx([MARGIN, 2 * MARGIN, 3 * MARGIN])
    turns.leave(second, 0.5)
    assert (turns.waiting, turns.first) == (2, first)
    assert third.at == pytest.approx(2 * MARGIN)
    turns.leave(first, 0.5)
    assert third.at == pytest.approx(MARGIN)
    assert turns.next_at(0.5) == pytest.approx(2 * MARGIN)


def test_one_that_goes_later_than_foreseen_delays_the_next() -> None:
    turns = Turns([parse_rate("1/s")])
    turns.go(0.0)
    turns.enter(0.0)
    turns.enter(0.0)
    turns.take_turn(5.0)
    assert turns.first_at(5.0) == pytest.approx(5.0 + MARGIN)


def test_a_word_of_the_server_holds_all() -> None:
    turns = Turns([parse_rate("9/s")])
    place = turns.enter(0.0)
    turns.hold_until(30.0, 0.0)
    turns.hold_until(20.0, 0.0)
    assert (place.at, turns.first_at(1.0), turns.next_at(1.0), turns.next_at(31.0)) == (30.0, 30.0, 30.0, 31.0)


def test_what_is_remembered_is_bounded() -> None:
    turns = Turns([parse_rate("3/s")])
    for number in range(100):
        turns.go(float(number))
    assert len(turns._sent) <= 6
    assert turns.next_at(99.0) == 99.0
