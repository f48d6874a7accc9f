"""
How long to wait after a fetch has failed.

There are four lanes. Transient failures (network, 5xx) are tried again soon: exponential backoff with full jitter, which
spreads a fleet best. A refusal, or a secret that cannot be read, is not cured by another request and goes to the slow lane:
a client that keeps sending a wrong secret gets itself and its organization locked out. A response that may hold a token, but none
that can be used, has cost one of the ration: a passing fault is over at the next request or two, and a lasting one must not
cost the ration. A quota of tokens that is used up (429) is waited for until it resets, however long that takes, and the fleet
that waits for the same moment is spread after it.
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
"""The slow lane's jitter, as a part of its delay and added to it, so that the delay is never shorter. UNUSABLE has the same."""

UNUSABLE_START: Final = 10.0
UNUSABLE_CEILING: Final = 900.0
"""
Seconds: 10, 20, 40 … 640, 900. Ten requests in the first hour and four in each hour after it, where the quick lane sends
120 an hour. Rations begin at ten tokens an hour.
"""

UNUSABLE_WHILE_SCARCE: Final = 3600.0
"""Seconds, from the third response on, while little is left of the quota: the last tokens are for those who can use them."""

LONGEST_RETRY_AFTER: Final = 3600.0
"""Seconds. Retry hourly even if told to wait longer; otherwise a recovery would go unnoticed."""

EXHAUSTED_START: Final = 60.0
EXHAUSTED_CEILING: Final = 3600.0
"""
Seconds: the first and the last wait for a quota whose reset the server does not state. Rations are per hour or day, so more
than a request an hour is wasted.
"""

EXHAUSTED_SPREAD_START: Final = 60.0
EXHAUSTED_SPREAD_CEILING: Final = 900.0
"""
Seconds after the reset over which the pods that wait for it are spread, by chance alone. It doubles with each time that the quota
is found used up again, because then more pods ask than tokens are left.
"""

SHORTEST_SPREAD: Final = 1.0
"""Seconds; the server may count in whole ones."""

LONGEST_EXHAUSTION: Final = 86400.0
"""
Seconds. Try again once a day even if told to wait longer: that is nothing to any ration, and otherwise a server's mistake would
stop a pod for good.
"""

_UNUSABLE_ANYWAY: Final = 2
"""Unusable responses after which the wait is short whatever is left of the quota: a connection that broke is no lasting fault."""

_LAST_DOUBLING: Final = 30
"""The window reaches its ceiling long before this power."""


class Lane(Enum):
    """How a failure is tried again."""

    TRANSIENT = "transient"
    REFUSED = "refused"
    UNUSABLE = "unusable"
    EXHAUSTED = "exhausted"
    """Also for a limit on the rate of requests for something else than tokens."""


def delay(
    *,
    lane: Lane,
    attempt: int,
    jitter: float,
    retry_after: float | None,
    resets_in: float | None = None,
    is_scarce: bool = False,
) -> float:
    """
    Return the seconds to wait after the `attempt`-th failure in a row of this lane (from 1).

    `jitter` in [0, 1) places the delay in its window. `retry_after` is what the server asked for (RFC 9110 §10.2.3): the delay
    is not shorter, up to an hour, and jitter is added, because other clients were told the same. In the lane of a used-up
    quota it is up to a day, and `resets_in` is when the quota resets, if the server states it: the later of the two counts.
    `is_scarce` says that little is left of the quota.
    """
    doubling = 2.0 ** min(attempt - 1, _LAST_DOUBLING)
    if lane is Lane.EXHAUSTED:
        return _until_reset(doubling=doubling, jitter=jitter, stated=max(retry_after or 0.0, resets_in or 0.0))
    floor = min(max(retry_after or 0.0, 0.0), LONGEST_RETRY_AFTER)
    if lane is Lane.REFUSED:
        return max(floor, min(REFUSED_CEILING, REFUSED_START * doubling)) * (1 + REFUSED_JITTER * jitter)
    if lane is Lane.UNUSABLE:
        window = min(UNUSABLE_CEILING, UNUSABLE_START * doubling)
        if is_scarce and attempt > _UNUSABLE_ANYWAY:
            window = UNUSABLE_WHILE_SCARCE
        return max(floor, window) * (1 + REFUSED_JITTER * jitter)
    return max(SHORTEST_DELAY, floor + jitter * min(TRANSIENT_CEILING, TRANSIENT_START * doubling))


def _until_reset(*, doubling: float, jitter: float, stated: float) -> float:
    floor = min(stated, LONGEST_EXHAUSTION) if stated > 0 else min(EXHAUSTED_CEILING, EXHAUSTED_START * doubling)
    # A short wait is a rate of requests rather than a ration: it is not spread over longer than itself at first.
    start = min(EXHAUSTED_SPREAD_START, max(SHORTEST_SPREAD, floor))
    return floor + SHORTEST_DELAY + jitter * min(EXHAUSTED_SPREAD_CEILING, start * doubling)
