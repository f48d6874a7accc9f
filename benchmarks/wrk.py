"""wrk, the closed-loop load generator: its command line and its report."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_TO_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class WrkError(Exception):
    """wrk's report cannot be used for a measurement; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrkReport:
    """One run of wrk: the completed requests, the duration, and the errors."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    socket_errors: int
    error_statuses: int

    @property
    def requests_per_second(self) -> float:
        return self.requests / self.seconds


def wrk_command(
    wrk: str, url: str, *, connections: int, seconds: float, header_lines: Sequence[str], script: str | None
) -> list[str]:
    """Return the command that loads `url` from one thread for whole `seconds`, because wrk accepts no others."""
    command = [wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "--latency"]
    for line in header_lines:
        command += ["-H", line]
    if script is not None:
        command += ["-s", script]
    return [*command, url]


def parse_wrk(report: str) -> WrkReport:
    """Parse wrk's report. Raises WrkError if the totals are missing."""
    totals = re.search(r"^\s*(\d+) requests in ([\d.]+)(us|ms|s|m),", report, re.MULTILINE)
    if totals is None:
        raise WrkError(f"no totals in wrk's report:\n{report[-1000:]}")
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", report)
    statuses = re.search(r"Non-2xx or 3xx responses: (\d+)", report)
    return WrkReport(
        requests=int(totals[1]),
        seconds=float(totals[2]) * _TO_MILLISECONDS[totals[3]] / 1000.0,
        p50_ms=_percentile(report, "50"),
        p99_ms=_percentile(report, "99"),
        socket_errors=sum(int(count) for count in errors.groups()) if errors else 0,
        error_statuses=int(statuses[1]) if statuses else 0,
    )


def _percentile(report: str, percent: str) -> float:
    line = re.search(rf"^\s*{percent}%\s+([\d.]+)(us|ms|s|m)\s*$", report, re.MULTILINE)
    if line is None:
        raise WrkError(f"no {percent}% line in wrk's report:\n{report[-1000:]}")
    return float(line[1]) * _TO_MILLISECONDS[line[2]]
