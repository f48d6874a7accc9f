from __future__ import annotations

import pytest
from goals import GOALS, Goal, judge
from summary import Sample
from workloads import all_workloads

AT_MOST = Goal(work="w", workload="small-plain", metric="cost", limit=0.65)
AT_LEAST = Goal(work="w", workload="small-plain", metric="cost", limit=1.5, is_at_least=True)
ABSOLUTE = Goal(work="w", workload="small-plain", metric="cost", limit=0.5, is_absolute=True)


def measured(ours: float, envoys: float | None) -> list[Sample]:
    values = {"switch-proxy": ours} | ({} if envoys is None else {"envoy": envoys})
    return [
        Sample(workload="small-plain", system=name, round=0, values={"cost": cost}) for name, cost in values.items()
    ]


@pytest.mark.parametrize(
    ("goal", "ours", "is_reached"),
    [
        pytest.param(AT_MOST, 64.0, True, id="below the most"),
        pytest.param(AT_MOST, 65.0, True, id="at the most"),
        pytest.param(AT_MOST, 66.0, False, id="above the most"),
        pytest.param(AT_LEAST, 149.0, False, id="below the least"),
        pytest.param(AT_LEAST, 150.0, True, id="at the least"),
        pytest.param(AT_LEAST, 151.0, True, id="above the least"),
        pytest.param(ABSOLUTE, 0.5, True, id="at an absolute limit"),
        pytest.param(ABSOLUTE, 0.51, False, id="above an absolute limit"),
    ],
)
def test_a_goal_is_reached_up_to_its_limit(goal: Goal, ours: float, *, is_reached: bool) -> None:
    assert judge(goal, measured(ours, 100.0)).is_reached is is_reached


@pytest.mark.parametrize("goal", [AT_MOST, AT_LEAST], ids=["at most", "at least"])
def test_without_the_reference_a_ratio_is_neither_reached_nor_missed(goal: Goal) -> None:
    """No figure is invented for a peer that is not installed."""
    verdict = judge(goal, measured(1.0, None))
    assert (verdict.measured, verdict.is_reached) == (None, None)


def test_an_absolute_goal_needs_no_reference() -> None:
    assert judge(ABSOLUTE, measured(0.4, None)).is_reached is True


def test_every_goal_names_a_workload_that_exists() -> None:
    assert {goal.workload for goal in GOALS} <= set(all_workloads())
