"""docs/fleet.md: its numbers are those of the core, and its figures of memory those that the manifests leave room for."""

from __future__ import annotations

import re
from typing import Final

import pytest

from switch_proxy.core.secret import Secret
from switch_proxy.core.tokens import REFRESH_EARLIEST, REFRESH_LATEST, TokenGrant, issue
from switch_proxy.demo.auth_server import TOKENS_PER_DAY
from tests.docs.token_costs import (
    DAY,
    HOUR,
    PAGE,
    TABLES,
    WORKLOADS,
    Workload,
    one_store,
    with_directory_in_each_pod,
    without_store,
)
from tests.generated_tables import generated
from tests.k8s.manifests import read

_TEXT: Final = PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TABLES)
def test_table_is_what_the_arithmetic_says(name: str) -> None:
    place = generated(_TEXT, name)
    assert place is not None
    assert place[0] == TABLES[name](), "run `make tables`"


def _tokens_of_the_core(*, life: float, lifetime: float, jitter: float) -> int:
    """Return the tokens of a process that lives so long, as the core replaces them."""
    now, tokens = 0.0, 0
    while now <= life:
        grant = TokenGrant(value=Secret("a-token"), lifetime=lifetime, scope=None)
        now = issue(grant, generation=1, sent_at=now, jitter=jitter).refresh_at
        tokens += 1
    return tokens


@pytest.mark.parametrize("lifetime", [DAY, HOUR, 600.0])
@pytest.mark.parametrize("rollouts", [1, 3, 6, 24])
def test_arithmetic_is_that_of_the_core(lifetime: float, rollouts: int) -> None:
    workload = Workload(name="", lifetime=lifetime, replicas=7, rollouts=rollouts)
    for part, jitter in ((REFRESH_EARLIEST, 0.0), (REFRESH_LATEST, 1.0)):
        # A moment before the end, because sums of fractions are not exact.
        tokens = _tokens_of_the_core(life=DAY / rollouts + 0.001, lifetime=lifetime, jitter=jitter)
        assert without_store(workload, part=part) == rollouts * 7 * tokens


@pytest.mark.parametrize("part", [REFRESH_EARLIEST, REFRESH_LATEST])
@pytest.mark.parametrize("lifetime", [DAY, HOUR])
def test_pods_that_run_on_cost_what_the_core_needs_in_the_long_run(part: float, lifetime: float) -> None:
    days = 100
    jitter = 0.0 if part == REFRESH_EARLIEST else 1.0
    tokens = _tokens_of_the_core(life=days * DAY, lifetime=lifetime, jitter=jitter)
    assert tokens / days == pytest.approx(
        without_store(Workload(name="", lifetime=lifetime, replicas=1), part=part), rel=0.02
    )


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_a_store_for_all_keeps_every_workload_within_the_lives_of_one_token_and_none_costs_more(
    workload: Workload,
) -> None:
    for part in (REFRESH_EARLIEST, REFRESH_LATEST):
        shared = one_store(workload, part=part)
        assert shared <= DAY / (part * workload.lifetime)
        assert shared <= with_directory_in_each_pod(workload, part=part) <= without_store(workload, part=part)
        assert shared <= TOKENS_PER_DAY


def test_what_runs_dry_without_a_store_is_what_is_known_to() -> None:
    """Forty replicas need all fifty of a day, two with tokens of an hour too many, a CronJob is dead from midday."""
    costs = {each.name: without_store(each, part=REFRESH_EARLIEST) for each in WORKLOADS}
    assert costs["1 pod"] < 2
    assert costs["40 pods"] > TOKENS_PER_DAY
    assert costs["2 pods"] > TOKENS_PER_DAY
    assert costs["a CronJob every 15 minutes"] == 96


def test_manifests_leave_room_for_the_memory_that_a_store_was_measured_to_cost() -> None:
    (sidecar,) = read("component", "pod.yaml")["spec"]["initContainers"]
    requested = int(sidecar["resources"]["requests"]["memory"].removesuffix("Mi"))
    rows = re.findall(r"^\| (?:no store|`directory`|`redis`) \| ([\d.]+) MiB \| ([\d.]+) MiB \|", _TEXT, re.MULTILINE)
    assert len(rows) == 3
    for idle, connected in rows:
        assert float(idle) <= float(connected) <= requested
