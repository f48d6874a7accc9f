"""
Finds an authorization server's token endpoint by its issuer identifier: RFC 8414, and OpenID Connect Discovery.

Only the token endpoint is taken from the metadata, and only if they are the issuer's own (the same identifier to the
character, RFC 8414 §3.3) and the endpoint may be sent a secret.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from switch_proxy.core.addresses import parse_endpoint
from switch_proxy.core.authentication.registry import method_of
from switch_proxy.core.errors import (
    InvalidValueError,
    TokenEndpointUnavailableError,
    TokenFetchError,
    TokenResponseInvalidError,
)
from switch_proxy.core.oauth.response import parse_retry_after, read_object, status_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switch_proxy.core.addresses import Origin
    from switch_proxy.core.config.models import CredentialSettings
    from switch_proxy.core.oauth.quoting import ServerWords
    from switch_proxy.core.oauth.response import ServerResponse

METADATA_LIFETIME: Final = 86400.0
"""
Seconds after which the metadata are read again before a fetch. Endpoints move once in years; if one has moved, the fetch that
fails at the old location makes the next one read the metadata again.
"""


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """
    Return the URLs of an issuer's metadata, in the order to try.

    First the path between host and the issuer's own path (RFC 8414 §3.1), then OpenID's, behind that path.
    """
    authority = issuer.index("/", issuer.index("://") + 3) if "/" in issuer.partition("://")[2] else len(issuer)
    origin, path = issuer[:authority], issuer[authority:].removesuffix("/")
    return (
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}{path}/.well-known/openid-configuration",
    )


def parse_metadata(
    response: ServerResponse, *, settings: CredentialSettings, words: ServerWords, wall: float
) -> str | None:
    """
    Return the token endpoint that an issuer's metadata name; None if there are no metadata at this URL.

    `words` makes the server's texts fit to be shown. `wall` is Unix time in seconds. Raises TokenEndpointUnavailableError, TokenResponseInvalidError.
    """
    status = response.status
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        retry_after = parse_retry_after(response.retry_after, wall=wall)
        text = f"the issuer's metadata cannot be read: it responded with {status_text(status)}"
        # Fields of a quota, if there are any, are about requests for metadata, so they are not read.
        is_rate_limited = status == HTTPStatus.TOO_MANY_REQUESTS
        raise TokenEndpointUnavailableError(text, retry_after=retry_after, is_rate_limited=is_rate_limited)
    if status != HTTPStatus.OK:
        return None
    document = read_object(response)
    if isinstance(document, str):
        # Some servers respond with 200 and a page if there is nothing.
        return None
    issuer = document.get("issuer")
    if issuer != settings.issuer:
        said = repr(words.text(issuer)) if isinstance(issuer, str) else "no issuer"
        raise _invalid(f"name {said}, which is not the configured one to the character (RFC 8414 section 3.3)")
    endpoint = document.get("token_endpoint")
    if method_of(settings).is_by_certificate:
        # RFC 8705 §5: clients with certificates may have another endpoint.
        aliases = document.get("mtls_endpoint_aliases")
        endpoint = aliases.get("token_endpoint", endpoint) if isinstance(aliases, dict) else endpoint
    if not isinstance(endpoint, str):
        raise _invalid("name no token_endpoint")
    try:
        origin = parse_endpoint(endpoint)
    except InvalidValueError:
        problem = "name a token_endpoint that is no URL"
    else:
        if origin.scheme == "https" or _may_be_plain(origin, settings):
            return endpoint
        problem = "name a token_endpoint that is not https, and what authenticates the client goes there"
    raise _invalid(problem)


def most_telling(failures: Sequence[TokenFetchError], *, settings: CredentialSettings) -> TokenFetchError:
    """
    Return the error of an issuer whose metadata were found at none of the URLs; `failures` are those with an error.

    One that asks for fewer requests (429) is heeded whatever the other says. Metadata that cannot be used say the most. A server that is unwell comes next, although a router may say so of any path
    that it does not know: the failure is tried again soon.
    """
    limited = [each for each in failures if isinstance(each, TokenEndpointUnavailableError) and each.is_rate_limited]
    invalid = [each for each in failures if isinstance(each, TokenResponseInvalidError)]
    found = next(iter((*limited[-1:], *invalid[:1], *failures[-1:])), None)
    if found is not None:
        return found
    urls = " and ".join(metadata_urls(settings.issuer or ""))
    return TokenResponseInvalidError(f"the issuer has no metadata at {urls}; check issuer, or write token_url instead")


def _may_be_plain(origin: Origin, settings: CredentialSettings) -> bool:
    return (origin.is_loopback or settings.allow_plaintext) and not method_of(settings).is_by_certificate


def _invalid(problem: str) -> TokenResponseInvalidError:
    return TokenResponseInvalidError(f"the issuer's metadata {problem}; check issuer")
