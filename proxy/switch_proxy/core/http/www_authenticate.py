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


def is_about_token(challenges: Sequence[bytes]) -> bool:
    """
    Say whether a 401 with these values of WWW-Authenticate may be cured by another access token.

    It may if there is no challenge, because many APIs send none, and if a Bearer challenge names no error or
    `invalid_token`. Another token does not cure a request that was wrong for another reason, or that lacks other
    credentials.
    """
    schemes = list(_read(challenges))
    if not schemes:
        return True
    return any(error in {None, b"invalid_token"} for scheme, error in schemes if scheme == _BEARER)


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
