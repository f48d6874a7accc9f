"""The life of a token, step by step."""

from __future__ import annotations

import re
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Final

import pytest

from switch_proxy.core import lifecycle
from switch_proxy.core.backoff import Lane
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
    FetchReason,
    Forcing,
    Found,
    Idle,
    NothingNewer,
    Publish,
    Refuse,
    Rejected,
    Serve,
    SharedFailure,
    SharedStoreStatus,
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
    secrets_to_try,
    status_of,
    step,
    tick_at,
    wake_at,
)
from switch_proxy.core.quota import QuotaBucket
from switch_proxy.core.secret import Secret
from switch_proxy.core.tokens import Freshness, TokenGrant
from tests.core.lifecycle_tables import (
    PAGE,
    PHASES,
    TABLES,
    TOKEN,
    arrows,
    state_at,
    what_a_request_gets,
)
from tests.generated_tables import generated

if TYPE_CHECKING:
    from collections.abc import Iterable

DOWN = TokenEndpointUnavailableError("the token endpoint is down")
REFUSED = TokenRequestRefusedError("the token endpoint refused")
EXHAUSTED = TokenQuotaExhaustedError("the quota is used up", exhausted_until=54_052.0)
UNUSABLE = TokenResponseInvalidError("what?", may_have_cost_token=True)
NO_SECRET = SecretUnavailableError("no client secret")


def _grant(lifetime: float = 1000.0) -> TokenGrant:
    return TokenGrant(value=Secret("another-token"), lifetime=lifetime, scope=None)


def _cells() -> list[tuple[Freshness, str, str]]:
    """Return the cells of the table in the module's docstring."""
    lines = [line.strip() for line in (lifecycle.__doc__ or "").splitlines()]
    rows = [re.split(r" {2,}", line) for line in lines if line.split(" ")[0] in Freshness.__members__]
    return [(Freshness[row[0]], phase, cell) for row in rows for phase, cell in zip(PHASES, row[1:], strict=True)]


def test_the_docstring_has_the_whole_table() -> None:
    assert len(_cells()) == len(Freshness) * len(PHASES)


@pytest.mark.parametrize(
    ("freshness", "phase", "expected"), [pytest.param(*cell, id=f"{cell[0].name}-{cell[1]}") for cell in _cells()]
)
def test_a_request_gets_what_the_table_says(freshness: Freshness, phase: str, expected: str) -> None:
    """The table of the docstring is what the code does."""
    assert what_a_request_gets(freshness, phase) == expected


@pytest.mark.parametrize("name", TABLES)
def test_the_documentation_has_the_tables_that_the_code_gives(name: str) -> None:
    """`make tables` writes them."""
    place = generated(PAGE.read_text(encoding="utf-8"), name)
    assert place is not None
    assert place[0] == TABLES[name]()


