"""
The token request and what its response means: RFC 6749 §4.4 with the client authentication of §2.3.1, and §5.

Of authlib, its encoders. What comes back is judged here, strictly: a token that is let through is put into a header
field and sent to the API. Texts of errors are for people and quote the server only by the members of RFC 6749 §5.2,
in printable characters, cut short, and not where they repeat the secret; never its body.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from math import isfinite
from typing import TYPE_CHECKING, Final, NoReturn, SupportsIndex
from urllib.parse import quote, quote_plus

from authlib.common.urls import add_params_to_qs
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_token_request

from switch_proxy.core.errors import (
    TokenEndpointUnavailableError,
    TokenFetchError,
    TokenRequestRefusedError,
    TokenResponseInvalidError,
)
from switch_proxy.core.jwt_claims import expiry, read_claims
from switch_proxy.core.secret import Secret
from switch_proxy.core.tokens import TokenGrant

if TYPE_CHECKING:
    from collections.abc import Iterable

    from switch_proxy.core.config.models import CredentialSettings

MAX_BODY: Final = 64 * 1024
"""Bytes of a token response. Real ones have 1 to 4 KiB; tokens that carry groups are the largest."""

LONGEST_LIFETIME: Final = 30 * 86400.0
"""
Seconds. Auth0's upper limit for an API's tokens; what is said to live longer is taken to live this long, and so is
replaced from time to time.
"""

_LONGEST_NUMBER: Final = 30
"""Characters of an expires_in that is text: more is no number of seconds."""

_LONGEST_QUOTE: Final = 200
"""Characters of the server's words in a text of ours."""

_LONGEST_SCOPE: Final = 8192

_TELLING: Final = 8
"""Characters in a row of a secret that are not shown, wherever they stand: it may be quoted in part."""

_B64TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # RFC 6750 §2.1
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")  # RFC 6749 §3.3
_SECONDS: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_NOT_FOR_ERRORS: Final = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")  # RFC 6749 §5.2

_TRANSIENT_STATUSES: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_TRANSIENT_ERRORS: Final = frozenset({"server_error", "temporarily_unavailable"})  # RFC 6749 §4.1.2.1, used here too

_LOCKED_OUT: Final = "too_many_attempts"
"""Auth0's code of a 429 that follows on many refusals, not on many requests: more of them make it last."""

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523 §2.2

_PROOFS: Final = {
    "private_key_jwt": "the private key",
    "tls_client_auth": "the client certificate",
    "self_signed_tls_client_auth": "the client certificate",
    "client_assertion": "the client assertion",
}
"""What the client proves its identity with, where it is not the client secret."""

_ADVICE: Final = {
    _LOCKED_OUT: "the client is locked out: have it unblocked, and check client_id and {proof}",
    "invalid_client": "check client_id and {proof}",
    "access_denied": "check client_id and {proof}, and that the client may have this audience or scope",
    "unauthorized_client": "check that the client may use the client_credentials grant",
    "unsupported_grant_type": "check that the authorization server offers the client_credentials grant",
    "invalid_scope": "check scope",
    "invalid_target": "check audience and resource",
}
"""What to do about an error code (RFC 6749 §5.2, RFC 8707 §2; access_denied is Auth0's)."""

_ADVICE_BY_STATUS: Final = {
    400: "check client_id, audience, scope and extra_params",
    401: "check client_id and {proof}",
    403: "check that the client may have this audience or scope",
}


# --- the request ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TokenRequest:
    """One POST to the token endpoint. Its fields and body hold the client's secret in the clear."""

    url: str
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def __repr__(self) -> str:
        return f"<TokenRequest POST {self.url.partition('?')[0]}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a TokenRequest cannot be pickled: the pickle would hold the secret in the clear")


