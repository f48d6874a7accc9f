"""The life of a token under any sequence of events: what holds whatever happens."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from switch_proxy.core.backoff import LONGEST_EXHAUSTION, LONGEST_RETRY_AFTER, Lane
from switch_proxy.core.errors import (
    SecretUnavailableError,
    TokenEndpointUnavailableError,
    TokenFetchError,
    TokenQuotaExhaustedError,
    TokenRequestRefusedError,
    TokenResponseInvalidError,
)
from switch_proxy.core.lifecycle import (
    BackingOff,
    CredentialsChanged,
    Event,
    Failed,
    Fetched,
    FetchFailure,
    Fetching,
    Idle,
    Publish,
    Refuse,
    Rejected,
    Serve,
    StartFetch,
    Stopped,
    Stopping,
    Ticked,
    TokenState,
    Wait,
    WakeAt,
    WakeWaiters,
    decide_request,
    initial_state,
    lane_of,
    step,
    usable_token,
    wake_at,
)
from switch_proxy.core.pace import SHORTEST_PRICE
from switch_proxy.core.quota import QuotaBucket, current_quota
from switch_proxy.core.secret import Secret
from switch_proxy.core.tokens import TokenGrant

jitters = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)
spans = st.floats(min_value=0.0, max_value=100.0) | st.floats(min_value=0.0, max_value=1e5)
lifetimes = st.sampled_from([0.001, 0.3, 1.0, 10.0, 300.0, 3600.0, 2592000.0]) | st.floats(0.001, 2592000.0)
retry_afters = st.none() | st.floats(min_value=0.0, max_value=10_000.0)
errors = st.one_of(
    st.builds(TokenEndpointUnavailableError, st.just("down"), retry_after=retry_afters),
    st.builds(
        TokenQuotaExhaustedError,
        st.just("exhausted"),
        retry_after=st.none() | st.floats(min_value=0.0, max_value=1e6),
        exhausted_until=st.none() | st.floats(min_value=0.0, max_value=1e6),
    ),
    st.builds(TokenRequestRefusedError, st.just("refused"), retry_after=retry_afters),
    st.builds(
        TokenResponseInvalidError,
        st.just("invalid"),
        retry_after=retry_afters,
        may_have_cost_token=st.booleans(),
    ),
    st.builds(TokenFetchError, st.just("unexpected")),
    st.builds(SecretUnavailableError, st.just("no secret")),
)


class Lifecycle(RuleBasedStateMachine):
    """A shell that performs the effects as plain variables, and a test that looks at it after each event."""

    @initialize(interval=st.sampled_from([1.0, 60.0]))
    def begin(self, interval: float) -> None:
        self.now = 1000.0
        self.state = initial_state(self.now, min_forced_refresh_interval=interval)
        self.in_flight = 0
        self.timer: float | None = self.now
        self.published: list[int] = []
        self.fetch_began_at = -inf
        self.forced: list[float] = []
        self.owes_fetch = False
        """Whether the secret has changed since the last fetch began."""

    def feed(self, event: Event, jitter: float) -> TokenState:
        """Feed one event, perform the effects, and return the state before it."""
        before = self.state
        self.state, effects = step(before, event, self.now, jitter)
        assert self.state.token is before.token or isinstance(event, Fetched)
        for effect in effects:
            match effect:
                case StartFetch():
                    assert isinstance(self.state.phase, Fetching)
                    self.in_flight += 1
                    self.timer = None
                    self.fetch_began_at = self.now
                    self.owes_fetch = False
                case WakeAt(at=at):
                    self.timer = at
                case Publish(token=token):
                    assert token is self.state.token
                    assert token.sent_at <= self.now < token.usable_until
                    self.published.append(token.generation)
                case WakeWaiters():
                    pass
        # No request waits that can go on or must fail.
        if not isinstance(decide_request(self.state, self.now), Wait) and isinstance(
            decide_request(before, self.now), Wait
        ):
            assert WakeWaiters() in effects
        return before

    @rule(span=spans)
    def time_passes(self, span: float) -> None:
        self.now += span

    @precondition(lambda self: self.timer is not None)
    @rule(jitter=jitters, lateness=st.sampled_from([0.0, 0.001, 50.0]))
    def the_timer_fires(self, jitter: float, lateness: float) -> None:
        assert self.timer is not None
        self.now = max(self.now, self.timer + lateness)
        self.feed(Ticked(), jitter)
        assert isinstance(self.state.phase, Fetching | Stopped)

    @rule(jitter=jitters)
    def a_tick_comes_at_any_time(self, jitter: float) -> None:
        self.feed(Ticked(), jitter)

    @precondition(lambda self: self.in_flight)
    @rule(lifetime=lifetimes, jitter=jitters, remaining=st.none() | st.integers(min_value=0, max_value=50))
    def the_fetch_brings_a_token(self, lifetime: float, jitter: float, remaining: int | None) -> None:
        self.in_flight -= 1
        generation = len(self.published)
        quota: tuple[QuotaBucket, ...] = ()
        if remaining is not None:
            quota = (QuotaBucket(name="per_hour", quota=50, remaining=remaining, resets_at=self.now + 3600.0),)
        grant = TokenGrant(value=Secret("t"), lifetime=lifetime, scope=None, quota=quota)
        before = self.feed(Fetched(grant=grant), jitter)
        if self.published[generation:]:
            assert self.published[generation:] == [generation + 1]
            assert self.state.failures == 0
            assert self.state.token is not None
            assert isinstance(before.phase, Fetching)
            assert self.state.token.sent_at == before.phase.since
        else:
            assert self.state.token is before.token

    @precondition(lambda self: self.in_flight)
    @rule(error=errors, jitter=jitters)
    def the_fetch_fails(self, error: FetchFailure, jitter: float) -> None:
        self.in_flight -= 1
        before = self.feed(Failed(error=error), jitter)
        assert self.state.token is before.token
        assert isinstance(before.phase, Fetching)
        if isinstance(self.state.phase, BackingOff):
            self._is_in_its_window(error, self.state.phase)
        else:
            assert before.phase.is_outdated
            assert lane_of(error) is Lane.REFUSED
            assert isinstance(self.state.phase, Fetching)

    def _is_in_its_window(self, error: FetchFailure, phase: BackingOff) -> None:
        waits = phase.until - self.now
        assert phase.lane is lane_of(error)
        if isinstance(error, TokenQuotaExhaustedError):
            reset = max(error.retry_after or 0.0, (error.exhausted_until or 0.0) - self.now)
            assert waits >= min(reset, LONGEST_EXHAUSTION) - 1e-6
            assert 0.1 - 1e-6 <= waits <= LONGEST_EXHAUSTION + 900.1 + 1e-6
            return
        asked_for = min(error.retry_after or 0.0, LONGEST_RETRY_AFTER) if isinstance(error, TokenFetchError) else 0.0
        assert waits >= asked_for - 1e-6
        if phase.lane is Lane.TRANSIENT:
            assert 0.1 - 1e-6 <= waits <= asked_for + 60.0
        elif phase.lane is Lane.UNUSABLE:
            assert 10.0 - 1e-6 <= waits <= max(asked_for, 3600.0) * 1.25 + 1e-6
        else:
            assert 60.0 - 1e-6 <= waits <= max(asked_for, 900.0) * 1.25 + 1e-6

    @rule(jitter=jitters)
    def the_secret_changes(self, jitter: float) -> None:
        self.owes_fetch = not isinstance(self.state.phase, Stopped)
        before = self.feed(CredentialsChanged(), jitter)
        match before.phase:
            case Idle() | BackingOff(lane=Lane.REFUSED | Lane.UNUSABLE):
                assert self.fetch_began_at == self.now
                assert isinstance(self.state.phase, Fetching)
            case _:
                assert isinstance(self.state.phase, type(before.phase))

    @rule(age=st.integers(min_value=-1, max_value=2), jitter=jitters)
    def the_upstream_rejects(self, age: int, jitter: float) -> None:
        newest = len(self.published)
        before = self.feed(Rejected(generation=newest - age), jitter)
        if self.state is before:
            return
        assert age == 0
        assert self.state.refused_generation == newest
        if self.state.phase is before.phase:
            return
        assert isinstance(self.state.phase, Fetching)
        self.forced.append(self.now)
        # The last fifth of a bucket, and at least two tokens, are not for this.
        for bucket in current_quota(before.quota, self.now):
            assert bucket.remaining > 2
            assert bucket.quota is not None
            assert bucket.remaining > bucket.quota / 5

    @rule(jitter=jitters, newer_than=st.integers(min_value=0, max_value=2))
    def a_request_comes(self, jitter: float, newer_than: int) -> None:
        at = wake_at(self.state)
        if at is not None and self.now >= at:
            self.feed(Ticked(), jitter)
        usable = usable_token(self.state, self.now)
        generation = max(0, len(self.published) - newer_than)
        match decide_request(self.state, self.now, newer_than=generation):
            case Serve(token=token):
                assert token is usable
                assert token.generation > generation
            case Wait():
                at = wake_at(self.state)
                assert self.in_flight or (at is not None and at - self.now <= SHORTEST_PRICE)
            case Refuse(retry_after=retry_after):
                assert retry_after >= 1.0
                assert usable is None or usable.generation <= generation

    @precondition(lambda self: len(self.published) > 2)
    @rule(jitter=jitters)
    def the_proxy_stops(self, jitter: float) -> None:
        self.feed(Stopping(), jitter)
        self.in_flight = 0
        self.timer = None

    @invariant()
    def there_is_never_a_second_fetch(self) -> None:
        assert self.in_flight == isinstance(self.state.phase, Fetching)

    @invariant()
    def there_is_a_fetch_or_a_moment_for_the_next_one(self) -> None:
        if not isinstance(self.state.phase, Stopped):
            assert self.in_flight or self.timer is not None
            assert self.timer == wake_at(self.state)

    @invariant()
    def a_changed_secret_is_not_forgotten(self) -> None:
        """Until a fetch with it has begun, the one in flight is known to be outdated, or an outage or a used-up quota is waited out."""
        match self.state.phase:
            case Fetching(is_outdated=is_outdated):
                assert is_outdated is self.owes_fetch
            case BackingOff(lane=lane):
                assert lane is not Lane.REFUSED or not self.owes_fetch
            case Idle():
                assert not self.owes_fetch
            case _:
                pass

    @invariant()
    def generations_are_counted_one_by_one(self) -> None:
        assert self.published == list(range(1, len(self.published) + 1))
        assert (0 if self.state.token is None else self.state.token.generation) == len(self.published)

    @invariant()
    def fetches_are_forced_at_intervals(self) -> None:
        gaps = [later - earlier for earlier, later in zip(self.forced, self.forced[1:], strict=False)]
        assert all(gap >= self.state.min_forced_refresh_interval - 1e-6 for gap in gaps)

    @invariant()
    def failures_are_counted(self) -> None:
        assert (self.state.failures == 0) is (self.state.error is None) is (self.state.failing_since is None)
        state = self.state
        assert state.outages + state.refusals + state.unusable + state.exhaustions <= state.failures


Lifecycle.TestCase.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)
TestLifecycle = Lifecycle.TestCase


def test_a_state_is_a_value() -> None:
    """Two states of the same content are the same: nothing is hidden in them."""
    state = initial_state(5.0)
    assert state == initial_state(5.0)
    assert replace(state, failures=1) != state