def test_the_diagram_of_the_documentation_has_the_arrows_that_the_code_has() -> None:
    """Each way from phase to phase, and no other."""
    drawn = re.findall(r"^    (\S+) --> (\w+): ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == arrows()


# --- time ----------------------------------------------------------------------------------------------------------


def test_the_first_fetch_is_due_at_once() -> None:
    state, effects = step(initial_state(50.0), Ticked(), 50.0, 0.5)
    assert state.phase == Fetching(since=50.0)
    assert effects == (StartFetch(),)


@pytest.mark.parametrize(
    "phase", [Idle(wake_at=100.0), BackingOff(until=100.0, lane=Lane.REFUSED)], ids=["idle", "backing off"]
)
@pytest.mark.parametrize(
    ("now", "begins"),
    [
        pytest.param(99.999, False, id="just before"),
        pytest.param(100.0, True, id="at the time"),
        pytest.param(100.001, True, id="just after"),
        pytest.param(1e9, True, id="after the machine slept"),
    ],
)
def test_a_fetch_begins_when_its_time_has_come(phase: Idle | BackingOff, now: float, *, begins: bool) -> None:
    """And a timer that fired early is set again."""
    state, effects = step(TokenState(phase=phase), Ticked(), now, 0.5)
    if begins:
        assert (state.phase, effects) == (Fetching(since=now), (StartFetch(),))
    else:
        assert (state.phase, effects) == (phase, (WakeAt(at=100.0),))


def test_time_alone_begins_no_second_fetch() -> None:
    state = TokenState(phase=Fetching(since=100.0))
    assert step(state, Ticked(), 1e9, 0.5) == (state, ())


# --- success -------------------------------------------------------------------------------------------------------


def test_a_token_is_published_and_its_refresh_set() -> None:
    """Its life is counted from the moment the request was sent."""
    state, effects = step(TokenState(phase=Fetching(since=100.0)), Fetched(grant=_grant()), 103.0, 0.5)
    assert state.token is not None
    assert state.token.generation == 1
    assert (state.token.sent_at, state.token.expires_at) == (100.0, 1100.0)
    assert effects == (Publish(token=state.token), WakeWaiters(), WakeAt(at=900.0))
    assert state.phase == Idle(wake_at=900.0)
    assert state.succeeded_at == 103.0


def test_a_success_ends_what_failed_before() -> None:
    before = TokenState(
        phase=Fetching(since=100.0), outages=3, refusals=2, failures=5, error=DOWN, failing_since=50.0, token=TOKEN
    )
    state, _ = step(before, Fetched(grant=_grant()), 101.0, 0.5)
    assert (state.outages, state.refusals, state.failures, state.error, state.failing_since) == (0, 0, 0, None, None)
    assert state.token is not None
    assert state.token.generation == TOKEN.generation + 1


@pytest.mark.parametrize(
    ("lifetime", "wake"),
    [
        pytest.param(1.0, 100.8, id="a second: at 80 %"),
        pytest.param(0.7, 100.56, id="a little less"),
        pytest.param(0.5, 100.5, id="half a second: not before its end"),
        pytest.param(0.1, 100.5, id="a tenth: not ten times a second"),
    ],
)
def test_short_lives_are_not_refreshed_more_than_twice_a_second(lifetime: float, wake: float) -> None:
    state, _ = step(TokenState(phase=Fetching(since=100.0)), Fetched(grant=_grant(lifetime)), 100.001, 0.5)
    assert wake_at(state) == pytest.approx(wake)


@pytest.mark.parametrize(
    ("arrives_at", "is_used"),
    [
        pytest.param(109.4, True, id="just before it is no longer used"),
        pytest.param(109.5, False, id="just when it is no longer used"),
        pytest.param(120.0, False, id="after its end"),
    ],
)
def test_a_token_that_arrives_too_late_to_be_used_is_a_failure(arrives_at: float, *, is_used: bool) -> None:
    """It lives 10 s and is used for 9.5; a fetch that takes as long brings nothing, and must not be repeated at once."""
    state, effects = step(
        TokenState(phase=Fetching(since=100.0), token=TOKEN), Fetched(grant=_grant(10.0)), arrives_at, 0.5
    )
    if is_used:
        assert state.token != TOKEN
    else:
        assert state.token == TOKEN
        assert isinstance(state.error, TokenResponseInvalidError)
        assert state.phase == BackingOff(until=arrives_at + 11.25, lane=Lane.UNUSABLE)
        assert Publish not in {type(effect) for effect in effects}


# --- failure -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "lane", "delay"),
    [
        pytest.param(DOWN, Lane.TRANSIENT, 0.5, id="an outage"),
        pytest.param(TokenResponseInvalidError("what?"), Lane.TRANSIENT, 0.5, id="a page instead of a token"),
        pytest.param(UNUSABLE, Lane.UNUSABLE, 11.25, id="an unusable response that may have cost a token"),
        pytest.param(TokenFetchError("unexpected"), Lane.TRANSIENT, 0.5, id="anything else"),
        pytest.param(REFUSED, Lane.REFUSED, 67.5, id="a refusal"),
        pytest.param(NO_SECRET, Lane.REFUSED, 67.5, id="no secret"),
        pytest.param(
            TokenEndpointUnavailableError("busy", retry_after=120.0), Lane.TRANSIENT, 120.5, id="an outage with a time"
        ),
        pytest.param(
            TokenRequestRefusedError("no", retry_after=600.0), Lane.REFUSED, 675.0, id="a refusal with a time"
        ),
        pytest.param(
            TokenEndpointUnavailableError("busy", retry_after=1e9), Lane.TRANSIENT, 3600.5, id="an absurd time"
        ),
        pytest.param(EXHAUSTED, Lane.EXHAUSTED, 43_230.1, id="a used-up quota"),
        pytest.param(
            TokenQuotaExhaustedError("used up", retry_after=43_300.0, exhausted_until=54_052.0),
            Lane.EXHAUSTED,
            43_330.1,
            id="a used-up quota, and a later time",
        ),
        pytest.param(
            TokenEndpointUnavailableError("429 for the metadata", is_rate_limited=True),
            Lane.EXHAUSTED,
            90.1,
            id="a limit on the rate of other requests",
        ),
        pytest.param(TokenQuotaExhaustedError("429"), Lane.EXHAUSTED, 90.1, id="a used-up quota without a time"),
    ],
)
def test_a_failure_is_waited_out_in_its_lane(error: FetchFailure, lane: Lane, delay: float) -> None:
    """The token stays, waiting requests are woken, and the next fetch has its time."""
    before = TokenState(phase=Fetching(since=10_850.0), token=TOKEN)
    state, effects = step(before, Failed(error=error), 10_852.0, 0.5)
    assert state.token is TOKEN
    assert state.phase == BackingOff(until=10_852.0 + delay, lane=lane)
    assert effects == (WakeWaiters(), WakeAt(at=10_852.0 + delay))
    assert (state.failures, state.failing_since, state.error) == (1, 10_852.0, error)


def _delays(errors: list[FetchFailure], *, jitter: float = 0.999999999) -> list[float]:
    """Return the delays after failures in a row."""
    state, now, delays = initial_state(0.0), 0.0, []
    for error in errors:
        state, _ = step(state, Ticked(), now, 0.5)
        state, _ = step(state, Failed(error=error), now, jitter)
        at = wake_at(state)
        assert at is not None
        delays.append(round(at - now, 3))
        now = at
    return delays


def test_outages_in_a_row_are_waited_out_longer_and_longer() -> None:
    assert _delays([DOWN] * 8) == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_refusals_in_a_row_are_waited_out_longer_and_longer() -> None:
    assert _delays([REFUSED] * 6, jitter=0.0) == [60.0, 120.0, 240.0, 480.0, 900.0, 900.0]


def test_unusable_responses_in_a_row_are_waited_out_longer_and_longer() -> None:
    delays = [12.5, 25.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1125.0, 1125.0]
    assert _delays([UNUSABLE] * 9) == delays


