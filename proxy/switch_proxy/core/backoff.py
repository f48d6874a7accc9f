"""
How long to wait after a fetch has failed.

There are two lanes. Transient failures (network, 5xx, 429) are tried again soon: exponential backoff with full jitter, which
spreads a fleet best. A refusal, or a secret that cannot be read, is not cured by another request and goes to the slow lane:
a client that keeps sending a wrong secret gets itself and its organization locked out.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

SHORTEST_DELAY: Final = 0.1
"""Seconds. Full jitter may be zero, and two requests in immediate succession do not help."""

TRANSIENT_START: Final = 1.0
TRANSIENT_CEILING: Final = 60.0
"""Seconds: the first and the last window of the quick lane. A recovered server is noticed within a minute."""

REFUSED_START: Final = 60.0
REFUSED_CEILING: Final = 900.0
"""
Seconds, of the slow lane. Auth0's throttling of suspicious addresses, which is on unless switched off, allows 100
attempts a day and returns one every 864 seconds: with a longer delay, retries never cause a lockout. The first retries come
sooner, because a secret that is being rotated may be accepted a moment later.
"""

REFUSED_JITTER: Final = 0.25
"""The slow lane's jitter, as a part of its delay and added to it, so that the delay is never shorter."""

LONGEST_RETRY_AFTER: Final = 3600.0
"""Seconds. Retry hourly even if told to wait longer; otherwise a recovery would go unnoticed."""

_LAST_DOUBLING: Final = 30
"""The window reaches its ceiling long before this power."""


class Lane(Enum):
    """How a failure is tried again."""

    TRANSIENT = "transient"
    REFUSED = "refused"


def delay(*, lane: Lane, attempt: int, jitter: float, retry_after: float | None) -> float:
    """
    Return the seconds to wait after the `attempt`-th failure in a row of this lane (from 1).

    `jitter` in [0, 1) places the delay in its window. `retry_after` is what the server asked for (RFC 9110 §10.2.3): the delay
    is not shorter, up to an hour, and jitter is added, because other clients were told the same.
    """
    doubling = 2.0 ** min(attempt - 1, _LAST_DOUBLING)
    floor = min(max(retry_after or 0.0, 0.0), LONGEST_RETRY_AFTER)
    if lane is Lane.REFUSED:
        return max(floor, min(REFUSED_CEILING, REFUSED_START * doubling)) * (1 + REFUSED_JITTER * jitter)
    return max(SHORTEST_DELAY, floor + jitter * min(TRANSIENT_CEILING, TRANSIENT_START * doubling))
