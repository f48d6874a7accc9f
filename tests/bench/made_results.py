"""Results as of a run, for the tests of report and plot."""

from __future__ import annotations

from results import Results, SystemFacts
from summary import Failure, Sample

SYSTEMS = ("switch-proxy", "envoy", "nginx", "tutorial", "switch-proxy-no-log", "envoy-no-log")


def sample(workload: str, system: str, number: int, **values: float) -> Sample:
    return Sample(workload=workload, system=system, round=number, values=values)


def results(
    *samples: Sample,
    failures: tuple[Failure, ...] = (),
    repeats: tuple[Failure, ...] = (),
    skipped: dict[str, str] | None = None,
) -> Results:
    named = {each.system for each in samples} | {each.system for each in failures}
    workloads = dict.fromkeys([each.workload for each in samples] + [each.workload for each in failures], "some work")
    return Results(
        date="2026-11-24",
        machine={"Processor": "a fast one"},
        rounds=2,
        seconds=1.0,
        systems=[
            SystemFacts(name=name, what=f"what {name} is", version="1.0", access_log="on")
            for name in SYSTEMS
            if name in named
        ],
        skipped=skipped or {},
        workloads=workloads,
        samples=samples,
        failures=failures,
        repeats=repeats,
    )
