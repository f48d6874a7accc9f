"""Child processes of a run: pinned to a core at start, measured while they work, ended by their ids."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The kernel's MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED): the CPU time of another process's whole thread group
# (ended threads included) in nanoseconds. /proc/PID/stat has the same figure in ticks of 10 ms.
_CPUCLOCK_SCHED = 2


class ChildProcess:
    """A program running on one core, with its descendants; end it with stop()."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        core: int,
        output: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        """Start `command` pinned to `core`, with standard output in the file `output` and errors in a file beside it."""
        self.command = tuple(command)
        self.output = output
        self.errors = output.with_suffix(".err")
        self.started_at = time.monotonic()
        with output.open("wb") as stdout, self.errors.open("wb") as stderr:
            self._process = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env={**inherited_environment(os.environ), **(environment or {})},
                cwd=folder,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_running(self) -> bool:
        """Return whether the program itself still runs."""
        return self._process.poll() is None

    def pids(self) -> list[int]:
        """Return the ids of the program and of all its descendants."""
        return descendants(self.pid)

    def cpu_seconds(self) -> float:
        """Return the CPU time, user and system, of the program and its descendants so far."""
        return sum(time.clock_gettime((~pid) << 3 | _CPUCLOCK_SCHED) for pid in self.pids())

    def resident_bytes(self) -> int:
        """Return the resident memory of the program and its descendants; shared pages count once for each process."""
        return sum(_resident_bytes(pid) for pid in self.pids())

    def complaint(self) -> str:
        """Return the end of the program's output, for an error message."""
        said = self.errors.read_text(errors="replace") + self.output.read_text(errors="replace")
        return f"{' '.join(self.command[:4])} … said:\n{said[-2000:].strip() or '(nothing)'}"

    def stop(self, *, timeout: float = 5.0) -> None:
        """End the program and its descendants: by SIGTERM, and by SIGKILL after `timeout` seconds."""
        pids = self.pids() if self.is_running() else []
        if self.is_running():
            self._process.terminate()
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        for pid in pids[1:]:
            if (
                _parent_of(pid) == 1
            ):  # A child that outlived its killed parent; any other process with this id is not ours.
                os.kill(pid, signal.SIGKILL)


def inherited_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without variables that change how a program runs, such as its bytecode cache."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(("PYTHON", "MALLOC_", "LD_", "SWITCH_PROXY_")) and not name.upper().endswith("_PROXY")
    }


def descendants(pid: int) -> list[int]:
    """Return `pid` and the ids of all processes below it, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            parent = _parent_of(int(entry.name))
            if parent is not None:
                children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found.extend(children.get(each, ()))
    return found


def free_port() -> int:
    """Return a loopback port that was free a moment ago, for programs that cannot bind port 0 and report it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _parent_of(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1])


def _resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
