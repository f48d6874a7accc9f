"""
The fuzz runner: cases of all targets in turn until the time is up.

A finding is printed with the command that repeats it; the exit code is 1 when there was one. A case that takes longer
than a few seconds is a finding as well: input must not buy more time than its length is worth.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import time
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol

from fuzz import chunked_bodies, exchanges, request_heads, response_heads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

SLOWEST_CASE: Final = 5.0
"""Seconds of wall time; the slowest sound case takes some hundredths of one."""

_MOST_FINDINGS: Final = 10
_TURN: Final = 50
"""Cases of one target before the next has its turn."""


class Check(Protocol):
    """Runs one case; returns a word for what the input turned out to be, for the statistics."""

    def __call__(self, rng: random.Random) -> str:
        """Raise what is a finding."""


TARGETS: Final[dict[str, Check]] = {
    "request-heads": request_heads.check,
    "response-heads": response_heads.check,
    "chunked-bodies": chunked_bodies.check,
    "exchanges": exchanges.check,
}


class TooSlowError(Exception):
    """A case did not end in time."""


def _too_slow(_signal: int, _frame: FrameType | None) -> None:
    raise TooSlowError(f"a case took longer than {SLOWEST_CASE:g} seconds")


def run_case(check: Check, name: str, *, seed: int, number: int) -> str:
    """Run one case. Raises what the target raises, and TooSlowError."""
    signal.signal(signal.SIGALRM, _too_slow)
    signal.setitimer(signal.ITIMER_REAL, SLOWEST_CASE)
    try:
        return check(random.Random(f"{seed}/{name}/{number}"))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main(arguments: Sequence[str], targets: Mapping[str, Check] = TARGETS) -> int:
    """Run as the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long to go on (default: 60)")
    parser.add_argument("--seed", type=int, default=None, help="where to begin (default: another one each time)")
    parser.add_argument("--target", choices=list(targets), action="append", help="only this one; may be repeated")
    parser.add_argument("--case", type=int, default=None, help="run this one case of one target and show its traceback")
    options = parser.parse_args(arguments)
    seed = int.from_bytes(os.urandom(4), "big") if options.seed is None else options.seed
    names = options.target or list(targets)

    if options.case is not None:
        for name in names:
            print(
                f"{name} seed={seed} case={options.case}: {run_case(targets[name], name, seed=seed, number=options.case)}"
            )
        return 0

    print(f"fuzzing {', '.join(names)} for {options.seconds:g} s with seed {seed}", flush=True)
    return _run_until(time.monotonic() + options.seconds, {name: targets[name] for name in names}, seed)  # noqa: TID251 - how long a person fuzzes


def _run_until(end_at: float, targets: Mapping[str, Check], seed: int) -> int:
    names = list(targets)
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in names}
    places: set[tuple[str, ...]] = set()
    turn = 0
    while time.monotonic() < end_at and len(places) < _MOST_FINDINGS:  # noqa: TID251 - how long a person fuzzes
        name = names[turn % len(names)]
        first = turn // len(names) * _TURN
        turn += 1
        for number in range(first, first + _TURN):
            if time.monotonic() >= end_at:  # noqa: TID251 - how long a person fuzzes
                break
            try:
                outcomes[name][run_case(targets[name], name, seed=seed, number=number)] += 1
            except Exception as error:  # noqa: BLE001 - whatever gets out is a finding
                outcomes[name]["FINDING"] += 1
                place = _place(name, error)
                if place not in places:
                    places.add(place)
                    _report(name, seed, number, error)
    for name, counts in outcomes.items():
        words = ", ".join(f"{word} {count}" for word, count in counts.most_common())
        print(f"{name}: {counts.total()} cases ({words})")
    print(f"{len(places)} findings" if places else "no findings")
    return 1 if places else 0


def _place(name: str, error: Exception) -> tuple[str, ...]:
    """Return where an error arose, so that each defect is told once."""
    frames = traceback.extract_tb(error.__traceback__)[-2:]
    return (name, type(error).__name__, *(f"{frame.filename}:{frame.lineno}" for frame in frames))


def _report(name: str, seed: int, number: int, error: Exception) -> None:
    print(f"\nFINDING in {name}: {type(error).__name__}: {error}")
    print("".join(traceback.format_list(traceback.extract_tb(error.__traceback__)[-3:])).rstrip())
    print(f"to repeat: python -m fuzz --target {name} --seed {seed} --case {number}\n", flush=True)
