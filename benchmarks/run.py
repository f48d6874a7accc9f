"""Measure the proxies on one machine in one run: `python benchmarks/run.py --help`, or `make bench`."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from harness import BenchError, Harness
from machine import MachineError, busy_share, choose_cores, describe_machine, raise_file_limit
from plot import render_svg
from profiling import PROFILERS, profiler
from report import render_markdown, render_terminal
from results import Results, SystemFacts, load_results, save_results
from session import Plan, Session, available
from systems import REPOSITORY, all_systems, switch_proxy
from upstreams import Upstreams
from workloads import all_workloads

if TYPE_CHECKING:
    from collections.abc import Mapping

_HERE = Path(__file__).resolve().parent
_WARM_UP = 1.0
_BUSY_MACHINE = 0.1

_Item = TypeVar("_Item")


def main() -> int:
    """Run with the process's arguments and return the exit code: 0 measured, 1 failed, 2 wrong arguments."""
    options = _arguments()
    # So that a run that is stopped also stops its child processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.render:
        _write(load_results(options.output / "results.json"), options.output)
        return 0
    try:
        results = _measure(options)
    except (BenchError, MachineError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    sys.stdout.write(render_terminal(results) + "\n")
    if options.write:
        options.output.mkdir(parents=True, exist_ok=True)
        save_results(results, options.output / "results.json")
        _write(results, options.output)
    return 1 if results.failures else 0


def _measure(options: argparse.Namespace) -> Results:
    systems, skipped = available(options.systems)
    wrk = shutil.which("wrk")
    if wrk is None:
        raise MachineError("wrk is not installed (Debian: wrk); it makes the load")
    cores = choose_cores()
    raise_file_limit()
    machine = describe_machine()
    taken = busy_share(cores, seconds=1.0)
    if taken > _BUSY_MACHINE:
        sys.stderr.write(f"others have {taken:.0%} of a core now: the ratios will be wide, and latencies theirs\n")
    os.sched_setaffinity(0, {cores.load})
    with tempfile.TemporaryDirectory(prefix="switch-proxy-bench-") as name:
        folder = Path(name)
        with Upstreams(folder=folder, core=cores.load, python=sys.executable) as upstreams:
            harness = Harness(
                cores=cores,
                folder=folder,
                upstreams=upstreams,
                python=sys.executable,
                wrk=wrk,
                seconds=options.seconds,
                warm_up=_WARM_UP,
            )
            plan = Plan(
                systems=systems,
                workloads=options.workloads,
                rounds=options.rounds,
                are_variants_everywhere=options.are_systems_named,
                rate=options.rate,
                profile=profiler(options.profile, REPOSITORY / "build" / "profiles") if options.profile else None,
            )
            session = Session(harness, plan)
            session.run()
    return Results(
        date=dt.datetime.now(tz=dt.UTC).date().isoformat(),
        machine=machine,
        rounds=options.rounds,
        seconds=options.seconds,
        systems=[
            SystemFacts(name=each.name, what=each.what, version=each.version(), access_log=each.access_log)
            for each in systems
        ],
        skipped=skipped,
        workloads={each.name: each.what for each in options.workloads},
        samples=session.samples,
        failures=session.failures,
        repeats=session.repeats,
    )


def _write(results: Results, folder: Path) -> None:
    (folder / "RESULTS.md").write_text(render_markdown(results))
    (folder / "results.svg").write_text(render_svg(results))


def _arguments() -> argparse.Namespace:
    systems, workloads = all_systems(), all_workloads()
    parser = argparse.ArgumentParser(
        description="Measure the proxies side by side on one machine.",
        epilog=f"systems: {', '.join(systems)}. workloads: {', '.join(workloads)}.",
    )
    parser.add_argument("--systems", default="all", help="names with commas between, a* for a prefix (default: all)")
    parser.add_argument("--workloads", default="all", help="names with commas between, a* for a prefix (default: all)")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each workload (default: 9)")
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds of one system's turn (default: 1)")
    parser.add_argument("--against", type=Path, metavar="TREE", help="also measure the proxy of another checkout")
    parser.add_argument("--rate", type=float, help="offered requests per second (default: half of Envoy's peak)")
    parser.add_argument("--profile", choices=PROFILERS, help="profile switch-proxy in one more, uncounted turn")
    parser.add_argument("--write", action="store_true", help="write RESULTS.md, results.svg and results.json")
    parser.add_argument("--render", action="store_true", help="only draw the first two again from results.json")
    parser.add_argument(
        "--output", type=Path, default=_HERE, metavar="FOLDER", help="folder for the results (default: this one)"
    )
    options = parser.parse_args()
    options.are_systems_named = options.systems != "all"
    try:
        options.systems = chosen(options.systems, systems)
        options.workloads = chosen(options.workloads, workloads)
    except KeyError as error:
        parser.error(f"unknown name {error}; see --help")
    if options.against:
        options.systems.append(switch_proxy(options.against.resolve(), name="switch-proxy-other"))
    return options


def chosen(names: str, items: Mapping[str, _Item]) -> list[_Item]:
    """Return the named items, in their own order. Raises KeyError for an unknown name."""
    if names == "all":
        return list(items.values())
    wanted: set[str] = set()
    for name in names.split(","):
        matching = {each for each in items if each == name or (name.endswith("*") and each.startswith(name[:-1]))}
        if not matching:
            raise KeyError(name)
        wanted |= matching
    return [item for name, item in items.items() if name in wanted]


if __name__ == "__main__":
    sys.exit(main())
