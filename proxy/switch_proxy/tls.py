"""
TLS of the connections that the proxy opens, to APIs and to token endpoints alike: always verified, TLS 1.2 or later.
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

from switch_proxy.core.errors import TlsFilesError

if TYPE_CHECKING:
    from switch_proxy.core.config.models import TlsSettings


def prepare(context: ssl.SSLContext, settings: TlsSettings, *, owner: str) -> None:
    """
    Make a client's context ready to connect with: what it trusts, and the certificate that it shows.

    `owner` is whose settings these are, for the error. Raises TlsFilesError.
    """
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if settings.ca_file is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    load_files(context, settings, owner=owner)


def load_files(context: ssl.SSLContext, settings: TlsSettings, *, owner: str) -> None:
    """Load the files that are named, and nothing else. Raises TlsFilesError."""
    path = settings.ca_file
    try:
        if path is not None:
            context.load_verify_locations(cafile=path)
        path = settings.client_certificate_file
        if path is not None:
            # Without a password of its own, OpenSSL would ask the terminal for that of an encrypted key.
            context.load_cert_chain(path, settings.client_key_file, password="")
    except OSError as error:
        raise TlsFilesError(owner=owner, path=path or "", reason=reason_of(error)) from None


def reason_of(error: OSError) -> str:
    """Return what OpenSSL or the system says of an error, in words."""
    match error:
        case ssl.SSLError(reason=str(reason)):
            return reason.replace("_", " ").lower()
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number)
        case _:
            return str(error) or type(error).__name__
