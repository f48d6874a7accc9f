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
from urllib.parse import unquote_to_bytes

from switch_proxy.core.errors import RequestError
from switch_proxy.core.path_prefix import canonical_segment

_MORE_SEPARATORS: Final = re.compile(rb"\\|%2[fF]|%5[cC]")
_PARAMETERS: Final = re.compile(rb";|%3[bB]")
_SEPARATOR_IN_PARAMETERS: Final = re.compile(rb"(?:;|%3[bB])[^/]*(?:\\|%2[fF]|%5[cC])")
_PLAIN: Final = re.compile(rb"(?:/(?!\.)[A-Za-z0-9\-._~!$&'()*+,=:@]++)*+/?")
"""Paths that all servers read alike, and that are in canonical form: most. The others are looked at closely."""
_AMBIGUOUS: Final = tuple(
    (re.compile(expression), name)
    for expression, name in (
        (rb"\\|%5[cC]", "a backslash"),
        (rb"%2[fF]", "an encoded slash"),
        (rb";|%3[bB]", "a semicolon"),
        (rb"//", "an empty segment"),
        (rb"%(?![0-9A-Fa-f]{2})", "a percent sign that begins no escape"),
        (rb"%25", "an encoded percent sign, as of double encoding"),
        (rb"%3[fF]|%23", "an encoded question mark or number sign"),
        (rb"%[01][0-9A-Fa-f]|%7[fF]", "an encoded control character"),
        (rb"[\x80-\xff]", "bytes outside ASCII that are not encoded"),
    )
)
"""What servers, and the proxies before them, are known to read in more than one way, and what to call it."""
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


def is_plain(path: bytes) -> bool:
    """Say whether a path has nothing in it that servers could read in more than one way, and is in canonical form."""
    return _PLAIN.fullmatch(path) is not None


def canonical_path(path: bytes) -> bytes:
    """Return a path whose segments are in canonical form, a slash at its end included."""
    return b"/".join(canonical_segment(piece) for piece in path.split(b"/"))


def find_ambiguity(path: bytes) -> str | None:
    """
    Return what of a path some server reads in another way than others, None if all read it alike.

    Stricter than the two readings above, because nothing may pass by a rule: whatever is known to be decoded twice, cut off,
    merged or mapped to another character by servers, frameworks or file systems is named.
    """
    for expression, name in _AMBIGUOUS:
        if expression.search(path) is not None:
            return name
    for piece in path.split(b"/"):
        try:
            text = unquote_to_bytes(piece).decode("utf-8")
        except UnicodeDecodeError:
            return "an escape that is not UTF-8, or too long a form of it"
        if text and _is_dots(text):
            return "a '.' or '..' segment"
        if not text.isascii() and _is_masked(text):
            return "a character that some servers take for another (a wide slash or dot, for example)"
    return None


def _is_dots(text: str) -> bool:
    """Say whether a segment has nothing but dots and spaces: Windows ignores those at the end of a name."""
    return not text.strip(". ")


def _is_masked(text: str) -> bool:
    """Say whether compatibility forms (Unicode NFKC), or what is invisible, hide a separator or a dot segment."""
    # Imported here: most paths are ASCII, and its tables are a megabyte.
    from unicodedata import category, normalize  # noqa: PLC0415

    plain = "".join(character for character in normalize("NFKC", text) if category(character) != "Cf")
    return _is_dots(plain) or any(sign in plain and sign not in text for sign in "/\\;?#%")


def without_segments(target: bytes, count: int) -> bytes:
    """Return a target in origin-form without the first `count` segments of its path; the rest stays as it is."""
    path, mark, query = target.partition(b"?")
    rest = path.split(b"/", count + 1)
    return b"/" + (rest[count + 1] if len(rest) > count + 1 else b"") + mark + query
