"""
The ration of tokens, as Auth0 keeps it: so many for each client in each hour and each day of UTC.

Windows go by the clock, so they end at the full hour and at midnight. A request that is refused for another reason costs nothing.
Auth0 counts with a delay (it is eventually consistent), so that more tokens than the limit may be granted in a moment: `lag`.
"""

from __future__ import annotations

import math
from collections import Counter, deque

_WINDOWS = {"per_hour": 3600, "per_day": 86400}


class TokenQuota:
    """Counts the tokens of each client, `lag` seconds after each was granted; None is no limit."""

    def __init__(self, *, per_hour: int | None, per_day: int | None, lag: float = 0.0) -> None:
        self._limits: dict[str, int] = {}
        for bucket, limit in (("per_hour", per_hour), ("per_day", per_day)):
            if limit is None:
                continue
            if limit < 0:
                raise ValueError("a quota of tokens is 0 or more, or None for no limit")
            self._limits[bucket] = limit
        self._taken: Counter[tuple[str, str, int]] = Counter()
        self._uncounted: deque[tuple[str, float, float]] = deque()
        """Client, when its token was granted, and from when on it counts."""
        self.lag = lag

    @property
    def lag(self) -> float:
        """Return the seconds from the grant of a token until it counts."""
        return self._lag

    @lag.setter
    def lag(self, seconds: float) -> None:
        if not 0 <= seconds < math.inf:
            raise ValueError("the lag of a quota of tokens is 0 seconds or more")
        self._lag = seconds

    def take(self, client: str, now: float) -> bool:
        """Take note of one token and return True, or return False if a bucket is used up."""
        self._count_until(now)
        if any(self._left(client, bucket, now) <= 0 for bucket in self._limits):
            return False
        self._uncounted.append((client, now, now + self._lag))
        self._count_until(now)
        return True

    def _count_until(self, now: float) -> None:
        due = [token for token in self._uncounted if token[2] <= now]
        for token in due:
            client, granted_at, _ = token
            self._uncounted.remove(token)
            for bucket in self._limits:
                self._taken[self._key(client, bucket, granted_at)] += 1

    def use_up(self, client: str, now: float) -> None:
        """Leave nothing of the bucket that resets last. Raises ValueError if there is no limit."""
        if not self._limits:
            raise ValueError("this authorization server has no quota of tokens, so none can be used up")
        bucket = max(self._limits, key=_WINDOWS.__getitem__)
        self._taken[self._key(client, bucket, now)] = self._limits[bucket]

    def reset(self) -> None:
        """Fill all buckets."""
        self._taken.clear()
        self._uncounted.clear()

    def field(self, client: str, now: float) -> str | None:
        """Return the value of Auth0-Client-Quota-Limit; None if there is no limit."""
        self._count_until(now)
        buckets = [
            f"b={bucket};q={limit};r={max(0, self._left(client, bucket, now))};"
            f"t={math.ceil(_WINDOWS[bucket] - now % _WINDOWS[bucket])}"
            for bucket, limit in self._limits.items()
        ]
        return ",".join(buckets) or None

    def _left(self, client: str, bucket: str, now: float) -> int:
        return self._limits[bucket] - self._taken[self._key(client, bucket, now)]

    @staticmethod
    def _key(client: str, bucket: str, now: float) -> tuple[str, str, int]:
        return client, bucket, math.floor(now / _WINDOWS[bucket])
