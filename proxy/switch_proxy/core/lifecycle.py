"""
The life of a credential's access token: when it is fetched, and what a request gets in the meantime.

Theory of operation
-------------------
There are two state machines. The token's *freshness* (core/tokens.py) follows from the time alone and is never stored. The
*phase* is the progress of the next token; besides the token itself, nothing else changes:

    IDLE          waits until `wake_at`, the moment to refresh
    FETCHING      one token request is in flight; there is never a second one
    BACKING_OFF   the last request failed; the next is sent at `until`
    STOPPED       the proxy is shutting down

`step` takes a state and an event, and returns the next state and the effects that the shell performs. Until STOPPED, there is
always a fetch in flight or a moment at which the next one begins.

A fetch that succeeds replaces the token. A fetch that fails does not change it: it is used until it expires.
core/backoff.py decides how long to wait, by the kind of failure. Each kind is counted separately, so that a refusal
after an outage is not counted as the first one.

A quota that is used up (429) is a kind of its own: its wait lasts until the quota resets, which may be a day.

Requests never wait while there is a usable token. Without one, they wait only for a fetch in flight. During a back-off
they fail immediately, with the remaining time:

    ========  ====================  ===============  ============================
              IDLE                  FETCHING         BACKING_OFF
    ========  ====================  ===============  ============================
    ABSENT    start a fetch, wait   wait, then 503   503 at once, with Retry-After
    FRESH     serve                 serve            serve
    STALE     start a fetch, serve  serve            serve
    EXPIRED   start a fetch, wait   wait, then 503   503 at once, with Retry-After
    ========  ====================  ===============  ============================

A response that may hold a token, but none that can be used, is a kind of its own too: it has probably cost one of the ration, so
another is requested slowly. No sequence of responses makes a process send more token requests than core/pace.py says.

A changed client secret is tried immediately, while the old token is still served. It ends a back-off of the slow lanes. If
a fetch with the old secret is in flight, another follows it. A back-off after an outage or a used-up quota is not shortened: the
next fetch uses the new secret anyway.

When an upstream refuses a token (401), the token's generation is reported. If it is still the newest, one fetch is forced for
all requests that were refused. After it, no other is forced for `min_forced_refresh_interval`. If the tokens that are issued
then are refused too, another token helps nothing: the interval doubles each time, up to an hour, until one is accepted. The last
tokens of the client's quota are not spent on forced fetches (core/quota.py): they are left for refreshes in time. So an API that
responds to everything with 401 causes no storm, and leaves other pods their tokens. The refused token is served until
there is another, because the API may have refused only that one request. A request that needs a newer token asks for one
(`newer_than`).

Processes may share tokens (core/token_sharing.py). A fetch then begins with a look into the store, and ends there if another process
has left what is needed: a newer token (`Found`), a refusal or a used-up quota (`Failed` with a `shared` failure), or the fleet's
last forced fetch (`NothingNewer`). A fetch whose reason is LOOK is nothing but this look: for a 401 that may not force a fetch,
and now and then during a long back-off.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from switch_proxy.core.backoff import SHORTEST_DELAY, Lane, delay
from switch_proxy.core.errors import (
    SecretUnavailableError,
    TokenEndpointUnavailableError,
    TokenFetchError,
    TokenQuotaExhaustedError,
    TokenRequestRefusedError,
    TokenResponseInvalidError,
)
from switch_proxy.core.pace import may_begin_at, pay
from switch_proxy.core.quota import current_quota, has_spare_at
from switch_proxy.core.tokens import AccessToken, Freshness, TokenGrant, freshness, issue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from switch_proxy.core.quota import QuotaBucket
    from switch_proxy.core.secret import Secret

FETCHED: Final = "ok"
"""The outcome of a fetch that brought a token; those of failed ones are the errors' own (core/errors.py)."""

SHORTEST_CYCLE: Final = 0.5
"""
Seconds between the starts of two fetches, at least, however short the token's life: a server that grants a tenth of a
second is not sent ten requests a second.
"""

MIN_FORCED_REFRESH_INTERVAL: Final = 60.0
"""
Seconds between two fetches that an upstream's 401 may force. Tokens are revoked by hand, so once a minute is enough.
"""

