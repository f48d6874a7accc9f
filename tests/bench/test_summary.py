from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from summary import Sample, Spread, median, order_of_round, percentile, ratio_of, spread_of


def sample(system: str, number: int, value: float, *, metric: str = "cost") -> Sample:
    return Sample(workload="work", system=system, round=number, values={metric: value})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([7.0], 7.0, id="one value"),
        pytest.param([9.0, 1.0, 5.0], 5.0, id="an odd number"),
        pytest.param([4.0, 1.0, 9.0, 2.0], 3.0, id="an even number"),
    ],
)
def test_the_median_is_the_middle_whatever_the_order(values: list[float], expected: float) -> None:
    assert median(values) == expected


def test_no_values_have_no_median() -> None:
    with pytest.raises(ValueError, match="no values"):
        median([])


@pytest.mark.parametrize(
    ("percent", "expected"),
    [
        pytest.param(50, 50.0, id="the middle"),
        pytest.param(99, 99.0, id="one from the end"),
        pytest.param(99.9, 100.0, id="between the last two, the last"),
        pytest.param(100, 100.0, id="all"),
        pytest.param(0, 1.0, id="none, the first"),
    ],
)
def test_a_percentile_is_the_smallest_value_that_covers_the_share(percent: float, expected: float) -> None:
    assert percentile([float(number) for number in range(1, 101)], percent) == expected


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.integers(1, 100))
def test_a_percentile_is_a_value_that_covers_its_share_of_any_values(values: list[float], percent: int) -> None:
    ordered = sorted(values)
    found = percentile(ordered, percent)
    assert found in ordered
    assert sum(value <= found for value in ordered) * 100 >= percent * len(ordered)


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that is slow for a while slows both, so pairs are formed before medians."""
    samples = [sample("ours", 0, 5.0), sample("envoy", 0, 10.0), sample("ours", 1, 60.0), sample("envoy", 1, 100.0)]
    found = ratio_of(samples, workload="work", system="ours", reference="envoy", metric="cost")
    assert found == Spread(median=0.55, low=0.5, high=0.6, count=2)


def test_a_round_without_the_reference_gives_no_ratio() -> None:
    samples = [sample("ours", 0, 5.0), sample("ours", 1, 8.0), sample("envoy", 1, 10.0)]
    found = ratio_of(samples, workload="work", system="ours", reference="envoy", metric="cost")
    assert found == Spread(median=0.8, low=0.8, high=0.8, count=1)


def test_without_any_pair_there_is_no_ratio() -> None:
    assert ratio_of([sample("ours", 0, 5.0)], workload="work", system="ours", reference="envoy", metric="cost") is None


def test_a_metric_that_was_not_measured_has_no_spread() -> None:
    assert spread_of([sample("ours", 0, 5.0)], workload="work", system="ours", metric="other") is None


def test_another_workloads_samples_do_not_count() -> None:
    other = Sample(workload="else", system="ours", round=0, values={"cost": 99.0})
    found = spread_of([other, sample("ours", 0, 5.0)], workload="work", system="ours", metric="cost")
    assert found == Spread(median=5.0, low=5.0, high=5.0, count=1)


def test_each_system_is_first_equally_often() -> None:
    systems = ["a", "b", "c"]
    orders = [order_of_round(systems, number) for number in range(6)]
    assert [order[0] for order in orders] == ["a", "b", "c", "a", "b", "c"]
    assert all(sorted(order) == systems for order in orders)
