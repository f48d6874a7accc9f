"""The results of a run as one value, and as the JSON file from which report and plot can be made again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from summary import Failure, Sample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemFacts:
    """The description of a system in the report."""

    name: str
    what: str
    version: str
    access_log: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The content of a report."""

    date: str
    machine: Mapping[str, str]
    rounds: int
    seconds: float
    systems: Sequence[SystemFacts]
    skipped: Mapping[str, str]
    workloads: Mapping[str, str]
    samples: Sequence[Sample]
    failures: Sequence[Failure]
    repeats: Sequence[Failure]


def save_results(results: Results, path: Path) -> None:
    """Write `results` as JSON with one line for each sample, so that people can compare two runs."""
    document = asdict(results)
    samples = ",\n".join(f"    {json.dumps(_rounded(sample))}" for sample in document.pop("samples"))
    head = json.dumps(document, indent=2)
    path.write_text(f'{head[:-2]},\n  "samples": [\n{samples}\n  ]\n}}\n')


def load_results(path: Path) -> Results:
    """Read a file of save_results."""
    document = json.loads(path.read_text())
    document["systems"] = [SystemFacts(**each) for each in document["systems"]]
    document["samples"] = [Sample(**each) for each in document["samples"]]
    document["failures"] = [Failure(**each) for each in document["failures"]]
    document["repeats"] = [Failure(**each) for each in document["repeats"]]
    return Results(**document)


def _rounded(sample: dict[str, object]) -> dict[str, object]:
    values = sample["values"]
    assert isinstance(values, dict)
    return {**sample, "values": {name: float(f"{value:.6g}") for name, value in values.items()}}
