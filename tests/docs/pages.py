"""The project's pages as the tests see them: their text, fenced blocks, headings, links and commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]

PAGES: Final = tuple(sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]))

_BLOCK: Final = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def named(path: Path) -> str:
    """Return a page's name, for the ids of tests."""
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, language: str) -> Iterator[str]:
    """Return the fenced blocks of a language, without their indentation."""
    for indent, found, text in _BLOCK.findall(path.read_text(encoding="utf-8")):
        if found == language:
            yield "".join(line.removeprefix(indent) for line in text.splitlines(keepends=True))


def commands(path: Path) -> Iterator[str]:
    """Return the commands of a page, without comments."""
    for block in blocks(path, "sh"):
        for line in block.splitlines():
            command = line.partition(" #")[0].strip()
            if command:
                yield command


def prose(path: Path) -> str:
    """Return a page without its fenced blocks."""
    return _BLOCK.sub("", path.read_text(encoding="utf-8"))


def links(path: Path) -> Iterator[str]:
    """Return the targets of a page's links."""
    yield from _LINK.findall(prose(path))


def anchors(path: Path) -> set[str]:
    """Return the possible targets after `#` in a link to a page: its headings in GitHub's form."""
    headings = re.findall(r"^#{1,6} (.+)$", prose(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
