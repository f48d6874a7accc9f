"""A system under test while it runs: started on its core, probed until it forwards, CPU time read around a window."""

from __future__ import annotations

import http.client
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from machine import Cores, core_busy_seconds
from processes import ChildProcess, free_port
from systems import Setting, System
from upstreams import SMALL_JSON, Kind, Scheme, Upstreams

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# The request line and the nine field lines of every request (Host is the ninth), as a client library sends them.
READINGS_PATH = (
    "/api/readings?organizationId=1&registerId=1&registerId=2&start=2025-11-03T15%3A51%3A44.667Z"
    "&end=2025-11-03T16%3A51%3A44.667Z&resolution=3600"
)
HEADER_LINES = (
    "User-Agent: readings-exporter/1.4 (python 3.11)",
    "Accept: application/json",
    "Accept-Encoding: gzip, deflate",
    "Accept-Language: en",
    "Cache-Control: no-cache",
    "X-Correlation-Id: 5f3c2d6a-9f60-4f4e-8d5e-0d7a1f6f2b11",
    "X-Organization: 1",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)


class BenchError(Exception):
    """A measurement cannot be made or trusted; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The use of the proxy's core between two moments."""

    wall_seconds: float
    cpu_seconds: float
    core_busy_seconds: float

    @property
    def disturbed(self) -> float:
        """The share of the window in which other processes or the hypervisor used the core."""
        return max(0.0, (self.core_busy_seconds - self.cpu_seconds) / self.wall_seconds)

    def shares(self, loaded_seconds: float) -> dict[str, float]:
        """Return the shares of the core used under load by the system, by others, and by none."""
        return {
            "busy": min(1.0, self.cpu_seconds / loaded_seconds),
            "disturbed": self.disturbed,
            "idle": max(0.0, 1.0 - self.core_busy_seconds / loaded_seconds),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningSystem:
    """A system that forwards requests. Its first correct response came `first_answer_in` seconds after its start."""

    system: System
    child: ChildProcess
    port: int
    cores: Cores
    folder: Path
    first_answer_in: float

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def window(self) -> Iterator[list[Window]]:
        """Measure the system's CPU time during the block; afterwards the list holds the window."""
        result: list[Window] = []
        busy, cpu, began = core_busy_seconds(self.cores.proxy), self.child.cpu_seconds(), time.monotonic()
        yield result
        ended, cpu_after = time.monotonic(), self.child.cpu_seconds()
        result.append(
            Window(
                wall_seconds=ended - began,
                cpu_seconds=cpu_after - cpu,
                core_busy_seconds=core_busy_seconds(self.cores.proxy) - busy,
            )
        )

    def request(self, method: str, path: str, body: bytes | None = None, *, timeout: float = 10.0) -> tuple[int, bytes]:
        """Send one request on its own connection and return status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body=body)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def check(self, method: str, path: str, expected_size: int, body: bytes | None = None) -> None:
        """Raise BenchError unless the response is 200 with a body of that size: a wrong response must not be measured."""
        status, got = self.request(method, path, body, timeout=30.0)
        if status != 200 or len(got) != expected_size:
            raise BenchError(
                f"{self.system.name} responded to {method} {path} with {status} and {len(got)} bytes, "
                f"not with 200 and {expected_size}; {self.child.complaint()}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Harness:
    """The data that all measurements of a run share."""

    cores: Cores
    folder: Path
    upstreams: Upstreams
    python: str
    wrk: str
    seconds: float
    warm_up: float
    offered_rates: dict[Scheme, float] = field(default_factory=dict)  # Requests per second, once they are known.

    @contextmanager
    def running(self, system: System, kind: Kind, scheme: Scheme) -> Iterator[RunningSystem]:
        """Start a system in front of that upstream, wait for its first correct response, and end it afterwards."""
        folder = Path(tempfile.mkdtemp(prefix=f"{system.name}-", dir=self.folder))
        upstream = self.upstreams.get(kind, scheme)
        port = free_port()
        launch = system.prepare(
            Setting(folder=folder, port=port, upstream=upstream, token_url=self.upstreams.token_url, python=self.python)
        )
        child = ChildProcess(
            launch.command,
            core=self.cores.proxy,
            output=folder / "stdout.log",
            environment=launch.environment,
            folder=launch.folder,
        )
        try:
            yield RunningSystem(
                system=system,
                child=child,
                port=port,
                cores=self.cores,
                folder=folder,
                first_answer_in=_wait_for_answer(system, child, port, kind),
            )
        finally:
            child.stop()

    def generator(self, name: str, *options: object) -> list[str]:
        """Return the command of one of the load generators beside this file."""
        return [self.python, str(Path(__file__).with_name(name)), *(str(option) for option in options)]

    def generate(self, command: Sequence[str], *, timeout: float) -> str:
        """Run a load generator on the load core and return its output. Raises BenchError if it fails."""
        pinned = self._pinned(command)
        try:
            done = subprocess.run(pinned, capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"{command[0]} did not end within {timeout:.0f} s") from error
        if done.returncode:
            raise BenchError(_failure(command, done.returncode, done.stderr))
        return done.stdout

    def generate_when_ready(
        self, command: Sequence[str], running: RunningSystem, *, timeout: float
    ) -> tuple[Window, str]:
        """Run a load generator that prints "ready" first; return the window from there on, and its last line."""
        with subprocess.Popen(
            self._pinned(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            killer = threading.Timer(timeout, process.kill)
            killer.start()
            try:
                assert process.stdout is not None
                ready = process.stdout.readline()
                with running.window() as windows:
                    said, complaint = process.communicate()
            finally:
                killer.cancel()
                process.kill()  # It has ended, unless this run is being stopped.
        if ready != "ready\n" or process.returncode:
            raise BenchError(_failure(command, process.returncode, complaint))
        return windows[0], said

    def _pinned(self, command: Sequence[str]) -> list[str]:
        return ["taskset", "-c", str(self.cores.load), *command]


def _failure(command: Sequence[str], status: int, errors: str) -> str:
    """Return the error of a load generator: the last line, which names it in a traceback."""
    program = next((Path(word).name for word in command if word.endswith(".py")), Path(command[0]).name)
    return f"{program} failed ({status}): {(errors.strip().splitlines() or ['it said nothing'])[-1]}"


def _wait_for_answer(system: System, child: ChildProcess, port: int, kind: Kind, *, timeout: float = 30.0) -> float:
    """Send requests until the upstream's response arrives; return the seconds since the program's start."""
    method, path, expected = ("GET", READINGS_PATH, SMALL_JSON.encode())
    if kind == "side":
        method, path, expected = ("POST", "/upload", b"stored 0")
    deadline = child.started_at + timeout
    last = "no connection"
    while time.monotonic() < deadline and child.is_running():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read()
        except OSError as error:
            last = str(error)
        else:
            if response.status == 200 and body == expected:
                return time.monotonic() - child.started_at
            last = f"status {response.status}: {body[:300]!r}"
        finally:
            connection.close()
        time.sleep(0.002)
    raise BenchError(f"{system.name} forwards nothing ({last}); {child.complaint()}")
