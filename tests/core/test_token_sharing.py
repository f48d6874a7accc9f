"""What a fetch takes from the store of shared tokens, what it leaves there, and that no entry can do harm."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from math import inf
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.backoff import Lane
from switch_proxy.core.errors import (
    TokenEndpointUnavailableError,
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
    Idle,
    NothingNewer,
    SharedFailure,
    TokenState,
)
from switch_proxy.core.quota import QuotaBucket
from switch_proxy.core.secret import Secret
from switch_proxy.core.token_sharing import (
    Question,
    RecordedFailure,
    SharedToken,
    UnusableEntryError,
    decode_failure,
    decode_token,
    encode_failure,
    encode_token,
    failure_to_share,
    judge,
    lease_of,
    token_to_share,
)
from switch_proxy.core.tokens import AccessToken, TokenGrant, issue

DAY: Final = 86_400.0
NOW: Final = 1_000_000.0
BUCKET: Final = QuotaBucket(name="per_day", quota=50, remaining=40, resets_at=NOW + 3600.0)
REFUSED: Final = TokenRequestRefusedError("invalid_client: no", is_about_client=True)
UNUSABLE: Final = TokenResponseInvalidError("no token_type", may_have_cost_token=True)
EXHAUSTED: Final = TokenQuotaExhaustedError("50 a day are used up", exhausted_until=NOW + 7200.0)


def _grant(value: str, lifetime: float = DAY) -> TokenGrant:
    return TokenGrant(value=Secret(value), lifetime=lifetime, scope="a b", quota=(BUCKET,))


def _held(value: str = "old", sent_at: float = NOW - 1000.0) -> AccessToken:
    return issue(_grant(value), generation=3, sent_at=sent_at, jitter=0.5)


def _shared(value: str = "new", requested_at: float = NOW - 10.0, **changes: Any) -> SharedToken:
    shared = SharedToken(
        grant=_grant(value), requested_at=requested_at, fingerprint="aaaa", forcing=Forcing(at=NOW - 10.0, in_a_row=1)
    )
    return replace(shared, **changes)


def _question(reason: FetchReason = FetchReason.REFRESH, held: AccessToken | None = None) -> Question:
    return Question(reason=reason, since=NOW - 1.0, held=held, fingerprint="aaaa")


def _judge(token: SharedToken | None, question: Question, failure: RecordedFailure | None = None) -> object:
    return judge(token, failure, question, now=NOW, shortest=60.0)


# --- tokens --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", list(FetchReason))
@pytest.mark.parametrize("held", [None, _held()], ids=["without a token", "with an older token"])
def test_a_newer_token_is_taken_whatever_the_reason(reason: FetchReason, held: AccessToken | None) -> None:
    shared = _shared()
    assert _judge(shared, _question(reason, held)) == Found(
        grant=shared.grant, requested_at=NOW - 10.0, allowance=60.0, forcing=shared.forcing
    )


@pytest.mark.parametrize(
    "shared",
    [
        pytest.param(None, id="there is none"),
        pytest.param(_shared("old"), id="it is the one that is held"),
        pytest.param(_shared(requested_at=NOW - 1000.0), id="it was requested at the same time"),
        pytest.param(_shared(requested_at=NOW - 1000.1), id="it is older"),
    ],
)
@pytest.mark.parametrize(
    ("reason", "expected"),
    [(FetchReason.REFRESH, None), (FetchReason.LOOK, NothingNewer())],
    ids=["a refresh sends a request", "a look ends"],
)
def test_a_token_that_is_not_newer_is_not_taken(
    shared: SharedToken | None, reason: FetchReason, expected: object
) -> None:
    assert _judge(shared, _question(reason, _held())) == expected


@pytest.mark.parametrize(
    ("lifetime", "age", "is_taken"),
    [
        pytest.param(DAY, DAY - 70.5, True, id="a day's token, just before the allowance and the skew"),
        pytest.param(DAY, DAY - 70.0, False, id="a day's token, at the allowance and the skew"),
        pytest.param(100.0, 84.5, True, id="a short token, just before a tenth and the skew"),
        pytest.param(100.0, 85.0, False, id="a short token, at a tenth and the skew"),
    ],
)
def test_a_token_is_taken_until_shortly_before_its_end(*, lifetime: float, age: float, is_taken: bool) -> None:
    shared = _shared(grant=_grant("new", lifetime), requested_at=NOW - age)
    assert (_judge(shared, _question()) is not None) is is_taken


def test_a_token_from_a_clock_that_is_ahead_counts_as_requested_now() -> None:
    found = _judge(_shared(requested_at=NOW + 50.0), _question())
    assert isinstance(found, Found)
    assert found.requested_at == NOW


# --- forced fetches, new secrets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forcing", "may_force"),
    [
        pytest.param(Forcing(), True, id="none has been forced"),
        pytest.param(Forcing(at=NOW - 60.0, in_a_row=1), True, id="a minute ago"),
        pytest.param(Forcing(at=NOW - 59.9, in_a_row=1), False, id="less than a minute ago"),
        pytest.param(Forcing(at=NOW - 119.9, in_a_row=2), False, id="less than two minutes ago, in vain"),
    ],
)
def test_the_budget_of_forced_fetches_is_the_fleets(forcing: Forcing, *, may_force: bool) -> None:
    shared = _shared("old", forcing=forcing)
    expected = None if may_force else NothingNewer(forcing=forcing, quota=(BUCKET,))
    assert _judge(shared, _question(FetchReason.FORCED, _held())) == expected


def test_the_last_tokens_of_the_quota_are_not_spent_on_a_forced_fetch_by_anybody() -> None:
    scarce = replace(BUCKET, remaining=10)
    shared = _shared("old", grant=replace(_grant("old"), quota=(scarce,)), forcing=Forcing())
    assert _judge(shared, _question(FetchReason.FORCED, _held())) == NothingNewer(forcing=Forcing(), quota=(scarce,))


@pytest.mark.parametrize(
    ("fingerprint", "expected"),
    [
        pytest.param("aaaa", NothingNewer(), id="with this secret"),
        pytest.param("bbbb", None, id="with another"),
    ],
)
def test_a_new_secret_costs_no_token_if_the_one_held_was_requested_with_it(fingerprint: str, expected: object) -> None:
    shared = _shared("old", fingerprint=fingerprint)
    assert _judge(shared, _question(FetchReason.NEW_SECRET, _held())) == expected


def test_a_new_secret_without_a_token_or_an_entry_sends_a_request() -> None:
    assert _judge(None, _question(FetchReason.NEW_SECRET)) is None


# --- failures ------------------------------------------------------------------------------------------------------


def _failure(**changes: Any) -> RecordedFailure:
    failure = RecordedFailure(error=REFUSED, recorded_at=NOW - 5.0, until=NOW + 60.0, attempts=4)
    return replace(failure, **changes)


def test_a_failure_of_another_process_is_heeded_until_its_end() -> None:
    question = _question()
    heeded = Failed(error=REFUSED, shared=SharedFailure(until=NOW + 60.0, attempts=4))
    assert _judge(None, question, _failure()) == heeded
    assert _judge(None, question, _failure(until=NOW)) is None


def test_a_failure_before_the_newest_token_is_over() -> None:
    assert _judge(_shared("old"), _question(held=_held()), _failure(recorded_at=NOW - 11.0)) is None
    assert _judge(_shared("old"), _question(held=_held()), _failure(recorded_at=NOW - 10.0)) is not None


def test_who_has_mended_something_looks_past_failures_before_that() -> None:
    """The fetch began at NOW - 1; what has failed since then was tried after the mending."""
    question = _question(FetchReason.NEW_SECRET)
    assert _judge(None, question, _failure(recorded_at=NOW - 1.1)) is None
    assert _judge(None, question, _failure(recorded_at=NOW - 1.0)) is not None


@pytest.mark.parametrize(
    ("question", "lease"),
    [
        pytest.param(_question(held=_held()), 30.0, id="a refresh in time"),
        pytest.param(_question(), 2.0, id="no token"),
        pytest.param(_question(held=_held(sent_at=NOW - DAY + 10.0)), 2.0, id="a token that is no longer used"),
        pytest.param(_question(FetchReason.FORCED, _held()), 2.0, id="a refused token"),
    ],
)
def test_a_lock_is_kept_for_longer_if_no_request_waits(question: Question, lease: float) -> None:
    assert lease_of(question, now=NOW) == lease


# --- what is left for others ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "forcing"),
    [
        pytest.param(None, Forcing(at=NOW - 50.0, in_a_row=2), id="no entry"),
        pytest.param(Forcing(at=NOW - 70.0, in_a_row=5), Forcing(at=NOW - 50.0, in_a_row=2), id="an older one"),
        pytest.param(Forcing(at=NOW - 40.0, in_a_row=1), Forcing(at=NOW - 40.0, in_a_row=1), id="a later one"),
    ],
)
def test_the_token_and_the_last_forced_fetch_of_all_are_shared(before: Forcing | None, forcing: Forcing) -> None:
    state = TokenState(phase=Idle(wake_at=inf), token=_held(), quota=(BUCKET,), forced_at=NOW - 50.0, forced_in_a_row=2)
    entry = None if before is None else _shared(forcing=before)
    assert token_to_share(state, entry, fingerprint="cccc") == SharedToken(
        grant=_grant("old"), requested_at=NOW - 1000.0, fingerprint="cccc", forcing=forcing
    )


def test_without_a_token_none_is_shared() -> None:
    assert token_to_share(TokenState(phase=Idle(wake_at=inf)), None, fingerprint="cccc") is None


def test_what_costs_others_a_token_or_is_in_vain_is_shared_and_nothing_else() -> None:
    refused = BackingOff(until=NOW + 9.0, lane=Lane.REFUSED)
    exhausted = BackingOff(until=NOW + 9.0, lane=Lane.EXHAUSTED)
    down = BackingOff(until=NOW + 9.0, lane=Lane.TRANSIENT)
    state = TokenState(phase=refused, error=REFUSED, refusals=3, exhaustions=5)

    assert failure_to_share(state, now=NOW) == RecordedFailure(
        error=REFUSED, recorded_at=NOW, until=NOW + 9.0, attempts=3
    )
    assert failure_to_share(replace(state, phase=exhausted, error=EXHAUSTED), now=NOW) == RecordedFailure(
        error=EXHAUSTED, recorded_at=NOW, until=NOW + 9.0, attempts=5
    )
    unusable = replace(state, phase=replace(refused, lane=Lane.UNUSABLE), error=UNUSABLE, unusable=7)
    assert failure_to_share(unusable, now=NOW) == RecordedFailure(
        error=UNUSABLE, recorded_at=NOW, until=NOW + 9.0, attempts=7
    )
    assert failure_to_share(replace(unusable, phase=down), now=NOW) is None
    outage = replace(state, phase=down, error=TokenEndpointUnavailableError("down"))
    assert failure_to_share(outage, now=NOW) is None
    assert failure_to_share(replace(state, phase=Idle(wake_at=inf)), now=NOW) is None


# --- entries -------------------------------------------------------------------------------------------------------


def _as_values(failure: RecordedFailure) -> dict[str, Any]:
    error = failure.error
    until = error.exhausted_until if isinstance(error, TokenQuotaExhaustedError) else None
    is_about_client = error.is_about_client if isinstance(error, TokenRequestRefusedError) else None
    times = pytest.approx(failure.recorded_at), pytest.approx(failure.until)
    return {
        "kind": type(error),
        "reason": error.reason,
        "times": times,
        "attempts": failure.attempts,
        "until": None if until is None else pytest.approx(until),
        "is_about_client": is_about_client,
    }


@pytest.mark.parametrize("ahead", [0.0, 1.7e9, -5e5], ids=["same clock", "Unix time", "behind"])
@pytest.mark.parametrize("forcing", [Forcing(), Forcing(at=NOW - 3.0, in_a_row=2)], ids=["never forced", "forced"])
def test_a_token_entry_is_read_as_it_was_written(ahead: float, forcing: Forcing) -> None:
    token = _shared(forcing=forcing)
    read = decode_token(encode_token(token, ahead=ahead), ahead=ahead, now=NOW)
    assert read.grant.value == token.grant.value
    assert (read.grant.lifetime, read.grant.scope, read.fingerprint) == (DAY, "a b", "aaaa")
    assert read.requested_at == pytest.approx(token.requested_at)
    assert read.forcing.in_a_row == forcing.in_a_row
    assert read.forcing.at == pytest.approx(forcing.at)
    assert [replace(each, resets_at=0.0) for each in read.grant.quota] == [replace(BUCKET, resets_at=0.0)]


def test_buckets_of_the_past_and_unknown_quotas_are_read() -> None:
    unknown = replace(BUCKET, quota=None)
    past = replace(BUCKET, name="per_hour", resets_at=NOW - 1.0)
    token = _shared(grant=replace(_grant("new"), scope=None, quota=(unknown, past)))
    read = decode_token(encode_token(token, ahead=0.0), ahead=0.0, now=NOW)
    assert (read.grant.scope, read.grant.quota) == (None, (unknown,))


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(REFUSED, id="the client"),
        pytest.param(TokenRequestRefusedError("invalid_scope"), id="the request"),
        pytest.param(EXHAUSTED, id="used up"),
        pytest.param(TokenQuotaExhaustedError("unknown until when"), id="used up, nobody knows until when"),
        pytest.param(UNUSABLE, id="of no use"),
    ],
)
def test_a_failure_entry_is_read_as_it_was_written(error: Any) -> None:
    failure = _failure(error=error)
    read = decode_failure(encode_failure(failure, ahead=1.7e9), ahead=1.7e9, now=NOW)
    assert _as_values(failure) == _as_values(read)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"version": 2}, "of another version", id="another version"),
        pytest.param({"token": "a\r\nb"}, "malformed", id="a token that would end the line"),
        pytest.param({"token": 7}, "malformed", id="a token that is no text"),
        pytest.param({"lifetime": 0}, "malformed", id="no life"),
        pytest.param({"lifetime": True}, "malformed", id="a life that is no number"),
        pytest.param({"lifetime": 31 * DAY}, "from the future", id="a life of more than a month"),
        pytest.param({"lifetime": float("nan")}, "malformed", id="a life that is not a number"),
        pytest.param({"requested_at": NOW + 60.0}, None, id="from a clock that is a minute ahead"),
        pytest.param({"requested_at": NOW + 61.0}, "from the future", id="from the future"),
        pytest.param({"scope": 1}, "malformed", id="a scope that is no text"),
        pytest.param({"forced_in_a_row": -1}, "malformed", id="a negative count"),
        pytest.param({"quota": None}, "malformed", id="no quota"),
        pytest.param({"quota": [1]}, "malformed", id="a bucket that is a number"),
        pytest.param({"quota": [["x"]]}, "malformed", id="a bucket that is cut"),
        pytest.param({"quota": [["per_day", 1, 1, NOW]] * 9}, "malformed", id="too many buckets"),
        pytest.param({"quota": [['x"} 1', 1, 1, NOW]]}, "malformed", id="a bucket's name that is no word"),
    ],
)
def test_a_token_entry_that_cannot_be_true_is_not_used(change: dict[str, Any], reason: str | None) -> None:
    values = json.loads(encode_token(_shared(), ahead=0.0)) | change
    content = json.dumps(values).encode()
    if reason is None:
        decode_token(content, ahead=0.0, now=NOW)
        return
    with pytest.raises(UnusableEntryError) as raised:
        decode_token(content, ahead=0.0, now=NOW)
    assert raised.value.reason == reason


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
_ENTRIES = st.fixed_dictionaries(
    {"version": st.just(1)},
    optional=dict.fromkeys(
        (
            *("token", "requested_at", "lifetime", "scope", "quota", "fingerprint", "forced_at", "forced_in_a_row"),
            *("recorded_at", "until", "attempts", "reason", "outcome", "exhausted_until", "is_about_client"),
        ),
        _JSON,
    ),
).map(lambda values: json.dumps(values).encode())


@given(content=st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode()) | _ENTRIES)
def test_no_entry_raises_anything_but_that_it_is_unusable(content: bytes) -> None:
    for decode in (decode_token, decode_failure):
        with contextlib.suppress(UnusableEntryError):
            decode(content, ahead=1.7e9, now=NOW)


def test_an_entry_of_nothing_but_brackets_is_malformed() -> None:
    with pytest.raises(UnusableEntryError, match="malformed"):
        decode_token(b"[" * 200_000, ahead=0.0, now=NOW)
