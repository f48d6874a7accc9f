"""
What processes share of a credential's tokens through a store, and what a fetch takes from it.

There are two entries. The *token entry* has the newest token of the client, and the last fetch that a 401 has forced. The *failure
entry* says that the client is refused with this secret, or that its quota is used up, and until when nobody needs to try again.

`judge` is asked before each token request, and once more under the store's lock: so of all processes one sends the request, and the
others take its result. Times within an entry are on the store's own clock, because the wall clocks of machines differ; here they
are on the clock of this process, like all others.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from switch_proxy.core.backoff import LONGEST_EXHAUSTION, Lane
from switch_proxy.core.errors import (
    SwitchProxyError,
    TokenQuotaExhaustedError,
    TokenRequestRefusedError,
    TokenResponseInvalidError,
)
from switch_proxy.core.lifecycle import (
    BackingOff,
    Failed,
    FetchReason,
    Forcing,
    Found,
    NothingNewer,
    SharedFailure,
    TokenState,
    next_forced_at,
)
from switch_proxy.core.quota import LONGEST_WINDOW, QuotaBucket, current_quota, has_spare_at
from switch_proxy.core.secret import Secret
from switch_proxy.core.tokens import EXPIRY_SKEW, EXPIRY_SKEW_PART, TokenGrant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from switch_proxy.core.tokens import AccessToken

MAX_ENTRY: Final = 256 * 1024
"""Bytes of an entry, at most. Real ones have some thousand; a token may have up to what the token endpoint's response may."""

SKEW_ALLOWANCE: Final = 60.0
SKEW_ALLOWANCE_PART: Final = 0.1
"""
Seconds before its end when another process's token is no longer used, and the same as a part of the lives of short tokens: by so
much the store's clock may jump, after a restart on another machine for example. An entry that is from further in the future is not
used. The clocks of the processes' machines may differ by more, because they do not count.
"""

LOCK_LEASE: Final = 2.0
"""
Seconds after which a lock is free again, although its holder has not released it. A token request takes some tenths of a second. A
holder that is slower is not stopped, so that two tokens may be fetched; one that is dead keeps requests waiting for less than half
of the time that they wait for a token (5 s by default).
"""

PATIENT_LOCK_LEASE: Final = 30.0
"""Seconds, of a fetch for which no request waits, because there is a usable token: a slow server does not cost a second one."""

LONGEST_LOCK_WAIT: Final = 60.0
"""Seconds that a fetch waits for the lock in all. The store may lie; after that, the token is fetched without it."""

_VERSION: Final = 1
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,200000}")
_NAME: Final = re.compile(r"[a-z0-9_]{1,40}")
_LONGEST_REASON: Final = 2000
_LONGEST_LIFETIME: Final = 30 * 86400.0
_MOST_BUCKETS: Final = 8
_MOST_ATTEMPTS: Final = 1_000_000


SharedError: TypeAlias = TokenRequestRefusedError | TokenQuotaExhaustedError | TokenResponseInvalidError
"""Failures that others need not meet too: another request is in vain, or costs a token each time."""


class UnusableEntryError(SwitchProxyError):
    """An entry of the store is of no use; `reason` says why, in a word or two of ours."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"an entry of the token store is {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedToken:
    """
    The token entry: a token that was requested at `requested_at` with the secret of this `fingerprint`.

    `grant.lifetime` is counted from `requested_at`; its quota is that of the response.
    """

    grant: TokenGrant
    requested_at: float
    fingerprint: str
    forcing: Forcing


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFailure:
    """The failure entry: the error that a process met at `recorded_at`, and when it is tried again."""

    error: SharedError
    recorded_at: float
    until: float
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A fetch that has begun: for what `reason`, `since` when, with which token `held`, and with the secret of which `fingerprint`."""

    reason: FetchReason
    since: float
    held: AccessToken | None
    fingerprint: str


def lease_of(question: Question, *, now: float) -> float:
    """Return the seconds for which a fetch takes the lock, and for which it respects that of another process."""
    held = question.held
    is_patient = question.reason is FetchReason.REFRESH and held is not None and now < held.usable_until
    return PATIENT_LOCK_LEASE if is_patient else LOCK_LEASE


Judgement: TypeAlias = Found | NothingNewer | Failed
"""What ends a fetch without a token request."""


