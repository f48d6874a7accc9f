"""
How many tokens a workload costs in a day: the table of docs/fleet.md.

It is arithmetic on the moments at which core/tokens.py replaces a token. A test compares it with the core itself. `make tables` writes
it into the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import Final

from switch_proxy.core.tokens import REFRESH_EARLIEST, REFRESH_LATEST
from switch_proxy.demo.auth_server import TOKENS_PER_DAY
from tests.docs.pages import ROOT
from tests.generated_tables import markdown, write

PAGE: Final = ROOT / "docs" / "fleet.md"

DAY: Final = 86400.0
HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """
    What starts processes: pods that run on, rollouts that replace all of them, evenly over the day, and short jobs.

    `restarts` are those of one container a day, within its pod. `lifetime` is that of a token, in seconds.
    """

    name: str
    lifetime: float
    replicas: int = 0
    rollouts: int = 0
    jobs: int = 0
    restarts: int = 0


WORKLOADS: Final = (
    Workload(name="1 pod", lifetime=DAY, replicas=1),
    Workload(name="40 pods", lifetime=DAY, replicas=40),
    Workload(name="10 pods, rolled out 6 times a day", lifetime=DAY, replicas=10, rollouts=6),
    Workload(name="a CronJob every 15 minutes", lifetime=DAY, jobs=96),
    Workload(name="10 pods, rolled out once a day, and that CronJob", lifetime=DAY, replicas=10, rollouts=1, jobs=96),
    Workload(name="a container that restarts every 5 minutes", lifetime=DAY, restarts=288),
    Workload(name="2 pods", lifetime=HOUR, replicas=2),
    Workload(name="1000 pods, rolled out once a day", lifetime=HOUR, replicas=1000, rollouts=1),
)


def without_store(workload: Workload, *, part: float) -> float:
    """Return the tokens of a day if each process has its own, and replaces it after this part of its life."""
    starts = workload.jobs + workload.restarts
    if not workload.rollouts:
        return starts + workload.replicas * DAY / (part * workload.lifetime)
    life_of_a_pod = DAY / workload.rollouts
    tokens_of_a_pod = 1 + floor(life_of_a_pod / (part * workload.lifetime))
    return starts + workload.rollouts * workload.replicas * tokens_of_a_pod


def with_directory_in_each_pod(workload: Workload, *, part: float) -> float:
    """Return the same if each pod has a store of its own: its container's restarts cost nothing, new pods do."""
    if workload.restarts:
        return one_store(workload, part=part)
    return without_store(workload, part=part)


def one_store(workload: Workload, *, part: float) -> float:
    """Return the same if all processes share one store; with jobs or restarts alone, one of them begins the refresh a little later."""
    pause = 0.0 if workload.replicas else DAY / (workload.jobs + workload.restarts)
    is_latest = part == REFRESH_LATEST
    return DAY / (part * workload.lifetime + (pause if is_latest else 0.0))


def costs_table() -> str:
    """Return what each workload costs, in Markdown; more than the ration is in bold."""
    rows = [
        [
            workload.name,
            "24 h" if workload.lifetime == DAY else "1 h",
            *(
                _range(cost(workload, part=REFRESH_LATEST), cost(workload, part=REFRESH_EARLIEST))
                for cost in (without_store, with_directory_in_each_pod, one_store)
            ),
        ]
        for workload in WORKLOADS
    ]
    head = [
        "workload",
        "a token lives",
        "no store",
        "`directory` in each pod's `emptyDir`",
        "one store for all: `redis`",
    ]
    return markdown(head, rows)


def _range(least: float, most: float) -> str:
    digits = 1 if most < TOKENS_PER_DAY / 5 else 0
    shown = [f"{number:,.{digits}f}".replace(",", " ") for number in (least, most)]
    text = " to ".join(dict.fromkeys(shown))
    return f"**{text}**" if most > TOKENS_PER_DAY else text


TABLES: Final = {"what workloads cost": costs_table}


if __name__ == "__main__":
    write(PAGE, TABLES)
