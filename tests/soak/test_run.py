"""A soak of a few seconds, and one whose proxy breaks its promise."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.docs.pages import ROOT

FORGETFUL = """
import sys
from soak import run
from switch_proxy.demo.switch_api import FakeSwitchAPI

class Refusing(FakeSwitchAPI):
    async def start(self):
        await super().start()
        from switch_proxy.demo.faults import Status
        self.faults.add(Status(code=500), times=3)

run.FakeSwitchAPI = Refusing
sys.exit(run.main(["--seconds", "3", "--rate", "50"]))
"""


def soak(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=50
    )


def test_a_soak_keeps_its_promises() -> None:
    """Long enough for a revocation; the other disturbances take minutes."""
    ran = soak("-m", "soak", "--seconds", "3", "--rate", "50")

    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr
    assert "1 × revocation" in ran.stdout
    assert "every promise was kept" in ran.stdout


def test_a_soak_among_peers_that_misbehave_keeps_its_promises() -> None:
    """Too short for a disturbance: on a busy machine its limits of time would be the peers' fault."""
    ran = soak("-m", "soak", "--seconds", "1.9", "--rate", "50", "--bad-peers")

    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr
    assert re.search(r"^bad peers +[1-9][0-9]+ times$", ran.stdout, flags=re.MULTILINE)
    assert "every promise was kept" in ran.stdout


def test_a_soak_tells_what_was_broken() -> None:
    """A failing API has no excuse."""
    ran = soak("-c", FORGETFUL)

    assert ran.returncode == 1
    assert "BROKEN: 3 requests failed without an excuse (3 × 500)" in ran.stdout


def test_processes_that_share_tokens_keep_their_promises() -> None:
    """Long enough for one that is killed and started again."""
    ran = soak("-m", "soak", "--shared", "--seconds", "7", "--rate", "30")

    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr
    assert "disturbances killed" in ran.stdout
    assert "every promise was kept" in ran.stdout
