"""
What is remembered of one finished exchange (a request and its response): for the access log and the metrics.

Plain values, filled by the data plane, read once by its observer. The query of the target is in it, so a
reader that writes it anywhere must cut it off first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NO_ROUTE: Final = "-"
"""The route of what no route was found for."""


@dataclass(slots=True)
class ExchangeRecord:
    """
    One exchange as the client saw it.

    Durations are in seconds, sizes in bytes of body as framed on the client's side (without chunk framing).
    """

    route: str
    """Its name, or NO_ROUTE."""
    method: bytes
    target: bytes
    """The request target as received, with its query."""
    request_id: bytes
    status: int
    """The final status sent to the client; 0 where the client was gone before one could be sent."""
    request_body_bytes: int
    response_body_bytes: int
    duration: float
    """From the request's head being complete to the last byte of the response handed to the socket."""
    upstream_duration: float | None
    """From the request's head being sent upstream to the response's head being complete; None: no response came."""
    failure: str | None
    """None for a complete exchange, else the name of the problem, as in docs/errors.md (`upstream-timeout`, …)."""
    started_at_wall: float
    """Unix time, seconds."""
