"""
A pattern of paths in a rule: whole segments, `*` for any one, and `**` at the end for one or more.

Segments are in the canonical form of path_prefix.py. Letters keep their case, and a slash at the end counts: `/a` is not
`/a/`, but `/a/**` is for `/a/b` and `/a/b/`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from switch_proxy.core.errors import InvalidValueError
from switch_proxy.core.path_prefix import parse_segments

ONE: Final = "*"
REST: Final = "**"


@dataclass(frozen=True, slots=True, kw_only=True)
class PathPattern:
    """The segments of a pattern; `has_end_slash`: whether a slash follows the last one."""

    segments: tuple[str, ...]
    has_end_slash: bool

    def __str__(self) -> str:
        return "/" + "/".join(self.segments) + ("/" if self.has_end_slash else "")

    @property
    def expression(self) -> str:
        """Return the regular expression for the canonical form of a path that is read alike by all servers."""
        *above, last = self.segments or ("",)
        begin = "".join("/" + ("[^/]+" if segment == ONE else re.escape(segment)) for segment in above)
        if last == REST:
            # The root alone is everything too.
            return f"{begin}/.+" if above else "/.*"
        return f"{begin}/{'[^/]+' if last == ONE else re.escape(last)}{'/' if self.has_end_slash else ''}"


EVERY_PATH: Final = PathPattern(segments=(REST,), has_end_slash=False)


def parse_path_pattern(text: str) -> PathPattern:
    """Return the pattern of a text such as `/api/readings/**`. Raises InvalidValueError."""
    segments = parse_segments(text, example="/api/readings/**")
    has_end_slash = text.endswith("/") and bool(segments)
    if any("%25" in segment for segment in segments):
        raise InvalidValueError(
            "has an encoded percent sign (%25), which some servers decode twice; write a path without",
            is_safe_to_echo=True,
        )
    if REST in segments[:-1] or (segments[-1:] == (REST,) and has_end_slash):
        raise InvalidValueError("has ** before its end; write * for one segment", is_safe_to_echo=True)
    if any("*" in segment and segment not in {ONE, REST} for segment in segments):
        raise InvalidValueError(
            "has * beside other characters of a segment; write * for a whole segment, %2A for an asterisk",
            is_safe_to_echo=True,
        )
    return PathPattern(segments=segments, has_end_slash=has_end_slash)
