"""`client_secret_basic`: id and secret are a Basic credential (RFC 6749 §2.3.1, RFC 7617)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from switch_proxy.core.authentication.client_secret import CREDENTIAL_NAME, FORM, KEY, PREVIOUS_KEY, plan
from switch_proxy.core.authentication.method import ClientAuthentication, Method

if TYPE_CHECKING:
    from switch_proxy.core.authentication.method import Client
    from switch_proxy.core.secret import Secret


def _encode(client: Client, secret: Secret) -> ClientAuthentication:
    # Both are form-encoded first (RFC 6749 §2.3.1).
    pair = f"{_form_encode(client.client_id)}:{_form_encode(secret.reveal())}".encode("ascii")
    return ClientAuthentication(fields=(("Authorization", f"Basic {base64.b64encode(pair).decode('ascii')}"),))


def _form_encode(text: str) -> str:
    # A space as %20, which every decoder of forms reads, and those that only know percent signs do too.
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


METHOD: Final = Method(
    name="client_secret_basic",
    credential_name=CREDENTIAL_NAME,
    key=KEY,
    form=FORM,
    previous_key=PREVIOUS_KEY,
    plan=plan,
    encode=_encode,
    refusal_hint="if id or secret have special characters, the server may not form-decode them (RFC 6749 section 2.3.1): try "
    "auth_method: client_secret_post",
)
