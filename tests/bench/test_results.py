from __future__ import annotations

from typing import TYPE_CHECKING

from report import render_markdown
from results import load_results, save_results
from summary import Failure

from tests.bench.made_results import results, sample

if TYPE_CHECKING:
    from pathlib import Path


def test_the_report_can_be_drawn_again_from_the_file(tmp_path: Path) -> None:
    original = results(
        sample("small-plain", "switch-proxy", 0, cpu_us_per_request=31.5),
        sample("small-plain", "envoy", 0, cpu_us_per_request=50.25),
        failures=(Failure(workload="small-plain", system="nginx", reason="answered 502"),),
        repeats=(Failure(workload="small-plain", system="envoy", reason="no answer"),),
        skipped={"tutorial": "aiohttp is not installed"},
    )
    save_results(original, tmp_path / "results.json")
    assert render_markdown(load_results(tmp_path / "results.json")) == render_markdown(original)


def test_a_run_without_samples_can_be_read_again(tmp_path: Path) -> None:
    save_results(results(), tmp_path / "results.json")
    assert load_results(tmp_path / "results.json").samples == []
