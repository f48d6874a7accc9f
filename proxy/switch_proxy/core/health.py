"""
Readiness: verdicts with their reasons, from a snapshot of the proxy's parts.

The proxy is ready if it can serve an app's request now: every listener accepts connections, every credential has a usable
token, the TLS files of every route have been read, and the proxy is not shutting down. The upstream's state does not count, because a short failure of the API must not
take the app's pod out of service.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from switch_proxy.core.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator

    from switch_proxy.core.lifecycle import CredentialStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerHealth:
    """
    One listener and the route behind it.

    `address` is the one bound, None if there is none. `tls_error` says why the route's TLS files cannot be used now,
    None if they can; the last good ones stay in use. `has_tls` says whether each route has any.
    """

    name: str
    address: str | None
    tls_error: str | None = None
    has_tls: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSnapshot:
    """
    The state from which readiness is judged.

    The instants of the credentials are on a clock that reads `now` when Unix time is `wall`; `started_at` and
    `draining_since` are Unix time. All in seconds.
    """

    now: float
    wall: float
    credentials: tuple[CredentialStatus, ...]
    listeners: tuple[ListenerHealth, ...]
    started_at: float
    draining_since: float | None

    def unix_time(self, at: float | None) -> float | None:
        """Return the Unix time of one of the credentials' instants."""
        return None if at is None else self.wall + (at - self.now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """
    One condition of readiness: whether it holds, and why, for people.

    `since` is when that began, `until` when it will change at the latest, `next_attempt_at` when the next fetch begins; Unix
    time in seconds, None if unknown. The authorization server has refused the client since `refused_since`, and `remedy`
    is what would end that. The client's quota of tokens is used up until `exhausted_until`.
    """

    name: str
    is_ok: bool
    reason: str
    since: float | None = None
    until: float | None = None
    next_attempt_at: float | None = None
    refused_since: float | None = None
    remedy: str | None = None
    exhausted_until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether the proxy is ready, and all checks, including those that hold."""

    checks: tuple[Check, ...]

    @property
    def is_ok(self) -> bool:
        """Return whether every check holds."""
        return all(check.is_ok for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return the reasons of the checks that do not hold, a sentence each."""
        return tuple(f"{check.name}: {check.reason}" for check in self.checks if not check.is_ok)


def judge_readiness(snapshot: HealthSnapshot) -> Verdict:
    """Return the verdict with its reasons."""
    return Verdict(checks=tuple(_checks(snapshot)))


def next_change_at(snapshot: HealthSnapshot) -> float | None:
    """Return when the verdict may change without an event: when the first usable token expires. None if there is none."""
    return min(
        (
            credential.usable_until
            for credential in snapshot.credentials
            if credential.is_usable and credential.usable_until is not None
        ),
        default=None,
    )


def _checks(snapshot: HealthSnapshot) -> Iterator[Check]:
    for credential in snapshot.credentials:
        yield _judge_credential(credential, snapshot)
    for listener in snapshot.listeners:
        name = f"listener {listener.name}"
        if listener.address is None:
            yield Check(name=name, is_ok=False, reason="does not accept connections")
        elif not listener.has_tls:
            reason = listener.tls_error or "the TLS files of a route are being read"
            yield Check(name=name, is_ok=False, reason=f"cannot serve a route: {reason}")
        else:
            reason = f"accepts connections on {listener.address}"
            if listener.tls_error is not None:
                reason += f", but {listener.tls_error}; the last good files stay in use"
            yield Check(name=name, is_ok=True, reason=reason)
    if snapshot.draining_since is not None:
        reason = "the proxy is shutting down; requests in flight are finished, new ones are not accepted"
        yield Check(name="shutdown", is_ok=False, reason=reason, since=snapshot.draining_since)


def _judge_credential(credential: CredentialStatus, snapshot: HealthSnapshot) -> Check:
    name = f"credential {credential.name}"
    next_attempt_at = snapshot.unix_time(credential.next_fetch_at)
    refused_since = snapshot.unix_time(credential.refused_since)
    remedy = None if refused_since is None else credential.remedy
    exhausted_until = snapshot.unix_time(credential.exhausted_until)
    problem = _describe_problem(credential, snapshot)
    if credential.is_usable:
        return Check(
            name=name,
            is_ok=True,
            reason="holds a token" + (f", but {problem}" if problem else ""),
            since=snapshot.unix_time(credential.last_success_at),
            until=snapshot.unix_time(credential.usable_until),
            next_attempt_at=next_attempt_at,
            refused_since=refused_since,
            remedy=remedy,
            exhausted_until=exhausted_until,
        )
    has_had_one = credential.usable_until is not None
    if not problem:
        problem = (
            "the last one has expired, and another is being fetched" if has_had_one else "the first is being fetched"
        )
    return Check(
        name=name,
        is_ok=False,
        reason=f"has no usable token: {problem}",
        since=snapshot.unix_time(credential.usable_until) if has_had_one else snapshot.started_at,
        next_attempt_at=next_attempt_at,
        refused_since=refused_since,
        remedy=remedy,
        exhausted_until=exhausted_until,
    )


def _describe_problem(credential: CredentialStatus, snapshot: HealthSnapshot) -> str:
    """Return why a credential gets no tokens, and since when; empty if it does."""
    problems = []
    if credential.last_error is not None:
        since = snapshot.unix_time(credential.failing_since)
        problems.append(f"fetches have failed{f' since {rfc3339(since)}' if since else ''}: {credential.last_error}")
    if credential.secret_error is not None and credential.secret_error != credential.last_error:
        problems.append(f"what authenticates the client cannot be read: {credential.secret_error}")
    refused_since = snapshot.unix_time(credential.refused_since)
    if refused_since is not None:
        lasts = snapshot.unix_time(credential.usable_until) if credential.is_usable else None
        until = f", the token lasts until {rfc3339(lasts)}" if lasts is not None else ""
        refused = f"the authorization server has refused the client since {rfc3339(refused_since)}"
        problems.append(f"{refused}{until}; remedy: {credential.remedy}")
    if credential.uses_previous_secret:
        problems.append("the newer of two client secrets is refused, and the previous one is in use")
    if credential.store is not None and credential.store.error is not None:
        problems.append(f"the token store cannot be used: {credential.store.error}")
    return "; ".join(problems)


def render_verdict(verdict: Verdict) -> dict[str, object]:
    """Return a verdict as the document of /readyz; times in RFC 3339, left out if unknown."""
    return {
        "status": "ready" if verdict.is_ok else "not ready",
        "checks": [_render_check(check) for check in verdict.checks],
    }


def _render_check(check: Check) -> dict[str, object]:
    document: dict[str, object] = {"name": check.name, "ok": check.is_ok, "reason": check.reason}
    times = {
        "since": check.since,
        "until": check.until,
        "next_attempt": check.next_attempt_at,
        "refused_since": check.refused_since,
        "exhausted_until": check.exhausted_until,
    }
    document |= {name: rfc3339(at) for name, at in times.items() if at is not None}
    return document if check.remedy is None else document | {"remedy": check.remedy}
