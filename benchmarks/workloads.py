"""The workloads: what each sends through a system, and what is measured."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from harness import HEADER_LINES, READINGS_PATH, BenchError, Harness, RunningSystem
from upstreams import BODY_SIZES, SMALL_JSON, Kind, Scheme
from wrk import WrkReport, parse_wrk, wrk_command

_CONNECTIONS = 32
_IDLE_CONNECTIONS = 1000
_STREAMS = 1000
# Two connections keep the proxy busy while one of them turns around; more would only use more memory.
_BULK_CONNECTIONS = 2
_MIB = 1 << 20

Measure = Callable[[Harness, RunningSystem], Mapping[str, float]]
Direction = Literal["download", "upload"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One kind of work. `measure` does one round of it on a running system and returns the metrics by name."""

    name: str
    what: str
    kind: Kind
    scheme: Scheme
    measure: Measure
    is_fresh: bool = False  # Each round starts the system again, alone.
    with_variants: bool = False  # Also measured without an access log.
    load_of: str | None = None  # The workload whose peak gives the offered load.


def all_workloads() -> dict[str, Workload]:
    """Return every workload by name, in the order of the report."""
    schemes: tuple[Scheme, Scheme] = ("http", "https")
    directions: tuple[Direction, Direction] = ("download", "upload")
    workloads = [small(scheme) for scheme in schemes]
    workloads += [latency(scheme) for scheme in schemes]
    workloads += [
        bodies(direction, size, scheme) for size in BODY_SIZES for direction in directions for scheme in schemes
    ]
    workloads += [streams(scheme) for scheme in schemes]
    workloads.append(start_and_memory())
    return {workload.name: workload for workload in workloads}


def small(scheme: Scheme) -> Workload:
    """Return the workload of small JSON responses at full load."""

    def measure(harness: Harness, running: RunningSystem) -> Mapping[str, float]:
        with running.window() as windows:
            report = _wrk(harness, running, READINGS_PATH, HEADER_LINES)
        return {
            "cpu_us_per_request": windows[0].cpu_seconds / report.requests * 1e6,
            "requests_per_second": report.requests_per_second,
            **windows[0].shares(report.seconds),
        }

    return Workload(
        name=f"small-{_upstream(scheme)}",
        what=f"GET answered by {len(SMALL_JSON)} bytes of JSON over {_CONNECTIONS} connections, as fast as it goes",
        kind="files",
        scheme=scheme,
        measure=measure,
        with_variants=True,
    )


def latency(scheme: Scheme) -> Workload:
    """Return the workload of small JSON responses at a fixed rate, the same for every system."""

    def measure(harness: Harness, running: RunningSystem) -> Mapping[str, float]:
        options: list[object] = ["--port", running.port, "--path", READINGS_PATH, "--connections", _CONNECTIONS]
        options += ["--rate", harness.offered_rates[scheme], "--seconds", max(3.0, harness.seconds)]
        for line in HEADER_LINES:
            options += ["--header", line]
        with running.window() as windows:
            said = harness.generate(harness.generator("paced_client.py", *options), timeout=harness.seconds + 40)
        figures = json.loads(said)
        return {
            "p50_ms": figures["p50_ms"],
            "p99_ms": figures["p99_ms"],
            "offered_per_second": harness.offered_rates[scheme],
            "answered_share": figures["answered"] / figures["offered"],
            "generator_late_p99_ms": figures["generator_late_p99_ms"],
            **windows[0].shares(figures["seconds"]),
        }

    return Workload(
        name=f"latency-{_upstream(scheme)}",
        what="the same request at half of Envoy's own peak, at moments fixed beforehand",
        kind="files",
        scheme=scheme,
        measure=measure,
        load_of=f"small-{_upstream(scheme)}",
    )


def bodies(direction: Direction, size: str, scheme: Scheme) -> Workload:
    """Return the workload of bodies of one size, in one direction."""
    count = BODY_SIZES[size]

    def measure_many(harness: Harness, running: RunningSystem) -> Mapping[str, float]:
        script = None
        path = f"/{size}"
        if direction == "upload":
            path = "/upload"
            lua = running.folder / "upload.lua"
            lua.write_text(f'wrk.method = "POST"\nwrk.body = string.rep("x", {count})\n')
            script = str(lua)
        with running.window() as windows:
            report = _wrk(harness, running, path, HEADER_LINES, script=script)
        return {
            "mib_per_cpu_second": report.requests * count / windows[0].cpu_seconds / _MIB,
            "mib_per_second": report.requests * count / report.seconds / _MIB,
            **windows[0].shares(report.seconds),
        }

    def measure_large(harness: Harness, running: RunningSystem) -> Mapping[str, float]:
        options: list[object] = ["--port", running.port, "--seconds", harness.seconds]
        options += ["--connections", _BULK_CONNECTIONS]
        options += ["--path", "/upload", "--upload", count] if direction == "upload" else ["--path", f"/{size}"]
        with running.window() as windows:
            said = harness.generate(harness.generator("bulk_client.py", *options), timeout=harness.seconds + 60)
        figures = json.loads(said)
        return {
            "mib_per_cpu_second": figures["bytes"] / windows[0].cpu_seconds / _MIB,
            "mib_per_second": figures["bytes"] / figures["seconds"] / _MIB,
            **windows[0].shares(figures["seconds"]),
        }

    is_small = count < _MIB
    connections = _CONNECTIONS if is_small else _BULK_CONNECTIONS
    return Workload(
        name=f"{direction}-{size}-{_upstream(scheme)}",
        what=f"{direction}s of {count >> 10 if is_small else count >> 20} {'KiB' if is_small else 'MiB'} "
        f"over {connections} connections",
        kind="side" if direction == "upload" else "files",
        scheme=scheme,
        measure=measure_many if is_small else measure_large,
    )


