"""Whatever an authorization server responds with: the next fetch has its time, and nothing secret is in what is told."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switch_proxy.core.backoff import EXHAUSTED_SPREAD_CEILING, LONGEST_EXHAUSTION, SHORTEST_DELAY
from switch_proxy.core.config.models import CredentialSettings, SecretSource
from switch_proxy.core.errors import TokenFetchError
from switch_proxy.core.health import HealthSnapshot, judge_readiness, render_verdict
from switch_proxy.core.lifecycle import (
    Event,
    Failed,
    Fetched,
    Fetching,
    Refuse,
    TokenState,
    decide_request,
    status_of,
    step,
    wake_at,
)
from switch_proxy.core.oauth.quoting import ServerWords
from switch_proxy.core.oauth.response import MAX_BODY, ServerResponse
from switch_proxy.core.oauth.token_response import LONGEST_LIFETIME, parse_response
from switch_proxy.core.secret import Secret
from tests.hostile_responses import CLIENT_ID, ECHOES, SECRET, TOKENS, HostileResponse, find_leak, responses, secrets_of

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW: Final = 1000.0
WALL: Final = 1_700_000_000.0
SETTINGS: Final = CredentialSettings(
    token_url="https://login.example.com/oauth/token",
    client_id=CLIENT_ID,
    client_secret=SecretSource(env="X"),
    scope="read write",
)


def _received(response: HostileResponse) -> ServerResponse:
    by_name = {name.lower(): value for name, value in reversed(response.fields)}
    return ServerResponse(
        status=response.status,
        content_type=by_name.get("content-type", ""),
        content_encoding=by_name.get("content-encoding", ""),
        retry_after=by_name.get("retry-after"),
        location=by_name.get("location"),
        date=by_name.get("date"),
        fields=response.fields,
        received_at=NOW,
        body=response.body[:MAX_BODY],
        is_complete=len(response.body) <= MAX_BODY,
    )


def _outcome(response: HostileResponse) -> Event:
    words = ServerWords(credential_name="the client secret", secret=Secret(SECRET))
    try:
        return Fetched(grant=parse_response(_received(response), settings=SETTINGS, words=words, wall=WALL))
    except TokenFetchError as error:
        return Failed(error=error)


def _told(event: Event, state: TokenState) -> Iterator[str]:
    """Return everything that is told of the response: to the log, to /readyz, to the metrics, to who waits."""
    if isinstance(event, Failed):
        assert event.error.__context__ is None
        yield from (str(event.error), repr(event.error), repr(event.error.args))
    if isinstance(event, Fetched):
        yield from (*event.grant.notes, repr(event.grant.value), repr(state.token))
    status = status_of(
        state, NOW, name="switch", secret_error=None, fetches={}, remedy="another file", uses_previous_secret=False
    )
    yield json.dumps(asdict(status), default=str)
    snapshot = HealthSnapshot(
        now=NOW, wall=WALL, credentials=(status,), listeners=(), started_at=WALL, draining_since=None
    )
    yield json.dumps(render_verdict(judge_readiness(snapshot)))
    decision = decide_request(state, NOW)
    if isinstance(decision, Refuse):
        yield decision.reason


@given(response=responses, jitter=st.floats(0.0, 1.0, exclude_max=True), failures=st.integers(0, 10**6))
@settings(deadline=None, max_examples=400)
def test_no_response_stops_the_refreshing_or_is_told(response: HostileResponse, jitter: float, failures: int) -> None:
    """A day, and what spreads a fleet after it, is the longest wait after a failure."""
    before = TokenState(
        phase=Fetching(since=NOW - 0.001), outages=failures, refusals=failures, exhaustions=failures, unusable=failures
    )
    event = _outcome(response)
    state, _ = step(before, event, NOW, jitter)
    at = wake_at(state)
    assert at is not None
    longest = LONGEST_EXHAUSTION + EXHAUSTED_SPREAD_CEILING + SHORTEST_DELAY
    if state.token is not None:
        longest = 0.95 * LONGEST_LIFETIME
    assert 0.0 < at - NOW <= longest
    is_coded = any(name.lower() == "content-encoding" for name, _ in response.fields)
    for text in _told(event, state):
        assert text.isprintable()
        assert find_leak(text, secrets_of(response.body, is_coded=is_coded)) is None, text


@pytest.mark.parametrize("status", [200, 401, 429, 503])
@pytest.mark.parametrize("first", range(0, len(ECHOES), 10))
def test_no_echo_of_a_secret_is_told(status: int, first: int) -> None:
    """Not even if it is all that the server says; without the echo, its words are told."""
    members = dict(zip(("access_token", "refreshToken", "id_token"), TOKENS, strict=True))
    for echo in ("nothing", *ECHOES[first : first + 10]):
        said = {"error": "server_error", "error_description": f"the client said {echo}", "data": [members]}
        failed = _outcome(HostileResponse(status=status, fields=(), body=json.dumps(said).encode()))
        assert isinstance(failed, Failed)
        assert find_leak(str(failed.error)) is None
        assert ("the client said" in str(failed.error)) is (echo == "nothing")


def test_the_judge_knows_every_encoding() -> None:
    assert [echo for echo in ECHOES if find_leak(f"before {echo} after") is None] == []
    assert find_leak("before and after") is None


@pytest.mark.parametrize(("levels", "is_shown"), [(6, False), (7, True), (500, True)])
def test_tokens_of_a_response_are_looked_for_to_a_depth_that_none_has(levels: int, *, is_shown: bool) -> None:
    """The response itself is one level, and each list another; however deep it is, nothing is raised."""
    nested = "[" * levels + json.dumps({"access_token": TOKENS[0]}) + "]" * levels
    body = f'{{"error": "server_error", "error_description": "it is {TOKENS[0]}", "data": {nested}}}'
    failed = _outcome(HostileResponse(status=400, fields=(), body=body.encode()))
    assert isinstance(failed, Failed)
    assert ("it is" in str(failed.error)) is is_shown
