"""
What a token response means: a grant (RFC 6749 §5.1), or an error with a reason that a person can act on (§5.2).

It is judged strictly: a token that is let through is put into a header field and sent to the API.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import replace
from http import HTTPStatus
from math import isfinite
from typing import TYPE_CHECKING, Final

from switch_proxy.core.errors import (
    TokenEndpointUnavailableError,
    TokenFetchError,
    TokenQuotaExhaustedError,
    TokenRequestRefusedError,
    TokenResponseInvalidError,
)
from switch_proxy.core.jwt_claims import beginning, expiry, read_claims
from switch_proxy.core.oauth.response import parse_date, parse_retry_after, read_object, status_text
from switch_proxy.core.quota import parse_quota, used_up
from switch_proxy.core.secret import Secret
from switch_proxy.core.timestamps import clock_time
from switch_proxy.core.tokens import TokenGrant

if TYPE_CHECKING:
    from switch_proxy.core.config.models import CredentialSettings
    from switch_proxy.core.oauth.quoting import ServerWords
    from switch_proxy.core.oauth.response import ServerResponse
    from switch_proxy.core.quota import QuotaBucket

LONGEST_LIFETIME: Final = 30 * 86400.0
"""
Seconds. Auth0's upper limit for an API's tokens. A longer lifetime is cut to this, so that every token is replaced from time to
time.
"""

_LONGEST_NUMBER: Final = 30
"""Characters of an expires_in that is text; a longer one is no number of seconds."""

_LONGEST_SCOPE: Final = 8192

_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
"""
What RFC 6749 §A.12 allows but the blank, which would end the token in the Authorization line. RFC 6750 §2.1 allows less, but
servers grant more (Salesforce's tokens have a `!`) and their APIs take it.
"""

_BEARER: Final = "bearer"
_ALSO_BEARER: Final = frozenset({"", "bearertoken"})
"""Token types that mean a bearer token: none at all, and Apigee's. golang/oauth2 takes a missing one so too."""

_OTHER_CONTENT: Final = frozenset(
    {
        *(
            "text/html",
            "text/plain",
            "text/xml",
            "application/xml",
            "application/xhtml+xml",
            "application/octet-stream",
        ),
        *("application/jwt", "application/problem+json", "application/x-www-form-urlencoded"),
    }
)
"""Content types that are told. No others: a body that cannot be read may hold a token, and its head repeat it."""

_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")  # RFC 6749 §3.3
_SECONDS: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")

_TRANSIENT_STATUSES: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})
_TRANSIENT_ERRORS: Final = frozenset({"server_error", "temporarily_unavailable"})  # RFC 6749 §4.1.2.1, used here too

_LOCKED_OUT: Final = "too_many_attempts"
"""Auth0's code of a 429 after many refusals, not after many requests: further requests prolong it."""

_ADVICE: Final = {
    _LOCKED_OUT: "the client is locked out: have it unblocked, and check client_id and {credential}",
    "invalid_client": "check client_id and {credential}",
    "access_denied": "check client_id and {credential}, and that the client may have this audience or scope",
    "unauthorized_client": "check that the client may use the client_credentials grant",
    "unsupported_grant_type": "check that the authorization server offers the client_credentials grant",
    "invalid_scope": "check scope",
    "invalid_target": "check audience and resource",
}
"""What to do about an error code (RFC 6749 §5.2, RFC 8707 §2; access_denied is Auth0's)."""

_ADVICE_BY_STATUS: Final = {
    400: "check client_id, audience, scope and extra_params",
    401: "check client_id and {credential}",
    403: "check that the client may have this audience or scope, and that no firewall in front of the server refused it",
}


def parse_response(
    response: ServerResponse, *, settings: CredentialSettings, words: ServerWords, wall: float
) -> TokenGrant:
    """
    Return what was granted (RFC 6749 §5.1).

    `words` makes the server's texts fit to be shown. `wall` is Unix time in seconds, for a response without Date. Raises
    TokenEndpointUnavailableError, TokenQuotaExhaustedError, TokenRequestRefusedError or TokenResponseInvalidError. Grant and
    error have the quota that the response states.
    """
    said = parse_date(response.date)
    server_time = wall if said is None else said
    quota = parse_quota(response.fields, now=response.received_at, wall=server_time)
    try:
        if response.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise _too_many(response, words, quota, server_time)
        grant = _judge(response, settings=settings, words=words, wall=wall)
    except TokenFetchError as error:
        error.quota = quota
        raise
    return replace(grant, quota=quota)


