"""
The access token as this proxy holds it: what was granted, from when on it is replaced, and until when it is used.

All instants are seconds on the clock that goes on while the machine sleeps (proxy/switch_proxy/clock.py), counted from the moment
the token request was sent: the server's own count cannot have begun before that, so the token is never thought to live
longer than it does.

    sent_at ──────────────── FRESH ────────────────┬──── STALE ────┬─ EXPIRED
                                              refresh_at      usable_until ── expires_at
                                              75-85 % of life      └─ the skew ─┘
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, NoReturn, SupportsIndex

if TYPE_CHECKING:
    from switch_proxy.core.secret import Secret

REFRESH_EARLIEST: Final = 0.75
"""
The part of its life after which a token is replaced at the earliest. Later than half (Envoy), for providers bill each
token; early enough that a quarter or a sixth of the life is left for tries that fail: 9 minutes of an hour.
"""

REFRESH_LATEST: Final = 0.85
"""The same at the latest. In between, at random, so that replicas that were started together do not stay together."""

EXPIRY_SKEW: Final = 10.0
"""
Seconds before its end in which a token is not used any more (golang/oauth2's expiryDelta): for the way of a request to
the API, and for clocks that differ.
"""

EXPIRY_SKEW_PART: Final = 0.05
"""The same as a part of a token's life, for tokens that live less than 200 seconds."""


class Freshness(Enum):
    """What a token is good for at some moment. Never stored: derived by `freshness`."""

    ABSENT = "absent"
    """There has been none yet."""
    FRESH = "fresh"
    """Is used."""
    STALE = "stale"
    """Is used, and is to be replaced."""
    EXPIRED = "expired"
    """Is not used any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGrant:
    """What an authorization server granted, as it said it (RFC 6749 §5.1); `lifetime` in seconds, `scope` if told."""

    value: Secret
    lifetime: float
    scope: str | None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AccessToken:
    """
    One access token, and when it is used.

    `generation` counts the tokens of a credential from 1. `authorization_line` is the whole field line (RFC 6750
    §2.1) with its CR LF, rendered once; it holds the token in the clear.
    """

    value: Secret
    generation: int
    sent_at: float
    expires_at: float
    refresh_at: float
    authorization_line: bytes
    scope: str | None

    @property
    def lifetime(self) -> float:
        """Return how long it lives, in seconds."""
        return self.expires_at - self.sent_at

    @property
    def usable_until(self) -> float:
        """Return the moment from which on it is not used any more, a little before its end."""
        return self.expires_at - min(EXPIRY_SKEW, EXPIRY_SKEW_PART * self.lifetime)

    def __repr__(self) -> str:
        return f"<AccessToken gen={self.generation} lifetime={self.lifetime:g}s>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("an AccessToken cannot be pickled: the pickle would hold it in the clear")


def issue(grant: TokenGrant, *, generation: int, sent_at: float, jitter: float) -> AccessToken:
    """Return the token of a grant whose request was sent at `sent_at`; `jitter` in [0, 1) places its refresh."""
    part = REFRESH_EARLIEST + (REFRESH_LATEST - REFRESH_EARLIEST) * jitter
    return AccessToken(
        value=grant.value,
        generation=generation,
        sent_at=sent_at,
        expires_at=sent_at + grant.lifetime,
        refresh_at=sent_at + grant.lifetime * part,
        authorization_line=b"Authorization: Bearer " + grant.value.reveal().encode("ascii") + b"\r\n",
        scope=grant.scope,
    )


def freshness(token: AccessToken | None, now: float) -> Freshness:
    """Return what a token is good for at `now`."""
    if token is None:
        return Freshness.ABSENT
    if now >= token.usable_until:
        return Freshness.EXPIRED
    return Freshness.STALE if now >= token.refresh_at else Freshness.FRESH
