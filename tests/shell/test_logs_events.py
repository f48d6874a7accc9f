"""How the log writes events: one line for each that is news, with its fields in order."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, Literal, get_args

import pytest

from switch_proxy.core.config.models import LogSettings
from switch_proxy.core.events import (
    CredentialEvent,
    Event,
    LoopErrorCaught,
    ProcessEvent,
    ProxyBecameUnready,
    ProxyDraining,
    RouteEvent,
    SecretBroken,
    SecretLoaded,
    SecretRefused,
    SecretReloaded,
    SecretRestored,
    TaskDied,
    TlsBroken,
    TokenRefreshed,
    TokenRefreshFailed,
)
from switch_proxy.logs.log import Log

if TYPE_CHECKING:
    from pathlib import Path

REFRESHED = TokenRefreshed(
    credential="switch",
    generation=3,
    lifetime=3600.0,
    refresh_in=2699.98765,
    duration=0.01234567,
    after_failures=2,
)
LOADED = SecretLoaded(credential="switch", source="the file /secret")
RELOADED = SecretReloaded(credential="switch", source="the file /secret")
BROKEN = SecretBroken(credential="switch", source="the file /secret", error="it is gone", has_last_good=True)
RESTORED = SecretRestored(credential="switch", source="the file /secret")


def failed(
    *, is_first_occurrence: bool, refused_for: float | None = None, remedy: str | None = None
) -> TokenRefreshFailed:
    return TokenRefreshFailed(
        credential="switch",
        outcome="refused",
        error="401 invalid_client",
        retry_in=300.0,
        duration=0.25,
        consecutive_failures=4,
        token_usable_for=None,
        refused_for=refused_for,
        remedy=remedy,
        is_first_occurrence=is_first_occurrence,
    )


def told(path: Path, *events: Event, level: Literal["debug", "info", "error"] = "info") -> list[dict[str, Any]]:
    """Return the lines that the events become."""
    with (path / "log").open("wb") as file:
        log = Log(LogSettings(level=level), environ={}, wall=lambda: 1.79e9, descriptor=file.fileno())
        for event in events:
            log.write(event)
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
            failed(is_first_occurrence=True),
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
            failed(is_first_occurrence=True, refused_for=61.00049, remedy="another content of the file /secret"),
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
                "remedy": "another content of the file /secret",
            },
            id="a refused client",
        ),
        pytest.param(
            SecretRefused(
                credential="switch", source="the file /secret", error="401 invalid_client", is_first_occurrence=True
            ),
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
            LOADED,
            {"level": "info", "event": "secret.loaded", "credential": "switch", "source": "the file /secret"},
            id="the first secret",
        ),
        pytest.param(
            RELOADED,
            {"level": "info", "event": "secret.reloaded", "credential": "switch", "source": "the file /secret"},
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
        pytest.param(
            TlsBroken(has_last_good=True, route="switch-api", source="the file /tls.crt", error="it does not exist"),
            {
                "level": "warning",
                "event": "tls.broken",
                "route": "switch-api",
                "source": "the file /tls.crt",
                "error": "it does not exist",
                "has_last_good": True,
            },
            id="TLS files that cannot be used",
        ),
        pytest.param(
            ProxyBecameUnready(reasons=("credential switch: has no usable token",)),
            {
                "level": "warning",
                "event": "proxy.became_unready",
                "reasons": ["credential switch: has no usable token"],
            },
            id="unready",
        ),
        pytest.param(
            ProxyDraining(drain_delay=0.5, grace_period=25.0),
            {"level": "info", "event": "proxy.draining", "drain_delay": 0.5, "grace_period": 25.0},
            id="draining",
        ),
        pytest.param(
            LoopErrorCaught(message="a callback failed", exc_info=None),
            {"level": "error", "event": "loop.error_caught", "message": "a callback failed"},
            id="an error without an exception",
        ),
        pytest.param(
            TaskDied(exc_info=OSError("the clock has stopped")),
            {"level": "critical", "event": "task.died", "exception": "OSError: the clock has stopped"},
            id="an exception",
        ),
    ],
)
def test_each_event_is_told_with_what_an_operator_needs(tmp_path: Path, event: Event, line: dict[str, Any]) -> None:
    (first,) = told(tmp_path, event)
    del first["timestamp"]
    assert first == line


@pytest.mark.parametrize(
    ("level", "count"), [pytest.param("info", 1, id="at info, once"), pytest.param("debug", 3, id="at debug, each")]
)
def test_trouble_that_goes_on_is_told_once(tmp_path: Path, level: Literal["debug", "info"], count: int) -> None:
    lines = told(
        tmp_path,
        failed(is_first_occurrence=True),
        failed(is_first_occurrence=False),
        failed(is_first_occurrence=False),
        level=level,
    )
    assert [line["event"] for line in lines].count("token.refresh_failed") == count


def test_no_event_holds_a_secret_or_a_token() -> None:
    """They are masked where they are read and made, and not by an observer of events."""
    for kind in get_args(CredentialEvent) + get_args(RouteEvent) + get_args(ProcessEvent):
        for each in dataclasses.fields(kind):
            assert "Secret" not in str(each.type), kind
            assert "AccessToken" not in str(each.type), kind