FORCED_REFRESH_CEILING: Final = 3600.0
"""
Seconds that this interval grows to while newly issued tokens are refused too: an API that refuses every token costs some 30 token
requests a day, and its recovery is noticed within an hour without a restart. A token that was not refused for as long counts
as accepted.
"""

LOOK_AFTER_REJECTION: Final = 5.0
"""Seconds between two looks into the store that 401s may cause: a token that another process fetched is found soon, at little cost."""

LOOK_WHILE_BACKING_OFF: Final = 60.0
"""Seconds between two looks during a back-off after a refusal or a used-up quota, which may last a day."""

SHARED_SPREAD: Final = 5.0
"""
Seconds over which processes look again after a shared back-off has ended. The one that recorded it goes first, at its end, and the
others find its result.
"""

_LAST_DOUBLING: Final = 20
"""The interval reaches its ceiling long before this power."""

SHORTEST_RETRY_AFTER: Final = 1.0
"""Seconds. Retry-After is in whole seconds (RFC 9110 §10.2.3), and zero would ask for a storm."""

# --- phases --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """Waits until `wake_at`."""

    wake_at: float


class FetchReason(Enum):
    """Why a fetch was begun: what it may take from the store, and whether it may send a token request."""

    REFRESH = "refresh"
    """There is no token, or it is due for refresh."""
    FORCED = "forced"
    """The upstream refused the newest token (401)."""
    NEW_SECRET = "new secret"  # noqa: S105 - no secret
    """The client secret has changed, or an operator wants it to be tried again."""
    LOOK = "look"
    """Only a look into the store; no token request is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetching:
    """
    A fetch is in flight since `since`; `is_outdated` if the secret has changed since then.

    `resume` is the phase that goes on after a LOOK that finds nothing.
    """

    since: float
    is_outdated: bool = False
    reason: FetchReason = FetchReason.REFRESH
    resume: Idle | BackingOff | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackingOff:
    """The last fetch failed in this `lane`; the next one begins at `until`, and the next look into the store at `look_at`."""

    until: float
    lane: Lane
    look_at: float = inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """No more fetches."""


Phase: TypeAlias = Idle | Fetching | BackingOff | Stopped
FetchFailure: TypeAlias = TokenFetchError | SecretUnavailableError


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenState:
    """The state of one credential's token."""

    phase: Phase
    token: AccessToken | None = None
    outages: int = 0
    """Transient failures since the last success."""
    refusals: int = 0
    """Refusals since the last success or the last new secret."""
    unusable: int = 0
    """Unusable responses that may have cost a token, since the last success."""
    exhaustions: int = 0
    """Times that the quota was found used up since the last success."""
    failures: int = 0
    """All failures since the last success."""
    error: FetchFailure | None = None
    """Why the last fetch failed; None after a success."""
    failing_since: float | None = None
    """When the first of the `failures` happened."""
    refused_since: float | None = None
    """When the client's authentication was first refused since the last success."""
    succeeded_at: float | None = None
    """When the token arrived, or was found in the store."""
    forced_at: float = -inf
    """When a fetch was last forced by an upstream's 401."""
    forced_in_a_row: int = 0
    """Fetches that were forced since the upstream has last accepted a token."""
    refused_generation: int = 0
    """The newest token that the upstream has refused."""
    min_forced_refresh_interval: float = MIN_FORCED_REFRESH_INTERVAL
    quota: tuple[QuotaBucket, ...] = ()
    """The ration of tokens, as the newest response that has stated one did."""
    paid_until: float = -inf
    """Until when the token requests so far are paid (core/pace.py)."""
    is_shared: bool = False
    """Whether there is a store that other processes share."""
    is_found: bool = False
    """Whether the token was found in the store, so that this process has not fetched it."""
    looked_at: float = -inf
    """When a 401 has last caused a look into the store."""


def initial_state(
    now: float, *, min_forced_refresh_interval: float = MIN_FORCED_REFRESH_INTERVAL, is_shared: bool = False
) -> TokenState:
    """Return the state of a credential whose first fetch is due at `now`."""
    return TokenState(
        phase=Idle(wake_at=now), min_forced_refresh_interval=min_forced_refresh_interval, is_shared=is_shared
    )


