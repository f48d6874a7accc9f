"""What the log tells of credentials: one line for each event that is news, without the secret or the token in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import pytest

from switch_proxy.core.config.models import LogSettings
from switch_proxy.core.credential_events import (
    CredentialEvent,
    SecretBroken,
    SecretRefused,
    SecretReloaded,
    SecretRestored,
    TokenRefreshed,
    TokenRefreshFailed,
)
from switch_proxy.core.redaction import MASK
from switch_proxy.core.secret import Secret
from switch_proxy.core.tokens import TokenGrant, issue
from switch_proxy.logs.credentials import CredentialLog
from switch_proxy.logs.log import Log

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "the-token-that-nobody-may-see"
SECRET = "the-secret-that-nobody-may-see"

REFRESHED = TokenRefreshed(
    credential="switch",
    token=issue(TokenGrant(value=Secret(TOKEN), lifetime=3600.0, scope=None), generation=3, sent_at=10.0, jitter=0.0),
    lifetime=3600.0,
    refresh_in=2699.98765,
    duration=0.01234567,
    after_failures=2,
)
RELOADED = SecretReloaded(credential="switch", source="the file /secret", secret=Secret(SECRET), is_first=False)
BROKEN = SecretBroken(credential="switch", source="the file /secret", error="it is gone", has_last_good=True)
RESTORED = SecretRestored(credential="switch", source="the file /secret")


def failed(*, is_news: bool, refused_for: float | None = None, awaits: str | None = None) -> TokenRefreshFailed:
    return TokenRefreshFailed(
        credential="switch",
        outcome="refused",
        error="401 invalid_client",
        retry_in=300.0,
        duration=0.25,
        consecutive_failures=4,
        usable_for=None,
        refused_for=refused_for,
        awaits=awaits,
        is_news=is_news,
    )


def told(
    path: Path, *events: CredentialEvent, level: Literal["debug", "info", "error"] = "info"
) -> list[dict[str, Any]]:
    """Return the lines that the events become, followed by one that has the secret and the token in it."""
    with (path / "log").open("wb") as file:
        log = Log(LogSettings(level=level), environ={}, wall=lambda: 1.79e9, descriptor=file.fileno())
        credential_log = CredentialLog(events=log.events, redactor=log.redactor)
        for event in events:
            credential_log.on_event(event)
        log.events.error("leak.tried", text=f"{SECRET} {TOKEN}")
        log.close()
    return [json.loads(line) for line in (path / "log").read_text().splitlines()]


@pytest.mark.parametrize(
    ("event", "line"),
    [
        pytest.param(
            REFRESHED,
            {
                "level": "info",
                "event": "token.refreshed",
                "credential": "switch",
                "generation": 3,
                "lifetime": 3600.0,
                "refresh_in": 2699.988,
                "duration": 0.012,
                "after_failures": 2,
            },
            id="a new token",
        ),
        pytest.param(
            failed(is_news=True),
            {
                "level": "warning",
                "event": "token.refresh_failed",
                "credential": "switch",
                "outcome": "refused",
                "error": "401 invalid_client",
                "retry_in": 300.0,
                "duration": 0.25,
                "consecutive_failures": 4,
                "token_usable_for": None,
            },
            id="a failed fetch",
        ),
        pytest.param(
            failed(is_news=True, refused_for=61.00049, awaits="another content of the file /secret"),
            {
                "level": "warning",
                "event": "token.refresh_failed",
                "credential": "switch",
                "outcome": "refused",
                "error": "401 invalid_client",
                "retry_in": 300.0,
                "duration": 0.25,
                "consecutive_failures": 4,
                "token_usable_for": None,
                "refused_for": 61.0,
                "awaits": "another content of the file /secret",
            },
            id="a refused client",
        ),
        pytest.param(
            SecretRefused(credential="switch", source="the file /secret", error="401 invalid_client", is_news=True),
            {
                "level": "warning",
                "event": "secret.refused",
                "credential": "switch",
                "source": "the file /secret",
                "error": "401 invalid_client",
                "used_instead": "the previous secret",
            },
            id="the newer of two secrets refused",
        ),
        pytest.param(
            RELOADED,
            {
                "level": "info",
                "event": "secret.reloaded",
                "credential": "switch",
                "source": "the file /secret",
                "is_first": False,
            },
            id="a new secret",
        ),
        pytest.param(
            BROKEN,
            {
                "level": "warning",
                "event": "secret.broken",
                "credential": "switch",
                "source": "the file /secret",
                "error": "it is gone",
                "has_last_good": True,
            },
            id="a secret that cannot be read",
        ),
        pytest.param(
            RESTORED,
            {"level": "info", "event": "secret.restored", "credential": "switch", "source": "the file /secret"},
            id="a secret that can be read again",
        ),
    ],
)
def test_each_event_is_told_with_what_an_operator_needs(
    tmp_path: Path, event: CredentialEvent, line: dict[str, Any]
) -> None:
    first, _ = told(tmp_path, event)
    del first["timestamp"]
    assert first == line


@pytest.mark.parametrize(
    ("level", "count"), [pytest.param("info", 1, id="at info, once"), pytest.param("debug", 3, id="at debug, each")]
)
def test_trouble_that_goes_on_is_told_once(tmp_path: Path, level: Literal["debug", "info"], count: int) -> None:
    lines = told(tmp_path, failed(is_news=True), failed(is_news=False), failed(is_news=False), level=level)
    assert [line["event"] for line in lines].count("token.refresh_failed") == count


@pytest.mark.parametrize("level", ["info", "error"])
def test_every_secret_and_token_is_masked_from_its_event_on_whether_that_is_logged_or_not(
    tmp_path: Path, level: Literal["info", "error"]
) -> None:
    *_, last = told(tmp_path, REFRESHED, RELOADED, level=level)
    assert last["text"] == f"{MASK} {MASK}"
