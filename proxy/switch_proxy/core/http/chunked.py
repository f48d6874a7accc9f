"""
The chunked transfer coding (RFC 9112 §7.1): decoded strictly in any segmentation, encoded anew.

Chunks are not passed as they came: extensions are for one hop, and a size line that another reader takes differently
never leaves this process. A body may come in a million chunks of one byte: its decoder does a bounded share of the work in
one call, so that others can be served in between.
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

_MAX_TRAILER_LINES: Final = 100
"""Lines of a trailer section: as many as a head may have by default."""

_PLAIN_LINE: Final = 16
"""Bytes of a size line that are not counted as an extension: a size has 15 digits at most."""

_MAX_EXCESS: Final = 16384
"""Bytes that the size lines of a body with their extensions may be longer than its chunks; Go and Node allow 16 KiB too."""

CHUNKS_PER_CALL: Final = 400
"""Chunks that are read in one call: less than a millisecond's work."""

_SIZE: Final = 0
_DATA: Final = 1
_DATA_END: Final = 2
_TRAILERS: Final = 3

_COSTLY: Final = 64
"""Chunks in one call from which on it took longer than a plain read does."""


class ChunkSyntaxError(ValueError):
    """Bytes that are not the chunked coding."""


class ChunkedDecoder:
    """
    Decodes one chunked body, fed in any pieces. Trailers by the names in `dropped` do not pass.

    `takes_padding`: blanks may follow a chunk's size, as some servers write them in responses.

    `is_complete` becomes True at the end of the trailer section; `trailers` are then the lines that may be forwarded. What
    a call has not read is in `unread`, from `position` on: the bytes behind the body, or those of the next call if this one
    has done its share. `is_costly` becomes True when a call had many chunks to read; who has taken note sets it back.
    """

    __slots__ = (
        "_dropped",
        "_excess",
        "_line",
        "_pending",
        "_remaining",
        "_state",
        "is_complete",
        "is_costly",
        "position",
        "trailers",
        "unread",
    )

    def __init__(self, *, dropped: frozenset[bytes] = frozenset(), takes_padding: bool = False) -> None:
        self._dropped = dropped
        self._line = PADDED_CHUNK_LINE if takes_padding else CHUNK_LINE
        self._pending = b""
        self._remaining = 0
        self._state = _SIZE
        self._excess = 0
        self.is_complete = False
        self.is_costly = False
        self.trailers = b""
        self.unread = b""
        self.position = 0

    @property
    def rest(self) -> bytes:
        """Return what the last call has not read."""
        return self.unread[self.position :]

    # One function, because calls would cost each chunk more than its work.
    def feed(self, data: bytes, position: int = 0) -> list[bytes]:  # noqa: C901, PLR0912, PLR0915 - see above
        """Return the pieces of body in `data` from `position` on, in order, as many as one call reads. Raises ChunkSyntaxError."""
        seen = len(self._pending)
        if seen:
            data = self._pending + data[position:]
            position = 0
            self._pending = b""
        pieces: list[bytes] = []
        chunks = 0
        end = len(data)
        state, remaining = self._state, self._remaining
        while position < end:
            if state == _SIZE:
                if chunks == CHUNKS_PER_CALL:
                    break
                chunks += 1
                line_end = data.find(_LINE_END, position, position + _MAX_CHUNK_LINE)
                if line_end < 0:
                    position = self._keep_partial_line(data, position)
                    break
                match = self._line.fullmatch(data, position, line_end)
                if match is None:
                    raise ChunkSyntaxError("a chunk's size line is malformed")
                remaining = int(match[1], 16)
                if line_end - position > _PLAIN_LINE:
                    self._count_extension(line_end - position, remaining)
                position = line_end + 2
                state = _DATA if remaining else _TRAILERS
            elif state == _DATA:
                # All of it if possible, because that copies nothing.
                piece = data[position : position + remaining]
                pieces.append(piece)
                position += len(piece)
                remaining -= len(piece)
                if not remaining:
                    state = _DATA_END
            elif state == _DATA_END:
                line = data[position : position + 2]
                if line != _LINE_END:
                    if line != b"\r":
                        raise ChunkSyntaxError("a chunk is longer than its size says")
                    self._pending = line
                    position = end
                    break
                position += 2
                state = _SIZE
            else:
                position = self._read_trailers(data, position, seen)
                break
            seen = 0
        self._state, self._remaining = state, remaining
        if chunks > _COSTLY:
            self.is_costly = True
        if position < end:
            self.unread, self.position = data, position
        elif self.unread:
            self.unread, self.position = b"", 0
        return pieces

    def _keep_partial_line(self, data: bytes, position: int) -> int:
        """Keep a size line that has not ended for the next call; return the position after it."""
        self._pending = data[position:]
        _check_partial_line(self._pending, self._line)
        return len(data)

    def _count_extension(self, length: int, size: int) -> None:
        """Refuse size lines that are, taken together, much longer than what they are the sizes of."""
        self._excess += max(0, length - size)
        if self._excess > _MAX_EXCESS:
            raise ChunkSyntaxError(f"the chunk extensions are more than {_MAX_EXCESS} bytes longer than the chunks")

    def _read_trailers(self, data: bytes, position: int, seen: int) -> int:
        """Read the trailer section, of which the first `seen` bytes were searched before; return the position after it."""
        if data.startswith(_LINE_END, position):
            self.is_complete = True
            return position + len(_LINE_END)
        section_end = data.find(b"\r\n\r\n", position + max(0, seen - END_BYTES))
        if section_end < 0:
            section = data[position:]
            if len(section) - END_BYTES > _MAX_TRAILERS:
                raise ChunkSyntaxError(f"the trailer section is larger than {_MAX_TRAILERS} bytes")
            if has_bare_line_feed(section, seen=seen):
                raise ChunkSyntaxError("a trailer line ends in a bare LF")
            self._pending = section
            return len(data)
        if section_end - position > _MAX_TRAILERS:
            raise ChunkSyntaxError(f"the trailer section is larger than {_MAX_TRAILERS} bytes")
        if data.count(_LINE_END, position, section_end) >= _MAX_TRAILER_LINES:
            raise ChunkSyntaxError(f"the trailer section has more than {_MAX_TRAILER_LINES} lines")
        try:
            lines = parse_field_lines(data[position:section_end])
        except FieldSyntaxError as error:
            raise ChunkSyntaxError(f"in the trailer section, {error}") from None
        self.trailers = trailer_lines(lines, dropped=self._dropped)
        self.is_complete = True
        return section_end + 4


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
