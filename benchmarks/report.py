"""The report of a run: a table for the terminal, and RESULTS.md. Every figure has its ratio to Envoy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from goals import GOALS, REFERENCE, SUBJECT, WITHOUT_LOG, Verdict, judge
from summary import Spread, median, ratio_of, spread_of, values_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from results import Results

# With more, the load generator was the limit, not the system.
_IDLE_TOO_MUCH = 0.05
_ANSWERED_ENOUGH = 0.999


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """The format of a figure."""

    name: str
    label: str
    format: str


METRICS = (
    Metric(name="cpu_us_per_request", label="CPU per request, µs", format=".1f"),
    Metric(name="requests_per_second", label="requests per second, one core", format=",.0f"),
    Metric(name="mib_per_cpu_second", label="MiB per CPU second", format=",.0f"),
    Metric(name="mib_per_second", label="MiB per second", format=",.0f"),
    Metric(name="cpu_us_per_event", label="CPU per event, µs", format=".1f"),
    Metric(name="p50_ms", label="p50, ms", format=".3f"),
    Metric(name="p99_ms", label="p99, ms", format=".3f"),
    Metric(name="start_seconds", label="start to first answer, s", format=".3f"),
    Metric(name="resident_idle_mib", label="memory idle, MiB", format=".1f"),
    Metric(name="resident_connections_mib", label="memory with 1,000 idle connections, MiB", format=".1f"),
)


def render_terminal(results: Results) -> str:
    """Return the figures of a run as aligned text."""
    lines = []
    for workload, what in results.workloads.items():
        lines += ["", f"{workload}: {what}"]
        rows = _rows(results, workload)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines += ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        lines += [f"  {each.system}: failed: {each.reason}" for each in results.failures if each.workload == workload]
    verdicts = [verdict for verdict in _verdicts(results) if verdict.measured is not None]
    if verdicts:
        lines += ["", "goals:"]
        lines += [
            f"  {each.goal.work:45} {each.goal.text:15} {_spread(each.measured, '.2f'):20} {_said(each)}"
            for each in verdicts
        ]
    lines += ["", _disturbance(results)]
    return "\n".join(lines)


def render_markdown(results: Results) -> str:
    """Return RESULTS.md."""
    introduction = (
        f"One run of `make bench`, {results.date}. How it is measured, and what each system does and logs, is in "
        "[docs/benchmarks.md](../docs/benchmarks.md). Times belong to this machine in these minutes: read the ratios "
        f"to Envoy (`×`). Each figure is the median of {results.rounds} rounds with the smallest and the largest in "
        "brackets; a ratio is taken within a round."
    )
    sections = [
        "# Benchmark results",
        introduction,
        "![CPU time, memory and latency relative to Envoy](results.svg)",
        _goals_section(results),
        "## Machine\n\n" + _table(("", ""), list(results.machine.items())),
        _systems_section(results),
        "## Figures",
        *(_workload_section(results, workload) for workload in results.workloads),
        "## How quiet the machine was\n\n" + _disturbance(results) + _repeats(results),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _goals_section(results: Results) -> str:
    rows = []
    for verdict in _verdicts(results):
        without = judge(
            verdict.goal,
            results.samples,
            subject=SUBJECT + WITHOUT_LOG,
            reference=REFERENCE + WITHOUT_LOG,
        )
        other = "" if verdict.goal.is_absolute else _spread(without.measured, ".2f")
        measured = _spread(verdict.measured, ".2f")
        rows.append((verdict.goal.work, verdict.goal.text, measured, _said(verdict), other))
    header = ("work", "goal", "measured", "", "both without access log")
    return "## Goals\n\n" + _table(header, rows)


def _systems_section(results: Results) -> str:
    rows = [(f"`{each.name}`", each.what, each.version, each.access_log) for each in results.systems]
    table = _table(("name", "what", "version", "access log"), rows)
    skipped = [f"- `{name}` was skipped: {reason}." for name, reason in results.skipped.items()]
    return "\n\n".join(["## Systems", table, "\n".join(skipped)]).rstrip()


def _workload_section(results: Results, workload: str) -> str:
    header, *rows = _rows(results, workload)
    failed = [
        f"- `{each.system}` failed: {each.reason.splitlines()[0]}"
        for each in results.failures
        if each.workload == workload
    ]
    offered = _all_values(results, workload, "offered_per_second")
    late = _all_values(results, workload, "generator_late_p99_ms")
    parts = [f"### {workload}", f"{_capitalized(results.workloads[workload])}."]
    if offered:
        parts[1] += f" Offered: {median(offered):,.0f} requests per second."
    if late:
        parts[1] += f" The generator's own p99 of lateness, which is in every figure: {median(late):.1f} ms."
    if rows:
        parts.append(_table(header, rows))
    if failed:
        parts.append("\n".join(failed))
    return "\n\n".join(parts)


def _all_values(results: Results, workload: str, metric: str) -> list[float]:
    return [
        sample.values[metric] for sample in results.samples if sample.workload == workload and metric in sample.values
    ]


def _rows(results: Results, workload: str) -> list[tuple[str, ...]]:
    """Return header and rows of a workload's table; a row is empty if nothing was measured."""
    samples = results.samples
    measured = [
        metric
        for metric in METRICS
        if any(each.workload == workload and metric.name in each.values for each in samples)
    ]
    rows: list[tuple[str, ...]] = [("system", *(metric.label for metric in measured))]
    for system in results.systems:
        if not any(each.workload == workload and each.system == system.name for each in samples):
            continue
        cells = [system.name]
        for metric in measured:
            found = spread_of(samples, workload=workload, system=system.name, metric=metric.name)
            ratio = ratio_of(samples, workload=workload, system=system.name, reference=REFERENCE, metric=metric.name)
            figure = _spread(found, metric.format)
            cells.append(figure if ratio is None else f"{ratio.median:.2f} × · {figure}")
        answered = values_of(samples, workload=workload, system=system.name, metric="answered_share")
        if answered and median(list(answered.values())) < _ANSWERED_ENOUGH:
            cells[0] += f" (overloaded: answered {median(list(answered.values())):.0%} in time)"
        idle = values_of(samples, workload=workload, system=system.name, metric="idle")
        if idle and "requests_per_second" in {metric.name for metric in measured}:
            share = median(list(idle.values()))
            cells[0] += f" (its core {share:.0%} idle)" if share > _IDLE_TOO_MUCH else ""
        rows.append(tuple(cells))
    return rows


def _verdicts(results: Results) -> list[Verdict]:
    return [judge(goal, results.samples) for goal in GOALS]


def _said(verdict: Verdict) -> str:
    return {True: "reached", False: "**not reached**", None: "not measured"}[verdict.is_reached]


def _spread(found: Spread | None, format_: str) -> str:
    if found is None:
        return "–"
    return f"{found.median:{format_}} ({found.low:{format_}}–{found.high:{format_}})"


def _disturbance(results: Results) -> str:
    shares = [each.values["disturbed"] for each in results.samples if "disturbed" in each.values]
    if not shares:
        return "Not measured."
    return (
        f"Anything but the system under test had {median(shares):.1%} of the proxy's core in the median turn and "
        f"{max(shares):.1%} in the worst."
    )


def _repeats(results: Results) -> str:
    """Return a list of the turns that failed once and were repeated."""
    if not results.repeats:
        return ""
    lines = [f"- `{each.system}`, {each.workload}: {each.reason.splitlines()[0]}" for each in results.repeats]
    return "\n\nTurns that failed and were taken once more:\n\n" + "\n".join(lines)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]
