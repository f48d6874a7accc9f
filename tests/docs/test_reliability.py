"""docs/reliability.md: each row names a test that exists, and keys of the configuration that exist with the default that it tells."""

from __future__ import annotations

import ast
import re
from typing import Final

import pytest

from tests.docs.pages import ROOT

_PAGE: Final = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
_TEST: Final = re.compile(r"`(tests/[a-z0-9_/]+\.py)(?:::(test_[a-z0-9_]+))?`")


def rows() -> list[str]:
    """Return the rows of the tables that have a column for what shows a bound, without their heads."""
    found, is_inside = [], False
    for line in _PAGE.splitlines():
        if line.endswith("| shown by |"):
            is_inside = True
        elif not line.startswith("|"):
            is_inside = False
        elif is_inside and not line.startswith("|---"):
            found.append(line)
    return found


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.split("|")[1].strip())
def test_each_bound_names_a_test(row: str) -> None:
    assert _TEST.search(row.split("|")[-2])


@pytest.mark.parametrize(("path", "name"), sorted(set(_TEST.findall(_PAGE))))
def test_each_test_that_is_named_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    names = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    assert not name or name in names, f"there is no {name} in {path}"


def test_no_bound_is_told_twice() -> None:
    bounds = [tuple(row.split("|")[1:3]) for row in rows()]
    assert len(bounds) == len(set(bounds)) > 40


def test_keys_with_their_defaults_are_those_of_the_configuration_reference() -> None:
    """A bound that has a key is told with its default; a change of that must reach this page."""
    reference = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    told = re.findall(r"\| `([a-z_.]+)`, (\d+) ?(KiB|MiB|s|min|h)?(?: in all)? \|", _PAGE)
    assert len(told) > 15
    for key, number, unit in told:
        rows = re.findall(
            rf"^\| `{re.escape(key.rpartition('.')[2])}` \| [^|]+ \| `?([^|`]+)`? \|", reference, flags=re.MULTILINE
        )
        assert rows, f"{key} is not in the reference"
        measured = {_measure(row) for row in rows}
        assert _measure(number + unit) in measured, f"{key} is {rows} by default"


def _measure(text: str) -> float:
    found = re.fullmatch(r"(\d+) ?(KiB|MiB|s|m|min|h)?", text.strip())
    if found is None:
        return -1.0
    factors = {"KiB": 1024, "MiB": 1024**2, "s": 1, "m": 60, "min": 60, "h": 3600, None: 1, "": 1}
    return float(found[1]) * factors[found[2]]
