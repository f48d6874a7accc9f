"""How many token requests a process sends at most: hostile servers, and days that pass in no time."""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switch_proxy.core.errors import (
    SecretUnavailableError,
    TokenEndpointUnavailableError,
    TokenQuotaExhaustedError,
    TokenRequestRefusedError,
    TokenResponseInvalidError,
)
from switch_proxy.core.lifecycle import (
    CredentialsChanged,
    Effect,
    Event,
    Failed,
    Fetched,
    FetchFailure,
    Fetching,
    FetchReason,
    Forcing,
    Found,
    NothingNewer,
    Rejected,
    StartFetch,
    Ticked,
    TokenState,
    initial_state,
    step,
    wake_at,
)
from switch_proxy.core.pace import CREDIT, LONGEST_PRICE, SHORTEST_PRICE, may_begin_at, most_requests, pay, price
from switch_proxy.core.quota import QuotaBucket
from switch_proxy.core.secret import Secret
from switch_proxy.core.tokens import TokenGrant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

DAY: Final = 86400.0

DOWN: Final = TokenEndpointUnavailableError("down")
REFUSED: Final = TokenRequestRefusedError("no", is_about_client=True)
UNUSABLE: Final = TokenResponseInvalidError("what?", may_have_cost_token=True)
PAGE: Final = TokenResponseInvalidError("a page")
NO_SECRET: Final = SecretUnavailableError("no secret")


@dataclass(kw_only=True)
class Process:
    """A process in virtual time, before an authorization server and an API that do what they are told to."""

    responses: Callable[[int], float | FetchFailure]
    """The lifetime of the token, or the error, that the n-th request gets."""
    jitter: Callable[[], float] = field(default_factory=lambda: random.Random(7).random)
    takes: Callable[[int], float] = lambda _: 0.0
    """Seconds that the n-th response takes."""
    rejects_after: Callable[[int], float] = lambda _: inf
    """Seconds after the arrival of the n-th token at which the API refuses it for the first time; it goes on refusing it."""
    quota: Callable[[float], tuple[QuotaBucket, ...]] = lambda _: ()
    interval: float = 60.0
    began_at: list[float] = field(default_factory=list)
    shortest: float | None = None
    without: float = 0.0
    """Seconds without a usable token after the first."""

    def run(self, seconds: float, *, most: float = inf) -> None:
        """Let this much time pass, or `most` requests be sent."""
        self.now = 0.0
        self.state = initial_state(0.0, min_forced_refresh_interval=self.interval)
        self._arrived_at = 0.0
        self._begins = False
        while self.now < seconds and len(self.began_at) < most:
            self._feed(Ticked())
            if self._begins:
                self._respond()
            self._let_pass(min(self._next_event(), seconds))

    def _respond(self) -> None:
        self._begins = False
        number = len(self.began_at)
        self.began_at.append(self.now)
        self._let_pass(self.now + self.takes(number))
        response = self.responses(number)
        if isinstance(response, (int, float)):
            quota = self.quota(self.now)
            grant = TokenGrant(value=Secret("t"), lifetime=response, scope=None, quota=quota)
            before = self.state.token
            self._feed(Fetched(grant=grant))
            self.shortest = min(response, inf if self.shortest is None else self.shortest)
            if self.state.token is not before:
                self._arrived_at = self.now
        else:
            self._feed(Failed(error=response))

    def _next_event(self) -> float:
        at = wake_at(self.state)
        assert at is not None, "neither a fetch in flight nor a moment for the next one"
        token = self.state.token
        if token is not None:
            first = self._arrived_at + self.rejects_after(token.generation)
            if first < at:
                # From then on a request each ten seconds.
                refused_at = max(first, self.now + 10.0)
                if refused_at < at:
                    self._let_pass(refused_at)
                    self._feed(Rejected(generation=token.generation))
                    return self.now
        return at

    def _let_pass(self, until: float) -> None:
        token = self.state.token
        if token is not None:
            self.without += max(0.0, until - max(self.now, token.usable_until))
        self.now = max(self.now, until)

    def _feed(self, event: Event) -> None:
        effects: Iterable[Effect]
        self.state, effects = step(self.state, event, self.now, self.jitter())
        self._begins |= StartFetch() in effects


def most_within(began_at: Sequence[float], seconds: float) -> int:
    """Return the largest number of requests in any span of this length."""
    return max(bisect_right(began_at, at + seconds) - index for index, at in enumerate(began_at))


def _in_turn(*responses: float | FetchFailure) -> Callable[[int], float | FetchFailure]:
    return lambda number: responses[number % len(responses)]


def _often(remaining: int) -> Callable[[float], tuple[QuotaBucket, ...]]:
    return lambda now: (QuotaBucket(name="per_hour", quota=10, remaining=remaining, resets_at=now + 1.0),)