def judge(
    token: SharedToken | None, failure: RecordedFailure | None, question: Question, *, now: float, shortest: float
) -> Judgement | None:
    """
    Return what the entries say to a fetch; None if a token request must be sent.

    `shortest` is the shortest interval between two forced fetches, in seconds.
    """
    held = question.held
    if token is not None and _is_usable(token, now) and _is_newer(token, held):
        return Found(
            grant=token.grant,
            requested_at=min(token.requested_at, now),
            allowance=_allowance(token.grant.lifetime),
            forcing=token.forcing,
        )
    if question.reason is FetchReason.LOOK:
        return NothingNewer()
    if question.reason is FetchReason.NEW_SECRET and _is_held_for(token, question):
        # Another process has fetched it with this secret already.
        return NothingNewer()
    if failure is not None and _counts(failure, token, question, now):
        return Failed(error=failure.error, shared=SharedFailure(until=failure.until, attempts=failure.attempts))
    if question.reason is FetchReason.FORCED and token is not None:
        is_too_soon = now < next_forced_at(token.forcing, shortest=shortest)
        if is_too_soon or has_spare_at(token.grant.quota, now) > now:
            return NothingNewer(forcing=token.forcing, quota=token.grant.quota)
    return None


def _is_usable(token: SharedToken, now: float) -> bool:
    lifetime = token.grant.lifetime
    unused = _allowance(lifetime) + min(EXPIRY_SKEW, EXPIRY_SKEW_PART * lifetime)
    return min(token.requested_at, now) + lifetime - unused > now


def _is_newer(token: SharedToken, held: AccessToken | None) -> bool:
    return held is None or (token.requested_at > held.sent_at and token.grant.value != held.value)


def _is_held_for(token: SharedToken | None, question: Question) -> bool:
    """Return whether the token in the store is the one that this process has, and was requested with its present secret."""
    held = question.held
    return (
        token is not None
        and held is not None
        and token.grant.value == held.value
        and token.fingerprint == question.fingerprint
    )


def _allowance(lifetime: float) -> float:
    return min(SKEW_ALLOWANCE, SKEW_ALLOWANCE_PART * lifetime)


def _counts(failure: RecordedFailure, token: SharedToken | None, question: Question, now: float) -> bool:
    if now >= failure.until or (token is not None and token.requested_at > failure.recorded_at):
        return False
    # Who has mended something wants the same secret to be tried again.
    return question.reason is not FetchReason.NEW_SECRET or failure.recorded_at >= question.since


# --- what is recorded ----------------------------------------------------------------------------------------------


def token_to_share(state: TokenState, before: SharedToken | None, *, fingerprint: str) -> SharedToken | None:
    """Return the token entry after a fetch of this process that brought a token; `before` is the one that it replaces."""
    token = state.token
    if token is None:
        return None
    forcing = Forcing(at=state.forced_at, in_a_row=state.forced_in_a_row)
    if before is not None and before.forcing.at > forcing.at:
        forcing = before.forcing
    return SharedToken(
        grant=TokenGrant(value=token.value, lifetime=token.lifetime, scope=token.scope, quota=state.quota),
        requested_at=token.sent_at,
        fingerprint=fingerprint,
        forcing=forcing,
    )


def failure_to_share(state: TokenState, *, now: float) -> RecordedFailure | None:
    """Return the failure entry after a fetch of this process that failed; None if others may fare better."""
    error, phase = state.error, state.phase
    if not isinstance(phase, BackingOff) or phase.lane is Lane.TRANSIENT or not isinstance(error, SharedError):
        return None
    attempts = {
        Lane.REFUSED: state.refusals,
        Lane.UNUSABLE: state.unusable,
        Lane.EXHAUSTED: state.exhaustions,
    }[phase.lane]
    return RecordedFailure(error=error, recorded_at=now, until=phase.until, attempts=attempts)


# --- entries as bytes ----------------------------------------------------------------------------------------------


def encode_token(token: SharedToken, *, ahead: float) -> bytes:
    """Return the token entry as JSON; the store's clock is `ahead` of this process's by so many seconds. It is in the clear."""
    quota = [[each.name, each.quota, each.remaining, each.resets_at + ahead] for each in token.grant.quota]
    return _encode(
        {
            "token": token.grant.value.reveal(),
            "requested_at": token.requested_at + ahead,
            "lifetime": token.grant.lifetime,
            "scope": token.grant.scope,
            "quota": quota[:_MOST_BUCKETS],
            "fingerprint": token.fingerprint,
            "forced_at": token.forcing.at + ahead if isfinite(token.forcing.at) else None,
            "forced_in_a_row": min(token.forcing.in_a_row, _MOST_ATTEMPTS),
        }
    )


def decode_token(content: bytes, *, ahead: float, now: float) -> SharedToken:
    """Return the token entry of its JSON. Raises UnusableEntryError, also if it is from the future."""
    entry = _Entry(content)
    requested_at = entry.number("requested_at", highest=now + ahead + SKEW_ALLOWANCE) - ahead
    forced_at = entry.values.get("forced_at")
    at = Forcing().at if forced_at is None else min(now, entry.number("forced_at") - ahead)
    return SharedToken(
        grant=TokenGrant(
            value=Secret(entry.text("token", _TOKEN)),
            lifetime=entry.number("lifetime", lowest=0.001, highest=_LONGEST_LIFETIME),
            scope=None if entry.values.get("scope") is None else entry.text("scope"),
            quota=current_quota(_buckets(entry, ahead=ahead, now=now), now),
        ),
        requested_at=requested_at,
        fingerprint=entry.text("fingerprint", _NAME),
        forcing=Forcing(at=at, in_a_row=entry.count("forced_in_a_row")),
    )