def _judge(response: ServerResponse, *, settings: CredentialSettings, words: ServerWords, wall: float) -> TokenGrant:
    # Any 2xx: some servers respond with 201 because a token was created.
    if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
        raise _failure(response, words, wall)
    document = read_object(response)
    if isinstance(document, str):
        kind = response.content_type.partition(";")[0].strip().lower()
        kind_shown = f" ({kind})" if kind in _OTHER_CONTENT else ""
        raise TokenResponseInvalidError(
            f"the token endpoint's response{kind_shown} {document}", may_have_cost_token=not _is_page(response)
        )
    words = words.of(document)
    # Some servers send every member, an empty error included.
    if document.get("error") not in (None, ""):
        raise _refusal(response.status, document, words, retry_after=None)
    grant = _grant(document, words, settings)
    return replace(
        grant,
        lifetime=_earlier_end(grant, response, wall=wall),
        valid_in=_later_beginning(grant, response, wall=wall),
    )


def _is_page(response: ServerResponse) -> bool:
    """Return whether a body cannot be a token response: it is empty, or begins as no JSON object does, as a gateway's page."""
    is_plain = response.content_encoding.strip().lower() in {"", "identity"}
    return is_plain and not response.body.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{")


def _earlier_end(grant: TokenGrant, response: ServerResponse, *, wall: float) -> float:
    """
    Return the token's lifetime: what the server said, or the time until the token's own end if that is earlier.

    Only a JWT has its own end. It is compared with the server's clock, the Date of the response (RFC 9110 §6.6.1), so that
    a wrong clock of this machine changes nothing. Without Date it is compared with this machine's clock, if that makes sense.
    """
    claims = read_claims(grant.value.reveal())
    ends_at = None if claims is None else expiry(claims)
    if ends_at is None:
        return grant.lifetime
    server_time = parse_date(response.date)
    left = ends_at - (wall if server_time is None else server_time)
    if left > 0:
        return min(grant.lifetime, left)
    if server_time is None:
        # No server grants a token that has ended, so this machine's clock is wrong.
        return grant.lifetime
    raise _invalid("has an access_token that had ended (exp) when it was granted")


def _later_beginning(grant: TokenGrant, response: ServerResponse, *, wall: float) -> float:
    """Return the seconds until a JWT is valid, by the server's clock if it told it; 0 if it is valid already."""
    claims = read_claims(grant.value.reveal())
    begins_at = None if claims is None else beginning(claims)
    server_time = parse_date(response.date)
    return 0.0 if begins_at is None else max(0.0, begins_at - (wall if server_time is None else server_time))


def _grant(document: dict[str, object], words: ServerWords, settings: CredentialSettings) -> TokenGrant:
    token_type, access_token = document.get("token_type"), document.get("access_token")
    notes = []
    kind = "" if token_type is None else token_type
    if not isinstance(kind, str):
        raise _invalid("has a token_type that is no text; only Bearer tokens can be used")
    if kind.strip().lower() in _ALSO_BEARER:
        has = f"has the token_type {words.text(kind)!r}" if kind.strip() else "has no token_type"
        notes.append(f"the token endpoint's response {has}; the token is used as a Bearer token")
    elif kind.strip().lower() != _BEARER:
        raise _invalid(f"has the token_type {words.text(kind)!r}; only Bearer tokens can be used")
    if not isinstance(access_token, str) or not access_token:
        raise _invalid("has no access_token")
    if not _TOKEN.fullmatch(access_token):
        raise _invalid(
            "has an access_token of characters that no Authorization line may have: only visible ASCII can be sent"
        )
    scope = _scope(document.get("scope"), words)
    requested = (settings.scope or "").split()
    missing = [] if scope is None else [each for each in requested if each not in scope.split() and not _is_all(each)]
    if missing:
        # RFC 6749 §3.3: the server may grant less than was requested, and then says so.
        notes.append(f"the granted scope lacks {' '.join(missing)!r}; check scope, and what the client may have")
    return TokenGrant(
        value=Secret(access_token),
        lifetime=_lifetime(document.get("expires_in"), default=settings.default_lifetime),
        scope=scope,
        notes=tuple(notes),
    )


def _is_all(scope: str) -> bool:
    """Say whether a scope name stands for all that the client may have, as Microsoft's servers have it: it is never granted itself."""
    return scope.endswith("/.default")


def _scope(value: object, words: ServerWords) -> str | None:
    """Return a scope that may be shown; None if there is none."""
    is_scope = isinstance(value, str) and len(value) <= _LONGEST_SCOPE and _SCOPE.fullmatch(value) is not None
    return value if isinstance(value, str) and is_scope and words.find_fault(value) is None else None


def _lifetime(value: object, *, default: float) -> float:
    """Return the seconds of an expires_in: a number or, against RFC 6749 §5.1 but often seen, a number as text."""
    if value is None:
        return default
    if isinstance(value, str):
        # Some servers send text; the length is bounded because converting very long text is costly.
        text = value.strip(" ")
        if len(text) > _LONGEST_NUMBER or not _SECONDS.fullmatch(text):
            raise _invalid("has an expires_in that is no number of seconds")
        value = float(text)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _invalid("has an expires_in that is no number of seconds")
    if isinstance(value, float) and not isfinite(value):
        raise _invalid("has an expires_in that is not finite")
    if value <= 0:
        raise _invalid("has an expires_in that is not positive: the token has no life")
    # Before float(), which cannot hold every int.
    return float(min(value, LONGEST_LIFETIME))


def _invalid(problem: str) -> TokenResponseInvalidError:
    return TokenResponseInvalidError(f"the token endpoint's response {problem}", may_have_cost_token=True)


# --- failures ------------------------------------------------------------------------------------------------------


def _too_many(
    response: ServerResponse, words: ServerWords, quota: tuple[QuotaBucket, ...], wall: float
) -> TokenFetchError:
    """Return the error of a 429; `wall` is the server's Unix time."""
    retry_after = parse_retry_after(response.retry_after, wall=wall)
    document = read_object(response)
    members = document if isinstance(document, dict) else {}
    words = words.of(members)
    if members.get("error") == _LOCKED_OUT:
        return _refusal(response.status, members, words, retry_after=retry_after)
    details = words.error(members)
    responded = f"the token endpoint responded with {status_text(response.status)}" + (
        f": {details}" if details else ""
    )
    bucket = used_up(quota)
    if bucket is None:
        text = f"{responded}; the client gets no more tokens for now"
        return TokenQuotaExhaustedError(text, retry_after=retry_after)
    until = clock_time(wall + (bucket.resets_at - response.received_at), now=wall)
    text = f"{bucket.description} is used up until {until}; {responded}"
    return TokenQuotaExhaustedError(text, retry_after=retry_after, exhausted_until=bucket.resets_at)


def _failure(response: ServerResponse, words: ServerWords, wall: float) -> TokenFetchError:
    """Return the error of a response with another status than 2xx."""
    status = response.status
    retry_after = parse_retry_after(response.retry_after, wall=wall)
    document = read_object(response)
    members = document if isinstance(document, dict) else {}
    words = words.of(members)
    details = words.error(members)
    shown = status_text(status) + (f": {details}" if details else "")
    if status in _TRANSIENT_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return TokenEndpointUnavailableError(f"the token endpoint responded with {shown}", retry_after=retry_after)
    if status >= HTTPStatus.BAD_REQUEST:
        return _refusal(status, members, words, retry_after=retry_after)
    if status >= HTTPStatus.MULTIPLE_CHOICES:
        location = words.text((response.location or "").partition("?")[0].partition("#")[0])
        target = f" to {location}" if location else ""
        text = f"the token endpoint responded with {shown}{target}; redirects are not followed: token_url must be final"
        return TokenResponseInvalidError(text, retry_after=retry_after)
    return TokenResponseInvalidError(f"the token endpoint responded with {shown}, not 2xx", retry_after=retry_after)


def _refusal(
    status: int, members: dict[str, object], words: ServerWords, *, retry_after: float | None
) -> TokenFetchError:
    code = members.get("error")
    details = words.error(members)
    shown = status_text(status) + (f": {details}" if details else "")
    if isinstance(code, str) and code in _TRANSIENT_ERRORS:
        return TokenEndpointUnavailableError(f"the token endpoint responded with {shown}", retry_after=retry_after)
    advice = _ADVICE.get(code) if isinstance(code, str) else None
    advice = (advice or _ADVICE_BY_STATUS.get(status, "check token_url")).format(credential=words.credential_name)
    # Auth0 says access_denied with its 401; Microsoft sends its invalid_client with one, others with a 400.
    is_about_client = status == HTTPStatus.UNAUTHORIZED or code == "invalid_client"
    hint = f"; {words.refusal_hint}" if is_about_client and words.refusal_hint else ""
    return TokenRequestRefusedError(
        f"the token endpoint refused the request with {shown}; {advice}{hint}",
        retry_after=retry_after,
        is_about_client=is_about_client,
    )
