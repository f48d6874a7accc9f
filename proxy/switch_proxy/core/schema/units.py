"""
Durations, sizes, counts and switches as they are written in a configuration, and durations as people read them.

Both numbers and texts are accepted, because a value that comes from the environment is always text.
"""

from __future__ import annotations

import re
from typing import Final

from switch_proxy.core.errors import InvalidValueError

_NUMBER: Final = r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_DURATION: Final = re.compile(_NUMBER + r" ?(ms|s|m|h|d)?")
_SIZE: Final = re.compile(_NUMBER + r" ?(B|KiB|MiB|kB|MB)?")
_COUNT: Final = re.compile(r"0|[1-9][0-9]{0,17}")

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
_BYTES: Final = {"B": 1, "kB": 1000, "MB": 1000_000, "KiB": 1024, "MiB": 1024 * 1024, None: 1}

_LONGEST_NUMBER: Final = 40
"""Characters of the longest text that is parsed as a number; longer ones are mistakes, and expensive to convert."""


def parse_duration(value: object) -> float:
    """Return seconds from a number of seconds or from text such as `250ms`, `5s`, `2m`, `1h`. Raises InvalidValueError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(value)
    if isinstance(value, str) and len(value) <= _LONGEST_NUMBER and (match := _DURATION.fullmatch(value.strip())):
        # Rounded, so that 250ms is 0.25 and errors of the multiplication are never shown.
        return round(float(match[1]) * _SECONDS[match[2]], 9)
    raise InvalidValueError(
        "is not a duration; write a number of seconds (5) or a number with a unit (250ms, 5s, 2m, 1h)",
        is_safe_to_echo=True,
    )


def parse_size(value: object) -> int:
    """Return bytes from a number of bytes or from text such as `64KiB`, `1MiB`. Raises InvalidValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= _LONGEST_NUMBER and (match := _SIZE.fullmatch(value.strip())):
        size = float(match[1]) * _BYTES[match[2]]
        if size.is_integer():
            return int(size)
    raise InvalidValueError(
        "is not a size; write a number of bytes (8192) or a number with a unit (8KiB, 1MiB)", is_safe_to_echo=True
    )


def parse_count(value: object) -> int:
    """Return a whole number, from itself or from its decimal digits. Raises InvalidValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _COUNT.fullmatch(value.strip()):
        return int(value)
    raise InvalidValueError("is not a whole number; write digits alone, such as 128", is_safe_to_echo=True)


def parse_switch(value: object) -> bool:
    """Return a boolean, from itself or from `true` or `false` in text. Raises InvalidValueError."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and (word := value.strip().lower()) in {"true", "false"}:
        return word == "true"
    raise InvalidValueError("is not a switch; write true or false", is_safe_to_echo=True)


def is_off(value: object) -> bool:
    """Return whether a value is `off`, which tools for YAML 1.1 read and write as false."""
    return value is False or value == "off"


def format_duration(seconds: float) -> str:
    """Return a duration as a person writes it: `250ms`, `5s`, `2m`, `1h`."""
    if seconds <= 0:
        return "0s"
    for unit in ("d", "h", "m"):
        count = seconds / _SECONDS[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds:.10g}s" if seconds >= 1 else f"{seconds * 1000:.10g}ms"


def _finite(value: float) -> float:
    if not abs(value) < float("inf"):
        raise InvalidValueError("is not a duration; write a finite number of seconds", is_safe_to_echo=True)
    return float(value)
