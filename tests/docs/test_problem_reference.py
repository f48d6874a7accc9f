"""docs/errors.md describes every problem, and no unknown ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from switch_proxy.core.http.problems import PROBLEM_TYPE_PREFIX, Problem

REFERENCE: Final = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")

NEVER_ANSWERED: Final = {Problem.CLIENT_GONE, Problem.CLIENT_STALLED, Problem.UPSTREAM_INCOMPLETE}
"""They happen if the client is gone or the response has begun, so they have no status of their own."""


def sections() -> dict[str, str]:
    """Return the text of each problem, on one line."""
    pieces = re.split(r"^### `(.+)`$", REFERENCE, flags=re.MULTILINE)[1:]
    return {
        name: " ".join(re.split(r"^## ", text, flags=re.MULTILINE)[0].split())
        for name, text in zip(pieces[::2], pieces[1::2], strict=True)
    }


def test_every_problem_has_a_section_and_no_other() -> None:
    assert set(sections()) == {problem.value.name for problem in Problem}


@pytest.mark.parametrize("problem", Problem, ids=lambda problem: problem.value.name)
def test_section_has_title_status_and_when_to_come_back(problem: Problem) -> None:
    kind = problem.value
    text = sections()[kind.name]
    assert f'"{kind.title}"' in text
    if problem not in NEVER_ANSWERED:
        assert text.startswith(f"{kind.status}: ")
    asked_to_wait = re.findall(r"`Retry-After: (\d+)`", text)
    assert asked_to_wait == ([] if kind.retry_after is None else [str(kind.retry_after)])


def test_example_is_of_the_type_that_answers_have() -> None:
    assert f'"type": "{PROBLEM_TYPE_PREFIX}{Problem.TOKEN_UNAVAILABLE.value.name}"' in REFERENCE
    assert f'"title": "{Problem.TOKEN_UNAVAILABLE.value.title}"' in REFERENCE
