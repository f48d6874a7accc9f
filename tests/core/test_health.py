"""Readiness: its conditions, and the reasons if they do not hold."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from switch_proxy.core.health import ListenerHealth, judge_readiness, next_change_at, render_verdict
from switch_proxy.core.tokens import Freshness
from tests.credential_statuses import HELD, NEVER_HELD, NOW, READY, REFUSED, SHARED, WALL

if TYPE_CHECKING:
    from switch_proxy.core.lifecycle import CredentialStatus

RUN_OUT = replace(HELD, freshness=Freshness.EXPIRED, usable_until=NOW - 5, phase="fetching", next_fetch_at=None)


def test_ready_while_every_credential_holds_a_token_and_every_listener_is_bound() -> None:
    verdict = judge_readiness(READY)
    assert verdict.is_ok
    assert verdict.reasons == ()


@pytest.mark.parametrize(
    ("credential", "reason"),
    [
        pytest.param(NEVER_HELD, "the first is being fetched", id="the first under way"),
        pytest.param(
            REFUSED,
            "fetches have failed since 2026-09-21T14:13:18.000Z: 401 invalid_client: wrong secret",
            id="the first refused",
        ),
        pytest.param(RUN_OUT, "the last one has expired, and another is being fetched", id="run out"),
        pytest.param(
            replace(RUN_OUT, last_error="connection refused", failing_since=NOW - 60),
            "fetches have failed since 2026-09-21T14:12:20.000Z: connection refused",
            id="run out during an outage",
        ),
        pytest.param(
            replace(REFUSED, secret_error="/secret: no such file"),
            "fetches have failed since 2026-09-21T14:13:18.000Z: 401 invalid_client: wrong secret; "
            "what authenticates the client cannot be read: /secret: no such file",
            id="refused, and the secret gone since",
        ),
        pytest.param(
            replace(REFUSED, last_error="/secret: no such file", secret_error="/secret: no such file"),
            "fetches have failed since 2026-09-21T14:13:18.000Z: /secret: no such file",
            id="no secret, said once",
        ),
    ],
)
def test_a_credential_without_a_usable_token_makes_it_unready_and_says_why(
    credential: CredentialStatus, reason: str
) -> None:
    verdict = judge_readiness(replace(READY, credentials=(credential,)))
    assert not verdict.is_ok
    assert verdict.reasons == (f"credential switch: has no usable token: {reason}",)


def test_a_listener_that_is_not_bound_makes_it_unready() -> None:
    verdict = judge_readiness(replace(READY, listeners=(ListenerHealth(name="switch-api", address=None),)))
    assert verdict.reasons == ("listener switch-api: does not accept connections",)


def test_tls_files_that_cannot_be_used_leave_it_ready_and_are_told() -> None:
    """The last good ones stay in use."""
    error = "tls.client_certificate_file of route 'switch-api' cannot be used: the file /tls.crt does not exist"
    listener = ListenerHealth(name="switch-api", address="127.0.0.1:8080", tls_error=error)
    verdict = judge_readiness(replace(READY, listeners=(listener,)))
    assert verdict.is_ok
    assert (
        verdict.checks[-1].reason
        == f"accepts connections on 127.0.0.1:8080, but {error}; the last good files stay in use"
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(None, "the TLS files of a route are being read", id="being read"),
        pytest.param("the file /tls.crt was not read", "the file /tls.crt was not read", id="cannot be read"),
    ],
)
def test_tls_files_that_have_never_been_read_make_it_unready(error: str | None, reason: str) -> None:
    """The route has none to serve with."""
    listener = ListenerHealth(name="switch-api", address="127.0.0.1:8080", tls_error=error, has_tls=False)
    verdict = judge_readiness(replace(READY, listeners=(listener,)))
    assert verdict.reasons == (f"listener switch-api: cannot serve a route: {reason}",)


def test_draining_makes_it_unready_and_says_since_when() -> None:
    verdict = judge_readiness(replace(READY, draining_since=WALL))
    assert verdict.reasons == (
        "shutdown: the proxy is shutting down; requests in flight are finished, new ones are not accepted",
    )
    assert verdict.checks[-1].since == WALL


def test_the_verdict_may_change_when_the_first_token_expires() -> None:
    """Those that have expired already change nothing by themselves."""
    earlier = replace(HELD, name="vtn", usable_until=NOW + 5)
    assert next_change_at(replace(READY, credentials=(HELD, earlier, RUN_OUT, NEVER_HELD))) == NOW + 5
    assert next_change_at(replace(READY, credentials=(RUN_OUT, NEVER_HELD))) is None


def test_one_credential_of_two_without_a_token_is_enough_not_to_be_ready() -> None:
    verdict = judge_readiness(replace(READY, credentials=(HELD, replace(REFUSED, name="vtn"))))
    assert [check.is_ok for check in verdict.checks] == [True, False, True]
    assert not verdict.is_ok


@pytest.mark.parametrize("freshness", [Freshness.FRESH, Freshness.STALE])
def test_failed_fetches_leave_it_ready_for_as_long_as_the_token_lasts_and_are_told(freshness: Freshness) -> None:
    credential = replace(HELD, freshness=freshness, last_error="503 from the token endpoint", failing_since=NOW - 30)
    verdict = judge_readiness(replace(READY, credentials=(credential,)))
    assert verdict.is_ok
    assert verdict.checks[0].reason == (
        "holds a token, but fetches have failed since 2026-09-21T14:12:50.000Z: 503 from the token endpoint"
    )


def test_a_refused_client_is_told_since_when_until_when_and_the_remedy() -> None:
    """The window of a rotation: the old secret is dead, and the new one not yet in the pod."""
    credential = replace(
        HELD, last_error="401 invalid_client", failing_since=NOW - 30, refused_since=NOW - 20, next_fetch_at=NOW + 60
    )
    verdict = judge_readiness(replace(READY, credentials=(credential,)))
    assert verdict.is_ok
    document = render_verdict(verdict)["checks"]
    assert isinstance(document, list)
    assert document[0] == {
        "name": "credential switch",
        "ok": True,
        "reason": (
            "holds a token, but fetches have failed since 2026-09-21T14:12:50.000Z: 401 invalid_client; the authorization "
            "server has refused the client since 2026-09-21T14:13:00.000Z, the token lasts until "
            "2026-09-21T15:13:10.000Z; remedy: another content of the file /secret"
        ),
        "since": "2026-09-21T14:13:20.000Z",
        "until": "2026-09-21T15:13:10.000Z",
        "next_attempt": "2026-09-21T14:14:20.000Z",
        "refused_since": "2026-09-21T14:13:00.000Z",
        "remedy": "another content of the file /secret",
    }


def test_a_client_that_was_revoked_is_told_with_what_to_do() -> None:
    """There is no token any more, and the remedy is reported all the same."""
    credential = replace(REFUSED, refused_since=NOW - 2, remedy="a restart with another value of the variable S")
    (reason,) = judge_readiness(replace(READY, credentials=(credential,))).reasons
    assert reason.endswith(
        "the authorization server has refused the client since 2026-09-21T14:13:18.000Z; remedy: a restart "
        "with another value of the variable S"
    )


def test_a_token_store_that_cannot_be_used_is_told_and_has_no_effect_on_readiness() -> None:
    (check, _) = judge_readiness(replace(READY, credentials=(SHARED,))).checks
    assert check.is_ok
    assert check.reason == (
        "holds a token, but the token store cannot be used: the directory /tokens cannot be used: No space left on device"
    )


def test_a_newer_secret_that_is_refused_is_told_while_the_previous_one_works() -> None:
    (check, _) = judge_readiness(replace(READY, credentials=(replace(HELD, uses_previous_secret=True),))).checks
    assert check.is_ok
    assert (
        check.reason == "holds a token, but the newer of two client secrets is refused, and the previous one is in use"
    )


def test_the_document_tells_since_when_until_when_and_when_next() -> None:
    """`until` is when the token stops being used, a little before it expires."""
    assert render_verdict(judge_readiness(READY)) == {
        "status": "ready",
        "checks": [
            {
                "name": "credential switch",
                "ok": True,
                "reason": "holds a token",
                "since": "2026-09-21T14:13:20.000Z",
                "until": "2026-09-21T15:13:10.000Z",
                "next_attempt": "2026-09-21T15:01:20.000Z",
            },
            {"name": "listener switch-api", "ok": True, "reason": "accepts connections on 127.0.0.1:8080"},
        ],
    }


@pytest.mark.parametrize(
    ("credential", "since"),
    [
        pytest.param(REFUSED, WALL - 10, id="never held one: since the start"),
        pytest.param(RUN_OUT, WALL - 5, id="held one: since it ran out"),
    ],
)
def test_a_credential_without_a_token_says_since_when(credential: CredentialStatus, since: float) -> None:
    verdict = judge_readiness(replace(READY, credentials=(credential,)))
    assert verdict.checks[0].since == since


def test_the_verdict_in_the_document_is_the_one_judged() -> None:
    assert render_verdict(judge_readiness(replace(READY, draining_since=WALL)))["status"] == "not ready"


@pytest.mark.parametrize("held", [HELD, NEVER_HELD], ids=["with a token", "without"])
def test_a_used_up_quota_is_told_with_its_end(held: CredentialStatus) -> None:
    text = "the client's quota of tokens (50 a day) is used up until 00:00 UTC"
    credential = replace(held, last_error=text, failing_since=NOW - 1, is_exhausted=True, exhausted_until=NOW + 3600)
    verdict = judge_readiness(replace(READY, credentials=(credential,)))
    document = render_verdict(verdict)
    assert isinstance(document["checks"], list)
    check = document["checks"][0]
    assert text in check["reason"]
    assert check["exhausted_until"] == "2026-09-21T15:13:20.000Z"
    assert check["ok"] is held.is_usable
