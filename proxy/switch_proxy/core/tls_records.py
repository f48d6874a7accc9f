"""Where the records of a TLS stream end: a header of five bytes, then as many as it says (RFC 8446 §5.1, RFC 5246 §6.2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADER: Final = 5
_LARGEST_FRAGMENT: Final = 2**14 + 2048
"""Bytes of a TLS 1.2 record after its header (RFC 5246 §6.2.3); TLS 1.3 allows fewer (RFC 8446 §5.2)."""

LARGEST_RECORD: Final = _HEADER + _LARGEST_FRAGMENT
"""Bytes of a record, header included."""


def find_end_of_records(data: Sequence[int], start: int, end: int) -> int:
    """
    Return where the last whole record ends of those in `data` from `start`, where one begins, to `end`.

    No more than LARGEST_RECORD bytes are taken at once. If no record is whole, the result is `start`. A header that
    announces more than a record may have is an error that the TLS library has to see: the result is `end`.
    """
    found = start
    longest = start + LARGEST_RECORD
    while found + _HEADER <= end:
        length = (data[found + 3] << 8) + data[found + 4]
        if length > _LARGEST_FRAGMENT:
            return end
        after = found + _HEADER + length
        if after > end or after > longest:
            break
        found = after
    return found