def _buckets(entry: _Entry, *, ahead: float, now: float) -> tuple[QuotaBucket, ...]:
    items = entry.values.get("quota")
    if not isinstance(items, list) or len(items) > _MOST_BUCKETS:
        raise UnusableEntryError("malformed")
    buckets = []
    for item in items:
        if not isinstance(item, list):
            raise UnusableEntryError("malformed")
        bucket = _Entry.of(dict(zip(("name", "quota", "remaining", "resets_at"), item, strict=False)))
        quota = None if bucket.values.get("quota") is None else bucket.count("quota", highest=10**15)
        resets_at = bucket.number("resets_at", highest=now + ahead + LONGEST_WINDOW + SKEW_ALLOWANCE) - ahead
        remaining = bucket.count("remaining", highest=10**15)
        buckets.append(
            QuotaBucket(name=bucket.text("name", _NAME), quota=quota, remaining=remaining, resets_at=resets_at)
        )
    return tuple(buckets)


def encode_failure(failure: RecordedFailure, *, ahead: float) -> bytes:
    """Return the failure entry as JSON, with times on the store's clock."""
    error = failure.error
    values: dict[str, object] = {
        "recorded_at": failure.recorded_at + ahead,
        "until": failure.until + ahead,
        "attempts": min(failure.attempts, _MOST_ATTEMPTS),
        "reason": error.reason[:_LONGEST_REASON],
        "outcome": error.outcome,
    }
    if isinstance(error, TokenQuotaExhaustedError):
        values["exhausted_until"] = None if error.exhausted_until is None else error.exhausted_until + ahead
    elif isinstance(error, TokenRequestRefusedError):
        values["is_about_client"] = error.is_about_client
    return _encode(values)


def decode_failure(content: bytes, *, ahead: float, now: float) -> RecordedFailure:
    """Return the failure entry of its JSON. Raises UnusableEntryError, also if it is from the future."""
    entry = _Entry(content)
    reason = entry.text("reason")
    error: SharedError
    latest = now + ahead + SKEW_ALLOWANCE
    match entry.values.get("outcome"):
        case TokenQuotaExhaustedError.outcome:
            stated = entry.values.get("exhausted_until")
            highest = latest + LONGEST_WINDOW
            resets_at = None if stated is None else entry.number("exhausted_until", highest=highest) - ahead
            error = TokenQuotaExhaustedError(reason, exhausted_until=resets_at)
        case TokenResponseInvalidError.outcome:
            error = TokenResponseInvalidError(reason, may_have_cost_token=True)
        case _:
            error = TokenRequestRefusedError(reason, is_about_client=entry.values.get("is_about_client") is True)
    return RecordedFailure(
        error=error,
        recorded_at=entry.number("recorded_at", highest=latest) - ahead,
        until=entry.number("until", highest=latest + 2 * LONGEST_EXHAUSTION) - ahead,
        attempts=entry.count("attempts", lowest=1),
    )


def _encode(values: Mapping[str, object]) -> bytes:
    return json.dumps({"version": _VERSION, **values}, separators=(",", ":")).encode("utf-8")


class _Entry:
    """The values of an entry, each checked as it is read: who can write to the store may have written anything."""

    def __init__(self, content: bytes) -> None:
        try:
            values = json.loads(content)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise UnusableEntryError("malformed")
        if values.get("version") != _VERSION:
            raise UnusableEntryError("of another version")
        self.values: Mapping[str, Any] = values

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> _Entry:
        """Return an entry of values that are read already."""
        entry = cls.__new__(cls)
        entry.values = values
        return entry

    def text(self, name: str, pattern: re.Pattern[str] | None = None) -> str:
        value = self.values.get(name)
        if not isinstance(value, str) or (pattern is not None and pattern.fullmatch(value) is None):
            raise UnusableEntryError("malformed")
        return value

    def number(self, name: str, *, lowest: float = 0.0, highest: float = 1e15) -> float:
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not lowest <= value <= 1e15:  # noqa: PLR2004
            raise UnusableEntryError("malformed")
        if value > highest:
            raise UnusableEntryError("from the future")
        return float(value)

    def count(self, name: str, *, lowest: int = 0, highest: int = _MOST_ATTEMPTS) -> int:
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise UnusableEntryError("malformed")
        return value
