"""A limit of requests in a time, as it is written: `5/s`, `20/min`, `100/10s`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from switch_proxy.core.errors import InvalidValueError

_RATE: Final = re.compile(r"([1-9][0-9]{0,4})/([1-9][0-9]{0,4})?(s|min|m|h|d)")
_SECONDS: Final = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
_LONGEST: Final = 86400
"""Seconds: a day."""
_MOST: Final = 10_000
"""Requests; their times are remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most `requests` in any `seconds`; `text` is how it was written."""

    requests: int
    seconds: int
    text: str

    def __str__(self) -> str:
        return self.text


def parse_rate(text: str) -> Rate:
    """Return the rate of a text. Raises InvalidValueError."""
    match = _RATE.fullmatch(text.replace(" ", ""))
    if match is None:
        raise InvalidValueError(
            "is not a rate; write a number of requests and a time, such as 5/s, 20/min or 100/10s", is_safe_to_echo=True
        )
    rate = Rate(requests=int(match[1]), seconds=int(match[2] or 1) * _SECONDS[match[3]], text=text)
    if rate.seconds > _LONGEST or rate.requests > _MOST:
        raise InvalidValueError(
            f"is out of range; write at most {_MOST} requests, and at most a day", is_safe_to_echo=True
        )
    return rate