def build_request(settings: CredentialSettings, proof: Secret, *, token_url: str) -> TokenRequest:
    """
    Return the token request of a credential: grant_type, what authenticates, audience, scope, then the others.

    `proof` is the client secret, or the assertion of the methods that have one; TLS's methods need none here.
    Parameters are added one encoder after the other, not as keywords of `prepare_token_request`: that takes some names
    (`body`, `redirect_uri`) for its own arguments, and leaves out what is empty.
    """
    url, fields, body = _authentication(settings, proof).prepare(  # type: ignore[no-untyped-call]
        "POST",
        token_url,
        {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"},
        prepare_token_request("client_credentials"),
    )
    wanted = [
        ("audience", settings.audience),
        ("scope", settings.scope),
        *(("resource", resource) for resource in settings.resource),
        *settings.extra_params.items(),
    ]
    body = add_params_to_qs(body, [(name, value) for name, value in wanted if value is not None])
    return TokenRequest(url=url, fields=(*fields.items(), *settings.extra_headers.items()), body=body.encode("ascii"))


def _authentication(settings: CredentialSettings, proof: Secret) -> ClientAuth:
    client_id = settings.client_id
    match settings.auth_method:
        case "client_secret_post":
            return ClientAuth(client_id, proof.reveal(), "client_secret_post")
        case "client_secret_basic":
            # authlib leaves out that both are form-encoded first (RFC 6749 §2.3.1).
            return ClientAuth(_form_encoded(client_id), _form_encoded(proof.reveal()), "client_secret_basic")
        case "tls_client_auth" | "self_signed_tls_client_auth":
            return ClientAuth(client_id, None, "none")  # RFC 8705 §2: the id alone, and the certificate
        case _:
            return ClientAuth(client_id, proof.reveal(), _add_assertion)


def _add_assertion(
    client: ClientAuth, _method: str, url: str, fields: dict[str, str], body: str
) -> tuple[str, dict[str, str], str]:
    # The id too: RFC 7521 §4.2 leaves it to the client, and some servers (Microsoft's) want it.
    parameters = [
        ("client_id", client.client_id),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", client.client_secret),
    ]
    return url, fields, add_params_to_qs(body, parameters)


def _form_encoded(text: str) -> str:
    # A space as %20, which every decoder of forms reads, and those that only know percent signs do too.
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


# --- the response --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TokenResponse:
    """
    What the token endpoint answered. Its body may hold a token in the clear.

    `body` is cut off after MAX_BODY bytes where `is_complete` is False. The other fields are those of the message's
    head, as received; `content_encoding` is empty where there was none.
    """

    status: int
    content_type: str = ""
    content_encoding: str = ""
    retry_after: str | None = None
    location: str | None = None
    date: str | None = None
    body: bytes
    is_complete: bool = True

    def __repr__(self) -> str:
        return f"<TokenResponse {self.status} with {len(self.body)} bytes>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a TokenResponse cannot be pickled: the pickle would hold the token in the clear")


def parse_response(response: TokenResponse, *, settings: CredentialSettings, secret: Secret, wall: float) -> TokenGrant:
    """
    Return what was granted (RFC 6749 §5.1).

    `wall` is Unix time in seconds, for what the answer dates where it has no Date of its own. Raises TokenEndpointUnavailableError,
    TokenRequestRefusedError or TokenResponseInvalidError, all with a reason that a person can act on.
    """
    quoted = _Quoted(settings, secret)
    if response.status != HTTPStatus.OK:
        raise _failure(response, quoted, wall)
    document = read_object(response)
    if isinstance(document, str):
        kind = quoted.text(response.content_type.partition(";")[0].strip())
        called = f" ({kind})" if kind and kind.lower() != "application/json" else ""
        raise TokenResponseInvalidError(f"the token endpoint's answer{called} {document}")
    if document.get("error") is not None:
        raise _refusal(response.status, document, quoted, retry_after=None)
    grant = _grant(document, quoted, default_lifetime=settings.default_lifetime)
    return replace(grant, lifetime=_earlier_end(grant, response, wall=wall))


def _earlier_end(grant: TokenGrant, response: TokenResponse, *, wall: float) -> float:
    """
    Return the token's lifetime: what the server said, or what is left until the token's own end where that is earlier.

    Only a JWT has one. It is compared with the server's clock, which the answer tells (RFC 9110 §6.6.1), so that a clock
    of this machine that is off changes nothing; and where that is not told, with this machine's, as far as it makes sense.
    """
    claims = read_claims(grant.value.reveal())
    ends_at = None if claims is None else expiry(claims)
    if ends_at is None:
        return grant.lifetime
    told_at = _parse_date(response.date)
    left = ends_at - (wall if told_at is None else told_at)
    if left > 0:
        return min(grant.lifetime, left)
    if told_at is None:
        # No server grants a token that has ended: it is this machine's clock that is wrong.
        return grant.lifetime
    raise _invalid("has an access_token that had ended (exp) when it was granted")


