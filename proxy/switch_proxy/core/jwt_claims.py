"""
The claims of an access token that is a JWT (RFC 7519), for people to read.

Nothing is verified and nothing is trusted, because the token is for the API, which verifies it. Claims without the signature
are of no use to anyone who sees them. Two claims have an effect: a token whose `exp` is earlier than what the server said is
replaced earlier, and one whose `nbf` has not come does not replace a valid one yet. Neither does harm.
"""

from __future__ import annotations

import base64
import binascii
import json
from math import isfinite
from typing import Final

_LONGEST: Final = 64 * 1024
"""Characters of a token that is read; a token response may not be larger."""

_PARTS: Final = 3


def read_claims(token: str) -> dict[str, object] | None:
    """Return the claims of a signed JWT; None if the token is something else: opaque or encrypted, say."""
    parts = token.split(".")
    if len(token) > _LONGEST or len(parts) != _PARTS:
        return None
    header, claims = (_decoded(part) for part in parts[:2])
    return claims if header is not None else None


def audiences(claims: dict[str, object]) -> list[str]:
    """Return the audience of a token (RFC 7519 §4.1.3: text or a list of texts)."""
    return _texts(claims.get("aud"))


def expiry(claims: dict[str, object]) -> float | None:
    """Return a token's `exp` (RFC 7519 §4.1.4), in Unix time; None if it is missing or makes no sense."""
    return _instant(claims.get("exp"))


def beginning(claims: dict[str, object]) -> float | None:
    """Return a token's `nbf` (RFC 7519 §4.1.5), in Unix time; None if it is missing or makes no sense."""
    return _instant(claims.get("nbf"))


def _instant(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        at = float(value)
    except OverflowError:
        return None
    return at if isfinite(at) else None


def scopes(claims: dict[str, object]) -> list[str]:
    """Return the scopes of a token: `scope` (RFC 9068 §2.2.3), or `scp` and `roles`, which Microsoft and Okta use."""
    scope = claims.get("scope")
    found = scope.split() if isinstance(scope, str) else _texts(scope)
    for name in ("scp", "roles"):
        value = claims.get(name)
        found += value.split() if isinstance(value, str) else _texts(value)
    return list(dict.fromkeys(found))


def _texts(value: object) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, str) and item]


def _decoded(part: str) -> dict[str, object] | None:
    try:
        content = json.loads(base64.b64decode(part + "=" * (-len(part) % 4), altchars="-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