# --- events --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Time has passed: a fetch may be due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The fetch in flight has returned a token."""

    grant: TokenGrant


@dataclass(frozen=True, slots=True, kw_only=True)
class Forcing:
    """The last fetch that a 401 has forced in any process: when, and how many in a row while none was accepted."""

    at: float = -inf
    in_a_row: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """
    The store has a newer token, which another process requested at `requested_at`.

    It is not used in the last `allowance` seconds of its life, because clocks differ.
    """

    grant: TokenGrant
    requested_at: float
    allowance: float
    forcing: Forcing


@dataclass(frozen=True, slots=True, kw_only=True)
class NothingNewer:
    """The store has no newer token, and no token request was sent: none may be, or none is needed."""

    forcing: Forcing | None = None
    """The fleet's last forced fetch, if that is why."""
    quota: tuple[QuotaBucket, ...] = ()
    """The ration of tokens as the store has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedFailure:
    """What another process has recorded of a failure: the next attempt is at `until`, and `attempts` have failed in a row."""

    until: float
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The fetch in flight has failed; `shared` if another process has met the failure, and no token request was sent."""

    error: FetchFailure
    shared: SharedFailure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The upstream refused the token of this generation (401)."""

    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialsChanged:
    """
    The client secret has changed since the last fetch began, or an operator says that the authorization server may now
    accept it.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """The proxy is shutting down."""


Event: TypeAlias = Ticked | Fetched | Found | NothingNewer | Failed | Rejected | CredentialsChanged | Stopping

