"""Rate limits in fixed windows: five a second, twenty a minute."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.demo.rate_limit import RateLimiter, Rule, Standing

SECOND = Rule(requests=5, period=1.0)
MINUTE = Rule(requests=20, period=60.0)


def test_the_sixth_request_of_a_second_is_refused_until_the_window_ends() -> None:
    """The wait is the rest of the window that the first request opened."""
    limiter = RateLimiter(SECOND, MINUTE)

    assert [limiter.admit("app", 100.0) for _ in range(5)] == [None] * 5
    assert limiter.admit("app", 100.25) == 0.75


def test_a_new_window_opens_exactly_one_period_after_the_first_request() -> None:
    """A request at the boundary is admitted, one just before it is not."""
    limiter = RateLimiter(Rule(requests=1, period=1.0))
    limiter.admit("app", 100.0)

    assert limiter.admit("app", 100.9375) == 0.0625
    assert limiter.admit("app", 101.0) is None


def test_the_twenty_first_request_of_a_minute_waits_for_the_minute() -> None:
    """Both rules hold; the longer wait is returned."""
    limiter = RateLimiter(SECOND, MINUTE)
    for second in range(4):
        assert [limiter.admit("app", second * 1.0) for _ in range(5)] == [None] * 5

    assert limiter.admit("app", 4.0) == 56.0


def test_a_refused_request_is_not_counted() -> None:
    """A request that is too early does not prolong the wait."""
    limiter = RateLimiter(MINUTE)
    for _ in range(30):
        limiter.admit("app", 0.0)

    assert limiter.standing("app", 1.0) == Standing(limit=20, remaining=0, resets_at=60.0)
    assert limiter.admit("app", 60.0) is None


def test_one_client_does_not_use_up_what_another_has() -> None:
    """The limits are for each client."""
    limiter = RateLimiter(Rule(requests=1, period=1.0))
    limiter.admit("app", 0.0)

    assert limiter.admit("other", 0.0) is None


def test_a_client_that_has_sent_nothing_stands_at_the_full_limit() -> None:
    """Without an open window the reset is one period from now."""
    assert RateLimiter(SECOND, MINUTE).standing("app", 7.0) == Standing(limit=20, remaining=20, resets_at=67.0)


@given(st.lists(st.floats(min_value=0, max_value=3), max_size=80))
def test_no_window_ever_admits_more_than_its_rule_says(gaps: list[float]) -> None:
    """At any pace, a window admits at most its number of requests, and the returned wait is enough."""
    limiter, now, opened_at, admitted = RateLimiter(SECOND), 0.0, -2.0, 0
    for gap in gaps:
        now += gap
        wait = limiter.admit("app", now)
        if now >= opened_at + SECOND.period:
            opened_at, admitted = now, 0
        if wait is None:
            admitted += 1
            assert admitted <= SECOND.requests
        else:
            assert admitted == SECOND.requests
            assert now + wait == opened_at + SECOND.period or abs(now + wait - opened_at - SECOND.period) < 1e-9