def test_unusable_responses_in_a_row_leave_the_last_tokens_of_the_quota() -> None:
    """Nine for the first hour at most; with two tokens left of ten, an hour passes until the next."""
    scarce = TokenResponseInvalidError("what?", may_have_cost_token=True)
    scarce.quota = (QuotaBucket(name="per_day", quota=50, remaining=10, resets_at=80_000.0),)
    assert _delays([scarce] * 5, jitter=0.0) == [10.0, 20.0, 3600.0, 3600.0, 3600.0]


def test_refusals_and_outages_in_turn_are_counted_each_for_itself() -> None:
    """Refusals between outages go on getting rarer, and an outage between refusals is no second one."""
    assert _delays([REFUSED, DOWN, REFUSED, DOWN, REFUSED], jitter=0.0) == [60.0, 0.1, 120.0, 0.1, 240.0]
    assert _delays([REFUSED, DOWN, REFUSED, DOWN])[1::2] == [1.0, 2.0]


def test_a_quota_found_used_up_again_and_again_is_waited_for_longer_and_longer() -> None:
    """Without a word about its reset; neither outages nor refusals count."""
    unknown = TokenQuotaExhaustedError("429")
    assert _delays([unknown, DOWN, unknown, REFUSED, unknown], jitter=0.0)[::2] == [60.1, 120.1, 240.1]


def test_a_token_ends_the_count_of_used_up_quotas() -> None:
    before = TokenState(phase=Fetching(since=100.0), exhaustions=3, failures=3, error=EXHAUSTED, failing_since=50.0)
    state, _ = step(before, Fetched(grant=_grant()), 101.0, 0.5)
    assert state.exhaustions == 0


def test_a_request_is_told_to_come_back_after_the_reset() -> None:
    state, _ = step(TokenState(phase=Fetching(since=10_850.0)), Failed(error=EXHAUSTED), 10_852.0, 0.5)
    decision = decide_request(state, 10_852.0)
    assert isinstance(decision, Refuse)
    assert decision.reason == "the last fetch failed: the quota is used up"
    assert decision.retry_after == pytest.approx(43_230.1)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(EXHAUSTED, (True, 54_052.0), id="known"),
        pytest.param(TokenQuotaExhaustedError("429"), (True, None), id="unknown"),
        pytest.param(DOWN, (False, None), id="an outage"),
        pytest.param(None, (False, None), id="no failure"),
    ],
)
def test_the_status_tells_until_when_the_quota_is_used_up(
    error: FetchFailure | None, expected: tuple[bool, float | None]
) -> None:
    state = TokenState(phase=Fetching(since=100.0), error=error)
    status = status_of(state, 101.0, name="x", secret_error=None, fetches={}, remedy="x", uses_previous_secret=False)
    assert (status.is_exhausted, status.exhausted_until) == expected


def test_it_is_remembered_since_when_fetches_fail() -> None:
    state = initial_state(0.0)
    for now in (0.0, 100.0, 300.0):
        state, _ = step(state, Ticked(), now, 0.5)
        state, _ = step(state, Failed(error=REFUSED), now + 1, 0.0)
    assert (state.failures, state.failing_since) == (3, 1.0)


# --- another secret ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "phase",
    [
        Idle(wake_at=10_800.0),
        BackingOff(until=10_800.0, lane=Lane.REFUSED),
        BackingOff(until=10_800.0, lane=Lane.UNUSABLE),
    ],
    ids=["idle", "the slow lane", "the lane of unusable responses"],
)
def test_another_secret_is_tried_at_once(phase: Idle | BackingOff) -> None:
    """While the old token goes on being used, and with refusals forgotten: they were the old secret's."""
    before = TokenState(phase=phase, token=TOKEN, refusals=4)
    state, effects = step(before, CredentialsChanged(), 10_100.0, 0.5)
    assert (state.phase, effects) == (Fetching(since=10_100.0, reason=FetchReason.NEW_SECRET), (StartFetch(),))
    assert state.token is TOKEN
    assert state.refusals == 0


@pytest.mark.parametrize("lane", [Lane.TRANSIENT, Lane.EXHAUSTED])
def test_another_secret_does_not_cut_an_outage_or_a_used_up_quota_short(lane: Lane) -> None:
    """The quota is the client's, not the secret's; and the next fetch has the new secret in any case."""
    state = TokenState(phase=BackingOff(until=10_800.0, lane=lane), token=TOKEN)
    assert step(state, CredentialsChanged(), 10_100.0, 0.5) == (state, ())


@pytest.mark.parametrize("changes", [1, 2, 3])
@pytest.mark.parametrize("event", [Fetched(grant=_grant()), Failed(error=REFUSED)], ids=["success", "refusal"])
def test_another_secret_during_a_fetch_causes_exactly_one_more(event: Event, changes: int) -> None:
    """However often it changed, and however the fetch with the old one ended."""
    state = TokenState(phase=Fetching(since=100.0))
    for _ in range(changes):
        state, effects = step(state, CredentialsChanged(), 100.5, 0.5)
        assert effects == ()
    state, effects = step(state, event, 101.0, 0.5)
    assert state.phase == Fetching(since=101.0, reason=FetchReason.NEW_SECRET)
    assert [effect for effect in effects if isinstance(effect, StartFetch)] == [StartFetch()]
    state, effects = step(state, Fetched(grant=_grant()), 102.0, 0.5)
    assert isinstance(state.phase, Idle)
    assert StartFetch() not in effects


def test_another_secret_during_a_fetch_that_meets_an_outage_waits_it_out() -> None:
    state, _ = step(TokenState(phase=Fetching(since=100.0)), CredentialsChanged(), 100.5, 0.5)
    state, effects = step(state, Failed(error=DOWN), 101.0, 0.5)
    assert state.phase == BackingOff(until=101.5, lane=Lane.TRANSIENT)
    assert StartFetch() not in effects


