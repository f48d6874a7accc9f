"""The phases of an exchange, and which follows which."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Phase(Enum):
    """
    Where an exchange is.

    | phase | what is so | next |
    |---|---|---|
    | PREPARING | it is decided what becomes of the request; a token and an upstream connection are acquired | AWAITING, OVER |
    | AWAITING | the request is sent, or is being sent; no final response has begun | RESPONDING, HOLDING, TUNNEL, PREPARING, OVER |
    | RESPONDING | the client gets the response | OVER |
    | HOLDING | a 401 about the token arrives, and is held back | RENEWING, RESPONDING, OVER |
    | RENEWING | the 401 is whole; a newer token is awaited | PREPARING, RESPONDING, OVER |
    | TUNNEL | the connections belong to a tunnel | OVER |
    | OVER | everything is let go of, and the exchange is reported | |

    From AWAITING back to PREPARING: the connection was stale. There is an upstream connection in AWAITING, RESPONDING,
    HOLDING and TUNNEL only, and a task in PREPARING and RENEWING only.
    """

    PREPARING = "preparing"
    AWAITING = "awaiting"
    RESPONDING = "responding"
    HOLDING = "holding"
    RENEWING = "renewing"
    TUNNEL = "tunnel"
    OVER = "over"


RESPONSE_HAS_BEGUN: Final = frozenset({Phase.RESPONDING, Phase.HOLDING, Phase.RENEWING, Phase.TUNNEL})
"""The phases in which the upstream's final response has begun: no problem of the proxy's own can take its place."""
