"""
How long to wait after a fetch has failed.

There are two lanes. What may pass by itself (network, 5xx, 429) is tried again soon: exponential backoff with full
jitter, which spreads a fleet best. What asking again does not cure (a refusal, a secret that cannot be read) goes to
the slow lane at once: a client that hammers with a wrong secret gets itself and its organization locked out.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

SHORTEST_DELAY: Final = 0.1
"""Seconds. Full jitter may come to nothing; two requests in one breath help nobody."""

TRANSIENT_START: Final = 1.0
TRANSIENT_CEILING: Final = 60.0
"""Seconds: the first and the last window of the quick lane. A recovered server is noticed within a minute."""

REFUSED_START: Final = 60.0
REFUSED_CEILING: Final = 900.0
"""
Seconds, of the slow lane. Auth0's throttling of suspicious addresses, which is on unless switched off, allows 100
attempts a day and gives one back each 864 seconds: a delay above that can go on for ever without a lockout. The first
tries come sooner, for a secret that is just being rotated is accepted a moment later.
"""

REFUSED_JITTER: Final = 0.25
"""The slow lane's jitter as a part of its delay, added to it: never below what is said above."""

LONGEST_RETRY_AFTER: Final = 3600.0
"""Seconds. A server that asks for more is asked again once an hour: no one reads its mind if it has come to its senses."""

_LAST_DOUBLING: Final = 30
"""Windows have met their ceiling long before, and a larger power need not be computed."""


class Lane(Enum):
    """How a failure is tried again."""

    TRANSIENT = "transient"
    REFUSED = "refused"


def delay(*, lane: Lane, attempt: int, jitter: float, retry_after: float | None) -> float:
    """
    Return the seconds to wait after the `attempt`-th failure in a row of this lane (from 1).

    `jitter` in [0, 1) places the delay in its window. `retry_after`, what the server asked for (RFC 9110 §10.2.3), is
    waited for in any case, up to an hour, and spread too, or all that were told the same would come at once.
    """
    doubling = 2.0 ** min(attempt - 1, _LAST_DOUBLING)
    floor = min(max(retry_after or 0.0, 0.0), LONGEST_RETRY_AFTER)
    if lane is Lane.REFUSED:
        return max(floor, min(REFUSED_CEILING, REFUSED_START * doubling)) * (1 + REFUSED_JITTER * jitter)
    return max(SHORTEST_DELAY, floor + jitter * min(TRANSIENT_CEILING, TRANSIENT_START * doubling))
