from __future__ import annotations

import pytest
from session import disturbance


@pytest.mark.parametrize(
    ("values", "is_let_pass"),
    [
        pytest.param({}, True, id="a turn without either figure"),
        pytest.param({"disturbed": 0.15}, True, id="others at the limit"),
        pytest.param({"disturbed": 0.16}, False, id="others above the limit"),
        pytest.param({"disturbed": 0.0, "generator_late_p99_ms": 5.0}, True, id="the generator at its limit"),
        pytest.param({"disturbed": 0.0, "generator_late_p99_ms": 5.1}, False, id="the generator above its limit"),
        pytest.param({"cpu_us_per_request": 1e9, "p99_ms": 1e9}, True, id="a system that is slow"),
    ],
)
def test_a_turn_is_taken_again_for_what_the_machine_did_alone(values: dict[str, float], *, is_let_pass: bool) -> None:
    """If the system's own behaviour caused a repetition, the benchmark would choose its result."""
    assert (disturbance(values) <= 1.0) is is_let_pass