# --- effects -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFetch:
    """
    Look into the store, if there is one, and send a token request; `Fetched` or `Failed` must follow.

    With a store `Found` or `NothingNewer` may follow instead.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeAt:
    """Send `Ticked` at `at`; this replaces the wake-up before."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """Serve this token from now on."""

    token: AccessToken


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeWaiters:
    """Wake the waiting requests: `decide_request` no longer returns `Wait`."""


Effect: TypeAlias = StartFetch | WakeAt | Publish | WakeWaiters

# --- decisions -----------------------------------------------------------------------------------------------------


def step(state: TokenState, event: Event, now: float, jitter: float) -> tuple[TokenState, tuple[Effect, ...]]:
    """Return the state after `event`, and the effects; `jitter` in [0, 1) spreads the next wake-up."""
    phase = state.phase
    if isinstance(phase, Stopped):
        return state, ()
    match event:
        case Ticked():
            return _ticked(state, now)
        case Fetched(grant=grant):
            return _fetched(state, phase, grant, now, jitter) if isinstance(phase, Fetching) else (state, ())
        case Found():
            return _found(state, phase, event, now, jitter) if isinstance(phase, Fetching) else (state, ())
        case NothingNewer():
            return _nothing_newer(state, phase, event, now) if isinstance(phase, Fetching) else (state, ())
        case Failed(error=error, shared=shared):
            return _failed(state, phase, error, shared, now, jitter) if isinstance(phase, Fetching) else (state, ())
        case Rejected(generation=generation):
            return _rejected(state, generation, now)
        case CredentialsChanged():
            return _credentials_changed(state, now)
        case Stopping():
            return replace(state, phase=Stopped()), (WakeWaiters(),)
        case _:
            assert_never(event)


def _begin(
    state: TokenState,
    now: float,
    reason: FetchReason = FetchReason.REFRESH,
    *,
    resume: Idle | BackingOff | None = None,
) -> tuple[TokenState, tuple[Effect, ...]]:
    return replace(state, phase=Fetching(since=now, reason=reason, resume=resume)), (StartFetch(),)


def _ticked(state: TokenState, now: float) -> tuple[TokenState, tuple[Effect, ...]]:
    at = tick_at(state)
    if at is None:
        return state, ()
    if now < at:
        # Set a timer again that fired early.
        return state, (WakeAt(at=at),)
    phase = state.phase
    if isinstance(phase, BackingOff) and now < phase.until:
        resume = replace(phase, look_at=now + LOOK_WHILE_BACKING_OFF)
        return _begin(state, now, FetchReason.LOOK, resume=resume)
    return _begin(state, now)


def _fetched(
    state: TokenState, phase: Fetching, grant: TokenGrant, now: float, jitter: float
) -> tuple[TokenState, tuple[Effect, ...]]:
    token = issue(grant, generation=_next_generation(state), sent_at=phase.since, jitter=jitter)
    if now >= token.usable_until:
        text = f"the token lives {grant.lifetime:g} seconds only, and they had passed when it arrived"
        invalid = TokenResponseInvalidError(text, may_have_cost_token=True)
        invalid.quota = grant.quota
        return _failed(state, phase, invalid, None, now, jitter)
    state = _with_token(state, token, grant, now)
    state = replace(state, paid_until=pay(state.paid_until, began_at=phase.since, lifetime=token.lifetime))
    published = (Publish(token=token), WakeWaiters())
    if phase.is_outdated:
        state, effects = _begin(state, now, FetchReason.NEW_SECRET)
        return state, (*published, *effects)
    at = max(token.refresh_at, phase.since + SHORTEST_CYCLE, may_begin_at(state.paid_until))
    return replace(state, phase=Idle(wake_at=at)), (*published, WakeAt(at=at))


def _found(
    state: TokenState, phase: Fetching, found: Found, now: float, jitter: float
) -> tuple[TokenState, tuple[Effect, ...]]:
    generation = _next_generation(state)
    token = issue(
        found.grant, generation=generation, sent_at=found.requested_at, jitter=jitter, allowance=found.allowance
    )
    state = replace(
        _with_token(state, token, found.grant, now),
        is_found=True,
        forced_at=found.forcing.at,
        forced_in_a_row=found.forcing.in_a_row,
    )
    at = max(token.refresh_at, phase.since + SHORTEST_CYCLE, may_begin_at(state.paid_until))
    return replace(state, phase=Idle(wake_at=at)), (Publish(token=token), WakeWaiters(), WakeAt(at=at))


def _next_generation(state: TokenState) -> int:
    return 1 if state.token is None else state.token.generation + 1


def _with_token(state: TokenState, token: AccessToken, grant: TokenGrant, now: float) -> TokenState:
    return replace(
        state,
        token=token,
        outages=0,
        refusals=0,
        unusable=0,
        exhaustions=0,
        failures=0,
        error=None,
        failing_since=None,
        refused_since=None,
        succeeded_at=now,
        quota=grant.quota or state.quota,
        is_found=False,
    )


def _nothing_newer(
    state: TokenState, phase: Fetching, event: NothingNewer, now: float
) -> tuple[TokenState, tuple[Effect, ...]]:
    if event.forcing is not None:
        state = replace(state, forced_at=event.forcing.at, forced_in_a_row=event.forcing.in_a_row)
    state = replace(state, quota=event.quota or state.quota)
    after = phase.resume
    if after is None:
        refresh_at = now if state.token is None else state.token.refresh_at
        after = Idle(wake_at=max(refresh_at, phase.since + SHORTEST_CYCLE, may_begin_at(state.paid_until)))
    state = replace(state, phase=after)
    if phase.is_outdated and _ends_with_another_secret(after):
        return _begin(replace(state, refusals=0), now, FetchReason.NEW_SECRET)
    return state, (
        WakeWaiters(),
        WakeAt(at=after.wake_at if isinstance(after, Idle) else min(after.until, after.look_at)),
    )


def _failed(
    state: TokenState, phase: Fetching, error: FetchFailure, shared: SharedFailure | None, now: float, jitter: float
) -> tuple[TokenState, tuple[Effect, ...]]:
    lane = lane_of(error)
    state = replace(
        state,
        outages=state.outages + (lane is Lane.TRANSIENT),
        refusals=_attempts(state.refusals, shared) if lane is Lane.REFUSED else state.refusals,
        unusable=_attempts(state.unusable, shared) if lane is Lane.UNUSABLE else state.unusable,
        exhaustions=_attempts(state.exhaustions, shared) if lane is Lane.EXHAUSTED else state.exhaustions,
        failures=state.failures + 1,
        error=error,
        failing_since=now if state.failing_since is None else state.failing_since,
        refused_since=now if state.refused_since is None and is_about_client(error) else state.refused_since,
        quota=(error.quota if isinstance(error, TokenFetchError) else ()) or state.quota,
        # What another process has met, it has paid.
        paid_until=state.paid_until
        if shared is not None
        else pay(state.paid_until, began_at=phase.since, lifetime=None),
    )
    if phase.is_outdated and lane is Lane.REFUSED:
        # The refused secret was the old one.
        return _begin(replace(state, refusals=0), now, FetchReason.NEW_SECRET)
    if shared is not None:
        return _back_off(state, lane, max(now + SHORTEST_DELAY, shared.until + SHARED_SPREAD * jitter), now)
    retry_after = error.retry_after if isinstance(error, TokenFetchError) else None
    attempts = {
        Lane.TRANSIENT: state.outages,
        Lane.REFUSED: state.refusals,
        Lane.UNUSABLE: state.unusable,
        Lane.EXHAUSTED: state.exhaustions,
    }
    resets_at = exhausted_until(error)
    wait = delay(
        lane=lane,
        attempt=attempts[lane],
        jitter=jitter,
        retry_after=retry_after,
        resets_in=None if resets_at is None else resets_at - now,
        is_scarce=has_spare_at(state.quota, now) > now,
    )
    return _back_off(state, lane, max(now + wait, may_begin_at(state.paid_until)), now)


def _back_off(state: TokenState, lane: Lane, until: float, now: float) -> tuple[TokenState, tuple[Effect, ...]]:
    looks = state.is_shared and lane is not Lane.TRANSIENT
    phase = BackingOff(until=until, lane=lane, look_at=now + LOOK_WHILE_BACKING_OFF if looks else inf)
    return replace(state, phase=phase), (WakeWaiters(), WakeAt(at=min(phase.until, phase.look_at)))


def _attempts(own: int, shared: SharedFailure | None) -> int:
    return own + 1 if shared is None else shared.attempts


def _rejected(state: TokenState, generation: int, now: float) -> tuple[TokenState, tuple[Effect, ...]]:
    token, phase = state.token, state.phase
    is_newest = token is not None and token.generation == generation
    if token is None or not is_newest or not isinstance(phase, Idle):
        return state, ()
    if state.refused_generation != generation:
        # The one before was refused, and this one as soon as it was used: then none has been accepted.
        is_refused_too = state.refused_generation == generation - 1 and now - token.sent_at < FORCED_REFRESH_CEILING
        forced_in_a_row = state.forced_in_a_row if is_refused_too else 0
        state = replace(state, refused_generation=generation, forced_in_a_row=forced_in_a_row)
    if now < _may_be_forced_at(state, now):
        if not state.is_shared or now < state.looked_at + LOOK_AFTER_REJECTION:
            return state, ()
        return _begin(replace(state, looked_at=now), now, FetchReason.LOOK, resume=phase)
    state = replace(state, forced_at=now, forced_in_a_row=state.forced_in_a_row + 1)
    return _begin(state, now, FetchReason.FORCED)


def _may_be_forced_at(state: TokenState, now: float) -> float:
    """Return when a 401 may force a fetch: after the interval, and not with the last tokens of the quota."""
    forcing = Forcing(at=state.forced_at, in_a_row=state.forced_in_a_row)
    at = next_forced_at(forcing, shortest=state.min_forced_refresh_interval)
    return max(at, has_spare_at(state.quota, now), may_begin_at(state.paid_until))


def next_forced_at(forcing: Forcing, *, shortest: float) -> float:
    """Return when the next fetch may be forced; `shortest` is the first interval, in seconds."""
    doubling = 2.0 ** min(max(forcing.in_a_row - 1, 0), _LAST_DOUBLING)
    return forcing.at + min(shortest * doubling, max(shortest, FORCED_REFRESH_CEILING))


def _credentials_changed(state: TokenState, now: float) -> tuple[TokenState, tuple[Effect, ...]]:
    match state.phase:
        case Fetching() as phase:
            return replace(state, phase=replace(phase, is_outdated=True)), ()
        case phase if _ends_with_another_secret(phase):
            return _begin(replace(state, refusals=0), now, FetchReason.NEW_SECRET)
        case _:
            return state, ()


def _ends_with_another_secret(phase: Phase) -> bool:
    """Return whether another secret is reason enough to fetch at once: it ends neither an outage nor a used-up quota."""
    return isinstance(phase, Idle) or (isinstance(phase, BackingOff) and phase.lane in {Lane.REFUSED, Lane.UNUSABLE})


def secrets_to_try(current: Secret, previous: Secret | None, *, refusals: int) -> tuple[Secret, ...]:
    """
    Return the client secrets to try in one fetch, in order, until one is accepted.

    At the first refusal the previous one is tried immediately. If both are refused, they take turns, so that a fetch of the
    slow lane is a single request.
    """
    if previous is None:
        return (current,)
    if refusals == 0:
        return (current, previous)
    return (current if refusals % 2 else previous,)


def lane_of(error: FetchFailure) -> Lane:
    """Return the lane in which a failure is tried again."""
    is_rate_limited = isinstance(error, TokenEndpointUnavailableError) and error.is_rate_limited
    if is_rate_limited or isinstance(error, TokenQuotaExhaustedError):
        return Lane.EXHAUSTED
    if isinstance(error, TokenResponseInvalidError) and error.may_have_cost_token:
        return Lane.UNUSABLE
    is_refusal = isinstance(error, (TokenRequestRefusedError, SecretUnavailableError))
    return Lane.REFUSED if is_refusal else Lane.TRANSIENT


def is_about_client(error: FetchFailure) -> bool:
    """Return whether the client's authentication was refused, so that another secret, key or certificate is needed."""
    return isinstance(error, TokenRequestRefusedError) and error.is_about_client


