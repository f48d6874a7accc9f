"""The judge of the tests: a mutant counts as killed only if its change was made and a test failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import ROOT
from tools.mutants import MUTANTS, Mutant, MutantError, mutated, survives

if TYPE_CHECKING:
    from pathlib import Path


def _mutant(**changes: str) -> Mutant:
    given = {
        "name": "n",
        "file": "sums.py",
        "text": "a + b",
        "replacement": "a - b",
        "tests": "test_sums.py",
        **changes,
    }
    return Mutant(**given)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of a made-up project."""
    package = tmp_path / "proxy" / "switch_proxy"
    package.mkdir(parents=True)
    (package / "sums.py").write_text("def add(a, b):\n    return a + b\n")
    for name, assertion in (("test_sums.py", "add(1, 1) == 2"), ("test_zero.py", "add(1, 0) == 1")):
        (tmp_path / name).write_text(
            f"from runpy import run_path\nadd = run_path('proxy/switch_proxy/sums.py')['add']\n\n"
            f"def test(): assert {assertion}\n"
        )
    return tmp_path


@pytest.mark.parametrize(("tests", "expected"), [("test_sums.py", False), ("test_zero.py", True)])
def test_a_mutant_survives_if_its_tests_pass(folder: Path, tests: str, expected: bool) -> None:
    assert survives(_mutant(tests=tests), folder) is expected
    assert "a + b" in (folder / "proxy" / "switch_proxy" / "sums.py").read_text()


def test_tests_that_cannot_be_run_kill_nothing(folder: Path) -> None:
    """The exit code is another one then."""
    with pytest.raises(MutantError, match="pytest ended with 4"):
        survives(_mutant(tests="test_missing.py"), folder)


@pytest.mark.parametrize(("text", "found"), [("a * b", "is not found"), ("a", "occurs 2 times")])
def test_a_text_must_occur_exactly_once(text: str, found: str) -> None:
    with pytest.raises(MutantError, match=found):
        mutated("a + a", _mutant(text=text))


def test_there_are_a_dozen_of_which_each_has_its_own_change_and_tests_that_exist() -> None:
    assert len(MUTANTS) >= 12
    assert len({(mutant.file, mutant.text, mutant.replacement) for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        assert mutant.text != mutant.replacement
        for test in mutant.tests.split():
            assert (ROOT / test.partition("::")[0]).is_file(), test
