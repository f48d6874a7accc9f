"""
Other protocols than HTTP/1: named by the first bytes that a client or an upstream sends.

Their peers send a few bytes and wait. What can never become HTTP/1 is refused as soon as that is certain, because a time limit
that passes says nothing about the cause.
"""

from __future__ import annotations

import re
from typing import Final

from switch_proxy.core.errors import RequestError, ResponseError

LONGEST_OPENING: Final = 16
"""Bytes after which every protocol below has been recognised."""

_HTTP_2_PREFACE: Final = b"PRI * HTTP/2"
"""RFC 9113 §3.4. It has the form of a request head, so that servers of HTTP/1 refuse it."""

_TLS_RECORDS: Final = (b"\x16\x03", b"\x15\x03")
"""RFC 8446 §5.1: a handshake and an alert, and the major version."""

_PROXY_LINE: Final = re.compile(rb"PROXY (?:TCP[46] |UNKNOWN[ \r])")
_PROXY_SIGNATURE: Final = b"\x00\r\nQUIT\n"
"""The two forms of the PROXY protocol. The second begins with two empty lines, which are skipped as before a request line."""

_SOCKS: Final = frozenset({4, 5})
"""RFC 1928 §3: the version comes first."""

_NEVER_IN_A_METHOD: Final = re.compile(rb"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\xff]")
"""Control characters and what is not ASCII. CR and LF are judged as line ends."""

_STATUS_LINE: Final = b"HTTP/1."

_HTTP_2_FRAME: Final = re.compile(rb"\x00[\x00-\xff]{2}[\x04\x07][\x00-\xff]\x00{4}")
"""RFC 9113 §4.1, §3.4: a server begins with SETTINGS; some say GOAWAY at once."""

_FRAME_HEAD: Final = 9
"""Bytes."""


def find_other_protocol_of_client(opening: bytes) -> RequestError | None:
    """
    Return the refusal of a client that does not speak HTTP/1; None if it may, or if only more bytes can tell.

    `opening` is what has arrived of a request, without empty lines before it.
    """
    if opening.startswith(_HTTP_2_PREFACE):
        return RequestError(
            505, "the client speaks HTTP/2 (RFC 9113), and this listener HTTP/1.1; set the client to that"
        )
    if _PROXY_LINE.match(opening) is not None or opening.startswith(_PROXY_SIGNATURE):
        return RequestError(400, "the connection begins with the PROXY protocol; turn it off at the peer that sends it")
    if opening.startswith(_TLS_RECORDS):
        return RequestError(
            400, "the client began a TLS handshake, and this listener speaks plain HTTP; use an http:// URL"
        )
    if _NEVER_IN_A_METHOD.match(opening) is None or _is_start(opening, *_TLS_RECORDS, _PROXY_SIGNATURE):
        return None
    if opening[0] in _SOCKS:
        return RequestError(400, "the client speaks SOCKS, and this listener HTTP; address it by an http:// URL")
    return RequestError(400, f"the request begins with the byte 0x{opening[0]:02X}, which no request in HTTP/1.1 does")


def find_other_protocol_of_upstream(opening: bytes) -> ResponseError | None:
    """Return why a response is not HTTP/1; None if it may be, or if only more bytes can tell."""
    if opening.startswith(_TLS_RECORDS):
        return ResponseError("the upstream speaks TLS on this port; write https:// in the route's upstream")
    if opening.startswith(_STATUS_LINE) or _is_start(opening, _STATUS_LINE, *_TLS_RECORDS):
        return None
    if _HTTP_2_FRAME.match(opening) is not None:
        return ResponseError("the upstream speaks HTTP/2 alone (its response is a frame of RFC 9113), not HTTP/1.1")
    if opening.startswith(b"\x00") and len(opening) < _FRAME_HEAD:
        return None
    return no_status_line()


def no_status_line() -> ResponseError:
    """Return what is wrong with a response that begins with something else than a status line."""
    return ResponseError("the upstream's response does not begin with an HTTP/1.x status line (RFC 9112 §4)")


def _is_start(opening: bytes, *wholes: bytes) -> bool:
    return any(whole.startswith(opening) for whole in wholes)
