"""
A field section (the lines between start line and body) as a list of checked lines, and the lists inside values.

It knows which lines are well formed (RFC 9110 §5, RFC 9112 §5). What they mean for a request or a response is decided in
`request.py` and `response.py`, which of them pass in `header_rules.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from switch_proxy.core.http.grammar import FIELD_LINE
from switch_proxy.core.http.header_rules import dropped_from_trailers

if TYPE_CHECKING:
    from collections.abc import Sequence


class FieldSyntaxError(ValueError):
    """A line that is not a field line. The text describes it without quoting a value."""


@dataclass(frozen=True, slots=True)
class FieldLine:
    """One field line: its name in lower case, its value without outer white space, and its bytes as received."""

    name: bytes
    value: bytes
    raw: bytes


def parse_field_lines(section: bytes) -> list[FieldLine]:
    """
    Split a field section into its lines, in order, duplicates kept (RFC 9112 §5).

    `section` is without the empty line that ends it. Raises FieldSyntaxError.
    """
    if not section:
        return []
    return [_parse_line(raw) for raw in section.split(b"\r\n")]


def _parse_line(raw: bytes) -> FieldLine:
    match = FIELD_LINE.fullmatch(raw)
    if match is None:
        raise FieldSyntaxError(_describe(raw))
    return FieldLine(match[1].lower(), match[2], raw)


def _describe(raw: bytes) -> str:
    """Say what is wrong with a line, naming its field only if the name itself is harmless."""
    if raw[:1] in (b" ", b"\t"):
        return "a header line is folded onto the next (obsolete line folding), which is not accepted (RFC 9112 §5.2)"
    name, colon, value = raw.partition(b":")
    if not colon:
        return "a header line has no colon (RFC 9112 §5)"
    if name.rstrip(b" \t") != name:
        return "white space stands between a header's name and its colon (RFC 9112 §5.1)"
    if b"\r" in value or b"\n" in value:
        return "a header's value has a bare CR or LF in it (RFC 9112 §2.2)"
    if FIELD_LINE.fullmatch(name + b":") is None:
        return "a header's name has a character that names cannot have (RFC 9110 §5.1)"
    return f"the value of the header {name.decode('ascii')} has a control character in it (RFC 9110 §5.5)"


class LineMemory:
    """
    Splits field sections, with what is known of each line kept under its bytes.

    `significant` are the names that mean something to the reader; `noted` is one whose value differs from message to
    message, so that it is kept apart. Most lines are the same each time, so a section of which one line is new costs
    little more than that line.
    """

    __slots__ = ("_kinds", "_noted", "_significant")

    def __init__(self, *, significant: frozenset[bytes], noted: bytes) -> None:
        self._significant = significant
        self._noted = noted
        self._kinds: dict[bytes, int] = {}

    def split(self, section: bytes) -> SplitSection:
        """Split a section into lines. Raises FieldSyntaxError."""
        lines = section.split(b"\r\n") if section else []
        significant: list[bytes] = []
        noted: bytes | None = None
        known = self._kinds.get
        for raw in lines:
            kind = known(raw)
            if kind is None:
                kind = self._learn(raw)
            if kind == _SIGNIFICANT:
                significant.append(raw)
            elif kind == _NOTED and noted is None:
                noted = raw
        return SplitSection(lines, significant, noted)

    def _learn(self, raw: bytes) -> int:
        match = FIELD_LINE.fullmatch(raw)
        if match is None:
            raise FieldSyntaxError(_describe(raw))
        name = match[1].lower()
        kind = _NOTED if name == self._noted else _PLAIN
        if name in self._significant:
            kind = _SIGNIFICANT
        if len(raw) <= _LONGEST_REMEMBERED_LINE:
            if len(self._kinds) >= _REMEMBERED_LINES:
                self._kinds.clear()
            self._kinds[raw] = kind
        return kind

    def without(self, section: SplitSection, dropped: frozenset[bytes]) -> bytes:
        """Return the lines whose names are not in `dropped`, in order, each with its CRLF."""
        if dropped <= self._significant:
            # The usual case: the few lines to leave out are among the few that were picked out already.
            left_out = [raw for raw in section.significant if _name(raw) in dropped]
            kept = [raw for raw in section.lines if raw not in left_out] if left_out else section.lines.copy()
        else:
            kept = [raw for raw in section.lines if _name(raw) not in dropped]
        if not kept:
            return b""
        kept.append(b"")
        return b"\r\n".join(kept)


_PLAIN: Final = 0
_SIGNIFICANT: Final = 1
_NOTED: Final = 2


def _name(raw: bytes) -> bytes:
    """Return the name of a line that has been found well formed."""
    return raw[: raw.index(b":")].lower()


@dataclass(slots=True)
class SplitSection:
    """The lines of a section as received; those of significant names; the first of the noted name."""

    lines: list[bytes]
    significant: list[bytes]
    noted: bytes | None


_REMEMBERED_LINES: Final = 1024
"""As many different lines are remembered by each reader; the memory is emptied when full."""

_LONGEST_REMEMBERED_LINE: Final = 512
"""Bytes; longer lines are parsed anew each time."""


def list_members(values: Sequence[bytes]) -> list[bytes]:
    """Return the members of a comma-separated list spread over any number of lines, lower-cased (RFC 9110 §5.6.1)."""
    members = [member.strip(b" \t").lower() for value in values for member in value.split(b",")]
    return [member for member in members if member]


def trailer_lines(lines: Sequence[FieldLine], *, dropped: frozenset[bytes] = frozenset()) -> bytes:
    """
    Return the trailer lines that may be forwarded, each with its CRLF (RFC 9110 §6.5.1).

    `dropped` are the names that the head's Connection has named besides: they are for one hop, in the trailer section
    as in the head (RFC 9110 §7.6.1).
    """
    left_out = dropped_from_trailers(dropped)
    return b"".join(line.raw + b"\r\n" for line in lines if line.name not in left_out)