def test_refusals_of_the_old_secret_do_not_slow_the_new_one_down() -> None:
    """Whether it came between two fetches or during one: its first refusal is waited out like a first one."""
    between, _ = step(
        TokenState(phase=BackingOff(until=1e9, lane=Lane.REFUSED), refusals=5), CredentialsChanged(), 100.0, 0.5
    )
    during, _ = step(TokenState(phase=Fetching(since=99.0), refusals=5), CredentialsChanged(), 100.0, 0.5)
    during, _ = step(during, Failed(error=REFUSED), 100.0, 0.5)
    for state in (between, during):
        assert state.phase == Fetching(since=100.0, reason=FetchReason.NEW_SECRET)
        after, _ = step(state, Failed(error=REFUSED), 100.0, 0.0)
        assert after.phase == BackingOff(until=160.0, lane=Lane.REFUSED)


def test_a_refusal_of_the_old_secret_leaves_waiters_waiting() -> None:
    """The fetch that follows at once is theirs."""
    state, _ = step(TokenState(phase=Fetching(since=100.0)), CredentialsChanged(), 100.5, 0.5)
    state, effects = step(state, Failed(error=REFUSED), 101.0, 0.5)
    assert effects == (StartFetch(),)
    assert decide_request(state, 101.0) == Wait()


# --- 401 from the upstream -----------------------------------------------------------------------------------------


def test_the_rejection_of_the_newest_token_forces_one_fetch() -> None:
    """The token itself stays in use."""
    before = TokenState(phase=Idle(wake_at=10_800.0), token=TOKEN)
    state, effects = step(before, Rejected(generation=7), 10_100.0, 0.5)
    assert (state.phase, effects) == (Fetching(since=10_100.0, reason=FetchReason.FORCED), (StartFetch(),))
    assert decide_request(state, 10_100.0) == Serve(token=TOKEN)
    assert step(state, Rejected(generation=7), 10_100.1, 0.5) == (state, ())


@pytest.mark.parametrize("generation", [0, 6, 8])
def test_the_rejection_of_any_other_token_does_nothing(generation: int) -> None:
    """It has been replaced already, or never was."""
    state = TokenState(phase=Idle(wake_at=10_800.0), token=TOKEN)
    assert step(state, Rejected(generation=generation), 10_100.0, 0.5) == (state, ())


def test_a_rejection_without_a_token_does_nothing() -> None:
    state = TokenState(phase=Idle(wake_at=10_800.0))
    assert step(state, Rejected(generation=0), 10_100.0, 0.5) == (state, ())


@pytest.mark.parametrize("lane", Lane)
def test_a_rejection_does_not_cut_a_backoff_short(lane: Lane) -> None:
    state = TokenState(phase=BackingOff(until=10_800.0, lane=lane), token=TOKEN)
    assert step(state, Rejected(generation=7), 10_100.0, 0.5) == (state, ())


@pytest.mark.parametrize(
    ("after", "is_forced"),
    [
        pytest.param(59.999, False, id="just before the interval is over"),
        pytest.param(60.0, True, id="when it is over"),
        pytest.param(60.001, True, id="just after"),
    ],
)
def test_fetches_are_forced_at_intervals_only(after: float, *, is_forced: bool) -> None:
    """An API that responds to everything with 401 causes at most one a minute."""
    before = TokenState(phase=Idle(wake_at=10_800.0), token=TOKEN, forced_at=10_100.0)
    state, effects = step(before, Rejected(generation=7), 10_100.0 + after, 0.5)
    assert (effects == (StartFetch(),)) is is_forced
    assert state.forced_at == (10_100.0 + after if is_forced else 10_100.0)


def test_the_interval_can_be_chosen() -> None:
    before = replace(initial_state(0.0, min_forced_refresh_interval=5.0), token=TOKEN, forced_at=10_100.0)
    before = replace(before, phase=Idle(wake_at=10_800.0))
    assert step(before, Rejected(generation=7), 10_104.9, 0.5)[1] == ()
    assert step(before, Rejected(generation=7), 10_105.0, 0.5)[1] == (StartFetch(),)


@pytest.mark.parametrize("rate", [1, 10, 100])
def test_an_upstream_that_refuses_every_token_costs_fewer_and_fewer_fetches_at_any_rate(rate: int) -> None:
    """Ten minutes of nothing but 401, at some requests a second: forced at once, after 1 minute, 2 and 4."""
    state, fetches = initial_state(0.0), 0
    for tick in range(600 * rate):
        now = tick / rate
        for event in (Ticked(), Rejected(generation=0 if state.token is None else state.token.generation)):
            state, effects = step(state, event, now, 0.5)
            if StartFetch() in effects:
                fetches += 1
                state, _ = step(state, Fetched(grant=_grant(3600.0)), now, 0.5)
    assert fetches == 1 + 4


def _forced(
    state: TokenState, moments: Iterable[float], *, lifetime: float = 86400.0, quota: tuple[QuotaBucket, ...] = ()
) -> tuple[TokenState, list[float]]:
    """Refuse the newest token at each of these moments; return the state and when a fetch was forced."""
    forced = []
    for now in moments:
        state, effects = step(state, Ticked(), now, 0.5)
        if StartFetch() in effects:
            state, _ = step(state, Fetched(grant=replace(_grant(lifetime), quota=quota)), now, 0.5)
        assert state.token is not None
        state, effects = step(state, Rejected(generation=state.token.generation), now, 0.5)
        if StartFetch() in effects:
            forced.append(now)
            state, _ = step(state, Fetched(grant=replace(_grant(lifetime), quota=quota)), now, 0.5)
    return state, forced