HOSTILE: Final = {
    "an hour of life": (_in_turn(3600.0), 33),
    "a minute of life": (_in_turn(60.0), 1921),
    "ten seconds of life": (_in_turn(10.0), 11_601),
    "two seconds of life": (_in_turn(2.0), 58_001),
    "no life to speak of": (_in_turn(0.001), 58_001),
    "an outage for ever": (_in_turn(DOWN), 4351),
    "a refusal for ever": (_in_turn(REFUSED), 101),
    "no secret for ever": (_in_turn(NO_SECRET), 101),
    "unusable for ever": (_in_turn(UNUSABLE), 105),
    "a page for ever": (_in_turn(PAGE), 4351),
    "used up for ever": (_in_turn(TokenQuotaExhaustedError("429")), 30),
    "used up, and a reset in no time": (_in_turn(TokenQuotaExhaustedError("429", retry_after=1.0)), 4351),
    "short lives and outages in turn": (_in_turn(0.1, DOWN), 8095),
    "short lives and unusable responses in turn": (_in_turn(0.1, UNUSABLE), 8095),
    "lives of an hour and outages in turn": (_in_turn(3600.0, DOWN), 4351),
    "every kind in turn": (_in_turn(0.1, DOWN, PAGE, UNUSABLE, 10.0, REFUSED), 58_001),
}
"""What the authorization server does, and how many requests that costs in any 24 hours at most."""


@pytest.mark.parametrize("name", HOSTILE)
def test_no_server_makes_a_process_ask_more_often_than_the_bound(name: str) -> None:
    """
    For more than a day. The bound is the one that the documentation states, and the lanes' own where that is less.

    The waits are as short as chance can make them.
    """
    responses, most = HOSTILE[name]
    process = Process(responses=responses, jitter=lambda: 0.0)
    process.run(1.1 * DAY, most=60_000)
    found = most_within(process.began_at, DAY)
    assert found <= most
    assert found <= most_requests(DAY, shortest_lifetime=process.shortest)


@pytest.mark.parametrize("lifetime", [0.001, 1.0, 80.0, 3600.0, DAY])
@pytest.mark.parametrize(
    "rejects", [lambda _: 0.0, lambda n: inf if n % 2 else 0.0, lambda _: 3601.0], ids=["all", "every second", "late"]
)
@pytest.mark.parametrize("errors", [[], [DOWN], [UNUSABLE], [DOWN, PAGE, DOWN]], ids=len)
def test_no_api_makes_a_process_ask_more_often_than_the_bound(
    lifetime: float, rejects: Callable[[int], float], errors: list[FetchFailure]
) -> None:
    """Whatever the authorization server responds with to what the API forces."""
    process = Process(responses=_in_turn(lifetime, *errors), rejects_after=rejects, jitter=lambda: 0.0, interval=1.0)
    process.run(8 * 3600.0, most=3000)
    for within in (60.0, 3600.0, 8 * 3600.0):
        assert most_within(process.began_at, within) <= most_requests(within, shortest_lifetime=process.shortest)


@pytest.mark.parametrize(
    "event",
    [
        Found(
            grant=TokenGrant(value=Secret("t"), lifetime=0.6, scope=None),
            requested_at=1000.0,
            allowance=0.0,
            forcing=Forcing(),
        ),
        NothingNewer(),
    ],
    ids=["a newer token", "nothing newer"],
)
def test_a_look_into_the_store_does_not_let_the_next_request_begin_before_its_time(event: Event) -> None:
    """A token of another process is free, but what this process has asked for before is still to be paid."""
    state = TokenState(phase=Fetching(since=1000.0, reason=FetchReason.FORCED), paid_until=1001.5 + CREDIT)
    state, _ = step(state, event, 1000.0, 0.5)
    assert wake_at(state) == 1001.5


def test_an_api_that_refuses_each_token_after_an_hour_costs_no_more_than_one_token_an_hour() -> None:
    process = Process(responses=_in_turn(DAY), rejects_after=lambda _: 3601.0)
    process.run(2 * DAY)
    assert most_within(process.began_at, DAY) <= 25


@pytest.mark.parametrize("lifetime", [2.0, 3.0, 10.0, 30.0])
def test_a_token_that_lives_for_seconds_is_always_replaced_in_time(lifetime: float) -> None:
    """Once there is one, there is always one, for as long as it may be."""
    process = Process(responses=_in_turn(lifetime), takes=lambda _: 0.1 * lifetime)
    process.run(3600.0)
    assert process.without == 0.0


def test_a_token_that_lives_for_less_is_there_half_of_the_time() -> None:
    process = Process(responses=_in_turn(1.0))
    process.run(3600.0)
    assert 0.0 < process.without < 0.4 * 3600.0


# --- any server ----------------------------------------------------------------------------------------------------

