"""Holds a route's requests until their turn, as core/policy/turns.py has it: one Pacer for each limit of each credential."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from switch_proxy.core.http.problems import Problem, Reject
from switch_proxy.core.policy.turns import MARGIN, Place, Turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switch_proxy.clock import Clock
    from switch_proxy.core.config.models import RateLimitSettings
    from switch_proxy.core.policy.allow_rules import AllowRules


class Pacer:
    """The requests of one rate limit, of all routes that share it."""

    __slots__ = ("_clock", "_limit", "_longest_wait", "_turns", "_woken")

    def __init__(self, limit: RateLimitSettings, *, clock: Clock) -> None:
        self._limit = limit
        # A turn that is a whole window away must be in reach of a wait as long as the window.
        self._longest_wait = limit.max_wait * MARGIN if limit.mode == "pace" else 0.0
        self._clock = clock
        self._turns = Turns(limit.limits)
        self._woken: dict[Place, asyncio.Event] = {}
        """Set when a place is the first, for each that waits."""

    @property
    def waiting(self) -> int:
        """Return how many requests wait for their turn."""
        return self._turns.waiting

    def refuse(self, now: float) -> Reject | None:
        """Return the refusal of a request whose turn would come too late, None if it may go or wait."""
        return self._judge(self._turns.next_at(now) - now, waiting=self._turns.waiting)

    def _judge(self, wait: float, *, waiting: int) -> Reject | None:
        """Return the refusal of a request whose turn comes in `wait` seconds, with so many before it."""
        if wait <= self._longest_wait and (wait <= 0 or waiting < self._limit.max_waiting):
            return None
        limits = ", ".join(map(str, self._limit.limits))
        return Reject(
            problem=Problem.RATE_LIMITED,
            detail=f"the route's own limit of {limits} (rate_limits) is reached, and {waiting} requests wait",
            retry_after=wait,
        )

    def may_go(self, now: float) -> bool:
        """Say whether a request may go at once: no other waits, and every rate has room for it."""
        return not self._turns.waiting and self._turns.next_at(now) <= now

    def go(self, now: float) -> None:
        """Count a request that goes at once."""
        self._turns.go(now)

    async def wait_for_turn(self) -> Reject | None:
        """
        Wait behind those that have come before; who is cancelled gives up its place.

        Returns a refusal at once if the turn would come too late after all, because others have come at the same moment.
        """
        turns, clock = self._turns, self._clock
        now = clock.now()
        place = turns.enter(now)
        refusal = self._judge(place.at - now, waiting=turns.waiting - 1)
        if refusal is not None:
            turns.leave(place, now)
            return refusal
        is_first = self._woken[place] = asyncio.Event()
        try:
            if turns.first is not place:
                await is_first.wait()
            while (at := turns.first_at(now := clock.now())) > now:
                await clock.sleep_until(at)
        except asyncio.CancelledError:
            turns.leave(place, clock.now())
            raise
        else:
            turns.take_turn(now)
            return None
        finally:
            del self._woken[place]
            if turns.first is not None:
                self._woken[turns.first].set()

    def hold(self, seconds: float) -> None:
        """Let no request go for some time: the server has said so."""
        now = self._clock.now()
        self._turns.hold_until(now + seconds, now)


class Pacing:
    """The rate limits of one route."""

    __slots__ = ("_base_path_length", "_pacers", "_rules")

    def __init__(self, rules: AllowRules, pacers: Sequence[Pacer], *, base_path_length: int) -> None:
        """Take which requests each of the pacers is for, and the bytes of the base path before every target."""
        self._rules = rules
        self._pacers = tuple(pacers)
        self._base_path_length = base_path_length

    @property
    def waiting(self) -> int:
        """Return how many requests wait for their turn, of all routes that share a limit."""
        return sum(pacer.waiting for pacer in self._pacers)

    def admit(self, method: bytes, target: bytes, now: float) -> Reject | list[Pacer] | None:
        """
        Return None if a request may go now, which is counted; its refusal; or the limits to wait for, one after the other.

        `target` is what the upstream gets.
        """
        pacers = [self._pacers[index] for index in self._rules.find_all(method, target[self._base_path_length :])]
        refusal = next((refusal for pacer in pacers if (refusal := pacer.refuse(now)) is not None), None)
        if refusal is not None:
            return refusal
        if not all(pacer.may_go(now) for pacer in pacers):
            return pacers
        for pacer in pacers:
            pacer.go(now)
        return None

    def hold(self, method: bytes, target: bytes, seconds: float) -> None:
        """Let no request go for some time by the limits that are for this one; `target` as for `admit`."""
        for index in self._rules.find_all(method, target[self._base_path_length :]):
            self._pacers[index].hold(seconds)