def test_the_interval_doubles_up_to_an_hour_while_new_tokens_are_refused_too() -> None:
    _, forced = _forced(initial_state(0.0), range(0, 6 * 3600, 10))
    assert forced == [0, 60, 180, 420, 900, 1860, 3780, 7380, 10980, 14580, 18180]


def test_an_upstream_that_refuses_every_token_for_a_day_costs_some_thirty_fetches() -> None:
    state, forced = _forced(initial_state(0.0), range(0, 86400, 10))
    assert len(forced) == 29
    assert state.token is not None
    assert state.token.generation == 1 + 29


def test_refreshes_in_time_do_not_end_the_doubling() -> None:
    """The tokens that they bring are refused too."""
    _, forced = _forced(initial_state(0.0), range(0, 3600, 10), lifetime=300.0)
    assert forced == [0, 60, 180, 420, 900, 1860]


def test_a_token_that_is_replaced_without_having_been_refused_was_accepted() -> None:
    state, _ = _forced(initial_state(0.0), range(0, 1000, 10), lifetime=3600.0)
    assert state.forced_in_a_row == 5
    for now in (5000.0, 9000.0):
        state, _ = step(state, Ticked(), now, 0.5)
        state, _ = step(state, Fetched(grant=_grant(3600.0)), now, 0.5)
    state, forced = _forced(state, [9001.0, 9060.0, 9061.0])
    assert forced == [9001.0, 9061.0]


@pytest.mark.parametrize(
    ("refused_after", "counted"),
    [pytest.param(3599.9, 6, id="just within the hour"), pytest.param(3600.0, 1, id="after an hour")],
)
def test_a_token_that_is_not_refused_for_an_hour_was_accepted(refused_after: float, counted: int) -> None:
    state, forced = _forced(initial_state(0.0), range(0, 901, 10))
    state, _ = _forced(state, [forced[-1] + refused_after])
    assert state.forced_in_a_row == counted


def test_a_long_interval_of_the_operators_is_not_cut_to_an_hour() -> None:
    _, forced = _forced(initial_state(0.0, min_forced_refresh_interval=7200.0), range(0, 20000, 10))
    assert forced == [0, 7200, 14400]


@pytest.mark.parametrize(
    ("remaining", "is_forced"), [pytest.param(11, True, id="more than a fifth"), pytest.param(10, False, id="a fifth")]
)
def test_the_last_fifth_of_the_quota_is_not_spent_on_a_refused_token(remaining: int, *, is_forced: bool) -> None:
    quota = (replace(BUCKET, remaining=remaining),)
    state = TokenState(phase=Idle(wake_at=80_000.0), token=TOKEN, quota=quota)
    assert (step(state, Rejected(generation=7), 10_100.0, 0.5)[1] == (StartFetch(),)) is is_forced
    decision = decide_request(state, 10_100.0, newer_than=7)
    assert isinstance(decision, Refuse)
    assert ("kept for refreshes" in decision.reason) is not is_forced
    assert decision.retry_after == (1.0 if is_forced else 79_900.0)


def test_the_quota_is_spent_again_after_its_reset_and_on_refreshes_in_time() -> None:
    empty = (replace(BUCKET, remaining=1, resets_at=20_000.0),)
    state = TokenState(phase=Idle(wake_at=20_500.0), token=TOKEN, quota=empty)
    assert step(state, Rejected(generation=7), 19_999.9, 0.5)[1] == ()
    assert step(state, Rejected(generation=7), 20_000.0, 0.5)[1] == (StartFetch(),)
    due = replace(state, phase=Idle(wake_at=15_000.0))
    assert step(due, Ticked(), 15_000.0, 0.5)[1] == (StartFetch(),)


# --- what a request gets -------------------------------------------------------------------------------------------


def test_who_is_told_to_come_back_is_told_what_is_left() -> None:
    state = TokenState(phase=BackingOff(until=100.0, lane=Lane.REFUSED), error=REFUSED)
    assert decide_request(state, 57.5) == Refuse(
        reason="the last fetch failed: the token endpoint refused", retry_after=42.5
    )


@pytest.mark.parametrize("now", [99.0, 99.5, 100.0, 200.0])
def test_who_is_told_to_come_back_is_told_a_second_at_least(now: float) -> None:
    answered = decide_request(TokenState(phase=BackingOff(until=100.0, lane=Lane.TRANSIENT), error=DOWN), now)
    assert isinstance(answered, Refuse)
    assert answered.retry_after == 1.0


@pytest.mark.parametrize("phase", ["IDLE", "FETCHING", "BACKING_OFF", "STOPPED"])
def test_a_usable_token_is_served_in_any_phase(phase: str) -> None:
    """Also while the proxy drains: the requests in flight need it."""
    state, now = state_at(Freshness.STALE, phase)
    assert decide_request(state, now) == Serve(token=TOKEN)


def test_without_a_token_a_proxy_that_stops_says_so() -> None:
    state, now = state_at(Freshness.EXPIRED, "STOPPED")
    assert decide_request(state, now) == Refuse(reason="the proxy is shutting down", retry_after=1.0)


