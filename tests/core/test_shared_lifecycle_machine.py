"""The life of a token with a store, under any sequence of events: what the store says never stops the fetches."""

from __future__ import annotations

from math import inf

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from switch_proxy.core.errors import (
    TokenEndpointUnavailableError,
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
    Fetching,
    FetchReason,
    Forcing,
    Found,
    NothingNewer,
    Publish,
    Rejected,
    SharedFailure,
    StartFetch,
    Ticked,
    Wait,
    WakeAt,
    WakeWaiters,
    decide_request,
    initial_state,
    step,
    tick_at,
    wake_at,
)
from switch_proxy.core.secret import Secret
from switch_proxy.core.tokens import TokenGrant

jitters = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)
errors = st.sampled_from(
    [
        TokenEndpointUnavailableError("down"),
        TokenRequestRefusedError("refused"),
        TokenResponseInvalidError("of no use", may_have_cost_token=True),
        TokenQuotaExhaustedError("used up"),
    ]
)
forcings = st.builds(Forcing, at=st.just(-inf) | st.floats(0.0, 2000.0), in_a_row=st.integers(0, 5))


class SharedLifecycle(RuleBasedStateMachine):
    """A shell that performs the effects as plain variables; what is in the store is drawn."""

    @initialize()
    def begin(self) -> None:
        self.now = 1000.0
        self.state = initial_state(self.now, is_shared=True)
        self.in_flight = 0
        self.timer: float | None = self.now

    def feed(self, event: Event, jitter: float = 0.5) -> None:
        before = self.state
        self.state, effects = step(before, event, self.now, jitter)
        if self.state.token is not before.token:
            assert isinstance(event, Fetched | Found)
        for effect in effects:
            match effect:
                case StartFetch():
                    assert not self.in_flight
                    self.in_flight = 1
                    self.timer = None
                case WakeAt(at=at):
                    self.timer = at
                case Publish(token=token):
                    assert token is self.state.token
                    assert self.now < token.usable_until
                case WakeWaiters():
                    pass
        waited = isinstance(decide_request(before, self.now), Wait)
        if waited and not isinstance(decide_request(self.state, self.now), Wait):
            assert WakeWaiters() in effects

    @property
    def phase(self) -> Fetching:
        assert isinstance(self.state.phase, Fetching)
        return self.state.phase

    @rule(span=st.floats(0.0, 100.0) | st.floats(0.0, 1e5))
    def time_passes(self, span: float) -> None:
        self.now += span

    @precondition(lambda self: self.timer is not None)
    @rule(jitter=jitters)
    def the_timer_fires(self, jitter: float) -> None:
        assert self.timer is not None
        self.now = max(self.now, self.timer)
        fetch_at = wake_at(self.state)
        assert fetch_at is not None
        self.feed(Ticked(), jitter)
        # It is a look only before the time of the fetch, and does not put that off.
        assert (self.phase.reason is FetchReason.LOOK) is (self.now < fetch_at)
        if isinstance(self.phase.resume, BackingOff):
            assert self.phase.resume.until == fetch_at

    @precondition(lambda self: self.in_flight)
    @rule(age=st.floats(0.0, 50_000.0), forcing=forcings, jitter=jitters)
    def another_has_a_newer_token(self, age: float, forcing: Forcing, jitter: float) -> None:
        self.in_flight = 0
        grant = TokenGrant(value=Secret("t"), lifetime=86_400.0, scope=None)
        self.feed(Found(grant=grant, requested_at=self.now - age, allowance=300.0, forcing=forcing), jitter)
        assert self.state.is_found
        assert self.state.failures == 0

    @precondition(lambda self: self.in_flight and (self.phase.resume is not None or self.state.token is not None))
    @rule(forcing=st.none() | forcings)
    def there_is_nothing_newer(self, forcing: Forcing | None) -> None:
        """Said after a look, and if a token is held that must or need not be replaced."""
        before, failures = self.phase, self.state.failures
        self.in_flight = 0
        self.feed(NothingNewer(forcing=forcing))
        assert self.state.failures == failures
        if before.resume is not None and not before.is_outdated:
            assert self.state.phase == before.resume

    @precondition(lambda self: self.in_flight)
    @rule(error=errors, wait=st.floats(-10.0, 90_000.0), attempts=st.integers(1, 10), jitter=jitters)
    def another_has_met_a_failure(
        self, error: TokenRequestRefusedError, wait: float, attempts: int, jitter: float
    ) -> None:
        is_outdated = self.phase.is_outdated
        self.in_flight = 0
        self.feed(Failed(error=error, shared=SharedFailure(until=self.now + wait, attempts=attempts)), jitter)
        if isinstance(self.state.phase, BackingOff):
            assert 0.1 - 1e-6 <= self.state.phase.until - self.now <= max(0.1, wait + 5.0) + 1e-6
        else:
            assert is_outdated

    @precondition(lambda self: self.in_flight and self.phase.reason is not FetchReason.LOOK)
    @rule(error=st.none() | errors, jitter=jitters)
    def a_token_is_requested(self, error: TokenRequestRefusedError | None, jitter: float) -> None:
        self.in_flight = 0
        grant = TokenGrant(value=Secret("own"), lifetime=86_400.0, scope=None)
        self.feed(Fetched(grant=grant) if error is None else Failed(error=error), jitter)

    @rule(jitter=jitters)
    def the_secret_changes(self, jitter: float) -> None:
        self.feed(CredentialsChanged(), jitter)

    @rule(jitter=jitters)
    def the_upstream_rejects(self, jitter: float) -> None:
        generation = 0 if self.state.token is None else self.state.token.generation
        self.feed(Rejected(generation=generation), jitter)

    @invariant()
    def there_is_a_fetch_or_a_moment_for_the_next_one(self) -> None:
        assert self.in_flight == isinstance(self.state.phase, Fetching)
        if not self.in_flight:
            assert self.timer is not None
            assert self.timer == tick_at(self.state)
            fetch_at = wake_at(self.state)
            assert fetch_at is not None
            assert self.timer <= fetch_at


TestSharedLifecycle = SharedLifecycle.TestCase
TestSharedLifecycle.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