def _grant(document: dict[str, object], quoted: _Quoted, *, default_lifetime: float) -> TokenGrant:
    token_type, access_token, scope = (document.get(name) for name in ("token_type", "access_token", "scope"))
    if not isinstance(token_type, str):
        raise _invalid("has no token_type, which RFC 6749 requires")
    if token_type.lower() != "bearer":
        raise _invalid(f"has the token_type {quoted.text(token_type)!r}; only Bearer tokens can be used")
    if not isinstance(access_token, str) or not access_token:
        raise _invalid("has no access_token")
    if not _B64TOKEN.fullmatch(access_token):
        raise _invalid("has an access_token of characters that no bearer token may have (RFC 6750 section 2.1)")
    return TokenGrant(
        value=Secret(access_token),
        lifetime=_lifetime(document.get("expires_in"), default=default_lifetime),
        scope=scope if isinstance(scope, str) and len(scope) <= _LONGEST_SCOPE and _SCOPE.fullmatch(scope) else None,
    )


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


def _invalid(complaint: str) -> TokenResponseInvalidError:
    return TokenResponseInvalidError(f"the token endpoint's answer {complaint}")


class _RepeatedMemberError(ValueError):
    pass


def read_object(response: TokenResponse) -> dict[str, object] | str:
    """Return the JSON object of a body, or what is wrong with it. No exception leaves here: some quote the body."""
    if not response.is_complete or len(response.body) > MAX_BODY:
        return f"is larger than {MAX_BODY // 1024} KiB"
    if response.content_encoding.strip().lower() not in {"", "identity"}:
        return "has a content coding, which was not asked for"
    try:
        # A byte order mark may be ignored (RFC 8259 §8.1), and .NET servers send one.
        text = response.body.decode("utf-8-sig")
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        return "is not in UTF-8"
    except _RepeatedMemberError:
        return "is a JSON object with a member that is there twice"
    except RecursionError:
        return "is JSON nested too deeply"
    except ValueError:
        return "is not JSON" if response.body.strip() else "is empty"
    return document if isinstance(document, dict) else "is JSON, but no object"


def _object(members: list[tuple[str, object]]) -> dict[str, object]:
    # Readers differ in which of two they take (RFC 8259 §4), so none is taken.
    document = dict(members)
    if len(document) != len(members):
        raise _RepeatedMemberError
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are no JSON (RFC 8259 §6)


# --- failures ------------------------------------------------------------------------------------------------------


def _failure(response: TokenResponse, quoted: _Quoted, wall: float) -> TokenFetchError:
    """Return the error of an answer other than 200."""
    status = response.status
    retry_after = parse_retry_after(response.retry_after, wall=wall)
    document = read_object(response)
    members = document if isinstance(document, dict) else {}
    told = quoted.error(members)
    answer = status_text(status) + (f": {told}" if told else "")
    is_transient = status in _TRANSIENT_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    if is_transient and members.get("error") != _LOCKED_OUT:
        return TokenEndpointUnavailableError(f"the token endpoint answered {answer}", retry_after=retry_after)
    if status >= HTTPStatus.BAD_REQUEST:
        return _refusal(status, members, quoted, retry_after=retry_after)
    if status >= HTTPStatus.MULTIPLE_CHOICES:
        place = quoted.text((response.location or "").partition("?")[0].partition("#")[0])
        target = f" to {place}" if place else ""
        text = f"the token endpoint answered {answer}{target}; redirects are not followed: token_url must be final"
        return TokenResponseInvalidError(text, retry_after=retry_after)
    return TokenResponseInvalidError(f"the token endpoint answered {answer}, not 200", retry_after=retry_after)