def test_who_wants_a_newer_token_waits_for_the_fetch_in_flight() -> None:
    state, now = state_at(Freshness.FRESH, "FETCHING")
    assert decide_request(state, now, newer_than=7) == Wait()
    assert decide_request(state, now, newer_than=6) == Serve(token=TOKEN)


def test_who_wants_a_newer_token_is_told_where_none_will_come() -> None:
    """The 401 then passes as it came."""
    state = TokenState(phase=Idle(wake_at=10_800.0), token=TOKEN, forced_at=10_090.0)
    answered = decide_request(state, 10_100.0, newer_than=7)
    assert isinstance(answered, Refuse)
    assert answered.retry_after == 50.0
    assert "refused the newest token" in answered.reason


def test_who_wants_a_newer_token_is_told_that_fetches_fail() -> None:
    state, now = state_at(Freshness.FRESH, "BACKING_OFF")
    answered = decide_request(replace(state, error=DOWN), now, newer_than=7)
    assert answered == Refuse(reason="the last fetch failed: the token endpoint is down", retry_after=20.0)


# --- the end -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", PHASES)
def test_the_end_wakes_who_waits(phase: str) -> None:
    state, now = state_at(Freshness.ABSENT, phase)
    state, effects = step(state, Stopping(), now, 0.5)
    assert (state.phase, effects) == (Stopped(), (WakeWaiters(),))


@pytest.mark.parametrize(
    "event",
    [Ticked(), Fetched(grant=_grant()), Failed(error=DOWN), Rejected(generation=7), CredentialsChanged(), Stopping()],
    ids=lambda event: type(event).__name__,
)
def test_nothing_happens_after_the_end(event: Event) -> None:
    state = TokenState(phase=Stopped(), token=TOKEN)
    assert step(state, event, 1e9, 0.5) == (state, ())


@pytest.mark.parametrize("event", [Fetched(grant=_grant()), Failed(error=DOWN)], ids=["success", "failure"])
@pytest.mark.parametrize("phase", ["IDLE", "BACKING_OFF"])
def test_the_end_of_a_fetch_that_was_not_under_way_does_nothing(event: Event, phase: str) -> None:
    state, now = state_at(Freshness.FRESH, phase)
    assert step(state, event, now, 0.5) == (state, ())


# --- the ration ----------------------------------------------------------------------------------------------------

BUCKET: Final = QuotaBucket(name="per_day", quota=50, remaining=9, resets_at=90_000.0)


def _error_with_quota() -> TokenFetchError:
    error = TokenEndpointUnavailableError("busy")
    error.quota = (BUCKET,)
    return error


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(Fetched(grant=replace(_grant(), quota=(BUCKET,))), id="a token"),
        pytest.param(Fetched(grant=replace(_grant(0.5), quota=(BUCKET,))), id="a token that arrives too late"),
        pytest.param(Failed(error=_error_with_quota()), id="a failure"),
    ],
)
def test_the_newest_statement_of_the_ration_is_kept(event: Event) -> None:
    older = replace(BUCKET, remaining=10)
    state, _ = step(TokenState(phase=Fetching(since=100.0), quota=(older,)), event, 101.0, 0.5)
    assert state.quota == (BUCKET,)


@pytest.mark.parametrize("event", [Fetched(grant=_grant()), Failed(error=DOWN), Failed(error=NO_SECRET)])
def test_a_response_that_states_nothing_leaves_the_ration_as_it_was(event: Event) -> None:
    state, _ = step(TokenState(phase=Fetching(since=100.0), quota=(BUCKET,)), event, 101.0, 0.5)
    assert state.quota == (BUCKET,)


@pytest.mark.parametrize(("now", "shown"), [(89_999.9, (BUCKET,)), (90_000.0, ())])
def test_the_status_has_the_ration_until_its_reset(now: float, shown: tuple[QuotaBucket, ...]) -> None:
    state = TokenState(phase=Idle(wake_at=0.0), quota=(BUCKET,))
    status = status_of(state, now, name="switch", secret_error=None, fetches={}, remedy="x", uses_previous_secret=False)
    assert status.quota == shown


# --- for people ----------------------------------------------------------------------------------------------------


def test_the_status_tells_all_but_the_token() -> None:
    state = TokenState(
        phase=BackingOff(until=10_950.0, lane=Lane.REFUSED),
        token=TOKEN,
        failures=3,
        error=REFUSED,
        failing_since=10_810.0,
        succeeded_at=10_001.0,
    )
    status = status_of(
        state,
        10_900.0,
        name="switch",
        secret_error="gone",
        fetches={"ok": 7, "refused": 3},
        remedy="x",
        uses_previous_secret=True,
    )
    assert (status.freshness, status.is_usable, status.generation) == (Freshness.STALE, True, 7)
    assert (status.sent_at, status.refresh_at, status.usable_until, status.expires_at) == (
        10_000.0,
        10_800.0,
        10_990.0,
        11_000.0,
    )
    assert (status.phase, status.next_fetch_at) == ("backing_off", 10_950.0)
    assert (status.consecutive_failures, status.failing_since) == (3, 10_810.0)
    assert (status.last_error, status.secret_error) == ("the token endpoint refused", "gone")
    assert status.last_success_at == 10_001.0
    assert "a-token" not in repr(status)


@pytest.mark.parametrize(
    ("freshness", "is_usable"),
    [(Freshness.ABSENT, False), (Freshness.FRESH, True), (Freshness.STALE, True), (Freshness.EXPIRED, False)],
)
def test_the_status_tells_whether_a_request_could_be_sent(freshness: Freshness, *, is_usable: bool) -> None:
    state, now = state_at(freshness, "FETCHING")
    status = status_of(state, now, name="switch", secret_error=None, fetches={}, remedy="x", uses_previous_secret=False)
    assert status.is_usable is is_usable
    assert status.next_fetch_at is None


