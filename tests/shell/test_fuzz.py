"""The fuzz targets, for a moment, from a fixed seed; and the runner, on targets that fail on purpose."""

from __future__ import annotations

import random
import re
import subprocess
import sys

import pytest

from fuzz.run import TARGETS, main


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_has_no_finding_in_its_first_cases(target: str) -> None:
    """A finding is a defect; `make fuzz` looks for longer, and from another seed each time."""
    for number in range(150):
        assert TARGETS[target](random.Random(f"1/{target}/{number}"))


def fails_at_random(rng: random.Random) -> str:
    value = rng.randrange(1000)
    assert value % 7, f"{value} can be divided"
    return "fine"


def never_fails(rng: random.Random) -> str:
    return "fine" if rng.randrange(2) else "refused"


def runner(*arguments: str, target: str) -> subprocess.CompletedProcess[str]:
    """Run the runner in a process of its own, for it uses the alarm signal; `target` is a function of this module."""
    code = (
        f"import sys; from fuzz.run import main; from tests.shell.test_fuzz import {target};"
        f"sys.exit(main({list(arguments)!r}, {{'made-up': {target}}}))"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)


def test_a_finding_is_told_once_with_the_command_that_repeats_it() -> None:
    """What was found is found again: a case depends on seed, target and number alone."""
    result = runner("--seconds", "0.2", "--seed", "5", target="fails_at_random")
    assert result.returncode == 1, result.stderr
    assert result.stdout.count("\nFINDING in made-up: AssertionError") == 1
    match = re.search(r"FINDING in made-up: (.*)\n(?:.*\n)*to repeat: python -m fuzz (.*)\n", result.stdout)
    assert match is not None
    again = runner(*match[2].split(), target="fails_at_random")
    assert again.returncode == 1
    assert match[1].partition("\n")[0] in again.stderr


def test_a_run_without_findings_succeeds_and_says_what_it_saw() -> None:
    """The seed is printed even where it was not given, and the kinds of input are counted."""
    result = runner("--seconds", "0.1", target="never_fails")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.match(r"fuzzing made-up for 0\.1 s with seed \d+\n", result.stdout)
    assert re.search(
        r"^made-up: \d+ cases \((fine|refused) \d+, (fine|refused) \d+\)\nno findings$", result.stdout, re.MULTILINE
    )


def test_an_unknown_target_is_named_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error must not look like a run without findings."""
    with pytest.raises(SystemExit):
        main(["--target", "nothing"])
    assert "invalid choice: 'nothing'" in capsys.readouterr().err
