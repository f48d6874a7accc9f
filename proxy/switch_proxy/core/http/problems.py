"""
The proxy's own responses: every problem a client can meet, as problem+json (RFC 9457) with Proxy-Status (RFC 9209).

The names are stable: they are the end of the `type` URI, the `failure` of the access log and a label of the metrics.
docs/errors.md says for each what to do.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

PROBLEM_TYPE_PREFIX: Final = "urn:switch-proxy:problem:"

_REASONS: Final = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    414: "URI Too Long",
    421: "Misdirected Request",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    508: "Loop Detected",
    505: "HTTP Version Not Supported",
}

_NOT_IN_SF_STRING: Final = re.compile(r"[^\x20-\x7e]")

_IN_ASCII: Final = str.maketrans({"§": "section ", "…": "..."})
"""How a header has the characters of our own messages that are not ASCII."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemKind:
    """
    A kind of problem: its stable name, the status of its response, its title, and its RFC 9209 error type.

    `retry_after` is in seconds, if coming back makes sense.
    """

    name: str
    status: int
    title: str
    error: str
    retry_after: int | None = None


class Problem(Enum):
    """Every problem of the proxy's own, in the order of docs/errors.md."""

    REQUEST_MALFORMED = ProblemKind(
        name="request-malformed", status=400, title="The request breaks the rules of HTTP", error="http_request_error"
    )
    REQUEST_TIMEOUT = ProblemKind(
        name="request-timeout", status=408, title="The request did not arrive in time", error="http_request_error"
    )
    REQUEST_BUFFERS_FULL = ProblemKind(
        name="request-buffers-full",
        status=503,
        title="The proxy holds as many bytes of requests as it may",
        error="proxy_internal_error",
        retry_after=1,
    )
    HOST_NOT_ALLOWED = ProblemKind(
        name="host-not-allowed",
        status=421,
        title="The request is for a host that is not this proxy",
        error="http_request_denied",
    )
    ORIGIN_NOT_ALLOWED = ProblemKind(
        name="origin-not-allowed",
        status=403,
        title="The web page that made the request may not use this proxy",
        error="http_request_denied",
    )
    ROUTE_UNKNOWN = ProblemKind(
        name="route-unknown", status=404, title="No route is for this request", error="destination_not_found"
    )
    REQUEST_NOT_ALLOWED = ProblemKind(
        name="request-not-allowed",
        status=403,
        title="The route's rules do not allow this request",
        error="http_request_denied",
    )
    METHOD_NOT_ALLOWED = ProblemKind(
        name="method-not-allowed",
        status=405,
        title="The proxy does not forward this method",
        error="http_request_denied",
    )
    RATE_LIMITED = ProblemKind(
        name="rate-limited",
        status=429,
        title="The route's own rate limit is reached",
        error="http_request_denied",
    )
    LOOP = ProblemKind(
        name="loop",
        status=508,
        title="The request has been here before",
        error="proxy_loop_detected",
    )
    TOKEN_UNAVAILABLE = ProblemKind(
        name="token-unavailable",
        status=503,
        title="No access token could be obtained",
        error="proxy_configuration_error",
        retry_after=1,
    )
    UPSTREAM_BUSY = ProblemKind(
        name="upstream-busy",
        status=503,
        title="All connections to the upstream are in use",
        error="connection_limit_reached",
        retry_after=1,
    )
    UPSTREAM_NAME_UNKNOWN = ProblemKind(
        name="upstream-name-unknown",
        status=502,
        title="The upstream's host name cannot be resolved",
        error="dns_error",
        retry_after=5,
    )
    UPSTREAM_REFUSED = ProblemKind(
        name="upstream-refused",
        status=502,
        title="The upstream refused the connection",
        error="connection_refused",
        retry_after=1,
    )
    UPSTREAM_UNREACHABLE = ProblemKind(
        name="upstream-unreachable",
        status=502,
        title="The upstream cannot be reached",
        error="destination_ip_unroutable",
        retry_after=5,
    )
    UPSTREAM_CONNECT_TIMEOUT = ProblemKind(
        name="upstream-connect-timeout",
        status=504,
        title="The upstream did not accept a connection in time",
        error="connection_timeout",
        retry_after=1,
    )
    UPSTREAM_CERTIFICATE = ProblemKind(
        name="upstream-certificate",
        status=502,
        title="The upstream's certificate is not trusted",
        error="tls_certificate_error",
    )
    UPSTREAM_TLS = ProblemKind(
        name="upstream-tls", status=502, title="No TLS session with the upstream", error="tls_protocol_error"
    )
    EGRESS_PROXY = ProblemKind(
        name="egress-proxy", status=502, title="The egress proxy did not open a tunnel", error="destination_unavailable"
    )
    UPSTREAM_CLOSED = ProblemKind(
        name="upstream-closed",
        status=502,
        title="The upstream closed the connection before it responded",
        error="connection_terminated",
        retry_after=1,
    )
    UPSTREAM_MALFORMED = ProblemKind(
        name="upstream-malformed",
        status=502,
        title="The upstream's response breaks the rules of HTTP",
        error="http_protocol_error",
    )
    UPSTREAM_TIMEOUT = ProblemKind(
        name="upstream-timeout",
        status=504,
        title="The upstream did not respond in time",
        error="http_response_timeout",
        retry_after=1,
    )
    UPSTREAM_STALLED = ProblemKind(
        name="upstream-stalled",
        status=504,
        title="The upstream stopped reading the request",
        error="connection_write_timeout",
        retry_after=1,
    )
    UPSTREAM_INCOMPLETE = ProblemKind(
        name="upstream-incomplete",
        status=502,
        title="The upstream's response was cut short",
        error="http_response_incomplete",
    )
    # The next two are never sent, because no client is left to read them; the log and the metrics count them.
    CLIENT_GONE = ProblemKind(name="client-gone", status=400, title="The client went away", error="http_request_error")
    CLIENT_STALLED = ProblemKind(
        name="client-stalled", status=408, title="The client stopped reading the response", error="http_request_error"
    )
    DESCRIPTORS_EXHAUSTED = ProblemKind(
        name="descriptors-exhausted",
        status=502,
        title="The proxy has run out of file descriptors",
        error="proxy_internal_error",
        retry_after=1,
    )
    SHUTTING_DOWN = ProblemKind(
        name="shutting-down",
        status=503,
        title="The proxy is shutting down",
        error="proxy_internal_response",
        retry_after=1,
    )
    INTERNAL = ProblemKind(name="internal", status=500, title="The proxy has failed", error="proxy_internal_error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """
    Refuse a request.

    `status` stands in for the problem's own, `retry_after` is in seconds. `ends_connection`: what follows on the
    connection cannot be read as a request.
    """

    problem: Problem
    detail: str
    status: int | None = None
    retry_after: float | None = None
    ends_connection: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """
    Who reports a problem: `name` of the route, `proxy_name` and `next_hop` for Proxy-Status (RFC 9209 §2).

    `next_hop` is empty if the request has not got that far.
    """

    name: str
    proxy_name: str
    next_hop: str


def render_problem(
    problem: Problem,
    *,
    detail: str,
    proxy_name: str,
    next_hop: str,
    request_id: str,
    date: bytes,
    status: int | None = None,
    retry_after: float | None = None,
    is_head: bool = False,
    closes: bool = False,
    keeps_alive: bool = False,
) -> bytes:
    """
    Return a whole response for one of the proxy's own problems.

    `status` stands in for the kind's own (a malformed request has several); `retry_after` is in seconds, rounded up;
    `keeps_alive` writes the keep-alive that an HTTP/1.0 client needs. For HEAD the body is left out, its length not.
    """
    kind = problem.value
    code = status or kind.status
    body = json.dumps(
        {
            "type": PROBLEM_TYPE_PREFIX + kind.name,
            "title": kind.title,
            "status": code,
            "detail": detail,
            "request_id": request_id,
        },
        ensure_ascii=False,
    ).encode("utf-8", "replace")
    wait = kind.retry_after if retry_after is None else max(1, -int(-retry_after // 1))
    lines = [
        f"HTTP/1.1 {code} {_REASONS[code]}",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        f"Proxy-Status: {proxy_status(kind, detail=detail, proxy_name=proxy_name, next_hop=next_hop)}",
    ]
    if wait is not None:
        lines.append(f"Retry-After: {wait}")
    if problem is Problem.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    if closes:
        lines.append("Connection: close")
    elif keeps_alive:
        lines.append("Connection: keep-alive")
    head = "\r\n".join(lines).encode("ascii") + b"\r\nDate: " + date + b"\r\n\r\n"
    return head if is_head else head + body


def proxy_status(kind: ProblemKind, *, detail: str, proxy_name: str, next_hop: str) -> str:
    """Return the value of Proxy-Status (RFC 9209 §2): who failed, at which hop, why."""
    parts = [_sf_string(proxy_name), f"error={kind.error}"]
    if next_hop:
        parts.append(f"next-hop={_sf_string(next_hop)}")
    parts.append(f"details={_sf_string(detail)}")
    return "; ".join(parts)


def _sf_string(text: str) -> str:
    """Return `text` as a structured field string (RFC 9651 §3.3.3), what is not ASCII becomes a question mark, or a word."""
    plain = _NOT_IN_SF_STRING.sub("?", text.translate(_IN_ASCII)).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"'
