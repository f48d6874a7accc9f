"""`tls`: TLS towards a server."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from switch_proxy.core.schema.keys import Key, validate
from switch_proxy.core.schema.problem import Problem
from switch_proxy.core.schema.rules import HOST, OPTIONAL_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """How a server's certificate is verified, and what is shown to it (TLS 1.2 or later, always verified)."""

    ca_file: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_FILE,
            text="A PEM file of the authorities to trust, in place of the system's.",
            without="the system's authorities",
            example="/etc/ssl/private-ca.pem",
        ),
    ] = None
    client_certificate_file: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_FILE,
            text="A PEM file of the certificate to show to the server (mutual TLS), with its chain.",
            example="/var/run/secrets/tls/tls.crt",
        ),
    ] = None
    client_key_file: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_FILE,
            text="A PEM file of the certificate's private key.",
            without="the certificate's file",
            example="/var/run/secrets/tls/tls.key",
        ),
    ] = None
    server_name: Annotated[
        str | None,
        Key(
            rule=HOST,
            text="The name to ask for (SNI) and to verify.",
            without="the URL's host",
            example="api.example.com",
        ),
    ] = None

    def __post_init__(self) -> None:
        validate(self)

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
        """Find a key without a certificate."""
        if values.get("client_key_file") is not None and values.get("client_certificate_file", "") is None:
            text = "is a key without a certificate; write client_certificate_file beside it"
            yield Problem(path=("client_key_file",), text=text)
