"""
The ration of tokens that an authorization server grants, as the fields of its responses state it.

Every response of a token endpoint may state it, whether it brings a token or an error. `parse_quota` reads these dialects:

    Auth0-Client-Quota-Limit: b=per_hour;q=10;r=7;t=3540,b=per_day;q=50;r=47;t=43200
    Auth0-Organization-Quota-Limit: per_hour;q=100;r=7;t=3540       the same for all clients of an organization
    RateLimit-Policy: "day";q=50;w=86400                            IETF draft-ietf-httpapi-ratelimit-headers, from -08
    RateLimit: "day";r=47;t=43200
    RateLimit: limit=50, remaining=47, reset=43200                  draft -07
    RateLimit-Limit: 50, 50;w=86400                                 drafts up to -06
    RateLimit-Remaining: 47
    RateLimit-Reset: 43200
    X-RateLimit-Limit: 50                                           platforms; also X-Rate-Limit-…
    X-RateLimit-Remaining: 47
    X-RateLimit-Reset: 1790035200                                   seconds, Unix time, a date, or `6m0s`
    X-RateLimit-Limit-Hour: 10                                      gateways: one window each, by the clock
    X-RateLimit-Remaining-Hour: 7

Of several dialects the first in this order counts: who has fields of its own for tokens, has the others for requests.

A field that is malformed is as good as none: nothing raises, because no field may stop a fetch. The server's words never become a name
or a text, because names are labels of metrics and the server may repeat a secret: a bucket is named after its window.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

LONGEST_WINDOW: Final = 31 * 86400
"""Seconds. Rations are per hour, day or month; a bucket that claims to reset later is ignored."""

_MAX_BUCKETS: Final = 8
"""Buckets of one response. Real servers state one to four; each is three samples of metrics."""

_MAX_FIELD: Final = 4096
"""Characters of one field; real ones have some hundred. A longer one is ignored."""

_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_ITEMS: Final = re.compile(r"[^,]+")
_DURATION: Final = re.compile(
    r"(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})(?:\.[0-9]{1,9})?s)?"
)
_PLATFORM: Final = re.compile(r"x-rate-?limit-(limit|remaining|reset)(?:-([a-z]{1,10}))?")

_PART_KEPT: Final = 0.2
_FEWEST_KEPT: Final = 2
"""Tokens of a bucket that a refused token may not cost: one for this process, and one for another that starts."""

_FIRST_UNIX_TIME: Final = 1_000_000_000
"""A reset of at least this is Unix time (after 2001), a smaller one is a number of seconds."""

_FIRST_UNIX_MILLISECONDS: Final = 1_000_000_000_000

_WINDOWS: Final[Mapping[str, int]] = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86400,
    "week": 604800,
    "month": 30 * 86400,
}
_LONGEST_BY_CLOCK: Final = 86400
"""Seconds. Minutes, hours and days begin with those of UTC; weeks and months differ from server to server."""

_NAME_BY_WINDOW: Final = {window: f"per_{unit}" for unit, window in _WINDOWS.items()}
_ARTICLES: Final = {"hour": "an"}


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaBucket:
    """
    One bucket: of `quota` tokens (None: unknown), `remaining` are left until `resets_at`.

    `name` is one of ours, such as `per_hour`, `organization_per_day` or `per_43200s`.
    """

    name: str
    quota: int | None
    remaining: int
    resets_at: float

    @property
    def description(self) -> str:
        """Return whose quota it is and how much, for people: `the client's quota of tokens (50 a day)`."""
        window = self.name.removeprefix("organization_")
        owner = "the client's" if window == self.name else "the organization's"
        unit = window.partition("_")[2].partition("_")[0]
        if unit in _WINDOWS:
            period = f" {_ARTICLES.get(unit, 'a')} {unit}"
        else:
            period = f" in {unit[:-1]} seconds" if unit.endswith("s") else ""
        amount = "" if self.quota is None else f" ({self.quota}{period})"
        return f"{owner} quota of tokens{amount}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stated:
    """A bucket as a field states it; seconds."""

    unit: str = ""
    window: int | None = None
    quota: int | None = None
    remaining: int | None = None
    resets_in: float | None = None
    prefix: str = ""


def parse_quota(fields: Iterable[tuple[str, str]], *, now: float, wall: float) -> tuple[QuotaBucket, ...]:
    """
    Return the buckets that a response's fields state; none if they state none.

    `resets_at` is on the clock that reads `now`. `wall` is the server's Unix time, with which its instants are compared.
    """
    values: dict[str, str] = {}
    for name, value in fields:
        key = name.lower()
        # A list may be spread over several fields (RFC 9110 §5.3).
        values[key] = f"{values[key]},{value}" if key in values else value
    known = {name: value for name, value in values.items() if len(value) <= _MAX_FIELD}
    buckets: dict[str, QuotaBucket] = {}
    for stated in list(_auth0(known)) or list(_draft(known)) or list(_platforms(known, wall)):
        resets_in = stated.resets_in if stated.resets_in is not None else _until_end(stated, wall)
        if stated.remaining is None or resets_in is None or resets_in > LONGEST_WINDOW or len(buckets) == _MAX_BUCKETS:
            continue
        bucket = QuotaBucket(
            name=_free_name(stated, buckets),
            quota=stated.quota,
            remaining=stated.remaining,
            resets_at=now + max(0.0, resets_in),
        )
        buckets[bucket.name] = bucket
    return tuple(buckets.values())


def current_quota(buckets: tuple[QuotaBucket, ...], now: float) -> tuple[QuotaBucket, ...]:
    """Return the buckets that have not been reset since they were stated."""
    return tuple(bucket for bucket in buckets if now < bucket.resets_at)


def has_spare_at(buckets: tuple[QuotaBucket, ...], now: float) -> float:
    """
    Return from when on a token may be spent that is not needed yet: `now`, or when the buckets that are nearly empty have reset.

    The last fifth of a bucket, and at least two tokens, are kept for those who have none.
    """
    return max((bucket.resets_at for bucket in current_quota(buckets, now) if not _has_spare(bucket)), default=now)


def _has_spare(bucket: QuotaBucket) -> bool:
    return bucket.remaining > max(_FEWEST_KEPT, math.ceil((bucket.quota or 0) * _PART_KEPT))


def used_up(buckets: tuple[QuotaBucket, ...]) -> QuotaBucket | None:
    """Return the bucket of which nothing is left; of several, the one that resets last. None if there is none."""
    empty = [bucket for bucket in buckets if bucket.remaining == 0]
    return max(empty, key=lambda bucket: bucket.resets_at, default=None)


def _free_name(stated: _Stated, taken: Mapping[str, QuotaBucket]) -> str:
    if stated.unit:
        name = f"per_{stated.unit}"
    elif stated.window is not None:
        name = _NAME_BY_WINDOW.get(stated.window, f"per_{stated.window}s")
    else:
        name = "window"
    name = stated.prefix + name
    number = 2
    free = name
    while free in taken:
        free = f"{name}_{number}"
        number += 1
    return free


def _until_end(stated: _Stated, wall: float) -> float | None:
    """Return the seconds until the end of a window that goes by the clock (UTC); None if the window is unknown."""
    window = stated.window if stated.window is not None else _WINDOWS.get(stated.unit)
    return None if window is None or window > _LONGEST_BY_CLOCK else window - wall % window


# --- the dialects --------------------------------------------------------------------------------------------------


def _auth0(values: Mapping[str, str]) -> Iterator[_Stated]:
    for field, prefix in (("auth0-client-quota-limit", ""), ("auth0-organization-quota-limit", "organization_")):
        for words, members in _items(values.get(field, "")):
            said = members.get("b", words)
            yield _Stated(
                unit=_unit(said),
                quota=_number(members.get("q")),
                remaining=_number(members.get("r")),
                resets_in=_number(members.get("t")),
                prefix=prefix,
            )


def _draft(values: Mapping[str, str]) -> Iterator[_Stated]:
    policies = list(_items(values.get("ratelimit-policy", "")))
    by_name = {words: members for words, members in policies if words and "q" in members}
    stated = list(_items(values.get("ratelimit", "")))
    for words, members in stated:
        if words:
            policy = by_name.get(words, {})
            yield _Stated(
                unit=_unit(words),
                window=_window(policy.get("w")),
                quota=_number(policy.get("q", members.get("q"))),
                remaining=_number(members.get("r")),
                resets_in=_number(members.get("t")),
            )
    joined = {key: value for words, members in stated if not words for key, value in members.items()}
    limits = list(_items(values.get("ratelimit-limit", "")))
    limit = joined.get("limit", limits[0][0] if limits else None)
    # The policy in force is the one of this limit; before draft -08 it is named by its quota.
    in_force = [members for words, members in (*policies, *limits) if words == limit and "w" in members]
    remaining = joined.get("remaining", values.get("ratelimit-remaining"))
    if remaining is not None:
        yield _Stated(
            window=_window(in_force[0]["w"]) if in_force else None,
            quota=_number(limit),
            remaining=_number(remaining),
            resets_in=_number(joined.get("reset", values.get("ratelimit-reset"))),
        )


def _platforms(values: Mapping[str, str], wall: float) -> Iterator[_Stated]:
    found: dict[str, dict[str, str]] = {}
    for field, value in values.items():
        match = _PLATFORM.fullmatch(field)
        if match is not None:
            found.setdefault(match[2] or "", {})[match[1]] = value
    for suffix, members in found.items():
        limits = list(_items(members.get("limit", "")))
        windows = [of_limit["w"] for _, of_limit in limits if "w" in of_limit]
        yield _Stated(
            unit=_unit(suffix),
            window=_window(windows[0]) if windows else None,
            quota=_number(limits[0][0]) if limits else None,
            remaining=_number(members.get("remaining")),
            resets_in=_reset(members.get("reset", ""), wall),
        )


# --- parts of fields -----------------------------------------------------------------------------------------------


def _items(value: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Return the items of a list: the word before the first parameter, without quotes, and the parameters."""
    for item in _ITEMS.findall(value):
        parts = [part.strip(" \t") for part in item.split(";")]
        word = "" if "=" in parts[0] else parts.pop(0).strip('"').lower()
        pairs = [part.partition("=") for part in parts]
        members = {key.strip(" \t").lower(): text.strip(' \t"').lower() for key, _, text in pairs}
        if word or members:
            yield word, members


