"""
What an API says of the token it refuses: WWW-Authenticate, read as far as a proxy of bearer tokens needs it.

RFC 9110 §11.6.1 for the challenges, RFC 6750 §3 for what those of the scheme Bearer mean.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"

_ITEM: Final = re.compile(rb'(?:[^",]|"(?:[^"\\]|\\.)*+"?)+')
"""What stands between two commas; a comma within quotes does not count."""

_SCHEME: Final = re.compile(rb"(" + _TOKEN + rb")(?:[ \t]+(.*))?", re.DOTALL)

_PARAMETER: Final = re.compile(
    rb"(" + _TOKEN + rb")[ \t]*=[ \t]*(?:(" + _TOKEN + rb')|"((?:[^"\\]|\\.)*+)")', re.DOTALL
)

_BEARER: Final = b"bearer"

_SCHEMES_OF_OTHER_CREDENTIALS: Final = frozenset(
    {
        b"aws4-hmac-sha256",
        b"basic",
        b"concealed",
        b"digest",
        b"dpop",
        b"hawk",
        b"hoba",
        b"kerberos",
        b"mutual",
        b"negotiate",
        b"ntlm",
        b"privatetoken",
        b"scram-sha-1",
        b"scram-sha-256",
        b"vapid",
    }
)
"""Schemes (most of IANA's registry) whose challenge no bearer token fulfils. Gateways call Bearer by names of their own."""

_ERRORS_OF_OTHER_KINDS: Final = frozenset(
    {b"invalid_request", b"insufficient_scope", b"insufficient_user_authentication", b"use_dpop_nonce"}
)
"""Errors (RFC 6750 §3.1, RFC 9470 §3, RFC 9449 §9) that a token like the last one meets again."""


def is_about_token(challenges: Sequence[bytes]) -> bool:
    """
    Say whether a 401 with these values of WWW-Authenticate may be cured by another access token.

    It may unless every challenge clearly says otherwise: that the request was wrong for another reason, or lacks other
    credentials. Many APIs send no challenge, a scheme of their own (`OAuth2`), or an error of their own (`token_expired`); that
    such a 401 causes a token request in vain is bounded by `min_forced_refresh_interval`.
    """
    schemes = list(_read(challenges))
    return not schemes or any(
        scheme not in _SCHEMES_OF_OTHER_CREDENTIALS and error not in _ERRORS_OF_OTHER_KINDS for scheme, error in schemes
    )


def wants_more_scope(challenges: Sequence[bytes]) -> bool:
    """Say whether a 403 says that the access token's scope does not suffice (RFC 6750 §3.1)."""
    return any(scheme == _BEARER and error == b"insufficient_scope" for scheme, error in _read(challenges))


def _read(challenges: Sequence[bytes]) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield each challenge's scheme and its `error`, in lower case; never fails, whatever the values are."""
    scheme: bytes | None = None
    error: bytes | None = None
    for value in challenges:
        for item in _ITEM.findall(value):
            text = item.strip(b" \t")
            parameter = _PARAMETER.fullmatch(text)
            if parameter is None:
                begun = _SCHEME.fullmatch(text)
                if begun is None:
                    continue
                if scheme is not None:
                    yield scheme, error
                scheme, error = begun[1].lower(), None
                parameter = _PARAMETER.fullmatch((begun[2] or b"").strip(b" \t"))
            if parameter is not None and parameter[1].lower() == b"error":
                error = (parameter[2] or parameter[3] or b"").lower()
    if scheme is not None:
        yield scheme, error
