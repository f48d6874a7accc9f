"""A clock for the fakes that stands still until a test moves it."""

from __future__ import annotations


class SettableTime:
    """Return `at` (Unix time, seconds) whenever it is called."""

    def __init__(self, at: float) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at
