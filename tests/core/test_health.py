"""Readiness: what it needs, and what it says when it does not hold."""

from __future__ import annotations

import dataclasses

import pytest

from proxy.core.health import CredentialHealth, HealthSnapshot, ListenerHealth, judge_readiness, render_verdict

SECOND = 1790000000.0
HELD = CredentialHealth(
    name="switch",
    is_usable=True,
    obtained_at=SECOND,
    expires_at=SECOND + 3600,
    error=None,
    next_fetch_at=SECOND + 2880,
)
BOUND = ListenerHealth(name="switch-api", address="127.0.0.1:8080")
READY = HealthSnapshot(credentials=(HELD,), listeners=(BOUND,), started_at=SECOND - 10, draining_since=None)

NEVER_HELD = CredentialHealth(
    name="switch", is_usable=False, obtained_at=None, expires_at=None, error=None, next_fetch_at=None
)
REFUSED = dataclasses.replace(NEVER_HELD, error="401 invalid_client: wrong secret", next_fetch_at=SECOND + 300)
RUN_OUT = dataclasses.replace(HELD, is_usable=False, expires_at=SECOND - 5, error="connection refused")
REJECTED = dataclasses.replace(HELD, is_usable=False, next_fetch_at=None)


def test_ready_while_every_credential_holds_a_token_and_every_listener_is_bound() -> None:
    verdict = judge_readiness(READY)
    assert verdict.is_ok
    assert verdict.reasons == ()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        pytest.param(
            {"credentials": (NEVER_HELD,)},
            "credential switch: has no usable token yet: the first one is being fetched",
            id="first token under way",
        ),
        pytest.param(
            {"credentials": (REFUSED,)},
            "credential switch: has no usable token: 401 invalid_client: wrong secret",
            id="first fetch refused",
        ),
        pytest.param(
            {"credentials": (RUN_OUT,)},
            "credential switch: has no usable token: connection refused",
            id="token run out, no new one to be had",
        ),
        pytest.param(
            {"credentials": (REJECTED,)},
            "credential switch: has no usable token: the last one has run out or was refused, and another is being "
            "fetched",
            id="token refused by the upstream",
        ),
        pytest.param(
            {"listeners": (ListenerHealth(name="switch-api", address=None),)},
            "listener switch-api: does not accept connections",
            id="listener not bound",
        ),
        pytest.param(
            {"draining_since": SECOND},
            "shutdown: the proxy is shutting down; requests in flight are finished, new ones belong elsewhere",
            id="draining",
        ),
    ],
)
def test_not_ready_says_which_part_and_why(changed: dict[str, object], reason: str) -> None:
    verdict = judge_readiness(dataclasses.replace(READY, **changed))  # type: ignore[arg-type]
    assert not verdict.is_ok
    assert verdict.reasons == (reason,)


def test_one_credential_of_two_without_a_token_is_enough_not_to_be_ready() -> None:
    other = dataclasses.replace(REFUSED, name="vtn")
    verdict = judge_readiness(dataclasses.replace(READY, credentials=(HELD, other)))
    assert [check.is_ok for check in verdict.checks] == [True, False, True]
    assert not verdict.is_ok


def test_a_failed_refresh_leaves_it_ready_for_as_long_as_the_token_lasts_and_is_told() -> None:
    snapshot = dataclasses.replace(READY, credentials=(dataclasses.replace(HELD, error="503 from the token endpoint"),))
    verdict = judge_readiness(snapshot)
    assert verdict.is_ok
    assert verdict.checks[0].reason == "holds a token, but the last fetch failed: 503 from the token endpoint"


def test_the_document_tells_since_when_until_when_and_when_next() -> None:
    assert render_verdict(judge_readiness(READY)) == {
        "status": "ready",
        "checks": [
            {
                "name": "credential switch",
                "ok": True,
                "reason": "holds a token",
                "since": "2026-09-21T14:13:20.000Z",
                "until": "2026-09-21T15:13:20.000Z",
                "next_attempt": "2026-09-21T15:01:20.000Z",
            },
            {"name": "listener switch-api", "ok": True, "reason": "accepts connections on 127.0.0.1:8080"},
        ],
    }


@pytest.mark.parametrize(
    ("credential", "since"),
    [
        pytest.param(REFUSED, SECOND - 10, id="never held one: since the start"),
        pytest.param(RUN_OUT, SECOND - 5, id="held one: since it ran out"),
    ],
)
def test_a_credential_without_a_token_says_since_when(credential: CredentialHealth, since: float) -> None:
    verdict = judge_readiness(dataclasses.replace(READY, credentials=(credential,)))
    assert verdict.checks[0].since == since


def test_draining_says_since_when() -> None:
    document = render_verdict(judge_readiness(dataclasses.replace(READY, draining_since=SECOND)))
    assert document["status"] == "not ready"
    checks = document["checks"]
    assert isinstance(checks, list)
    assert checks[-1]["since"] == "2026-09-21T14:13:20.000Z"
