"""Profilers for a running system: py-spy (with native frames) and perf."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from machine import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import RunningSystem
    from session import Profile

_RATE = 997  # Samples per second; a prime, so that they are not in step with timers.


def profiler(name: str, folder: Path) -> Profile:
    """Return a function that profiles a system at work and writes the result into `folder`."""
    program = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if program is None:
        raise MachineError(f"{name} is not installed")

    def profile(running: RunningSystem, workload: str, work: Callable[[], object]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{running.system.name}-{workload}.{'svg' if name == 'py-spy' else 'data'}"
        command = [program, "record", "-p", str(running.child.pid), "-o", str(target)]
        if name == "py-spy":
            command += ["--native", "--rate", str(_RATE), "--duration", "3600"]
        else:
            command += ["-g", "-F", str(_RATE), "-e", "cpu-clock"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            time.sleep(0.5)  # Until it has attached.
            try:
                work()
            finally:
                process.send_signal(signal.SIGINT)  # On which both write their result.
                said, _ = process.communicate(timeout=60)
        sys.stderr.write(f"profile: {target}\n" if target.exists() else f"{name} wrote nothing; it said:\n{said}\n")

    return profile


PROFILERS = ("perf", "py-spy")
