"""The demo's output: alignment, wrapping, colour."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.demo.narration import Check, Narrator, narrator_for

HOLDS = Check(expectation="a thing", seen="it", holds=True)
FAILS = Check(expectation="a thing", seen="something else", holds=False)


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def told(narrator_width: int | None, *, has_colour: bool = False) -> tuple[io.StringIO, Narrator]:
    stream = io.StringIO()
    return stream, Narrator(stream, width=narrator_width, has_colour=has_colour)


def test_labels_and_texts_are_aligned() -> None:
    """Whatever the label's length."""
    stream, narrator = told(None)
    narrator.fact("app sent", "GET /")
    narrator.fact("", "more of it")
    narrator.check(HOLDS)

    assert stream.getvalue() == "  app sent    GET /\n              more of it\n  ok          a thing\n"


def test_a_failed_check_says_what_was_expected_and_what_was_seen() -> None:
    """In words, not only by colour."""
    stream, narrator = told(None)
    narrator.check(FAILS)

    assert stream.getvalue() == "  FAILED      expected: a thing\n              seen: something else\n"


def test_a_long_target_is_broken_after_its_parameters_and_keeps_its_indentation() -> None:
    """Each line except the last ends with an ampersand."""
    stream, narrator = told(50)
    narrator.fact("app sent", "GET /api/readings?organizationId=1&registerId=1&registerId=2")

    assert stream.getvalue().splitlines() == [
        "  app sent    GET /api/readings?organizationId=1&",
        "              registerId=1&registerId=2",
    ]


def test_in_a_very_narrow_terminal_the_text_goes_below_its_label() -> None:
    """Otherwise the text would be a column of three letters."""
    stream, narrator = told(30)
    narrator.fact("app sent", "GET /api/meter?organizationId=1")

    assert stream.getvalue().splitlines() == ["  app sent", "    GET /api/meter?", "    organizationId=1"]


def test_a_command_is_never_broken() -> None:
    """Commands are copied."""
    command = "curl -i 'http://127.0.0.1:40000/api/readings?organizationId=1&registerId=1'"
    stream, narrator = told(30)
    narrator.command(command, "read")

    assert f"  {command}\n" in stream.getvalue()


@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=126)), width=st.integers(1, 130))
def test_no_line_is_wider_than_the_terminal_and_nothing_is_lost(text: str, width: int) -> None:
    """Down to the smallest width; every character except spaces is kept, in order."""
    stream, narrator = told(width)
    narrator.fact("app sent", text)

    assert all(len(line) <= max(width, 4 + 8) for line in stream.getvalue().splitlines())
    assert "".join(stream.getvalue().split()) == "appsent" + "".join(text.split())


@pytest.mark.parametrize(
    ("environ", "is_coloured"),
    [
        pytest.param({"TERM": "xterm"}, True, id="terminal"),
        pytest.param({"TERM": "xterm", "NO_COLOR": "1"}, False, id="NO_COLOR"),
        pytest.param({"TERM": "xterm", "NO_COLOR": ""}, True, id="NO_COLOR empty"),
        pytest.param({"TERM": "dumb"}, False, id="dumb terminal"),
    ],
)
def test_a_terminal_gets_colour_unless_told_otherwise(environ: dict[str, str], *, is_coloured: bool) -> None:
    """https://no-color.org: set and not empty."""
    stream = Terminal()
    narrator_for(stream, environ).check(HOLDS)

    assert ("\x1b[32mok\x1b[0m" in stream.getvalue()) is is_coloured


def test_what_is_no_terminal_gets_neither_colour_nor_wrapping() -> None:
    """Programs read files and pipes too."""
    stream = io.StringIO()
    narrator_for(stream, {"TERM": "xterm"}).fact("app sent", "x" * 300)

    assert stream.getvalue() == f"  app sent    {'x' * 300}\n"


def test_colour_does_not_change_the_text() -> None:
    """Without the escapes, both outputs are the same."""
    plain, coloured = told(40), told(40, has_colour=True)
    for _, narrator in (plain, coloured):
        narrator.title("A title that is longer than the forty columns there are")
        narrator.fact("label", "text")
        narrator.check(HOLDS)
        narrator.check(FAILS)
        narrator.command("curl", "purpose")

    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured[0].getvalue()) == plain[0].getvalue()
    assert "\x1b[1;31mFAILED" in coloured[0].getvalue()
