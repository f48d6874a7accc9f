"""Certificates made up for tests: authorities, servers, clients, and contexts for the upstream's side."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    import trustme


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """An authority that the proxy trusts, one that it does not, and where their files are."""

    authority: trustme.CA
    stranger: trustme.CA
    folder: Path

    @property
    def ca_file(self) -> str:
        """Return the file of the authority that the proxy trusts."""
        return self._file("ca.pem", self.authority.cert_pem.bytes())

    def server(
        self,
        *names: str,
        issuer: trustme.CA | None = None,
        not_after: datetime | None = None,
        clients: trustme.CA | None = None,
    ) -> ssl.SSLContext:
        """Return a server's context; with `clients`, it asks for a certificate of that authority."""
        certificate = (issuer or self.authority).issue_cert(*(names or ("127.0.0.1",)), not_after=not_after)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        certificate.configure_cert(context)
        if clients is not None:
            clients.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client_files(self, *, issuer: trustme.CA | None = None) -> dict[str, str]:
        """Return the settings of a client certificate."""
        certificate = (issuer or self.authority).issue_cert(common_name="switch-proxy", organization_name="Tests")
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        return {
            "client_certificate_file": self._file("client.pem", chain),
            "client_key_file": self._file("client.key", certificate.private_key_pem.bytes()),
        }

    def _file(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)
