"""
How servers could read the path of a request target, as segments (RFC 3986 §3.3).

Two readings are enough to find a path that servers take differently, if no segment is ".." and no path parameter has a
separator in it:
`literal_segments` splits at slashes alone; `resolved_segments` does all that any server is known to do, which is to take
a backslash, `%2F` and `%5C` for a slash, to cut off path parameters, and to drop "." and empty segments. Whatever a server
does of this, and whatever it leaves: if both readings begin with the same plain segments, then so does its own.
"""

from __future__ import annotations

import re
from typing import Final

from switch_proxy.core.errors import RequestError
from switch_proxy.core.path_prefix import canonical_segment

_MORE_SEPARATORS: Final = re.compile(rb"\\|%2[fF]|%5[cC]")
_PARAMETERS: Final = re.compile(rb";|%3[bB]")
_SEPARATOR_IN_PARAMETERS: Final = re.compile(rb"(?:;|%3[bB])[^/]*(?:\\|%2[fF]|%5[cC])")
_UNUSUAL: Final = re.compile(rb"[%\\;]|//|/\.")
"""What only paths have that can be read in two ways; all other paths need one look."""


def path_of(target: bytes) -> bytes:
    """Return the path of a request target in origin-form, without its query."""
    return target.partition(b"?")[0]


def is_read_alike(path: bytes) -> bool:
    """Say whether a path has nothing in it that servers take differently: both readings are then the same."""
    return _UNUSUAL.search(path) is None


def literal_segments(path: bytes) -> tuple[bytes, ...]:
    """Return the segments between slashes, each in canonical form; a slash at the end gives an empty last one."""
    return tuple(canonical_segment(segment) for segment in path.split(b"/")[1:])


def resolved_segments(path: bytes) -> tuple[bytes, ...]:
    """
    Return the segments as the most eager server would take them.

    Raises RequestError (400) for a ".." segment, and for path parameters with a separator in them.
    """
    if _SEPARATOR_IN_PARAMETERS.search(path) is not None:
        raise RequestError(
            400, "the path has parameters (after a semicolon) with a backslash or an encoded slash in them"
        )
    pieces = (_PARAMETERS.split(piece, maxsplit=1)[0] for piece in _MORE_SEPARATORS.sub(b"/", path).split(b"/"))
    segments = [canonical_segment(piece) for piece in pieces]
    if b".." in segments:
        raise RequestError(400, "the path has a '..' segment; send the path that is meant (RFC 3986 §5.2.4)")
    return tuple(segment for segment in segments if segment not in {b"", b"."})


def without_segments(target: bytes, count: int) -> bytes:
    """Return a target in origin-form without the first `count` segments of its path; the rest stays as it is."""
    path, mark, query = target.partition(b"?")
    rest = path.split(b"/", count + 1)
    return b"/" + (rest[count + 1] if len(rest) > count + 1 else b"") + mark + query
