"""
Whose turn it is, if a route may send only so many requests in a time: first come, first served.

A request may go if, with it, no window of any rate has more requests than the rate allows, wherever the window begins. So
the limit holds for every way in which a server counts: sliding windows, fixed ones, buckets. A window is taken to be a little
longer than it is, because requests that leave at some distance may arrive closer together.

Those that wait have the moment of their turn as if all before them went at theirs. If one leaves, those behind it move up.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switch_proxy.core.rate import Rate

MARGIN: Final = 1.02
"""By as much a window is taken to be longer: 20 ms for one of a second, which local networks keep to."""


class Place:
    """A request that waits; `at` is the moment of its turn, by the caller's clock, in seconds."""

    __slots__ = ("at",)

    def __init__(self, at: float) -> None:
        self.at = at


class Turns:
    """The requests of the last while, and those that wait."""

    __slots__ = ("_held_until", "_kept", "_sent", "_waiting", "_windows")

    def __init__(self, rates: Sequence[Rate]) -> None:
        self._windows = tuple((rate.requests, rate.seconds * MARGIN) for rate in rates)
        self._kept = max(rate.requests for rate in rates)
        self._sent: list[float] = []
        """When requests were let go, in order; as many as the widest rate has."""
        self._waiting: list[Place] = []
        self._held_until = -inf

    @property
    def waiting(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def next_at(self, now: float) -> float:
        """Return when a request that comes now could go, behind all that wait."""
        return self._after([*self._sent, *(place.at for place in self._waiting)] if self._waiting else self._sent, now)

    def go(self, now: float) -> None:
        """Let a request go now; `next_at` has returned `now`."""
        self._sent.append(now)
        if len(self._sent) > 2 * self._kept:
            del self._sent[: -self._kept]

    def enter(self, now: float) -> Place:
        """Have a request wait behind the others."""
        place = Place(self.next_at(now))
        self._waiting.append(place)
        return place

    @property
    def first(self) -> Place | None:
        """Return the one that has waited longest, None if none waits."""
        return self._waiting[0] if self._waiting else None

    def first_at(self, now: float) -> float:
        """Return when the first may go: those before it may have gone later than was foreseen."""
        return self._after(self._sent, now)

    def hold_until(self, at: float, now: float) -> None:
        """Let none go before this moment: the server has said so."""
        self._held_until = max(self._held_until, at)
        self._foresee(0, now)

    def leave(self, place: Place, now: float) -> None:
        """Have a request that waits give up its place; those behind it move up."""
        index = self._waiting.index(place)
        del self._waiting[index]
        self._foresee(index, now)

    def _foresee(self, index: int, now: float) -> None:
        """Foresee again when those go that wait from this place on."""
        times = [*self._sent, *(each.at for each in self._waiting[:index])]
        for each in self._waiting[index:]:
            each.at = self._after(times, now)
            times.append(each.at)

    def take_turn(self, now: float) -> None:
        """Let the first of those that wait go; its turn has come."""
        del self._waiting[0]
        self.go(now)

    def _after(self, times: Sequence[float], now: float) -> float:
        """Return when a request may go that comes after those of `times`."""
        ends = [times[-count] + seconds for count, seconds in self._windows if len(times) >= count]
        return max(now, self._held_until, times[-1] if times else now, *ends)
