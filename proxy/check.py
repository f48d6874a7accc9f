"""
What `switch-proxy check` does: explains a configuration, looks at the files it names, and, online, tries its credentials.

Knows how the parts are put together for one fetch; the proxy itself is put together in proxy/app.py.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.core.summary import describe_secret_source, find_idle_credentials, summarize

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from proxy.core.config import SecretSource, Settings, TlsSettings


def explain(settings: Settings, *, source: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Return the lines that tell what the proxy would do, and what is to be noted of it on this machine."""
    yield f"{source} is valid."
    yield ""
    yield from summarize(settings)
    notes = list(find_notes(settings, environ))
    if notes:
        yield ""
        yield "to be noted, here and now"
        yield from (f"  - {note}" for note in notes)


def find_notes(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    """
    Return what may be wrong: files that are not there or cannot be used, secrets that are empty, credentials in vain.

    None of it makes the configuration invalid: where it is checked need not be where it will run.
    """
    for name, credential in settings.credentials.items():
        for fault in _faults_of_secret(credential.client_secret, environ):
            yield f"the client secret of credential {name}: {describe_secret_source(credential.client_secret)} {fault}"
        yield from (f"tls of credential {name}: {fault}" for fault in _faults_of_tls(credential.tls))
    for route in settings.routes:
        yield from (f"tls of route {route.name}: {fault}" for fault in _faults_of_tls(route.tls))
    for name in find_idle_credentials(settings):
        yield f"credential {name} is used by no route; its tokens would be fetched in vain"


def _faults_of_secret(source: SecretSource, environ: Mapping[str, str]) -> Iterator[str]:
    if source.file is not None:
        fault = _fault_of_file(Path(source.file))
        if fault is not None:
            yield fault
    elif not environ.get(source.env or "", "").strip():
        yield "is not set, or empty"


def _fault_of_file(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return None if file.read(4096).strip() else "is empty"
    except OSError as error:
        return f"cannot be read: {error.strerror or type(error).__name__}"


def _faults_of_tls(tls: TlsSettings) -> Iterator[str]:
    for path in (tls.ca_file, tls.client_certificate_file, tls.client_key_file):
        if path is not None and (fault := _fault_of_file(Path(path))):
            yield f"the file {path} {fault}"
            return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.ca_file is not None:
        try:
            context.load_verify_locations(cafile=tls.ca_file)
        except OSError as error:
            yield f"ca_file holds no certificates in PEM form: {_reason(error)}"
    if tls.client_certificate_file is not None:
        try:
            # Without a password of its own, OpenSSL would ask the terminal for that of an encrypted key.
            context.load_cert_chain(tls.client_certificate_file, tls.client_key_file, password="")
        except OSError as error:
            yield f"client_certificate_file and client_key_file are no pair in PEM form, without a password: {_reason(error)}"


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or type(error).__name__
