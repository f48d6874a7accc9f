"""Signals that people send to servers for other reasons than to end them; by default they would end a process."""

from __future__ import annotations

import signal
from typing import Final

HARMLESS: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def ignore_harmless_signals() -> None:
    """Ignore them while no event loop handles them: while the process starts, which takes a second on a busy machine, and ends."""
    for number in HARMLESS:
        signal.signal(number, signal.SIG_IGN)
