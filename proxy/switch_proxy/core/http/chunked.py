"""
The chunked transfer coding (RFC 9112 §7.1): decoded strictly in any segmentation, encoded anew.

Chunks are not passed as they came: extensions are for one hop, and a size line that another reader takes differently
never leaves this process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from switch_proxy.core.http.fields import FieldSyntaxError, parse_field_lines, trailer_lines
from switch_proxy.core.http.grammar import CHUNK_LINE, END_BYTES, PADDED_CHUNK_LINE, has_bare_line_feed

if TYPE_CHECKING:
    import re
    from collections.abc import Sequence

_LINE_END: Final = b"\r\n"

LAST_CHUNK: Final = b"0\r\n\r\n"

_MAX_CHUNK_LINE: Final = 4096
"""Bytes of a size line with its extensions: as much as llhttp's users meet, far below what could exhaust memory."""

_MAX_TRAILERS: Final = 65536
"""Bytes of trailer section, the limit that heads have."""


class ChunkSyntaxError(ValueError):
    """Bytes that are not the chunked coding."""


class ChunkedDecoder:
    """
    Decodes one chunked body, fed in any pieces. Trailers by the names in `dropped` do not pass.

    `takes_padding`: blanks may follow a chunk's size, as some servers write them in responses.

    `is_complete` becomes True at the end of the trailer section; `trailers` are then the lines that may be forwarded,
    and `rest` the bytes that came after the body.
    """

    __slots__ = (
        "_dropped",
        "_in_trailers",
        "_line",
        "_needs_line_end",
        "_pending",
        "_remaining",
        "is_complete",
        "rest",
        "trailers",
    )

    def __init__(self, *, dropped: frozenset[bytes] = frozenset(), takes_padding: bool = False) -> None:
        self._dropped = dropped
        self._line = PADDED_CHUNK_LINE if takes_padding else CHUNK_LINE
        self._pending = b""
        self._remaining = 0
        self._needs_line_end = False
        self._in_trailers = False
        self.is_complete = False
        self.trailers = b""
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the pieces of body in `data`, in order. Raises ChunkSyntaxError."""
        seen = len(self._pending)
        if seen:
            data = self._pending + data
            self._pending = b""
        pieces: list[bytes] = []
        position = 0
        end = len(data)
        while position < end:
            if self._remaining:
                # All of it if possible, because that copies nothing.
                piece = data if not position and self._remaining >= end else data[position : position + self._remaining]
                pieces.append(piece)
                position += len(piece)
                self._remaining -= len(piece)
            elif self._needs_line_end:
                position = self._read_line_end(data, position)
            elif self._in_trailers:
                self._read_trailers(data[position:], seen=0 if position else seen)
                break
            else:
                position = self._read_size(data, position)
        return pieces

    def _read_line_end(self, data: bytes, position: int) -> int:
        """Read the line end behind a chunk; return the position after it."""
        if not _LINE_END.startswith(data[position : position + 2]):
            raise ChunkSyntaxError("a chunk is longer than its size says")
        if len(data) - position < len(_LINE_END):
            self._pending = data[position:]
            return len(data)
        self._needs_line_end = False
        return position + len(_LINE_END)

    def _read_size(self, data: bytes, position: int) -> int:
        """Read a size line; return the position after it."""
        line_end = data.find(_LINE_END, position, position + _MAX_CHUNK_LINE)
        if line_end < 0:
            self._pending = data[position:]
            _check_partial_line(self._pending, self._line)
            return len(data)
        match = self._line.fullmatch(data, position, line_end)
        if match is None:
            raise ChunkSyntaxError("a chunk's size line is malformed")
        self._remaining = int(match[1], 16)
        if self._remaining:
            self._needs_line_end = True
        else:
            self._in_trailers = True
        return line_end + len(_LINE_END)

    def _read_trailers(self, data: bytes, *, seen: int) -> None:
        if data.startswith(b"\r\n"):
            self.rest = data[2:]
            self.is_complete = True
            return
        section_end = data.find(b"\r\n\r\n", max(0, seen - END_BYTES))
        if section_end < 0:
            if len(data) - END_BYTES > _MAX_TRAILERS:
                raise ChunkSyntaxError(f"the trailer section is larger than {_MAX_TRAILERS} bytes")
            if has_bare_line_feed(data, seen=seen):
                raise ChunkSyntaxError("a trailer line ends in a bare LF")
            self._pending = data
            return
        if section_end > _MAX_TRAILERS:
            raise ChunkSyntaxError(f"the trailer section is larger than {_MAX_TRAILERS} bytes")
        try:
            lines = parse_field_lines(data[:section_end])
        except FieldSyntaxError as error:
            raise ChunkSyntaxError(f"in the trailer section, {error}") from None
        self.trailers = trailer_lines(lines, dropped=self._dropped)
        self.rest = data[section_end + 4 :]
        self.is_complete = True


def _check_partial_line(partial: bytes, pattern: re.Pattern[bytes]) -> None:
    """Refuse a size line that no further byte can mend."""
    if len(partial) >= _MAX_CHUNK_LINE:
        raise ChunkSyntaxError(f"a chunk's size line is longer than {_MAX_CHUNK_LINE} bytes")
    line = partial.removesuffix(b"\r")
    # "1 " may still become "1 ;extension".
    if line and pattern.fullmatch(line) is None and pattern.fullmatch(line + b";") is None:
        raise ChunkSyntaxError("a chunk's size line is malformed")


def encode_chunk(pieces: Sequence[bytes]) -> bytes:
    """Return the pieces as one chunk; they must not all be empty, for an empty chunk would end the body."""
    size = sum(map(len, pieces))
    return b"".join((b"%x\r\n" % size, *pieces, b"\r\n"))


def last_chunk(trailers: bytes) -> bytes:
    """Return the end of a chunked body with `trailers`, lines that each end in CR LF."""
    return b"0\r\n" + trailers + b"\r\n" if trailers else LAST_CHUNK
