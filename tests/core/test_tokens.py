"""When a token is used, and when it is to be replaced."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.quota import QuotaBucket
from switch_proxy.core.secret import Secret
from switch_proxy.core.tokens import AccessToken, Freshness, TokenGrant, freshness, hold_until, issue

VALUE = "eyJhbGciOi.eyJzdWIi.c2ln-_~+/=="

lifetimes = st.floats(min_value=0.001, max_value=10 * 365 * 86400.0)
jitters = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)
instants = st.floats(min_value=0.0, max_value=1e9)


def _issue(lifetime: float = 1000.0, *, sent_at: float = 5000.0, jitter: float = 0.5) -> AccessToken:
    grant = TokenGrant(value=Secret(VALUE), lifetime=lifetime, scope="read write")
    return issue(grant, generation=3, sent_at=sent_at, jitter=jitter)


def test_a_token_carries_what_was_granted() -> None:
    token = _issue()
    assert token.value == Secret(VALUE)
    assert token.generation == 3
    assert token.scope == "read write"
    assert token.authorization_line == b"Authorization: Bearer " + VALUE.encode() + b"\r\n"


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        pytest.param(5000.0, Freshness.FRESH, id="at once"),
        pytest.param(5799.999, Freshness.FRESH, id="just before the refresh"),
        pytest.param(5800.0, Freshness.STALE, id="at the refresh"),
        pytest.param(5800.001, Freshness.STALE, id="just after the refresh"),
        pytest.param(5989.999, Freshness.STALE, id="just before the skew"),
        pytest.param(5990.0, Freshness.EXPIRED, id="at the skew"),
        pytest.param(5990.001, Freshness.EXPIRED, id="just after the skew"),
        pytest.param(6000.0, Freshness.EXPIRED, id="at its end"),
        pytest.param(1e12, Freshness.EXPIRED, id="long after"),
    ],
)
def test_freshness_follows_from_the_time(now: float, expected: Freshness) -> None:
    """A life of 1000 s: to be replaced at 80 % with a jitter in the middle, not used in its last 10 s."""
    assert freshness(_issue(), now) is expected


def test_no_token_is_absent() -> None:
    assert freshness(None, 0.0) is Freshness.ABSENT


@pytest.mark.parametrize(
    ("jitter", "refresh_at"),
    [
        pytest.param(0.0, 5750.0, id="at 75 % at the earliest"),
        pytest.param(0.5, 5800.0, id="at 80 % in the middle"),
        pytest.param(0.999999, 5849.9999, id="before 85 % at the latest"),
    ],
)
def test_the_refresh_is_spread_over_a_tenth_of_the_life(jitter: float, refresh_at: float) -> None:
    """Replicas that started together refresh at different times."""
    assert _issue(jitter=jitter).refresh_at == pytest.approx(refresh_at)


@pytest.mark.parametrize(
    ("lifetime", "skew"),
    [
        pytest.param(1.0, 0.05, id="5 % of a second"),
        pytest.param(199.0, 9.95, id="5 % of a little less than 200 s"),
        pytest.param(200.0, 10.0, id="both at 200 s"),
        pytest.param(201.0, 10.0, id="10 s of a little more than 200 s"),
        pytest.param(3600.0, 10.0, id="10 s of an hour"),
        pytest.param(315360000.0, 10.0, id="10 s of ten years"),
    ],
)
def test_a_token_is_not_used_in_its_last_moments(lifetime: float, skew: float) -> None:
    """The smaller of 10 s and 5 % of its life, so that it does not expire on the wire."""
    token = _issue(lifetime)
    assert token.expires_at - token.usable_until == pytest.approx(skew)


@given(lifetimes, instants, jitters)
def test_the_moments_of_a_life_are_in_order(lifetime: float, sent_at: float, jitter: float) -> None:
    """Whatever the life: sent, refreshed within its window, no longer used, over."""
    token = _issue(lifetime, sent_at=sent_at, jitter=jitter)
    assert token.sent_at <= token.refresh_at <= token.usable_until <= token.expires_at
    precision = 1e-6 + sent_at * 1e-12
    assert 0.75 * lifetime - precision <= token.refresh_at - sent_at <= 0.85 * lifetime + precision


def test_a_token_shows_its_value_to_nobody() -> None:
    token = _issue()
    for shown in (repr(token), str(token), f"{token}", repr([token])):
        assert VALUE not in shown
    assert repr(token) == "<AccessToken gen=3 lifetime=1000s>"
    assert VALUE not in repr(TokenGrant(value=Secret(VALUE), lifetime=1.0, scope=None))


def test_a_token_cannot_be_pickled() -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(_issue())


@pytest.mark.parametrize(
    ("valid_in", "now", "at"),
    [
        pytest.param(0.0, 5800.0, 5800.0, id="valid"),
        pytest.param(-5.0, 5800.0, 5800.0, id="valid for some time"),
        pytest.param(30.0, 5800.0, 5830.0, id="not valid yet"),
        pytest.param(1e9, 5800.0, 5990.0, id="not valid before the other ends"),
        pytest.param(30.0, 5990.0, 5990.0, id="the other has ended"),
    ],
)
def test_a_grant_replaces_the_token_when_it_is_valid(valid_in: float, now: float, at: float) -> None:
    grant = TokenGrant(value=Secret(VALUE), lifetime=1000.0, scope=None, valid_in=valid_in)
    assert hold_until(grant, token=_issue(), now=now) == at
    assert hold_until(grant, token=None, now=now) == now


@pytest.mark.parametrize(
    ("remaining", "resets_at", "earliest"),
    [
        pytest.param(11, 90_000.0, 0.75, id="enough is left"),
        pytest.param(10, 90_000.0, 0.9, id="little is left"),
        pytest.param(10, 1750.0, 0.75, id="little is left, but it is reset before the refresh"),
        pytest.param(10, 1750.1, 0.9, id="it is reset just after the refresh"),
    ],
)
def test_the_refresh_comes_later_if_little_is_left_of_the_quota(
    remaining: int, resets_at: float, earliest: float
) -> None:
    quota = (QuotaBucket(name="per_day", quota=50, remaining=remaining, resets_at=resets_at),)
    grant = TokenGrant(value=Secret("t"), lifetime=1000.0, scope=None, quota=quota)
    token = issue(grant, generation=1, sent_at=1000.0, jitter=0.0)
    assert token.refresh_at == pytest.approx(1000.0 + 1000.0 * earliest)


@pytest.mark.parametrize("lifetime", [0.1, 10.0, 200.0, 86400.0])
def test_the_latest_refresh_is_before_the_end_of_use(lifetime: float) -> None:
    quota = (QuotaBucket(name="per_day", quota=50, remaining=0, resets_at=1e6),)
    grant = TokenGrant(value=Secret("t"), lifetime=lifetime, scope=None, quota=quota)
    token = issue(grant, generation=1, sent_at=1000.0, jitter=0.999999)
    assert token.refresh_at < token.usable_until
