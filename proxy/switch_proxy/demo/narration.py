"""
The demo's output in a terminal: aligned, coloured if the terminal allows it, readable in a narrow window.

It is pure ASCII, so that it prints in any locale. If the output is not a terminal, lines are not wrapped.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LABEL = 12
"""Columns for a label and the space after it: the longest is `app sent`, in a step's indentation."""

_NARROWEST = 24
"""Fewest columns for text beside a label; with less room the text goes below the label."""

_BREAK = re.compile(r"[^\s&?,]*[&?,]?\s*")
"""Text that is not split between lines: words, and the parameters of a query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """An expectation, and what was seen."""

    expectation: str
    seen: str
    holds: bool


class Narrator:
    """Writes the demo's story to a stream. If `width` is None, lines are not wrapped."""

    def __init__(self, stream: TextIO, *, width: int | None, has_colour: bool) -> None:
        self._stream = stream
        self._width = width
        self._has_colour = has_colour

    def title(self, text: str) -> None:
        """Write a heading, after an empty line."""
        self._write("")
        for line in self._lines(text, indent=0):
            self._write(self._painted(line, "1"))

    def text(self, text: str) -> None:
        """Write a paragraph."""
        for line in self._lines(text, indent=0):
            self._write(line)

    def fact(self, label: str, text: str) -> None:
        """Write a line of a step: a label and a text."""
        self._labelled(label, text, colour="2")

    def check(self, check: Check) -> None:
        """Write a check. A failed one shows what was expected and what was seen."""
        if check.holds:
            self._labelled("ok", check.expectation, colour="32")
        else:
            self._labelled("FAILED", f"expected: {check.expectation}", colour="1;31")
            self._labelled("", f"seen: {check.seen}", colour="31")

    def command(self, command: str, purpose: str) -> None:
        """Write a command, unwrapped so that it can be copied, below its purpose."""
        self._write("")
        for line in self._lines(f"# {purpose}", indent=2):
            self._write("  " + self._painted(line, "2"))
        self._write(f"  {command}")

    def _labelled(self, label: str, text: str, *, colour: str) -> None:
        indent = 2 + _LABEL
        if self._width is not None and self._width - indent < _NARROWEST:
            if label:
                self._write(f"  {self._painted(label, colour)}")
            for line in self._lines(text, indent=4):
                self._write(f"    {line}")
            return
        for number, line in enumerate(self._lines(text, indent=indent)):
            shown = label if number == 0 else ""
            self._write(f"  {self._painted(shown, colour)}{' ' * (_LABEL - len(shown))}{line}")

    def _lines(self, text: str, *, indent: int) -> Iterator[str]:
        if self._width is None:
            yield text
            return
        room = max(self._width - indent - 1, 8)  # one column free: some terminals wrap at the very last
        line = ""
        for piece in _BREAK.findall(text):
            if line and len(line) + len(piece.rstrip()) > room:
                yield line.rstrip()
                line = ""
            line += piece
            while len(line.rstrip()) > room:
                yield line[:room]
                line = line[room:]
        if line or not text:
            yield line.rstrip()

    def _painted(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._has_colour and text else text

    def _write(self, line: str) -> None:
        self._stream.write(f"{line.rstrip()}\n")
        self._stream.flush()  # the story is slow; people must not wait until a buffer is full


def narrator_for(stream: TextIO, environ: Mapping[str, str]) -> Narrator:
    """Return a narrator for the stream, with colour if it is a terminal and NO_COLOR is not set."""
    is_terminal = stream.isatty()
    has_colour = is_terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    return Narrator(stream, width=shutil.get_terminal_size().columns if is_terminal else None, has_colour=has_colour)
