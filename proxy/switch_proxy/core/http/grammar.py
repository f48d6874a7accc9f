"""
The character rules of RFC 9110 and RFC 9112, compiled once.

Strict on purpose: what two HTTP implementations can read differently is how requests are smuggled, so nothing is
repaired here. Every pattern is used with `fullmatch`.
"""

from __future__ import annotations

import re
from typing import Final

TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""RFC 9110 §5.6.2: methods and field names."""

FIELD_LINE: Final = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+((?:[^\x00-\x20\x7f]++(?:[ \t]++(?=[^\x00-\x20\x7f]))?+)*+)[ \t]*+"
)
"""
RFC 9112 §5: name, colon, value without the white space around it.

No space before the colon, no folding, no CR, LF, NUL or other control character in the value.
"""

REQUEST_TARGET: Final = re.compile(rb"[^\x00-\x20\x7f#]+")
"""RFC 9112 §3.2, widened to bytes above 0x7F, which pass as they are, as nginx lets them."""

ORIGIN_TARGET: Final = re.compile(rb"/[^\x00-\x20\x7f#]*+")
"""The same, in origin-form (RFC 9112 §3.2.1)."""

ABSOLUTE_TARGET: Final = re.compile(rb"([A-Za-z][0-9A-Za-z+.\-]*+)://([^/?]*+)(.*+)")
"""RFC 9112 §3.2.2: scheme, authority, and path with query; of what is a REQUEST_TARGET."""

HTTP_VERSION: Final = re.compile(rb"HTTP/([0-9])\.([0-9])")
"""RFC 9112 §2.3."""

STATUS_LINE: Final = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9][0-9])(?: ([^\x00-\x08\x0a-\x1f\x7f]*))?")
"""RFC 9112 §4; the space before an empty reason may be missing, as some servers leave it out."""

CONTENT_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
"""RFC 9110 §8.6, kept below 2**63."""

HOST: Final = re.compile(rb"(\[[^\[\]]+\]|(?:[0-9A-Za-z\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})*+)(?::[0-9]*)?")
"""RFC 9110 §7.2: uri-host with an optional port; what is in brackets is to be an IP_LITERAL."""

IP_LITERAL: Final = re.compile(
    rb"([0-9A-Fa-f:.]+)(?:%25(?:[0-9A-Za-z\-._~]|%[0-9A-Fa-f]{2})+)?|[vV][0-9A-Fa-f]+\.[0-9A-Za-z\-._~!$&'()*+,;=:]+"
)
"""RFC 3986 §3.2.2, RFC 6874 §2: an IPv6 address, which is in the group, with an optional zone, or what versions may follow it."""

REQUEST_ID_VALUE: Final = re.compile(rb"[\x20-\x7e]{1,128}")
"""What is taken of X-Request-Id: it goes into the log, and into the responses of the proxy's own."""

CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\x00-\x08\x0a-\x1f\x7f]*)?")
"""RFC 9112 §7.1: a chunk's size and its extensions; no sign, no prefix, no underscore, no space after the size."""

PADDED_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")
"""
The same, with blanks at the end: some servers write each size into a field of fixed width. Clients and proxies take that in
responses, and the body's end is the same for all of them; in requests it could hide one from another reader.
"""


END_BYTES: Final = 3
"""As many bytes of the empty line can be there before a section has ended."""


def has_bare_line_feed(text: bytes, *, seen: int = 0) -> bool:
    """
    Tell whether there is a line feed that no carriage return precedes (RFC 9112 §2.2).

    The first `seen` bytes were searched before, and are not searched again.
    """
    # Counted, for that is ten times as fast as a pattern with a look-behind.
    return text.count(b"\n", seen) > text.count(b"\r\n", max(0, seen - 1))
