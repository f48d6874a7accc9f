"""One run: which systems do which work in which order, and the samples."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

from goals import REFERENCE, WITHOUT_LOG
from harness import BenchError, Harness, RunningSystem
from machine import MachineError
from summary import Failure, Sample, median, order_of_round, values_of
from systems import System
from workloads import Workload, all_workloads, warm_up
from wrk import WrkError

if TYPE_CHECKING:
    from upstreams import Kind, Scheme

# A turn is repeated, and the quietest kept, if others used more of the core than this, or if the load generator sent later
# than this. Neither depends on the system under test, so no system has an advantage.
_DISTURBED = 0.15
_LATE_MS = 5.0
_RETAKES = 2

Profile = Callable[[RunningSystem, str, Callable[[], object]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The plan of a run."""

    systems: Sequence[System]
    workloads: Sequence[Workload]
    rounds: int
    are_variants_everywhere: bool  # For every workload, because the caller named them.
    rate: float | None
    profile: Profile | None


_Able = TypeVar("_Able", System, RunningSystem)


class Session:
    """Carries out a plan; its lists grow meanwhile."""

    def __init__(self, harness: Harness, plan: Plan) -> None:
        self.samples: list[Sample] = []
        self.failures: list[Failure] = []
        self.repeats: list[Failure] = []
        self._harness = harness
        self._plan = plan

    def run(self) -> None:
        """Measure everything. If a system fails, that becomes a Failure, and the run goes on."""
        standing = [workload for workload in self._plan.workloads if not workload.is_fresh]
        for (kind, scheme), group in groupby(sorted(standing, key=_upstream_order), key=_upstream_order):
            self._run_standing(kind, scheme, list(group))
        for workload in self._plan.workloads:
            if workload.is_fresh:
                self._run_fresh(workload)

    def _run_standing(self, kind: Kind, scheme: Scheme, workloads: Sequence[Workload]) -> None:
        with ExitStack() as stack:
            running: dict[str, RunningSystem] = {}
            for system in self._plan.systems:
                wanted = [workload for workload in workloads if self._is_wanted(system, workload)]
                if not wanted:
                    continue
                try:
                    running[system.name] = stack.enter_context(self._harness.running(system, kind, scheme))
                except BenchError as error:
                    self._fail(system.name, wanted, error)
            for workload in workloads:
                self._run_rounds(
                    workload, [each for each in running.values() if self._is_wanted(each.system, workload)]
                )

    def _run_rounds(self, workload: Workload, running: Sequence[RunningSystem]) -> None:
        if workload.load_of is not None:
            self._set_offered_rate(workload, running)
        able = {each.system.name: each for each in running}
        for name in list(able):
            self._attempt(name, workload, able, partial(self._warm_up, workload))
        for number in range(self._plan.rounds):
            for name in order_of_round(list(able), number):
                if name in able:
                    self._attempt(name, workload, able, partial(self._take, workload, number))
        if self._plan.profile is not None:
            for each in able.values():
                if each.system.is_profiled:
                    self._plan.profile(each, workload.name, partial(workload.measure, self._harness, each))

    def _run_fresh(self, workload: Workload) -> None:
        systems = {system.name: system for system in self._plan.systems if self._is_wanted(system, workload)}
        for number in range(-1, self._plan.rounds):  # Round -1 only fills the caches of files and bytecode.
            for name in order_of_round(list(systems), max(number, 0)):
                if name not in systems:
                    continue
                self._attempt(name, workload, systems, partial(self._take_fresh, workload, number))

    def _warm_up(self, workload: Workload, running: RunningSystem) -> None:
        warm_up(self._harness, running, workload)

    def _take_fresh(self, workload: Workload, number: int, system: System) -> None:
        with self._harness.running(system, workload.kind, workload.scheme) as running:
            if number >= 0:
                self._take(workload, number, running)

    def _take(self, workload: Workload, number: int, running: RunningSystem) -> None:
        values = workload.measure(self._harness, running)
        for _ in range(_RETAKES):
            if disturbance(values) <= 1.0:
                break
            values = min(values, workload.measure(self._harness, running), key=disturbance)
        self.samples.append(Sample(workload=workload.name, system=running.system.name, round=number, values=values))
        figures = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        _tell(f"{workload.name:22} round {number + 1} {running.system.name:20} {figures}")

    def _attempt(
        self,
        name: str,
        workload: Workload,
        able: dict[str, _Able],
        action: Callable[[_Able], object],
    ) -> None:
        """Take a turn, and repeat it once if it fails. A system that fails twice is left out of the rest of this workload."""
        for is_last in (False, True):
            try:
                action(able[name])
            except (BenchError, WrkError, OSError) as error:
                if is_last:
                    del able[name]
                    self._fail(name, [workload], error)
                else:
                    self._repeat(name, workload, error)
            else:
                return

    def _repeat(self, system: str, workload: Workload, error: Exception) -> None:
        """Record a turn that must be repeated: if the machine starves a program for seconds, a turn may not end."""
        self.repeats.append(Failure(workload=workload.name, system=system, reason=str(error)))
        _tell(f"{workload.name:22} REPEATED {system:19} {error}")

    def _fail(self, system: str, workloads: Iterable[Workload], error: Exception) -> None:
        """Record a failure of a system and drop its earlier samples: the remaining ones would flatter it."""
        for workload in workloads:
            self.failures.append(Failure(workload=workload.name, system=system, reason=str(error)))
            self.samples[:] = [
                sample for sample in self.samples if (sample.workload, sample.system) != (workload.name, system)
            ]
            _tell(f"{workload.name:22} FAILED  {system:20} {error}")

    def _set_offered_rate(self, workload: Workload, running: Sequence[RunningSystem]) -> None:
        """Return half of the reference's peak, from this run's samples or from a new measurement."""
        rate = self._plan.rate
        if rate is None:
            assert workload.load_of is not None
            peaks = list(
                values_of(
                    self.samples, workload=workload.load_of, system=REFERENCE, metric="requests_per_second"
                ).values()
            )
            if not peaks:
                peaks = self._measure_peak(all_workloads()[workload.load_of], running)
            rate = median(peaks) / 2
        self._harness.offered_rates[workload.scheme] = rate

    def _measure_peak(self, workload: Workload, running: Sequence[RunningSystem]) -> list[float]:
        for each in running:
            if each.system.name == REFERENCE:
                return [workload.measure(self._harness, each)["requests_per_second"] for _ in range(3)]
        raise MachineError(f"the offered load is half of {REFERENCE}'s peak: name it in --systems, or give --rate")

    def _is_wanted(self, system: System, workload: Workload) -> bool:
        if self._plan.are_variants_everywhere or workload.with_variants:
            return True
        return not system.name.endswith(WITHOUT_LOG)


def disturbance(values: Mapping[str, float]) -> float:
    """Return how much the machine disturbed a turn; up to 1 is accepted."""
    return max(values.get("disturbed", 0.0) / _DISTURBED, values.get("generator_late_p99_ms", 0.0) / _LATE_MS)


def available(systems: Iterable[System]) -> tuple[list[System], dict[str, str]]:
    """Return the systems that can run here, and the reasons why the others cannot."""
    found, skipped = [], {}
    for system in systems:
        reason = system.missing()
        if reason is None:
            found.append(system)
        else:
            skipped[system.name] = reason
            _tell(f"skipped: {system.name}: {reason}")
    return found, skipped


def _upstream_order(workload: Workload) -> tuple[Kind, Scheme]:
    return workload.kind, workload.scheme


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
