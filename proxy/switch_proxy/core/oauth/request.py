"""The token request (RFC 6749 §4.4.2), with what authenticates the client. Encoded by authlib."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, SupportsIndex

from authlib.common.urls import add_params_to_qs
from authlib.oauth2.rfc6749.parameters import prepare_token_request

from switch_proxy.core.authentication.registry import method_of

if TYPE_CHECKING:
    from switch_proxy.core.config.models import CredentialSettings
    from switch_proxy.core.secret import Secret


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


def build_request(settings: CredentialSettings, client_credential: Secret, *, token_url: str) -> TokenRequest:
    """
    Return the token request of a credential: grant_type, what authenticates, audience, scope, then the others.

    `client_credential` is the client secret, or the assertion of the methods that have one; TLS's methods need none here.
    Parameters are added one encoder after the other, not as keywords of `prepare_token_request`: that takes some names
    (`body`, `redirect_uri`) for its own arguments, and leaves out what is empty.
    """
    authentication = method_of(settings).encode(settings, client_credential)
    parameters = [
        *authentication.parameters,
        ("audience", settings.audience),
        ("scope", settings.scope),
        *(("resource", resource) for resource in settings.resource),
        *settings.extra_params.items(),
    ]
    body = add_params_to_qs(
        prepare_token_request("client_credentials"), [(name, value) for name, value in parameters if value is not None]
    )
    return TokenRequest(
        url=token_url,
        fields=(
            ("Accept", "application/json"),
            ("Content-Type", "application/x-www-form-urlencoded"),
            *authentication.fields,
            *settings.extra_headers.items(),
        ),
        body=body.encode("ascii"),
    )
