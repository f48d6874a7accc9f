"""
`tls_client_auth`, `self_signed_tls_client_auth`: the client shows its certificate in TLS (RFC 8705 §2).

To the proxy both are the same; the difference is what the server compares.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from switch_proxy.core.authentication.method import ClientAuthentication, Method

if TYPE_CHECKING:
    from switch_proxy.core.authentication.method import Client
    from switch_proxy.core.secret import Secret


def _encode(client: Client, _: Secret) -> ClientAuthentication:
    return ClientAuthentication(parameters=(("client_id", client.client_id),))


class _HasCertificate(Protocol):
    """The section `tls`, as far as it matters here."""

    @property
    def client_certificate_file(self) -> str | None:
        """Return the path of the client certificate, if there is one."""


def _find_lack(tls: _HasCertificate | None) -> str | None:
    is_lacking = tls is not None and tls.client_certificate_file is None
    return "names no client certificate" if is_lacking else None


METHOD: Final = Method(
    name="tls_client_auth",
    credential_name="the client certificate",
    key="tls",
    form="tls: {client_certificate_file: /path/to/tls.crt, client_key_file: /path/to/tls.key}",
    find_lack=_find_lack,
    encode=_encode,
    refusal_hint="the server must know the certificate's subject (or its key, if it is self-signed) as this client's",
    is_by_certificate=True,
)
SELF_SIGNED: Final = replace(METHOD, name="self_signed_tls_client_auth")
