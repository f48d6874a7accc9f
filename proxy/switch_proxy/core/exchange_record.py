"""
The record of one finished exchange (a request and its response), for the access log and the metrics.

Plain values, written by the data plane and read once by its observer. The target includes the query: a reader must
remove it before it writes the target anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NO_ROUTE: Final = "-"
"""The route of a request without a route."""


@dataclass(slots=True)
class ExchangeRecord:
    """
    One exchange as the client saw it.

    Durations are in seconds, sizes in bytes of body as framed on the client's side (without chunk framing).
    """

    route: str
    """The route's name, or NO_ROUTE."""
    method: bytes
    target: bytes
    """The request target as received, with its query."""
    request_id: bytes
    status: int
    """The final status sent to the client; 0 if the client was gone before one could be sent."""
    request_body_bytes: int
    response_body_bytes: int
    duration: float
    """From the end of the request's head to the last byte of the response, as it is given to the socket."""
    upstream_duration: float | None
    """From sending the request's head upstream to the end of the response's head; None without a response."""
    failure: str | None
    """None for a complete exchange, else the name of the problem, as in docs/errors.md (`upstream-timeout`, …)."""
    started_at_wall: float
    """Unix time, seconds."""
    detail: str | None = None
    """Why it failed, for people, as in the response; None for a complete exchange."""
