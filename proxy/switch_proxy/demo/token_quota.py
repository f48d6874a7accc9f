"""
The ration of tokens, as Auth0 keeps it: so many for each client in each hour and each day of UTC.

Windows go by the clock, so they end at the full hour and at midnight. A request that is refused for another reason costs nothing.
"""

from __future__ import annotations

import math
from collections import Counter

_WINDOWS = {"per_hour": 3600, "per_day": 86400}


class TokenQuota:
    """Counts the tokens of each client; None is no limit."""

    def __init__(self, *, per_hour: int | None, per_day: int | None) -> None:
        self._limits: dict[str, int] = {}
        for bucket, limit in (("per_hour", per_hour), ("per_day", per_day)):
            if limit is None:
                continue
            if limit < 0:
                raise ValueError("a quota of tokens is 0 or more, or None for no limit")
            self._limits[bucket] = limit
        self._taken: Counter[tuple[str, str, int]] = Counter()

    def take(self, client: str, now: float) -> bool:
        """Count one token and return True, or return False if a bucket is used up."""
        if any(self._left(client, bucket, now) <= 0 for bucket in self._limits):
            return False
        for bucket in self._limits:
            self._taken[self._key(client, bucket, now)] += 1
        return True

    def use_up(self, client: str, now: float) -> None:
        """Leave nothing of the bucket that resets last. Raises ValueError if there is no limit."""
        if not self._limits:
            raise ValueError("this authorization server has no quota of tokens, so none can be used up")
        bucket = max(self._limits, key=_WINDOWS.__getitem__)
        self._taken[self._key(client, bucket, now)] = self._limits[bucket]

    def reset(self) -> None:
        """Fill all buckets."""
        self._taken.clear()

    def field(self, client: str, now: float) -> str | None:
        """Return the value of Auth0-Client-Quota-Limit; None if there is no limit."""
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