def exhausted_until(error: FetchFailure | None) -> float | None:
    """Return when the quota resets that this failure found used up; None if it is another failure, or if nobody knows."""
    return error.exhausted_until if isinstance(error, TokenQuotaExhaustedError) else None


def wake_at(state: TokenState) -> float | None:
    """Return when the next fetch begins; None while one is in flight and after STOPPED."""
    match state.phase:
        case Idle(wake_at=at) | BackingOff(until=at):
            return at
        case _:
            return None


def tick_at(state: TokenState) -> float | None:
    """Return when `Ticked` is due: at the next fetch, or at a look into the store before it."""
    at = wake_at(state)
    return min(at, state.phase.look_at) if at is not None and isinstance(state.phase, BackingOff) else at


# --- what a request gets -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """Use this token."""

    token: AccessToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Wait for the fetch that is in flight or about to begin, then decide again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """There is no token, for this `reason`; retry after `retry_after` seconds."""

    reason: str
    retry_after: float


Decision: TypeAlias = Serve | Wait | Refuse


def decide_request(state: TokenState, now: float, *, newer_than: int = 0) -> Decision:
    """
    Return what a request gets that needs a token of a generation after `newer_than`.

    A due fetch must have begun before: see `wake_at` and `Ticked`.
    """
    token = usable_token(state, now)
    if token is not None and token.generation > newer_than:
        return Serve(token=token)
    match state.phase:
        case Fetching():
            return Wait()
        case Idle():
            # Without a usable token the next fetch is at most SHORTEST_PRICE away (core/pace.py).
            return (
                Wait() if token is None else _refuse(_why_none_newer(state, now), _may_be_forced_at(state, now) - now)
            )
        case BackingOff(until=until):
            return _refuse(f"the last fetch failed: {describe(state.error)}", until - now)
        case Stopped():
            return _refuse("the proxy is shutting down", 0.0)
        case _:
            assert_never(state.phase)


