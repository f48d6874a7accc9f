"""How a JWT that authenticates the client is sent (RFC 7521 §4.2, RFC 7523 §2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from switch_proxy.core.authentication.method import ClientAuthentication

if TYPE_CHECKING:
    from switch_proxy.core.secret import Secret

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523 §2.2


AUDIENCE_HINT: Final = "the assertion's aud must be what the server expects: see assertion_audience"
"""Servers differ in it: the issuer (RFC 7523bis), the token endpoint, something of their own."""


def encode(client_id: str, assertion: Secret) -> ClientAuthentication:
    """Return the parameters of an assertion. The client's id is optional (RFC 7521 §4.2); Microsoft's servers need it."""
    return ClientAuthentication(
        parameters=(
            ("client_id", client_id),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion.reveal()),
        )
    )
