"""The machine of a run: the cores that it may use, and a description for the report."""

from __future__ import annotations

import os
import platform
import resource
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


class MachineError(Exception):
    """The machine cannot run the benchmark; the message says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """The two cores of a run: one for load generator and upstream, one for the proxy under test."""

    load: int
    proxy: int


def choose_cores() -> Cores:
    """Return the first and the last core of this process. Raises MachineError if there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise MachineError("two cores are needed (one for load and upstream, one for the proxy), this process has one")
    return Cores(load=allowed[0], proxy=allowed[-1])


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one, which child processes inherit, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def core_busy_seconds(core: int) -> float:
    """Return the seconds that `core` was not idle since boot, all processes and the hypervisor's steal included."""
    name = f"cpu{core}"
    for line in Path("/proc/stat").read_text().splitlines():
        fields = line.split()
        if fields[0] == name:
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields[1:9])
            return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    raise MachineError(f"/proc/stat does not list {name}")


def busy_share(cores: Cores, *, seconds: float) -> float:
    """Observe both cores for `seconds` and return the larger used share."""
    before = [core_busy_seconds(core) for core in (cores.load, cores.proxy)]
    time.sleep(seconds)
    after = [core_busy_seconds(core) for core in (cores.load, cores.proxy)]
    return max(end - start for start, end in zip(before, after, strict=True)) / seconds


def describe_machine() -> dict[str, str]:
    """Return the facts about the machine that readers need, as label and value, in order."""
    return {
        "Processor": f"{_processor()}, {os.cpu_count()} cores visible, {len(os.sched_getaffinity(0))} usable",
        "Memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "Kernel": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "Python": f"{platform.python_version()}, {ssl.OPENSSL_VERSION}",
    }


def _processor() -> str:
    model, virtual = platform.processor() or "unknown", False
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            model = value.strip()
        if key.strip() == "flags":
            virtual = "hypervisor" in value.split()
    return f"{model} (virtual machine)" if virtual else model


def first_line_of(command: list[str]) -> str:
    """Return the first line of a program's version output, on either stream."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else "unknown"
