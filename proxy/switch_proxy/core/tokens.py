"""
The access token as this proxy holds it: what was granted, when it is due for refresh, and until when it is used.

All instants are seconds on the clock that goes on while the machine sleeps (proxy/switch_proxy/clock.py), counted from the
moment the token request was sent. The server's count cannot have begun before that, so the token's life is never
overestimated.

    sent_at ──────────────── FRESH ────────────────┬──── STALE ────┬─ EXPIRED
                                              refresh_at      usable_until ── expires_at
                                              75-85 % of life      └─ the skew ─┘
                                              (90-95 % if little is left of the client's quota)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, NoReturn, SupportsIndex

from switch_proxy.core.quota import has_spare_at

if TYPE_CHECKING:
    from switch_proxy.core.quota import QuotaBucket
    from switch_proxy.core.secret import Secret

REFRESH_EARLIEST: Final = 0.75
"""
The earliest refresh, as a part of the token's life. Later than half (Envoy), because providers bill each token; early enough
that at least a seventh of the life is left for retries: 9 minutes of an hour.
"""

REFRESH_LATEST: Final = 0.85
"""The latest refresh. The moment between is random, so that replicas that were started together spread out."""

SCARCE_REFRESH_EARLIEST: Final = 0.9
SCARCE_REFRESH_LATEST: Final = 0.95
"""
The same if little is left of the client's quota and it is not reset before: one token in six is saved, at the price of less time for
retries. The latest is not after the token's last use (EXPIRY_SKEW_PART).
"""

EXPIRY_SKEW: Final = 10.0
"""
Seconds before its end when a token is no longer used (golang/oauth2's expiryDelta): for the way of a request to the API,
and for clocks that differ.
"""

EXPIRY_SKEW_PART: Final = 0.05
"""The skew of tokens that live less than 200 seconds, as a part of their life."""


class Freshness(Enum):
    """The use of a token at one moment. Never stored: derived by `freshness`."""

    ABSENT = "absent"
    """There has been no token yet."""
    FRESH = "fresh"
    """Usable."""
    STALE = "stale"
    """Still usable; a refresh is due."""
    EXPIRED = "expired"
    """No longer usable."""


_SHORTEST_NEEDLE: Final = 8
_NO_NEEDLE: Final = b"\0"
"""It is in no head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGrant:
    """
    What an authorization server granted (RFC 6749 §5.1); `lifetime` in seconds, `scope` if it was named.

    `quota` is what the response stated of the ration of tokens. `valid_in` are the seconds after its arrival until it is
    valid (the nbf of a JWT). `notes` are sentences about what is odd in its response, for people.
    """

    value: Secret
    lifetime: float
    scope: str | None
    quota: tuple[QuotaBucket, ...] = ()
    valid_in: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AccessToken:
    """
    One access token, and the times of its use.

    `generation` counts the tokens of a credential from 1. `authorization_line` is the whole field line (RFC 6750
    §2.1) with its CR LF, rendered once; it holds the token in the clear.
    """

    value: Secret
    generation: int
    sent_at: float
    expires_at: float
    refresh_at: float
    authorization_line: bytes
    needle: bytes
    """The token alone, to be looked for in what an API sends back; one that is in many heads by chance is left out."""
    scope: str | None

    @property
    def lifetime(self) -> float:
        """Return its life in seconds."""
        return self.expires_at - self.sent_at

    @property
    def usable_until(self) -> float:
        """Return the moment from which it is no longer used, a little before its end."""
        return self.expires_at - min(EXPIRY_SKEW, EXPIRY_SKEW_PART * self.lifetime)

    def __repr__(self) -> str:
        return f"<AccessToken gen={self.generation} lifetime={self.lifetime:g}s>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("an AccessToken cannot be pickled: the pickle would hold it in the clear")


def issue(grant: TokenGrant, *, generation: int, sent_at: float, jitter: float, allowance: float = 0.0) -> AccessToken:
    """
    Return the token of a grant whose request was sent at `sent_at`; `jitter` in [0, 1) places its refresh.

    `allowance` are seconds by which its end may be wrong, because another machine has measured it: the token is not used then.
    """
    part = REFRESH_EARLIEST + (REFRESH_LATEST - REFRESH_EARLIEST) * jitter
    refresh_at = sent_at + grant.lifetime * part
    if has_spare_at(grant.quota, refresh_at) > refresh_at:
        refresh_at = sent_at + grant.lifetime * (
            SCARCE_REFRESH_EARLIEST + (SCARCE_REFRESH_LATEST - SCARCE_REFRESH_EARLIEST) * jitter
        )
    text = grant.value.reveal().encode("ascii")
    return AccessToken(
        value=grant.value,
        generation=generation,
        sent_at=sent_at,
        expires_at=sent_at + grant.lifetime - allowance,
        refresh_at=refresh_at,
        authorization_line=b"Authorization: Bearer " + text + b"\r\n",
        needle=text if len(text) >= _SHORTEST_NEEDLE else _NO_NEEDLE,
        scope=grant.scope,
    )


def freshness(token: AccessToken | None, now: float) -> Freshness:
    """Return the freshness of a token at `now`."""
    if token is None:
        return Freshness.ABSENT
    if now >= token.usable_until:
        return Freshness.EXPIRED
    return Freshness.STALE if now >= token.refresh_at else Freshness.FRESH


def hold_until(grant: TokenGrant, *, token: AccessToken | None, now: float) -> float:
    """
    Return when a grant that has just arrived replaces `token`: when it is valid, or when the other is no longer used.

    Clocks of servers differ by seconds, and some round up: an API refuses a token until its nbf, although the one before
    is good for minutes. Without another token it is used at once.
    """
    if token is None or freshness(token, now) is Freshness.EXPIRED:
        return now
    return min(now + max(0.0, grant.valid_in), token.usable_until)
