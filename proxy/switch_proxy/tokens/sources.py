"""
What clients authenticate with, from files and environment variables: secrets, keys, assertions, certificates.

How a file is read and watched is watched_files.py's business. If several sources belong together (a secret and the one
before it, a key and the TLS files), CombinedCredentials makes one of them, so that files which change together are one
change.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from switch_proxy.core.config.models import SIGNING_METHODS, TLS_METHODS
from switch_proxy.core.errors import SecretUnavailableError
from switch_proxy.core.secret import (
    MAX_SECRET,
    Broken,
    Changed,
    Outcome,
    Restored,
    Secret,
    SourceState,
    Unchanged,
    parse_assertion,
    parse_pem,
    parse_secret,
    take_reading,
)
from switch_proxy.tls import TlsFiles
from switch_proxy.watched_files import POLL_INTERVAL, FileUnreadableError, WatchedFile, name_of, read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from switch_proxy.clock import Clock
    from switch_proxy.core.config.models import CredentialSettings, PrivateKeySettings, SecretSource, TlsSettings
    from switch_proxy.core.secret import Mask

_HMAC_KEY: Final = 32
"""Bytes of a client secret that signs with HS256 at least (RFC 7518 §3.2)."""


class _Part(Protocol):
    """One source of several."""

    source: str
    state: SourceState

    async def load(self) -> Outcome: ...


class EnvironmentSecret:
    """A secret in an environment variable, which stays as it was when the process started."""

    def __init__(
        self,
        *,
        variable: str,
        environ: Mapping[str, str],
        mask: Mask,
        parse: Callable[..., Secret] = parse_secret,
    ) -> None:
        self.source = f"the environment variable {variable}"
        self.awaits = f"a restart with another value of {self.source}"
        self.state = SourceState()
        self._variable = variable
        self._environ = environ
        self._mask = mask
        self._parse = parse

    def current(self) -> Secret:
        """Return the secret. Raises SecretUnavailableError where there is none."""
        return self.state.current(self.source)

    def previous(self) -> Secret | None:
        """Return None: there is no other secret to try."""

    async def load(self) -> Outcome:
        """Read the variable and return what that came to."""
        reading = self._read()
        if isinstance(reading, Secret):
            self._mask(self.source, reading)
        self.state, outcome = take_reading(self.state, reading)
        return outcome

    def _read(self) -> Secret | str:
        value = self._environ.get(self._variable)
        if value is None:
            return f"no client secret: {self.source} is not set"
        try:
            # What is not UTF-8 stands in the environment as lone surrogates (PEP 383).
            return self._parse(value.encode("utf-8", "surrogateescape"), source=self.source)
        except SecretUnavailableError as error:
            return str(error)

    async def wait_for_change(self) -> Outcome:
        """Wait for ever: a process does not see changes of its environment."""
        for_ever: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        return await for_ever

    def __repr__(self) -> str:
        return f"<EnvironmentSecret {self._variable}>"


class CombinedCredentials:
    """
    Several sources that one client authenticates with: `main`, and what is watched beside it.

    `previous` is the secret to try where the one of `main` is refused.
    """

    def __init__(
        self,
        *,
        main: WatchedFile | EnvironmentSecret,
        previous: WatchedFile | EnvironmentSecret | None = None,
        beside: Sequence[WatchedFile] = (),
        clock: Clock,
        poll_interval: float = POLL_INTERVAL,
    ) -> None:
        self.source = main.source
        self.awaits = main.awaits
        self._main = main
        self._previous = previous
        self._parts: tuple[_Part, ...] = (main, *(() if previous is None else (previous,)), *beside)
        self._clock = clock
        self._poll_interval = poll_interval
        self._error: str | None = None
        self._due: deque[Outcome] = deque()

    def current(self) -> Secret:
        """Return the last good secret of the main source. Raises SecretUnavailableError where there never was one."""
        return self._main.current()

    def previous(self) -> Secret | None:
        """Return the secret to try where the current one is refused; None where there is none, or the same."""
        if self._previous is None or self._previous.state.last_good in {None, _NONE, self._main.state.last_good}:
            return None
        return self._previous.state.last_good

    async def load(self) -> Outcome:
        """Read all sources now and return what that came to, as far as one outcome can tell it."""
        outcomes = [await part.load() for part in self._parts]
        errors = list(dict.fromkeys(part.state.error for part in self._parts if part.state.error is not None))
        before, self._error = self._error, "; ".join(errors) or None
        if any(isinstance(outcome, Changed) for outcome in outcomes) and self._main.state.last_good is not None:
            before = None
            self._due.append(Changed(secret=self.current()))
        if self._error is not None and self._error != before:
            self._due.append(Broken(error=self._error, has_last_good=self._main.state.last_good is not None))
        elif self._error is None and before is not None:
            self._due.append(Restored())
        return self._due.popleft() if self._due else Unchanged()

    async def wait_for_change(self) -> Outcome:
        """Return what has become of the sources once anything has; for ever where nothing does."""
        while not self._due:
            await self._clock.sleep_until(self._clock.now() + self._poll_interval)
            outcome = await self.load()
            if not isinstance(outcome, Unchanged):
                return outcome
        return self._due.popleft()

    def __repr__(self) -> str:
        return f"<CombinedCredentials {', '.join(map(repr, self._parts))}>"


_NONE: Final = Secret("")
"""Stands for a previous secret that there is not."""


def credentials_from(
    settings: CredentialSettings, *, environ: Mapping[str, str], clock: Clock, mask: Mask
) -> WatchedFile | EnvironmentSecret | CombinedCredentials:
    """Return what a credential authenticates with, as its configuration names it; each secret is masked as it is read."""
    tls_files = _tls_files(settings.tls, clock)
    if settings.auth_method in TLS_METHODS and tls_files is not None:
        return tls_files
    previous = None
    main: WatchedFile | EnvironmentSecret
    if settings.private_key is not None:
        main = _private_key(settings.private_key, clock, mask)
    elif settings.client_assertion is not None:
        main = _line(settings.client_assertion.file, parse_assertion, clock, mask)
    elif settings.client_secret is not None:
        shortest = _HMAC_KEY if settings.auth_method in SIGNING_METHODS else 1
        main = secret_from(settings.client_secret, environ=environ, clock=clock, mask=mask, shortest=shortest)
        if settings.previous_client_secret is not None:
            previous = _optional_secret(settings.previous_client_secret, environ, clock, mask, shortest)
    else:
        raise SecretUnavailableError("no client secret: the configuration names none")
    if previous is None and tls_files is None:
        return main
    beside = () if tls_files is None else (tls_files,)
    return CombinedCredentials(main=main, previous=previous, beside=beside, clock=clock)


def client_secret_file(path: str, *, clock: Clock, mask: Mask, poll_interval: float = POLL_INTERVAL) -> WatchedFile:
    """Return a file that holds a client secret and nothing else; it is not read yet."""
    return _watched(path, clock, mask, read=partial(_read, path), poll_interval=poll_interval)


def secret_from(
    settings: SecretSource, *, environ: Mapping[str, str], clock: Clock, mask: Mask, shortest: int = 1
) -> WatchedFile | EnvironmentSecret:
    """Return the secret that a configuration names, of `shortest` bytes at least; nothing is read yet."""
    parse = partial(parse_secret, shortest=shortest)
    if settings.file is not None:
        return _line(settings.file, parse, clock, mask)
    return EnvironmentSecret(variable=settings.env or "", environ=environ, mask=mask, parse=parse)


def _line(path: str, parse: Callable[..., Secret], clock: Clock, mask: Mask) -> WatchedFile:
    kind = "client assertion" if parse is parse_assertion else "client secret"
    return _watched(path, clock, mask, read=partial(_read, path, parse=parse, kind=kind))


def _optional_secret(
    settings: SecretSource, environ: Mapping[str, str], clock: Clock, mask: Mask, shortest: int
) -> WatchedFile | EnvironmentSecret:
    """Return a secret that may be missing or empty: between two rotations there is none."""

    def parse(raw: bytes, *, source: str) -> Secret:
        return parse_secret(raw, source=source, shortest=shortest) if raw.strip() else _NONE

    path = settings.file
    if path is None:
        variable = settings.env or ""
        given = {variable: environ.get(variable, "")}
        return EnvironmentSecret(variable=variable, environ=given, mask=mask, parse=parse)

    def read() -> Secret:
        return _read(path, parse=parse) if Path(path).exists() else _NONE

    return _watched(path, clock, mask, read=read)


def _private_key(settings: PrivateKeySettings, clock: Clock, mask: Mask) -> WatchedFile:
    """Return a key with its certificate, where one is named: one text, so that both change at once or not at all."""
    kind = "private key"
    source = name_of(settings.file)

    def read() -> Secret:
        parse = partial(parse_pem, kind=kind)
        text = _read(settings.file, parse=parse, kind=kind).reveal()
        if settings.certificate_file is not None:
            text += "\n" + _read(settings.certificate_file, parse=parse, kind=kind).reveal()
        # Imported here: it brings cryptography, which the plain case does without.
        from switch_proxy.core.client_assertion import check_private_key  # noqa: PLC0415

        check_private_key(text, settings, source=source)
        return Secret(text)

    return _watched(settings.file, clock, mask, read=read)


def _tls_files(settings: TlsSettings, clock: Clock) -> WatchedFile | None:
    """
    Return the files of TLS as a source, so that they are watched; None if there are none.

    They need not be made known for masking: a private key in PEM is masked by its shape.
    """
    files = TlsFiles(settings, owner="the credential", new_context=partial(ssl.SSLContext, ssl.PROTOCOL_TLS_CLIENT))
    return files.watch(clock)


def _watched(
    path: str, clock: Clock, mask: Mask, *, read: Callable[[], Secret], poll_interval: float = POLL_INTERVAL
) -> WatchedFile:
    return WatchedFile(
        path=path, clock=clock, read=read, on_read=partial(mask, name_of(path)), poll_interval=poll_interval
    )


def _read(path: str, *, parse: Callable[..., Secret] = parse_secret, kind: str = "client secret") -> Secret:
    """Read and parse a file. Raises SecretUnavailableError."""
    try:
        raw = read_file(path, longest=MAX_SECRET)
    except FileUnreadableError as error:
        problem = error.problem
    else:
        return parse(raw, source=name_of(path))
    raise SecretUnavailableError(f"no {kind}: {name_of(path)} {problem}")
