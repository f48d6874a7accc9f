"""
What `switch-proxy check` does: explains a configuration, reads the files that it names, and, online, tries its credentials.

Knows how the parts are put together for one fetch; proxy/switch_proxy/app.py puts the proxy itself together.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from switch_proxy.clock import SystemClock
from switch_proxy.core.authentication.registry import method_of
from switch_proxy.core.config.summary import (
    describe_grant,
    describe_request,
    find_foreign_references,
    find_idle_credentials,
    summarize,
)
from switch_proxy.core.errors import InvalidValueError, SecretUnavailableError, TlsFilesError, TokenFetchError
from switch_proxy.core.redaction import Redactor
from switch_proxy.tls import TlsFiles, find_system_trust_fault
from switch_proxy.tokens.sources import credentials_from
from switch_proxy.watched_files import FileReading

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from switch_proxy.core.config.models import CredentialSettings, Settings, TlsSettings, TokenStoreSettings
    from switch_proxy.core.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The outcome of fetching one token: whether there is one, and lines about it, without the token."""

    has_token: bool
    lines: tuple[str, ...]


def explain(settings: Settings, *, source: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Return the lines that say what the proxy would do, and the warnings that concern this machine."""
    yield f"{source} is valid."
    yield ""
    yield from summarize(settings)
    warnings = list(find_warnings(settings, environ))
    if warnings:
        yield ""
        yield "warnings on this machine"
        yield from (f"  - {warning}" for warning in warnings)


def find_warnings(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    """
    Return what may be wrong: files that are missing or cannot be used, empty secrets, credentials that no route uses.

    None of it makes the configuration invalid, because it may be checked on another machine than the one it is for.
    """
    for name, credential in settings.credentials.items():
        # If TLS authenticates the client, its files are the credential, and are read below.
        if not method_of(credential).is_by_certificate:
            try:
                asyncio.run(_load(credential, environ))
            except SecretUnavailableError as error:
                yield f"credential {name}: {error}"
        yield from _find_tls_warnings(credential.tls, owner=f"credential {name!r}")
    for route in settings.routes:
        yield from _find_tls_warnings(route.tls, owner=f"route {route.name!r}")
    tls = [credential.tls for credential in settings.credentials.values()] + [route.tls for route in settings.routes]
    fault = asyncio.run(_find_trust_fault(environ))
    if fault is not None and any(each.ca_file is None for each in tls):
        yield f"{fault}; servers whose authority is not in a tls.ca_file cannot be trusted"
    yield from find_foreign_references(settings)
    for name in find_idle_credentials(settings):
        yield f"credential {name} is used by no route; its tokens would be fetched for nothing"


def _find_tls_warnings(tls: TlsSettings, *, owner: str) -> Iterator[str]:
    if tls.ca_file is None and tls.client_certificate_file is None:
        return
    try:
        files = TlsFiles(
            tls, owner=owner, new_context=partial(ssl.SSLContext, ssl.PROTOCOL_TLS_CLIENT), now=SystemClock().now
        )
        asyncio.run(files.read())
    except TlsFilesError as error:
        yield str(error)


async def _find_trust_fault(environ: Mapping[str, str]) -> str | None:
    read = FileReading(
        partial(find_system_trust_fault, environ),
        now=SystemClock().now,
        hang_error=lambda problem: SecretUnavailableError(f"the file of the system's authorities {problem}"),
    )
    try:
        return await read()
    except SecretUnavailableError as error:
        return str(error)


async def try_store(store: TokenStoreSettings, environ: Mapping[str, str]) -> str | None:
    """Use the store of shared tokens as the proxy would, without writing to it; return why it cannot be used."""
    # Imported here: as below.
    from switch_proxy.tokens.stores import SharedTokens  # noqa: PLC0415

    shared = SharedTokens(store, environ=environ, clock=SystemClock(), mask=Redactor().learn)
    try:
        return await shared.find_fault()
    finally:
        await shared.close()


async def try_credential(name: str, credential: CredentialSettings, environ: Mapping[str, str]) -> Attempt:
    """Fetch one token as the proxy would, and return the outcome."""
    # Imported here: it brings aiohttp, which the check without network does not need.
    from switch_proxy.tokens.client import TokenClient  # noqa: PLC0415

    request: tuple[str, ...] = ()
    try:
        secret = await _load(credential, environ)
        async with TokenClient(
            settings=credential, clock=SystemClock(), mask=Redactor().learn, environ=environ
        ) as client:
            try:
                grant = await client.fetch(secret)
            finally:
                request = tuple(describe_request(credential, token_url=client.token_url, client_credential=secret))
    except (SecretUnavailableError, TokenFetchError, InvalidValueError) as error:
        return Attempt(has_token=False, lines=(f"credential {name} gets no token", f"  {error}", *request))
    return Attempt(has_token=True, lines=(f"credential {name} gets a token", *request, *describe_grant(grant)))


async def _load(settings: CredentialSettings, environ: Mapping[str, str]) -> Secret:
    """Return what a credential authenticates with now. Raises SecretUnavailableError."""
    source = credentials_from(settings, environ=environ, clock=SystemClock(), mask=Redactor().learn)
    await source.load()
    return source.current()
