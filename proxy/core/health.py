"""
Is the proxy ready? Verdicts with their reasons, from a snapshot of its parts.

Ready means: an app that sends a request now is served, as far as it is up to this proxy. So every listener accepts,
every credential has a token that can be used, and the proxy is not on its way out. The upstream's state is no part of
it: an API that blinks must not take the app's pod out of service.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.core.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialHealth:
    """
    What a credential has at this moment; all instants are Unix time in seconds.

    `error` is why the last fetch failed, a sentence for people; None where it did not fail, or none has ended yet.
    """

    name: str
    is_usable: bool
    obtained_at: float | None
    expires_at: float | None
    error: str | None
    next_fetch_at: float | None
    """When a token is fetched next; None while that is being done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerHealth:
    """One listener; `address` is the one bound, None where it is not."""

    name: str
    address: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSnapshot:
    """What readiness is judged by. `started_at` and `draining_since` are Unix time in seconds."""

    credentials: tuple[CredentialHealth, ...]
    listeners: tuple[ListenerHealth, ...]
    started_at: float
    draining_since: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """
    One thing that readiness needs: whether it holds, and why, for people.

    `since` is when it began to hold or not to, `until` when that will change at the latest, `next_attempt_at` when
    something is done about it; Unix time in seconds, None where it is not known.
    """

    name: str
    is_ok: bool
    reason: str
    since: float | None = None
    until: float | None = None
    next_attempt_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether the proxy is ready, and all checks, those that hold too."""

    checks: tuple[Check, ...]

    @property
    def is_ok(self) -> bool:
        """Say whether every check holds."""
        return all(check.is_ok for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return what is wrong, a sentence each; empty where nothing is."""
        return tuple(f"{check.name}: {check.reason}" for check in self.checks if not check.is_ok)


def judge_readiness(snapshot: HealthSnapshot) -> Verdict:
    """Return the verdict with its reasons."""
    return Verdict(checks=tuple(_checks(snapshot)))


def _checks(snapshot: HealthSnapshot) -> Iterator[Check]:
    for credential in snapshot.credentials:
        yield _judge_credential(credential, snapshot.started_at)
    for listener in snapshot.listeners:
        name = f"listener {listener.name}"
        if listener.address is None:
            yield Check(name=name, is_ok=False, reason="does not accept connections")
        else:
            yield Check(name=name, is_ok=True, reason=f"accepts connections on {listener.address}")
    if snapshot.draining_since is not None:
        reason = "the proxy is shutting down; requests in flight are finished, new ones belong elsewhere"
        yield Check(name="shutdown", is_ok=False, reason=reason, since=snapshot.draining_since)


def _judge_credential(credential: CredentialHealth, started_at: float) -> Check:
    name = f"credential {credential.name}"
    if credential.is_usable:
        reason = "holds a token"
        if credential.error is not None:
            reason += f", but the last fetch failed: {credential.error}"
        return Check(
            name=name,
            is_ok=True,
            reason=reason,
            since=credential.obtained_at,
            until=credential.expires_at,
            next_attempt_at=credential.next_fetch_at,
        )
    if credential.error is not None:
        reason = f"has no usable token: {credential.error}"
    elif credential.expires_at is not None:
        reason = "has no usable token: the last one has run out or was refused, and another is being fetched"
    else:
        reason = "has no usable token yet: the first one is being fetched"
    return Check(
        name=name,
        is_ok=False,
        reason=reason,
        since=started_at if credential.expires_at is None else credential.expires_at,
        next_attempt_at=credential.next_fetch_at,
    )


def render_verdict(verdict: Verdict) -> dict[str, object]:
    """Return a verdict as the document that /readyz answers; times in RFC 3339, left out where not known."""
    return {
        "status": "ready" if verdict.is_ok else "not ready",
        "checks": [_render_check(check) for check in verdict.checks],
    }


def _render_check(check: Check) -> dict[str, object]:
    document: dict[str, object] = {"name": check.name, "ok": check.is_ok, "reason": check.reason}
    times = {"since": check.since, "until": check.until, "next_attempt": check.next_attempt_at}
    return document | {name: rfc3339(at) for name, at in times.items() if at is not None}
