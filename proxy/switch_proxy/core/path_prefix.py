"""
The beginning of a path, by which routes are told apart: whole segments, in one canonical form.

Two paths are the same if their segments are, after RFC 3986 §6.2.2: percent-encoded unreserved characters are decoded,
other escapes are in upper case. Letters keep their case, and a slash at the end means nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from switch_proxy.core.errors import InvalidValueError

_PATH: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,=:@/]|%[0-9A-Fa-f]{2})*")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = re.compile(rb"[A-Za-z0-9\-._~]")


@dataclass(frozen=True, slots=True, kw_only=True)
class PathPrefix:
    """The segments that the path of a request must begin with; without segments, it matches every path."""

    segments: tuple[str, ...]

    def __str__(self) -> str:
        return "/" + "".join(f"{segment}/" for segment in self.segments)


def parse_path_prefix(text: str) -> PathPrefix:
    """Return the prefix that a path means. Raises InvalidValueError if servers could disagree about its segments."""
    return PathPrefix(segments=parse_segments(text, example="/switch/"))


def parse_segments(text: str, *, example: str) -> tuple[str, ...]:
    """
    Return the segments of a path in canonical form; a slash at the end means nothing.

    Raises InvalidValueError if servers could disagree about them.
    """
    if not text.startswith("/"):
        raise InvalidValueError(f"does not begin with a slash; write a path such as {example}", is_safe_to_echo=True)
    for character, name in (("?", "query"), ("#", "fragment")):
        if character in text:
            raise InvalidValueError(f"has a {name} (from the {character}); write a path alone, such as {example}")
    if ";" in text or "%3b" in text.lower():
        raise InvalidValueError(
            "has a semicolon, which servers read in different ways; write a path without", is_safe_to_echo=True
        )
    if re.search(r"%2f|%5c|\\", text, re.IGNORECASE):
        raise InvalidValueError(
            "has a backslash or an encoded slash, which servers read in different ways; write a path without",
            is_safe_to_echo=True,
        )
    if _PATH.fullmatch(text) is None:
        raise InvalidValueError("has a character that a path may not have; percent-encode it (RFC 3986 §2.1)")
    plain = text.strip("/").encode("ascii")
    segments = [canonical_segment(segment).decode("ascii") for segment in plain.split(b"/")] if plain else []
    if "//" in text:
        raise InvalidValueError("has an empty segment (//); write one slash in its place", is_safe_to_echo=True)
    if any(segment in {".", ".."} for segment in segments):
        raise InvalidValueError("has a . or .. segment; write the path without it", is_safe_to_echo=True)
    return tuple(segments)


def canonical_segment(segment: bytes) -> bytes:
    """Return a segment with unreserved characters decoded, and other escapes in upper case (RFC 3986 §6.2.2)."""
    return _ESCAPE.sub(_canonical_escape, segment) if b"%" in segment else segment


def _canonical_escape(escape: re.Match[bytes]) -> bytes:
    character = bytes((int(escape[1], 16),))
    return character if _UNRESERVED.fullmatch(character) else escape[0].upper()
