"""
Which header lines pass, which are replaced and which are added, in both directions: the one place to look for a header.

    direction   dropped                             replaced               added
    request     hop-by-hop, what Connection names   Host, Authorization    X-Request-Id if missing, Via if configured,
                                                                           framing, TE and Upgrade for the next hop
    response    hop-by-hop, what Connection names   the HTTP version,      framing, Date if missing, Connection
                                                    our token, Location
    trailers    hop-by-hop, what Connection names,
                what must not stand in trailers

A route's configuration may set and remove further lines (line_edits.py). All other lines pass as they came: order, spelling and duplicates are kept (RFC 9110 §5.3, §7.6.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switch_proxy.core.http.line_edits import LineEdits

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
        # Part of an offer of h2c, which never passes (RFC 7540 §3.2.1); a client may forget to name it in Connection.
        b"http2-settings",
    }
)

_REPLACED: Final = frozenset({b"host", b"authorization"})

NOT_IN_TRAILERS: Final = HOP_BY_HOP | frozenset(
    {
        b"age",
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"date",
        b"expect",
        b"expires",
        b"host",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"location",
        b"max-forwards",
        b"pragma",
        b"range",
        b"retry-after",
        b"set-cookie",
        b"trailer",
        b"vary",
        b"www-authenticate",
    }
)
"""Framing, routing, authentication and content fields must not come after the content (RFC 9110 §6.5.1)."""

_OF_BROWSERS: Final = frozenset({b"origin", b"sec-fetch-site"})
"""What a browser says of the page that a request is from; core/policy/browsers.py judges it."""

OVERRIDES: Final = (
    *(b"x-http-method-override", b"x-http-method", b"x-method-override"),
    *(b"x-original-url", b"x-rewrite-url", b"x-override-url"),
)
"""By these some servers take another method or path than the request line's; routes with rules refuse them."""

SIGNIFICANT_IN_REQUESTS: Final = (
    HOP_BY_HOP
    | _REPLACED
    | _OF_BROWSERS
    | frozenset(OVERRIDES)
    | {b"via", b"content-length", b"expect", b"max-forwards"}
)
"""The names that mean something to the proxy; all other lines pass as they are, unless Connection names them."""

SIGNIFICANT_IN_RESPONSES: Final = HOP_BY_HOP | {b"content-length", b"location", b"content-location"}

TOKEN_MASK: Final = b"[access token]"
"""What stands for the access token in a head that an API has sent it back in."""


def hide_token(lines: bytes, token: bytes) -> bytes:
    """Return the lines of a response with the token of its request masked."""
    return lines.replace(token, TOKEN_MASK)


REQUEST_ID: Final = b"x-request-id"
DATE: Final = b"date"

_HANDLED_OPTIONS: Final = HOP_BY_HOP | {b"close", b"content-length"}
"""Connection options that name no further line to drop. The framing cannot be dropped: it is judged."""

_NO_CONTENT: Final = 204
_FINAL: Final = 200


# Requests.


def dropped_from_request(connection: Sequence[bytes], *, minor: int) -> frozenset[bytes]:
    """Return the names of the lines that do not pass; `connection` are the options of Connection, in lower case."""
    dropped = HOP_BY_HOP | _REPLACED | (frozenset(connection) - _HANDLED_OPTIONS)
    # An HTTP/1.0 client cannot be answered with 100 (RFC 9110 §10.1.1).
    return dropped | {b"expect"} if minor == 0 else dropped


def added_to_request(*, is_chunked: bool, wants_trailers: bool, upgrade: bytes | None) -> bytes:
    """Return the lines that a request's meaning adds for the next hop, each with its CRLF."""
    lines, options = [], []
    if is_chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    if wants_trailers:
        options.append(b"TE")
        lines.append(b"TE: trailers\r\n")
    if upgrade is not None:
        options.append(b"Upgrade")
        lines.append(b"Upgrade: " + upgrade + b"\r\n")
    if options:
        lines.append(b"Connection: " + b", ".join(options) + b"\r\n")
    return b"".join(lines)


class RouteHeaders:
    """The lines of a route's requests; those that are the same for all of them are made once."""

    __slots__ = ("_edits", "_host_line", "_via_lines")

    def __init__(self, *, host: str, via: str | None, edits: LineEdits | None = None) -> None:
        """
        Prepare.

        `host` is the upstream's Host, `via` the proxy's name in Via, None for no such line; `edits` are what the
        configuration sets and removes.
        """
        self._edits = edits
        self._host_line = b"Host: " + host.encode("ascii") + b"\r\n"
        name = None if via is None else via.encode("ascii")
        # The protocol in Via is the one received (RFC 9110 §7.6.3), so there is a line for each minor version.
        self._via_lines = tuple(b"" if name is None else b"Via: 1.%d %s\r\n" % (minor, name) for minor in (0, 1))

    def of_request(
        self, forwarded: bytes, minor: int, added_request_id: bytes | None, authorization_line: bytes
    ) -> tuple[bytes, ...]:
        """
        Return the lines to send upstream, each with its CRLF; Host comes first (RFC 9110 §7.2).

        `forwarded`: the lines that pass. `minor`: the version received. `added_request_id`: None if there is one.
        """
        if self._edits is not None:
            forwarded = self._edits.apply(forwarded)
        return (
            self._host_line,
            forwarded,
            b"" if added_request_id is None else b"X-Request-Id: " + added_request_id + b"\r\n",
            authorization_line,
            self._via_lines[minor],
        )


def count_down(forwarded: bytes, max_forwards: int) -> bytes:
    """Return the lines to send on with Max-Forwards lowered by this hop (RFC 9110 §7.6.2)."""
    lines = forwarded.split(b"\r\n")
    for index, line in enumerate(lines):
        name, _, _ = line.partition(b":")
        if name.lower() == b"max-forwards":
            lines[index] = b"%s: %d" % (name, max_forwards - 1)
    return b"\r\n".join(lines)


# Responses.


def dropped_from_response(connection: Sequence[bytes], *, status: int) -> frozenset[bytes]:
    """Return the names of the lines that do not pass; `connection` are the options of Connection, in lower case."""
    dropped = HOP_BY_HOP | (frozenset(connection) - _HANDLED_OPTIONS)
    # There must be no Content-Length here (RFC 9110 §8.6).
    return dropped | {b"content-length"} if status == _NO_CONTENT or status < _FINAL else dropped


def added_to_response(date: bytes | None, *, is_chunked: bool, closes: bool, minor: int) -> bytes:
    """
    Return the lines that are added to a final response, each with its CRLF.

    `date` is the value of a missing Date (RFC 9110 §6.6.1), None if there is one; `minor` is the client's version.
    """
    lines = b"Transfer-Encoding: chunked\r\n" if is_chunked else b""
    if date is not None:
        lines += b"Date: " + date + b"\r\n"
    if closes:
        return lines + b"Connection: close\r\n"
    # HTTP/1.0 clients need to be told that the connection stays (RFC 9112 §9.3).
    return lines if minor else lines + b"Connection: keep-alive\r\n"


def added_to_switch(upgrade: bytes) -> bytes:
    """Return the lines that are added to 101 Switching Protocols (RFC 9110 §7.8), each with its CRLF."""
    return b"Connection: Upgrade\r\nUpgrade: " + upgrade + b"\r\n"


# Trailers.


def dropped_from_trailers(dropped_from_head: frozenset[bytes]) -> frozenset[bytes]:
    """Return the names of trailer lines that do not pass: what one hop is told of is so in the trailers too."""
    return NOT_IN_TRAILERS | dropped_from_head
