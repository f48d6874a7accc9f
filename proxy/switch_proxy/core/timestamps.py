"""Instants as text, in the form of logs and the admin plane (RFC 3339, UTC, milliseconds)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = 253402300799.999
"""Unix time of the last millisecond of the year 9999, after which RFC 3339 has no form."""


def rfc3339(unix_time: float) -> str:
    """Return `2026-01-31T23:59:59.123Z` for Unix time in seconds; the years are limited to 1970 to 9999."""
    milliseconds = int(min(max(unix_time, 0.0), _LAST) * 1000)
    instant = _EPOCH + timedelta(milliseconds=milliseconds)
    return f"{instant:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"
