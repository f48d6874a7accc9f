"""
What `switch-proxy check` does: explains a configuration, looks at the files it names, and, online, tries its credentials.

Knows how the parts are put together for one fetch; the proxy itself is put together in proxy/switch_proxy/app.py.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from switch_proxy.clock import SystemClock
from switch_proxy.core.config.models import TLS_METHODS
from switch_proxy.core.config.summary import describe_grant, find_idle_credentials, summarize
from switch_proxy.core.errors import InvalidValueError, SecretUnavailableError, TokenFetchError
from switch_proxy.core.redaction import Redactor
from switch_proxy.tokens.sources import credentials_from

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from switch_proxy.core.config.models import CredentialSettings, Settings, TlsSettings
    from switch_proxy.core.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What became of fetching one token: lines for a person, without the token, and whether there is one."""

    is_well: bool
    lines: tuple[str, ...]


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
        # What is wrong with TLS files is told below.
        if credential.auth_method not in TLS_METHODS:
            try:
                asyncio.run(_load(credential, environ))
            except SecretUnavailableError as error:
                yield f"credential {name}: {error}"
        yield from (f"tls of credential {name}: {fault}" for fault in _faults_of_tls(credential.tls))
    for route in settings.routes:
        yield from (f"tls of route {route.name}: {fault}" for fault in _faults_of_tls(route.tls))
    for name in find_idle_credentials(settings):
        yield f"credential {name} is used by no route; its tokens would be fetched in vain"


async def try_credential(name: str, credential: CredentialSettings, environ: Mapping[str, str]) -> Attempt:
    """Fetch one token, as the proxy would, and return what became of it."""
    # Imported here: it brings aiohttp, which the check without network has no need of.
    from switch_proxy.tokens.client import TokenClient  # noqa: PLC0415

    try:
        secret = await _load(credential, environ)
        async with TokenClient(
            settings=credential, clock=SystemClock(), mask=Redactor().learn, environ=environ
        ) as client:
            grant = await client.fetch(secret)
    except (SecretUnavailableError, TokenFetchError, InvalidValueError) as error:
        return Attempt(is_well=False, lines=(f"credential {name} gets no token", f"  {error}"))
    return Attempt(is_well=True, lines=(f"credential {name} gets a token", *describe_grant(grant)))


async def _load(settings: CredentialSettings, environ: Mapping[str, str]) -> Secret:
    """Return what a credential authenticates with, as it is now. Raises SecretUnavailableError."""
    source = credentials_from(settings, environ=environ, clock=SystemClock(), mask=Redactor().learn)
    await source.load()
    return source.current()


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