def _unit(said: str) -> str:
    """Return the unit of time that a bucket is named after, or nothing."""
    unit = {"daily": "day", "hourly": "hour", "monthly": "month"}.get(
        said, said.removeprefix("per_").removeprefix("per-")
    )
    return unit if unit in _WINDOWS else ""


def _number(text: str | None) -> int | None:
    """Return a whole number; a negative one is 0, because some servers count on below nothing."""
    text = (text or "").strip(" \t")
    if _NUMBER.fullmatch(text):
        return int(text)
    return 0 if _NUMBER.fullmatch(text.removeprefix("-")) else None


def _window(text: str | None) -> int | None:
    number = _number(text)
    return number if number is not None and 0 < number <= LONGEST_WINDOW else None


def _reset(text: str, wall: float) -> float | None:
    """Return the seconds until a reset that is in seconds, Unix time (of seconds or milliseconds), a date or a duration."""
    text = text.strip(" \t")
    number = _number(text.partition(".")[0])
    if number is not None:
        if number >= _FIRST_UNIX_MILLISECONDS:
            return number / 1000 - wall
        return number - wall if number >= _FIRST_UNIX_TIME else float(number)
    duration = _DURATION.fullmatch(text) if text else None
    if duration is not None:
        return float(
            sum(int(part or 0) * unit for part, unit in zip(duration.groups(), (86400, 3600, 60, 1), strict=True))
        )
    return _date(text, wall)


def _date(text: str, wall: float) -> float | None:
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            date = parse(text)
            # A date without a zone is in UTC, as all of HTTP are.
            return (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp() - wall
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None
