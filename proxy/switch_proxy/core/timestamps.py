"""Instants as text: in logs and on the admin plane as RFC 3339 (UTC, milliseconds), in sentences as the time of day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = 253402300799.999
"""Unix time of the last millisecond of the year 9999, after which RFC 3339 has no form."""

_DAY: Final = 86400.0 + 2
_COUNTED_IN: Final = 2


def rfc3339(unix_time: float) -> str:
    """Return `2026-01-31T23:59:59.123Z` for Unix time in seconds; the years are limited to 1970 to 9999."""
    milliseconds = int(min(max(unix_time, 0.0), _LAST) * 1000)
    instant = _EPOCH + timedelta(milliseconds=milliseconds)
    return f"{instant:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


def clock_time(unix_time: float, *, now: float) -> str:
    """
    Return `00:00 UTC` or `14:13:20 UTC` for a moment of the coming day, and the date too for a later one.

    Seconds are rounded, and left out within two seconds of a full minute: servers count the time that is left in whole ones.
    """
    moment = _EPOCH + timedelta(seconds=round(min(max(unix_time, 0.0), _LAST - 3)))
    minute = (moment + timedelta(seconds=_COUNTED_IN)).replace(second=0)
    is_full_minute = abs((moment - minute).total_seconds()) <= _COUNTED_IN
    shown = f"{minute:%H:%M}" if is_full_minute else f"{moment:%H:%M:%S}"
    date = "" if unix_time - now <= _DAY else f"{minute if is_full_minute else moment:%Y-%m-%d} "
    return f"{date}{shown} UTC"