def streams(scheme: Scheme) -> Workload:
    """Return the workload of slow event streams."""

    def measure(harness: Harness, running: RunningSystem) -> Mapping[str, float]:
        options = ("--port", running.port, "--streams", _STREAMS, "--seconds", max(3.0, harness.seconds))
        command = harness.generator("stream_client.py", *options)
        window, said = harness.generate_when_ready(command, running, timeout=harness.seconds + 90)
        figures = json.loads(said)
        return {
            "cpu_us_per_event": window.cpu_seconds / figures["events"] * 1e6,
            "p50_ms": figures["p50_ms"],
            "p99_ms": figures["p99_ms"],
            **window.shares(window.wall_seconds),
        }

    return Workload(
        name=f"streams-{_upstream(scheme)}",
        what=f"{_STREAMS} server-sent event streams, each one event per second; from the server's write to the client",
        kind="side",
        scheme=scheme,
        measure=measure,
    )


def start_and_memory() -> Workload:
    """Return the workload of a start: time to the first response, memory when idle and with idle connections."""

    def measure(_harness: Harness, running: RunningSystem) -> Mapping[str, float]:
        time.sleep(0.5)  # The work of a system after its first response belongs to its idle state.
        idle = running.child.resident_bytes()
        held = _open_idle_connections(running)
        try:
            time.sleep(0.5)
            loaded = running.child.resident_bytes()
        finally:
            for connection in held:
                connection.close()
        return {
            "start_seconds": running.first_answer_in,
            "resident_idle_mib": idle / _MIB,
            "resident_connections_mib": loaded / _MIB,
        }

    return Workload(
        name="start-memory",
        what=f"a fresh process: start to first answer; memory then, and with {_IDLE_CONNECTIONS} idle connections",
        kind="files",
        scheme="https",
        measure=measure,
        is_fresh=True,
    )


def warm_up(harness: Harness, running: RunningSystem, workload: Workload) -> None:
    """Check the system's responses, and send it some work that is not measured."""
    if workload.kind == "side":
        running.check("POST", "/upload", len(f"stored {_MIB}"), b"x" * _MIB)
        return
    running.check("GET", READINGS_PATH, len(SMALL_JSON))
    for name, size in BODY_SIZES.items():
        if workload.name.startswith(f"download-{name}"):
            running.check("GET", f"/{name}", size)
            return
    _wrk(harness, running, READINGS_PATH, HEADER_LINES, seconds=harness.warm_up)


def _wrk(
    harness: Harness,
    running: RunningSystem,
    path: str,
    header_lines: tuple[str, ...],
    *,
    script: str | None = None,
    seconds: float | None = None,
) -> WrkReport:
    seconds = harness.seconds if seconds is None else seconds
    command = wrk_command(
        harness.wrk,
        running.url + path,
        connections=_CONNECTIONS,
        seconds=seconds,
        header_lines=header_lines,
        script=script,
    )
    report = parse_wrk(harness.generate(command, timeout=seconds + 30))
    if report.socket_errors or report.error_statuses or not report.requests:
        raise BenchError(f"{running.system.name} failed requests of {path}: {report}")
    return report


def _open_idle_connections(running: RunningSystem) -> list[socket.socket]:
    """Return open connections that each had one response."""
    head = "\r\n".join([f"GET {READINGS_PATH} HTTP/1.1", "Host: localhost", *HEADER_LINES, "", ""]).encode()
    held: list[socket.socket] = []
    for _ in range(_IDLE_CONNECTIONS):
        connection = socket.create_connection(("127.0.0.1", running.port), timeout=10.0)
        held.append(connection)
        connection.sendall(head)
        answer = b""
        while SMALL_JSON.encode() not in answer:
            data = connection.recv(65536)
            if not data:
                raise BenchError(f"{running.system.name} closed an idle connection: {answer[:200]!r}")
            answer += data
    return held


def _upstream(scheme: Scheme) -> str:
    return "tls" if scheme == "https" else "plain"