lifetimes = st.sampled_from([0.001, 0.5, 1.0, 2.0, 10.0, 60.0, 3600.0, DAY]) | st.floats(0.001, 2_592_000.0)
retry_afters = st.none() | st.floats(0.0, 1e5)
errors = st.one_of(
    st.builds(TokenEndpointUnavailableError, st.just("down"), retry_after=retry_afters),
    st.builds(
        TokenQuotaExhaustedError,
        st.just("429"),
        retry_after=retry_afters,
        exhausted_until=st.none() | st.floats(0, 1e6),
    ),
    st.builds(TokenRequestRefusedError, st.just("no"), retry_after=retry_afters, is_about_client=st.booleans()),
    st.builds(TokenResponseInvalidError, st.just("what?"), may_have_cost_token=st.booleans()),
)
quotas = st.lists(
    st.builds(
        QuotaBucket,
        name=st.just("per_hour"),
        quota=st.integers(0, 50),
        remaining=st.integers(0, 50),
        resets_at=st.floats(0.0, 2 * DAY),
    ),
    max_size=2,
).map(tuple)
jitters = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)


@given(
    responses=st.lists(lifetimes | errors, min_size=1, max_size=6),
    takes=st.lists(st.floats(0.0, 30.0), min_size=1, max_size=3),
    rejects=st.lists(st.just(inf) | st.floats(0.0, 7200.0), min_size=1, max_size=3),
    jitter=st.lists(jitters, min_size=1, max_size=3),
    quota=quotas,
    interval=st.sampled_from([1.0, 60.0]),
)
@settings(deadline=None, max_examples=40)
def test_any_server_and_any_api_keep_to_the_bound(
    responses: list[float | FetchFailure],
    takes: list[float],
    rejects: list[float],
    jitter: list[float],
    quota: tuple[QuotaBucket, ...],
    interval: float,
) -> None:
    """They do the same things again and again, in the order that makes it worst; hypothesis looks for it."""
    turns = iter(range(10**9))
    process = Process(
        responses=_in_turn(*responses),
        takes=lambda number: takes[number % len(takes)],
        rejects_after=lambda generation: rejects[generation % len(rejects)],
        jitter=lambda: jitter[next(turns) % len(jitter)],
        quota=lambda _: quota,
        interval=interval,
    )
    process.run(1.1 * DAY, most=500)
    for within in (1.0, 60.0, 600.0, 3600.0, DAY):
        assert most_within(process.began_at, within) <= most_requests(within, shortest_lifetime=process.shortest)


def test_another_secret_is_tried_at_once_and_does_not_slow_the_rest_down() -> None:
    """An operator may rotate as often as they like: afterwards the next request waits no longer than after any other."""
    state, now = initial_state(0.0), 0.0
    state, _ = step(state, Ticked(), now, 0.5)
    for _ in range(200):
        state, _ = step(state, Failed(error=REFUSED), now, 0.0)
        state, effects = step(state, CredentialsChanged(), now, 0.0)
        assert StartFetch() in effects
    state, _ = step(state, Failed(error=DOWN), now, 0.0)
    at = wake_at(state)
    assert at is not None
    assert at <= LONGEST_PRICE


# --- prices --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lifetime", "expected"),
    [
        pytest.param(0.001, SHORTEST_PRICE, id="next to no life"),
        pytest.param(2.0, 1.5, id="two seconds"),
        pytest.param(10.0, 7.5, id="ten seconds"),
        pytest.param(26.0, 19.5, id="just below the longest"),
        pytest.param(27.0, 20.0, id="the longest"),
        pytest.param(DAY, 20.0, id="a day"),
        pytest.param(None, 20.0, id="no token"),
    ],
)
def test_a_token_costs_the_part_of_its_life_after_which_it_is_replaced(lifetime: float | None, expected: float) -> None:
    assert price(lifetime) == expected


@pytest.mark.parametrize(
    ("paid_until", "expected"),
    [
        pytest.param(-inf, 1020.0, id="the first"),
        pytest.param(900.0, 1020.0, id="paid long ago"),
        pytest.param(1300.0, 1320.0, id="something is owed"),
        pytest.param(1600.0, 1620.0, id="as much as may be"),
        pytest.param(5000.0, 1620.0, id="more, because of an operator"),
    ],
)
def test_a_request_is_paid_after_those_before_it(paid_until: float, expected: float) -> None:
    assert pay(paid_until, began_at=1000.0, lifetime=None) == expected


def test_the_next_request_begins_when_no_more_than_the_credit_is_owed() -> None:
    assert may_begin_at(2000.0) == 2000.0 - CREDIT


@pytest.mark.parametrize(
    ("lifetime", "expected"), [(None, 4351), (DAY, 4351), (27.0, 4351), (10.0, 11_601), (2.0, 58_001), (0.01, 58_001)]
)
def test_the_bound_of_a_day(lifetime: float | None, expected: int) -> None:
    assert most_requests(DAY, shortest_lifetime=lifetime) == expected
