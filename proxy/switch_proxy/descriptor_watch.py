"""The process's file descriptors: its limit, and the log lines that say when they run out; core/descriptors.py shares them out."""

from __future__ import annotations

import resource
from math import inf
from typing import TYPE_CHECKING, Final

from switch_proxy.core.events import DescriptorsExhausted, ListenerFull

if TYPE_CHECKING:
    from collections.abc import Callable

_SILENT_FOR: Final = 60.0
"""Seconds until the same is said again: what fails for want of descriptors fails thousands of times."""


def raise_descriptor_limit() -> None:
    """Raise the soft limit to the hard one, as Go and Java do: the soft one is 1024 for programs that use select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        # "Unlimited" may be more than the system allows.
        return


def find_descriptor_limit() -> int | None:
    """Return how many file descriptors the process may have; None if there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


class DescriptorWatch:
    """Says once in a while that descriptors have run out, or that a listener has all the clients that it may have."""

    def __init__(
        self, *, now: Callable[[], float], observe: Callable[[DescriptorsExhausted | ListenerFull], None]
    ) -> None:
        """Take the clock, in seconds, and who is told."""
        self._now = now
        self._observe = observe
        self._said_at: dict[str, float] = {}

    def note_exhaustion(self) -> None:
        """Learn that something could not be opened."""
        if self._is_due(""):
            self._observe(DescriptorsExhausted(limit=find_descriptor_limit()))

    def note_full(self, listener: str, limit: int) -> None:
        """Learn that further clients of a listener wait."""
        if self._is_due(listener):
            self._observe(ListenerFull(listener=listener, limit=limit))

    def _is_due(self, what: str) -> bool:
        now = self._now()
        if now < self._said_at.get(what, -inf) + _SILENT_FOR:
            return False
        self._said_at[what] = now
        return True

    def __repr__(self) -> str:
        return f"<DescriptorWatch {self._said_at}>"
