"""`client_secret_post`: the secret is a parameter of the request (RFC 6749 §2.3.1, RFC 7591 §2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from switch_proxy.core.authentication.client_secret import CREDENTIAL_NAME, FORM, KEY, PREVIOUS_KEY, plan
from switch_proxy.core.authentication.method import ClientAuthentication, Method

if TYPE_CHECKING:
    from switch_proxy.core.authentication.method import Client
    from switch_proxy.core.secret import Secret


def _encode(client: Client, secret: Secret) -> ClientAuthentication:
    return ClientAuthentication(parameters=(("client_id", client.client_id), ("client_secret", secret.reveal())))


METHOD: Final = Method(
    name="client_secret_post",
    credential_name=CREDENTIAL_NAME,
    key=KEY,
    form=FORM,
    previous_key=PREVIOUS_KEY,
    plan=plan,
    encode=_encode,
)
