"""
What happens to a credential, as values: for the log, the metrics and whoever must know each secret to mask it.

The name of an event is the log's. Tokens and secrets are in some of them, in the types that mask them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

from switch_proxy.core.errors import (
    SecretUnavailableError,
    TokenEndpointUnavailableError,
    TokenFetchError,
    TokenRequestRefusedError,
    TokenResponseInvalidError,
)

if TYPE_CHECKING:
    from switch_proxy.core.secret import Secret
    from switch_proxy.core.tokens import AccessToken

FETCHED: Final = "ok"
"""The outcome of a fetch that brought a token."""

OUTCOMES: Final = (FETCHED, "unavailable", "refused", "invalid", "no_secret", "unexpected")
"""Every outcome of a fetch, in one word, as metrics have it."""


def outcome_of(error: TokenFetchError | SecretUnavailableError) -> str:
    """Return the outcome of a failed fetch in one word."""
    match error:
        case TokenEndpointUnavailableError():
            return "unavailable"
        case TokenRequestRefusedError():
            return "refused"
        case TokenResponseInvalidError():
            return "invalid"
        case SecretUnavailableError():
            return "no_secret"
        case _:
            return "unexpected"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRefreshed:
    """A new token is in use. `lifetime`, `refresh_in` and the fetch's `duration` in seconds."""

    name: ClassVar[str] = "token.refreshed"
    credential: str
    token: AccessToken
    lifetime: float
    refresh_in: float
    duration: float
    after_failures: int
    """How many fetches had failed before it, in a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRefreshFailed:
    """A fetch failed; the token there is, if any, stays in use. `retry_in` and `duration` in seconds."""

    name: ClassVar[str] = "token.refresh_failed"
    credential: str
    outcome: str
    error: str
    retry_in: float
    duration: float
    consecutive_failures: int
    usable_for: float | None
    """How long the token is usable yet, in seconds; None where there is no usable one."""
    refused_for: float | None
    """How long the client has been refused, in seconds; None where it was not since the last success."""
    awaits: str | None
    """What would end that, for people."""
    is_news: bool
    """Whether the fetch before it did not fail, or for another reason: a log may leave out what is no news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretReloaded:
    """Another client secret (key, assertion) has been read from its `source`, or the first one."""

    name: ClassVar[str] = "secret.reloaded"
    credential: str
    source: str
    secret: Secret
    is_first: bool
    others: tuple[Secret, ...] = ()
    """What else is used: the previous secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretBroken:
    """The client secret can no longer be read from its `source`; the last good one, if any, stays in use."""

    name: ClassVar[str] = "secret.broken"
    credential: str
    source: str
    error: str
    has_last_good: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRestored:
    """The `source` can be read again, and holds the secret that was in use all the time."""

    name: ClassVar[str] = "secret.restored"
    credential: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRefused:
    """The authorization server refused the client secret from `source`, and took the previous one."""

    name: ClassVar[str] = "secret.refused"
    credential: str
    source: str
    error: str
    is_news: bool
    """Whether the fetch before it was not like it."""


CredentialEvent: TypeAlias = (
    TokenRefreshed | TokenRefreshFailed | SecretReloaded | SecretBroken | SecretRestored | SecretRefused
)
