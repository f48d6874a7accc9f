"""Access tokens made up for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from switch_proxy.core.secret import Secret
from switch_proxy.core.tokens import AccessToken, TokenGrant, issue

TOKEN: Final = "eyJhbGciOiJSUzI1NiJ9.made-up.for-tests"
BEARER: Final = b"Bearer " + TOKEN.encode()


def access_token(value: str = TOKEN, *, generation: int = 1, expires_at: float = 4600.0) -> AccessToken:
    """Return a token that is valid at the tests' time, 1000.0, unless `expires_at` says otherwise."""
    grant = TokenGrant(value=Secret(value), lifetime=3600.0, scope=None)
    token = issue(grant, generation=generation, sent_at=1000.0, jitter=0.5)
    return replace(token, expires_at=expires_at)
