"""
Tables of the documentation that are made from the code, each between two marks on its page.

    <!-- generated: name -->
    …
    <!-- end -->

`make tables` writes them; a test of each page compares them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def generated(page: str, name: str) -> re.Match[str] | None:
    """Return the place of a generated table in the text of a page."""
    return re.search(rf"(?<=<!-- generated: {re.escape(name)} -->\n).*?(?=\n?<!-- end -->)", page, re.DOTALL)


def names(page: str) -> list[str]:
    """Return the names of all generated tables of a page."""
    return re.findall(r"<!-- generated: (.*?) -->", page)


def write(path: Path, tables: Mapping[str, Callable[[], str]]) -> None:
    """Write tables into a page."""
    page = path.read_text(encoding="utf-8")
    for name, render in tables.items():
        place = generated(page, name)
        if place is None:
            raise SystemExit(f"{path} has no place for the table {name!r}")
        end = page[place.end() :].lstrip("\n")
        page = f"{page[: place.start()]}{render()}\n{end}"
    path.write_text(page, encoding="utf-8")