# --- two client secrets --------------------------------------------------------------------------------------------

_NEW, _OLD = Secret("new"), Secret("old")


@pytest.mark.parametrize(
    ("previous", "refusals", "tried"),
    [
        pytest.param(None, 0, (_NEW,), id="one secret"),
        pytest.param(None, 7, (_NEW,), id="one secret, refused"),
        pytest.param(_OLD, 0, (_NEW, _OLD), id="two, none refused yet"),
        pytest.param(_OLD, 1, (_NEW,), id="two, both refused once"),
        pytest.param(_OLD, 2, (_OLD,), id="two, both refused, and the first again"),
        pytest.param(_OLD, 3, (_NEW,), id="two, in turns"),
    ],
)
def test_previous_secret_is_tried_at_once_and_then_in_turns(
    previous: Secret | None, refusals: int, tried: tuple[Secret, ...]
) -> None:
    """The slow lane counts on one call at each try: two would lock a client out twice as fast."""
    assert secrets_to_try(_NEW, previous, refusals=refusals) == tried


# --- with a store of shared tokens -----------------------------------------------------------------------------------

SHARED = TokenState(phase=Idle(wake_at=10_800.0), token=TOKEN, is_shared=True)
"""A token of generation 7 that is fresh at 10 100, and a store."""
FORCING = Forcing(at=10_050.0, in_a_row=3)


def _found(**changes: object) -> Found:
    found = Found(grant=_grant(), requested_at=10_090.0, allowance=100.0, forcing=FORCING)
    return replace(found, **changes)  # type: ignore[arg-type]


def _fetching(reason: FetchReason = FetchReason.REFRESH, **changes: object) -> TokenState:
    return replace(SHARED, phase=Fetching(since=10_099.0, reason=reason, **changes))  # type: ignore[arg-type]


def test_a_token_that_is_found_is_used_until_its_allowance_and_refreshed_as_if_it_had_been_fetched() -> None:
    state, effects = step(_fetching(), _found(), 10_100.0, 0.5)
    assert state.token is not None
    assert (state.token.generation, state.token.sent_at, state.token.expires_at) == (8, 10_090.0, 10_990.0)
    assert state.token.refresh_at == 10_890.0
    assert state.phase == Idle(wake_at=10_890.0)
    assert effects == (Publish(token=state.token), WakeWaiters(), WakeAt(at=10_890.0))
    assert state.is_found
    assert (state.forced_at, state.forced_in_a_row) == (10_050.0, 3)


def test_a_token_that_is_found_ends_the_failures() -> None:
    before = replace(_fetching(), failures=5, refusals=5, error=REFUSED, failing_since=1.0, refused_since=1.0)
    state, _ = step(before, _found(), 10_100.0, 0.5)
    assert (state.failures, state.refusals, state.error, state.failing_since, state.refused_since) == (
        *(0, 0, None, None, None),
    )


def test_the_first_token_may_be_found() -> None:
    state, _ = step(replace(_fetching(), token=None), _found(), 10_100.0, 0.5)
    assert state.token is not None
    assert state.token.generation == 1


def test_a_secret_that_changes_meanwhile_causes_no_fetch_if_a_token_is_found() -> None:
    state, effects = step(_fetching(is_outdated=True), _found(), 10_100.0, 0.5)
    assert isinstance(state.phase, Idle)
    assert StartFetch() not in effects


def test_a_token_of_its_own_is_not_a_found_one() -> None:
    state, _ = step(replace(_fetching(), is_found=True), Fetched(grant=_grant()), 10_100.0, 0.5)
    assert not state.is_found


def test_a_rejection_that_may_not_force_a_fetch_looks_into_the_store() -> None:
    before = replace(SHARED, forced_at=10_060.0, forced_in_a_row=1)
    state, effects = step(before, Rejected(generation=7), 10_100.0, 0.5)
    assert state.phase == Fetching(since=10_100.0, reason=FetchReason.LOOK, resume=Idle(wake_at=10_800.0))
    assert effects == (StartFetch(),)

    state, effects = step(state, NothingNewer(), 10_100.5, 0.5)
    assert (state.phase, effects) == (Idle(wake_at=10_800.0), (WakeWaiters(), WakeAt(at=10_800.0)))
    for at, looks in ((10_104.999, False), (10_105.0, True)):
        _, effects = step(state, Rejected(generation=7), at, 0.5)
        assert (StartFetch() in effects) is looks


def test_without_a_store_such_a_rejection_does_nothing() -> None:
    before = replace(SHARED, forced_at=10_060.0, forced_in_a_row=1, is_shared=False)
    _, effects = step(before, Rejected(generation=7), 10_100.0, 0.5)
    assert effects == ()


def test_a_forced_fetch_that_the_fleet_has_no_budget_for_leaves_the_token_and_takes_over_the_budget() -> None:
    event = NothingNewer(forcing=FORCING, quota=(BUCKET,))
    state, effects = step(_fetching(FetchReason.FORCED), event, 10_100.0, 0.5)
    assert (state.phase, state.token) == (Idle(wake_at=10_800.0), TOKEN)
    assert (state.forced_at, state.forced_in_a_row, state.quota) == (10_050.0, 3, (BUCKET,))
    assert effects == (WakeWaiters(), WakeAt(at=10_800.0))


