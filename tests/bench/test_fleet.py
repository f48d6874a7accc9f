"""The simulated fleets: what docs/fleet.md says of them holds, and the report shows what was found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from fleet import HOUR, SCENARIOS, SIZES, Outcome, Scenario, changed, render_svg, render_table, simulate

from switch_proxy.core import tokens

SIZE = 60
PAGE = Path(__file__).parents[2] / "docs" / "fleet.md"
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def costs(name: str, *, has_store: bool, size: int = SIZE) -> Outcome:
    return simulate(BY_NAME[name], size, has_store=has_store)


@pytest.mark.parametrize(
    ("name", "without", "shared"),
    [
        pytest.param("started over ten minutes", 3 * SIZE, 3, id="three lives of an hour in two hours"),
        pytest.param("all restarted at once", SIZE, 1, id="restarted"),
        pytest.param("rationed, started over ten minutes", 50, 1, id="rationed"),
        pytest.param("a wrong secret", 0, 0, id="a wrong secret"),
        pytest.param("an API that refuses every token", 8 * SIZE, 8, id="an API that refuses every token"),
    ],
)
def test_a_fleet_with_a_store_costs_as_much_as_one_process(name: str, without: int, shared: int) -> None:
    assert costs(name, has_store=False).tokens == without
    assert costs(name, has_store=True).tokens == shared
    assert costs(name, has_store=False, size=1).tokens == min(shared, without)


def test_a_wrong_secret_of_a_fleet_with_a_store_is_tried_as_often_as_that_of_one_process() -> None:
    alone = costs("a wrong secret", has_store=False, size=1).busiest_hour
    assert costs("a wrong secret", has_store=False).busiest_hour >= 0.9 * SIZE * alone
    assert costs("a wrong secret", has_store=True).busiest_hour <= alone + 1


def test_a_fleet_that_is_rationed_fails_without_a_store_and_not_with_one() -> None:
    assert costs("rationed, started over ten minutes", has_store=False).without > 0.3
    assert costs("rationed, started over ten minutes", has_store=True).without == 0.0


def test_without_its_store_a_fleet_costs_what_it_costs_without_one() -> None:
    name = "store away for five minutes, all restarted in it"
    away, none = costs(name, has_store=True), costs(name, has_store=False)
    assert (away.tokens, away.without) == (none.tokens, none.without) == (SIZE, 0.0)


def test_an_outage_of_ten_minutes_fails_no_request_of_processes_that_have_their_own_tokens_of_an_hour() -> None:
    assert costs("ten minutes' outage, tokens of an hour", has_store=False).without == 0.0


def test_a_fleet_that_was_restarted_at_once_does_not_refresh_at_once() -> None:
    """It would if each token were replaced after the same part of its life."""
    wave = Scenario(name="", lasts=0.95 * HOUR, lifetime=HOUR, counts_from=60.0)
    assert simulate(wave, 1000, has_store=False).busiest_second < 20
    with changed(tokens, REFRESH_EARLIEST=0.8, REFRESH_LATEST=0.8):
        assert simulate(wave, 100, has_store=False).busiest_second == 100
    assert tokens.REFRESH_EARLIEST == 0.75


def test_a_simulation_is_the_same_again() -> None:
    assert costs("all restarted at once", has_store=True) == costs("all restarted at once", has_store=True)


def test_the_page_has_a_row_for_each_scenario() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in BY_NAME if f"| {name} |" not in page] == []


def test_the_table_has_both_numbers_and_says_what_was_not_simulated() -> None:
    outcome = costs("all restarted at once", has_store=False, size=10)
    table = render_table([outcome, replace(outcome, has_store=True, busiest_hour=12_345), replace(outcome, size=1000)])
    assert "| all restarted at once | 10 | 10 → 10 | 10 → 12 345 | 10 → 10 | 0 → 0 |" in table
    assert "| all restarted at once | 1 000 | 10 → · |" in table


def test_the_plot_has_a_line_with_and_one_without_a_store_for_each_scenario() -> None:
    outcome = costs("all restarted at once", has_store=False, size=10)
    outcomes = [
        replace(outcome, size=size, has_store=has_store, scenario=name)
        for size in SIZES
        for has_store in (False, True)
        for name in BY_NAME
    ]
    lines = [
        line
        for line in ET.fromstring(render_svg(outcomes)).iter("{http://www.w3.org/2000/svg}polyline")
        if len(line.attrib["points"].split()) == len(SIZES)
    ]
    assert len(lines) == 8