_NONE_NEWER: Final = "the upstream refused the newest token, and another was fetched for that reason a moment ago"
_NONE_TO_SPARE: Final = (
    "the upstream refused the newest token, and the last tokens of the client's quota are kept for refreshes"
)


def _why_none_newer(state: TokenState, now: float) -> str:
    return _NONE_TO_SPARE if has_spare_at(state.quota, now) > now else _NONE_NEWER


def _refuse(reason: str, retry_after: float) -> Refuse:
    return Refuse(reason=reason, retry_after=max(SHORTEST_RETRY_AFTER, retry_after))


def usable_token(state: TokenState, now: float) -> AccessToken | None:
    """Return the token to send requests with at `now`, or None."""
    return state.token if state.token is not None and now < state.token.usable_until else None


def describe(error: FetchFailure | None) -> str:
    """Return why a fetch failed, for people."""
    return "" if error is None else str(error)


# --- for people and metrics ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedStoreStatus:
    """The store of shared tokens, as one credential has met it."""

    store: str
    """Its name: `the directory /…`."""
    error: str | None
    """Why it could not be used the last time; None if it could."""
    errors: int
    """The number of fetches and results for which it could not be used."""
    found: int
    """The number of tokens that were found in it: token requests that were saved."""
    ignored: Mapping[str, int]
    """The number of entries that were of no use, by reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialStatus:
    """
    The status of a credential at one moment: for readiness and metrics. Nothing in it is secret.

    All instants are in seconds on the clock of `Clock.now`; None if there is no such moment.
    """

    name: str
    freshness: Freshness
    generation: int
    """The number of tokens so far."""
    sent_at: float | None
    """When the token was requested, from which its life is counted."""
    expires_at: float | None
    usable_until: float | None
    refresh_at: float | None
    scope: str | None
    """The token's scope, if the server named it."""
    phase: str
    """`idle`, `fetching`, `backing_off` or `stopped`."""
    next_fetch_at: float | None
    """When the next fetch begins; None while one is in flight."""
    consecutive_failures: int
    failing_since: float | None
    refused_since: float | None
    """When the client's authentication was first refused since the last success; None if it was not."""
    is_exhausted: bool
    """Whether the last fetch failed because the client's quota of tokens is used up."""
    exhausted_until: float | None
    """When that quota resets; None if it is not used up, or if the server does not say."""
    remedy: str
    """What would end such a refusal, for people: `another content of the file /…`."""
    uses_previous_secret: bool
    """Whether the last token was requested with the previous of two secrets, because the first was refused."""
    last_error: str | None
    """Why the last fetch failed, for people; None if it succeeded."""
    last_success_at: float | None
    """When the token arrived."""
    secret_error: str | None
    """Why the secret's source cannot be read now, for people; the last good secret stays in use."""
    fetches: Mapping[str, int]
    """The number of fetches by outcome: `ok`, or why they failed in one word (core/errors.py)."""
    tokens_issued: int = 0
    """The number of tokens that the server has issued to this process, those included that could not be used."""
    quota: tuple[QuotaBucket, ...] = ()
    """The ration of tokens, as the newest response that has stated one did; without buckets that have been reset since."""
    is_found: bool = False
    """Whether the token was found in the store of shared tokens, so that another process has fetched it."""
    store: SharedStoreStatus | None = None

    @property
    def is_usable(self) -> bool:
        """Return whether a request could be sent with the token."""
        return self.freshness in {Freshness.FRESH, Freshness.STALE}


