"""
A field section (the lines between start line and body) as a list of checked lines, and the lists inside values.

It knows which lines are well formed (RFC 9110 §5, RFC 9112 §5) and which belong to one hop only (RFC 9110 §7.6.1);
what they mean for a request or a response is for `request.py` and `response.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.core.http.grammar import FIELD_LINE

if TYPE_CHECKING:
    from collections.abc import Sequence

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        # Not in §7.6.1's list, but meant for the next hop alone (RFC 9110 §11.7); Go's ReverseProxy drops them too.
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
    }
)

NOT_IN_TRAILERS: Final = HOP_BY_HOP | frozenset(
    {
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expect",
        b"host",
        b"max-forwards",
        b"set-cookie",
        b"trailer",
        b"www-authenticate",
    }
)
"""Framing, routing, authentication and content fields must not come after the content (RFC 9110 §6.5.1)."""


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
    """Say what is wrong with a line, naming its field only where the name itself is harmless."""
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


def list_members(values: Sequence[bytes]) -> list[bytes]:
    """Return the members of a comma-separated list spread over any number of lines, lower-cased (RFC 9110 §5.6.1)."""
    members = [member.strip(b" \t").lower() for value in values for member in value.split(b",")]
    return [member for member in members if member]


def trailer_lines(lines: Sequence[FieldLine]) -> bytes:
    """Return the trailer lines that may be forwarded, each with its CRLF (RFC 9110 §6.5.1)."""
    return b"".join(line.raw + b"\r\n" for line in lines if line.name not in NOT_IN_TRAILERS)
