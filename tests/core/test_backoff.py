"""How long to wait after a fetch has failed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.backoff import LONGEST_EXHAUSTION, LONGEST_RETRY_AFTER, SHORTEST_DELAY, Lane, delay

ALMOST_ONE = 0.999999999

jitters = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)
attempts = st.integers(min_value=1, max_value=10**9)
retry_afters = st.none() | st.floats(min_value=0.0, max_value=1e30)


@pytest.mark.parametrize(
    ("attempt", "longest"), [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (8, 60.0), (10**6, 60.0)]
)
def test_what_may_pass_is_tried_again_within_a_window_that_doubles_up_to_a_minute(attempt: int, longest: float) -> None:
    """Exponential backoff with full jitter: anything from almost nothing to the window's end."""
    waits = [delay(lane=Lane.TRANSIENT, attempt=attempt, jitter=jitter, retry_after=None) for jitter in (0, ALMOST_ONE)]
    assert waits == [SHORTEST_DELAY, pytest.approx(longest)]


@pytest.mark.parametrize(
    ("attempt", "shortest"), [(1, 60.0), (2, 120.0), (3, 240.0), (4, 480.0), (5, 900.0), (6, 900.0), (10**6, 900.0)]
)
def test_a_refusal_is_tried_again_slowly_from_the_first(attempt: int, shortest: float) -> None:
    """A minute to a quarter of an hour, and up to a quarter more for the jitter."""
    waits = [delay(lane=Lane.REFUSED, attempt=attempt, jitter=jitter, retry_after=None) for jitter in (0, ALMOST_ONE)]
    assert waits == [shortest, pytest.approx(1.25 * shortest)]


def test_refusals_for_ever_stay_below_a_hundred_a_day() -> None:
    """Auth0 gives an address one attempt each 864 s: slower than that, there is no lockout."""
    assert delay(lane=Lane.REFUSED, attempt=100, jitter=0.0, retry_after=None) > 864


@pytest.mark.parametrize(
    ("retry_after", "shortest", "longest"),
    [
        pytest.param(None, 0.1, 4.0, id="not asked for"),
        pytest.param(0.0, 0.1, 4.0, id="asked for nothing"),
        pytest.param(30.0, 30.0, 34.0, id="half a minute"),
        pytest.param(3600.0, 3600.0, 3604.0, id="an hour"),
        pytest.param(3601.0, 3600.0, 3604.0, id="more than an hour"),
        pytest.param(-5.0, 0.1, 4.0, id="a time that has passed"),
    ],
)
def test_what_the_server_asks_for_is_waited_for_and_then_spread(
    retry_after: float | None, shortest: float, longest: float
) -> None:
    """Retry-After is a floor of at most an hour; jitter is added, because other clients were told the same."""
    waits = [
        delay(lane=Lane.TRANSIENT, attempt=3, jitter=jitter, retry_after=retry_after) for jitter in (0, ALMOST_ONE)
    ]
    assert waits == [pytest.approx(shortest), pytest.approx(longest)]


@pytest.mark.parametrize(
    ("attempt", "retry_after", "resets_in", "shortest", "longest"),
    [
        pytest.param(1, None, 43200.0, 43200.0, 43260.0, id="half a day: no cap of an hour"),
        pytest.param(2, None, 43200.0, 43200.0, 43320.0, id="the second time: spread over twice as long"),
        pytest.param(9, None, 43200.0, 43200.0, 44100.0, id="often: a quarter of an hour"),
        pytest.param(1, 50000.0, 43200.0, 50000.0, 50060.0, id="Retry-After is later"),
        pytest.param(1, 10.0, 43200.0, 43200.0, 43260.0, id="Retry-After is earlier"),
        pytest.param(1, 20.0, None, 20.0, 40.0, id="a short Retry-After: spread over as long at first"),
        pytest.param(4, 20.0, None, 20.0, 180.0, id="and then over longer"),
        pytest.param(1, None, None, 60.0, 120.0, id="nothing known: a minute"),
        pytest.param(3, None, None, 240.0, 480.0, id="then longer"),
        pytest.param(99, None, None, 3600.0, 4500.0, id="up to an hour"),
        pytest.param(1, 0.0, -5.0, 60.0, 120.0, id="a reset that has passed is no reset"),
        pytest.param(1, 1e9, None, 86400.0, 86460.0, id="more than a day: a day"),
    ],
)
def test_a_used_up_quota_is_waited_for_until_its_reset_and_then_spread(
    attempt: int, retry_after: float | None, resets_in: float | None, shortest: float, longest: float
) -> None:
    waits = [
        delay(lane=Lane.EXHAUSTED, attempt=attempt, jitter=jitter, retry_after=retry_after, resets_in=resets_in)
        for jitter in (0, ALMOST_ONE)
    ]
    assert waits == [pytest.approx(shortest + SHORTEST_DELAY), pytest.approx(longest + SHORTEST_DELAY)]


@given(st.sampled_from(Lane), attempts, jitters, retry_afters)
def test_a_delay_is_in_its_bounds(lane: Lane, attempt: int, jitter: float, retry_after: float | None) -> None:
    """Never below Retry-After, never below the minimum, never endless."""
    wait = delay(lane=lane, attempt=attempt, jitter=jitter, retry_after=retry_after)
    assert wait >= max(SHORTEST_DELAY, min(retry_after or 0.0, LONGEST_RETRY_AFTER))
    if lane is Lane.EXHAUSTED:
        assert wait >= min(retry_after or 0.0, LONGEST_EXHAUSTION)
        assert wait <= LONGEST_EXHAUSTION + 901
        return
    assert wait <= LONGEST_RETRY_AFTER * 1.25
    if lane is Lane.UNUSABLE:
        assert wait >= 10.0
    if lane is Lane.REFUSED:
        assert wait >= 60.0
