"""The header lines that a route's configuration sets or removes, in one direction; compiled once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_REMEMBERED: Final = 256
_LONGEST_REMEMBERED: Final = 2048
"""As many sections, of as many bytes, are remembered; the memory is emptied when full."""


class LineEdits:
    """Sets lines, in place of those of the same name, and removes others."""

    __slots__ = ("_added", "_known", "_names")

    def __init__(self, *, replaced: Mapping[str, str], removed: Collection[str]) -> None:
        self._names = frozenset(name.lower().encode("ascii") for name in (*replaced, *removed))
        self._added = "".join(f"{name}: {value}\r\n" for name, value in replaced.items()).encode("ascii")
        self._known: dict[bytes, bytes] = {}

    def apply(self, lines: bytes) -> bytes:
        """Return lines, each with its CRLF, as they are to be sent; what is set comes last."""
        known = self._known.get(lines)
        if known is not None:
            return known
        kept = [line for line in lines.split(b"\r\n")[:-1] if line.partition(b":")[0].lower() not in self._names]
        edited = b"".join(line + b"\r\n" for line in kept) + self._added
        if len(lines) <= _LONGEST_REMEMBERED:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[lines] = edited
        return edited