def test_after_a_look_that_found_nothing_the_next_fetch_is_not_at_once() -> None:
    state, effects = step(replace(_fetching(), token=None), NothingNewer(), 10_099.1, 0.5)
    assert state.phase == Idle(wake_at=10_099.5)
    assert effects == (WakeWaiters(), WakeAt(at=10_099.5))


@pytest.mark.parametrize(
    ("resume", "begins"),
    [
        pytest.param(Idle(wake_at=10_800.0), True, id="idle"),
        pytest.param(BackingOff(until=10_500.0, lane=Lane.REFUSED, look_at=10_160.0), True, id="refused"),
        pytest.param(BackingOff(until=10_500.0, lane=Lane.EXHAUSTED, look_at=10_160.0), False, id="exhausted"),
    ],
)
def test_a_secret_that_changes_during_a_look_counts_as_if_it_had_changed_after_it(
    resume: Idle | BackingOff, *, begins: bool
) -> None:
    before = _fetching(FetchReason.LOOK, resume=resume)
    during, _ = step(before, CredentialsChanged(), 10_100.0, 0.5)
    state, effects = step(during, NothingNewer(), 10_100.0, 0.5)
    if begins:
        assert (state.phase, effects) == (Fetching(since=10_100.0, reason=FetchReason.NEW_SECRET), (StartFetch(),))
    else:
        assert (state.phase, effects) == (resume, (WakeWaiters(), WakeAt(at=10_160.0)))


@pytest.mark.parametrize("error", [REFUSED, EXHAUSTED], ids=["refused", "exhausted"])
def test_a_long_back_off_looks_into_the_store_once_a_minute(error: FetchFailure) -> None:
    state, effects = step(_fetching(), Failed(error=error), 10_100.0, 0.5)
    phase = state.phase
    assert isinstance(phase, BackingOff)
    # The first wait after a refusal is hardly longer than the time until the first look.
    assert phase.look_at == 10_160.0
    assert effects == (WakeWaiters(), WakeAt(at=min(phase.until, 10_160.0)))
    assert step(state, Ticked(), 10_159.0, 0.5) == (state, (WakeAt(at=tick_at(state) or 0.0),))

    state, effects = step(state, Ticked(), 10_160.0, 0.5)
    resume = replace(phase, look_at=10_220.0)
    assert state.phase == Fetching(since=10_160.0, reason=FetchReason.LOOK, resume=resume)
    assert effects == (StartFetch(),)
    state, _ = step(state, NothingNewer(), 10_160.0, 0.5)
    assert state.phase == resume

    state, _ = step(state, Ticked(), phase.until, 0.5)
    assert state.phase == Fetching(since=phase.until)


@pytest.mark.parametrize(("is_shared", "error"), [(True, DOWN), (False, REFUSED)], ids=["an outage", "without a store"])
def test_other_back_offs_do_not_look(error: FetchFailure, *, is_shared: bool) -> None:
    state, _ = step(replace(_fetching(), is_shared=is_shared), Failed(error=error), 10_100.0, 0.5)
    assert isinstance(state.phase, BackingOff)
    assert state.phase.look_at == inf
    assert tick_at(state) == wake_at(state) == state.phase.until


@pytest.mark.parametrize(("error", "counts"), [(REFUSED, (6, 2)), (EXHAUSTED, (1, 6))], ids=["refused", "exhausted"])
def test_a_failure_of_another_process_is_waited_out_as_that_one_does(
    error: FetchFailure, counts: tuple[int, int]
) -> None:
    """The process that has recorded it goes first, and the others are spread over five seconds after it."""
    before = replace(_fetching(), refusals=1, exhaustions=2)
    event = Failed(error=error, shared=SharedFailure(until=10_400.0, attempts=6))
    state, _ = step(before, event, 10_100.0, 0.5)
    assert state.phase == BackingOff(until=10_402.5, lane=lane_of(error), look_at=10_160.0)
    assert (state.refusals, state.exhaustions, state.failures) == (*counts, 1)


def test_a_shared_failure_that_is_nearly_over_is_still_waited_for() -> None:
    event = Failed(error=REFUSED, shared=SharedFailure(until=10_100.0, attempts=6))
    state, _ = step(_fetching(), event, 10_100.0, 0.0)
    assert wake_at(state) == 10_100.1


def test_what_another_process_has_met_is_not_paid_by_this_one() -> None:
    event = Failed(error=REFUSED, shared=SharedFailure(until=10_400.0, attempts=6))
    assert step(_fetching(), event, 10_100.0, 0.5)[0].paid_until == -inf
    assert step(_fetching(), _found(), 10_100.0, 0.5)[0].paid_until == -inf
    assert step(_fetching(), Failed(error=REFUSED), 10_100.0, 0.5)[0].paid_until > 10_100.0


@pytest.mark.parametrize("event", [_found(), NothingNewer()], ids=["found", "nothing newer"])
def test_what_the_store_says_late_changes_nothing(event: Event) -> None:
    assert step(SHARED, event, 10_100.0, 0.5) == (SHARED, ())


def test_the_status_tells_where_the_token_is_from() -> None:
    store = SharedStoreStatus(store="the directory /tokens", error=None, errors=0, found=1, ignored={})
    state, _ = step(_fetching(), _found(), 10_100.0, 0.5)
    status = status_of(
        *(state, 10_100.0),
        name="switch",
        secret_error=None,
        fetches={},
        remedy="",
        uses_previous_secret=False,
        store=store,
    )
    assert (status.is_found, status.store) == (True, store)
