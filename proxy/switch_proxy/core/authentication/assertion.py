"""How a JWT that authenticates the client is sent (RFC 7521 §4.2, RFC 7523 §2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from switch_proxy.core.authentication.method import ClientAuthentication

if TYPE_CHECKING:
    from switch_proxy.core.authentication.method import Client
    from switch_proxy.core.secret import Secret

JWT_BEARER: Final = "jwt-bearer"
"""RFC 7523 §2.2."""

JWT_SPIFFE: Final = "jwt-spiffe"
"""draft-ietf-oauth-spiffe-client-auth: a JWT-SVID, which need not have what RFC 7523 asks for."""

_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:"

JWT: Final = "JWT"
CLIENT_AUTHENTICATION_JWT: Final = "client-authentication+jwt"
"""RFC 7523bis §4: keeps assertions apart from other JWTs."""

AUDIENCE_HINT: Final = "the assertion's aud must be what the server expects: see assertion_audience"
"""Servers differ in it: the issuer (RFC 7523bis), the token endpoint, something of their own."""


class HasAudience(Protocol):
    """The settings of a credential, as far as they matter here."""

    @property
    def assertion_audience(self) -> str | None:
        """Return the configured audience."""

    @property
    def issuer(self) -> str | None:
        """Return the issuer identifier of the authorization server."""


def audience_of(settings: HasAudience, token_url: str) -> str:
    """Return the `aud` of the assertions that are signed for a credential."""
    # Every server that has an issuer must accept it as audience (RFC 7523bis; OpenID once said the endpoint).
    return settings.assertion_audience or settings.issuer or token_url


def encode(client: Client, assertion: Secret) -> ClientAuthentication:
    """Return the parameters of an assertion. The client's id is optional (RFC 7521 §4.2); Microsoft's servers need it."""
    return ClientAuthentication(
        parameters=(
            ("client_id", client.client_id),
            ("client_assertion_type", _ASSERTION_TYPE + (client.assertion_type or JWT_BEARER)),
            ("client_assertion", assertion.reveal()),
        )
    )
