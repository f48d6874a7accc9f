"""The targets of links, the quotes and the commands of the pages exist."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

import pytest

from switch_proxy.cli import make_parser
from tests.docs.pages import PAGES, ROOT, anchors, blocks, commands, links, named

if TYPE_CHECKING:
    from pathlib import Path

_MAKEFILE: Final = (ROOT / "Makefile").read_text(encoding="utf-8")
_TARGETS: Final = frozenset(re.findall(r"^([a-z-]+):.*## ", _MAKEFILE, flags=re.MULTILINE))

_ELSEWHERE: Final = frozenset({"docker", "kubectl"})
"""Programs that the tests' machine may lack; the files and names in their commands are tested."""

_TRIED: Final = frozenset({"cp", "export", "curl"})
"""Other commands of docs/getting-started.md; tests/docs/test_getting_started.py runs them."""

_COMMANDS: Final = [
    pytest.param(command, id=f"{named(page)}: {command}") for page in PAGES for command in commands(page)
]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        place, _, anchor = link.partition("#")
        if "://" in place:
            continue
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"there is no heading for {link}"


def test_every_page_is_linked_from_the_readme() -> None:
    """A page without a link is not read; the decisions are found by their folder."""
    found = {(ROOT / link.partition("#")[0]).resolve() for link in links(ROOT / "README.md")}
    pages = {page for page in PAGES if page.parent == ROOT / "docs"}
    assert pages <= found


@pytest.mark.parametrize("command", _COMMANDS)
def test_commands_are_tasks_of_the_makefile_or_known_to_the_command_line(command: str) -> None:
    """A command that a reader types must exist."""
    words = shlex.split(command)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    program = words[0].removeprefix(".venv/bin/")
    if "--" in words and program == "kubectl":
        words = words[words.index("--") + 1 :]
        program = words[0]
    if program == "make":
        tasks = [word for word in words[1:] if "=" not in word]
        assert set(tasks) <= _TARGETS
        for setting in set(words[1:]) - set(tasks):
            assert f"$({setting.partition('=')[0]})" in _MAKEFILE
    elif program == "switch-proxy":
        make_parser().parse_args(words[1:])
    else:
        assert program in _ELSEWHERE | _TRIED


def test_first_two_commands_of_the_readme_are_the_demo_and_the_tests() -> None:
    assert list(commands(ROOT / "README.md"))[:2] == ["make demo", "make test"]


def test_makefile_tells_of_each_of_its_tasks() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", _MAKEFILE, flags=re.MULTILINE)
    assert set(phony.split()) == _TARGETS


@pytest.mark.parametrize("example", list(blocks(ROOT / "CONTRIBUTING.md", "python")), ids=["docstring", "test"])
def test_examples_of_style_are_the_code_itself(example: str) -> None:
    """An example must be taken from real code."""
    sources = [*ROOT.glob("proxy/**/*.py"), *ROOT.glob("tests/**/*.py")]
    assert any(example in source.read_text(encoding="utf-8") for source in sources)