_PHASE_NAMES: Final[Mapping[type[Phase], str]] = {
    Idle: "idle",
    Fetching: "fetching",
    BackingOff: "backing_off",
    Stopped: "stopped",
}


def status_of(
    state: TokenState,
    now: float,
    *,
    name: str,
    secret_error: str | None,
    fetches: Mapping[str, int],
    remedy: str,
    uses_previous_secret: bool,
    tokens_issued: int = 0,
    store: SharedStoreStatus | None = None,
) -> CredentialStatus:
    """Return the status of a credential at `now`."""
    token = state.token
    return CredentialStatus(
        name=name,
        freshness=freshness(token, now),
        generation=0 if token is None else token.generation,
        sent_at=None if token is None else token.sent_at,
        expires_at=None if token is None else token.expires_at,
        usable_until=None if token is None else token.usable_until,
        refresh_at=None if token is None else token.refresh_at,
        scope=None if token is None else token.scope,
        phase=_PHASE_NAMES[type(state.phase)],
        next_fetch_at=wake_at(state),
        consecutive_failures=state.failures,
        failing_since=state.failing_since,
        refused_since=state.refused_since,
        is_exhausted=isinstance(state.error, TokenQuotaExhaustedError),
        exhausted_until=exhausted_until(state.error),
        remedy=remedy,
        uses_previous_secret=uses_previous_secret,
        last_error=None if state.error is None else describe(state.error),
        last_success_at=state.succeeded_at,
        secret_error=secret_error,
        fetches=fetches,
        tokens_issued=tokens_issued,
        quota=current_quota(state.quota, now),
        is_found=state.is_found,
        store=store,
    )
