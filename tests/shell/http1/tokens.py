"""Access tokens made up for tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from proxy.core.tokens import AccessToken

TOKEN: Final = "eyJhbGciOiJSUzI1NiJ9.made-up.for-tests"
BEARER: Final = b"Bearer " + TOKEN.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    """What the data plane uses of an access token."""

    generation: int
    expires_at: float
    authorization_line: bytes


def access_token(value: str = TOKEN, *, generation: int = 1, expires_at: float = 4600.0) -> AccessToken:
    """Return a token that is valid at the tests' time, 1000.0."""
    line = b"Authorization: Bearer " + value.encode("ascii") + b"\r\n"
    return cast("AccessToken", _Token(generation=generation, expires_at=expires_at, authorization_line=line))
