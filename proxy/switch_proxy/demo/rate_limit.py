"""
Limits of requests per second and per minute, counted for each client.

The windows are fixed: a window opens with the first request it admits and ends one period later. A refused request is
not counted.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The most `requests` in a `period` (seconds)."""

    requests: int
    period: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A client's state within the rule of the longest period."""

    limit: int
    remaining: int
    resets_at: float


@dataclass(slots=True)
class _Window:
    opened_at: float
    admitted: int


class RateLimiter:
    """Admits or refuses requests; all rules must hold."""

    def __init__(self, *rules: Rule) -> None:
        self._rules = rules
        self._windows: dict[tuple[str, Rule], _Window] = {}

    def admit(self, client: str, now: float) -> float | None:
        """Count a request of `client` and return None, or refuse it and return the seconds until one is admitted."""
        waits = [
            window.opened_at + rule.period - now
            for rule in self._rules
            if (window := self._open_window(client, rule, now)) is not None and window.admitted >= rule.requests
        ]
        if waits:
            return max(waits)
        for rule in self._rules:
            window = self._open_window(client, rule, now)
            if window is None:
                self._windows[client, rule] = _Window(opened_at=now, admitted=1)
            else:
                window.admitted += 1
        return None

    def standing(self, client: str, now: float) -> Standing:
        """Return how many requests the client may still send within the rule of the longest period."""
        rule = max(self._rules, key=lambda rule: rule.period)
        window = self._open_window(client, rule, now)
        if window is None:
            return Standing(limit=rule.requests, remaining=rule.requests, resets_at=now + rule.period)
        return Standing(
            limit=rule.requests,
            remaining=rule.requests - window.admitted,
            resets_at=window.opened_at + rule.period,
        )

    def _open_window(self, client: str, rule: Rule, now: float) -> _Window | None:
        window = self._windows.get((client, rule))
        return window if window is not None and now < window.opened_at + rule.period else None