def _refusal(status: int, members: dict[str, object], quoted: _Quoted, *, retry_after: float | None) -> TokenFetchError:
    code = members.get("error")
    told = quoted.error(members)
    answer = status_text(status) + (f": {told}" if told else "")
    if isinstance(code, str) and code in _TRANSIENT_ERRORS:
        return TokenEndpointUnavailableError(f"the token endpoint answered {answer}", retry_after=retry_after)
    advice = _ADVICE.get(code) if isinstance(code, str) else None
    advice = (advice or _ADVICE_BY_STATUS.get(status, "check token_url")).format(proof=quoted.proof)
    return TokenRequestRefusedError(
        f"the token endpoint refused the request with {answer}; {advice}",
        retry_after=retry_after,
        # Auth0 says access_denied with its 401; Microsoft sends its invalid_client with one, others with a 400.
        is_about_client=status == HTTPStatus.UNAUTHORIZED or code == "invalid_client",
    )


def status_text(status: int) -> str:
    """Return a status code with its phrase, where it has one."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def parse_retry_after(value: str | None, *, wall: float) -> float | None:
    """
    Return the seconds that a Retry-After asks for (RFC 9110 §10.2.3), None where it is missing or malformed.

    A date is compared with `wall`, Unix time in seconds; one that has passed asks for nothing.
    """
    text = (value or "").strip(" \t")
    if text.isascii() and text.isdigit():
        return float(text[:_LONGEST_NUMBER])
    at = _parse_date(text)
    return None if at is None else max(0.0, at - wall)


def _parse_date(text: str | None) -> float | None:
    """Return the Unix time that a date of HTTP says (RFC 9110 §5.6.7), None where it is missing or malformed."""
    try:
        date = parsedate_to_datetime(text or "")
        # One without a zone, of an obsolete form, is in UTC like all of HTTP's.
        date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
        return date.timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


class _Quoted:
    """The server's words, made fit to be shown."""

    __slots__ = ("_client_id", "_needles", "_secret", "proof")

    def __init__(self, settings: CredentialSettings, secret: Secret) -> None:
        self.proof = _PROOFS.get(settings.auth_method, "the client secret")
        self._client_id = settings.client_id
        self._secret = secret
        self._needles: tuple[Secret, ...] = ()

    def error(self, members: dict[str, object]) -> str:
        """Return the members of an error response (RFC 6749 §5.2) as one text, empty where there are none."""
        texts = [self.text(members.get(name)) for name in ("error", "error_description", "error_uri")]
        return ": ".join(text for text in texts if text)

    def text(self, value: object) -> str:
        """Return a text in printable ASCII, cut short; empty where it is no text."""
        if not isinstance(value, str):
            return ""
        # Made when they are needed: an assertion has thousands, and most answers have no words.
        self._needles = self._needles or tuple(map(Secret, _needles(self._client_id, self._secret.reveal())))
        if any(needle.reveal() in value.lower() for needle in self._needles):
            return f"(not shown: it repeats {self.proof})"
        return show_words(value)


def show_words(text: str) -> str:
    """Return a server's text in printable ASCII, cut short."""
    shown = _NOT_FOR_ERRORS.sub("?", " ".join(text.split()))
    return shown if len(shown) <= _LONGEST_QUOTE else shown[: _LONGEST_QUOTE - 3] + "..."


def _needles(client_id: str, secret: str) -> Iterable[str]:
    """Return what a text that repeats the secret, whole or in part, as it is or encoded, holds one of; lower case."""
    if not secret:
        return ()
    raw = secret.encode("utf-8", "surrogatepass")
    pair = f"{client_id}:{secret}".encode("utf-8", "surrogatepass")
    forms = {secret, quote(raw, safe=""), quote_plus(raw), base64.b64encode(raw).decode("ascii")}
    # Of a Basic credential, the part after the id: what stands before it is no secret. Form-encoded before or not.
    forms.add(base64.b64encode(pair).decode("ascii")[len(client_id) * 4 // 3 :])
    encoded_id = _form_encoded(client_id)
    encoded_pair = f"{encoded_id}:{_form_encoded(secret)}".encode("ascii")
    forms.add(base64.b64encode(encoded_pair).decode("ascii")[len(encoded_id) * 4 // 3 :])
    needles = {form[start : start + _TELLING] for form in forms for start in range(max(1, len(form) - _TELLING + 1))}
    return {needle.lower() for needle in needles}
