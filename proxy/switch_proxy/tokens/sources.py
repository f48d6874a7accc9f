"""
What clients authenticate with, from files and environment variables: secrets, keys, assertions, certificates.

A file is read anew every few seconds and its content compared. Nothing else is as sure: Kubernetes swaps a symlink two
folders up, others rename or write in place, within one tick of the clock and without a change of size. It is read in a
thread, for the loop must not wait for a volume that hangs.

Where several belong together (a secret and the one before it, a key and the TLS files), CombinedCredentials makes one
source of them, so that files which change together are one change.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
import stat
from collections import deque
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from switch_proxy import tls
from switch_proxy.core.config.models import SIGNING_METHODS, TLS_METHODS
from switch_proxy.core.errors import SecretUnavailableError, TlsFilesError
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

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from switch_proxy.clock import Clock
    from switch_proxy.core.config.models import CredentialSettings, PrivateKeySettings, SecretSource, TlsSettings

POLL_INTERVAL: Final = 5.0
"""Seconds between two looks at a file. A kubelet takes a minute or more to bring a change, so this adds little to it."""


LARGEST_CA_FILE: Final = 1024 * 1024
"""Bytes: all public authorities together have some 220 KiB."""

_HMAC_KEY: Final = 32
"""Bytes of a client secret that signs with HS256 at least (RFC 7518 §3.2)."""


class _Part(Protocol):
    """One source of several."""

    source: str
    state: SourceState

    async def load(self) -> Outcome: ...


class FileSecret:
    """A secret in a file that may be replaced at any time."""

    def __init__(
        self,
        *,
        path: str,
        clock: Clock,
        poll_interval: float = POLL_INTERVAL,
        read: Callable[[], Secret] | None = None,
    ) -> None:
        """Take the file's path; `read` reads it otherwise than as one line with a client secret."""
        self.source = _named(path)
        self.awaits = f"another content of {self.source}"
        self.state = SourceState()
        self._path = path
        self._clock = clock
        self._poll_interval = poll_interval
        self._read = read or partial(_read, path)
        self._reading = asyncio.Lock()

    def current(self) -> Secret:
        """Return the last good secret. Raises SecretUnavailableError where there never was one."""
        return _secret_of(self.state, self.source)

    def previous(self) -> Secret | None:
        """Return None: there is no other secret to try."""

    async def load(self) -> Outcome:
        """Read the file now and return what that came to."""
        # One reading at a time, so that an older one cannot come in last.
        async with self._reading:
            try:
                reading: Secret | str = await asyncio.to_thread(self._read)
            except SecretUnavailableError as error:
                reading = str(error)
            self.state, outcome = take_reading(self.state, reading)
        return outcome

    async def wait_for_change(self) -> Outcome:
        """Return what has become of the file once anything has; for ever where nothing does."""
        while True:
            await self._clock.sleep_until(self._clock.now() + self._poll_interval)
            outcome = await self.load()
            if not isinstance(outcome, Unchanged):
                return outcome

    def __repr__(self) -> str:
        return f"<FileSecret {_printable(self._path)}>"


class EnvironmentSecret:
    """A secret in an environment variable, which stays as it was when the process started."""

    def __init__(
        self, *, variable: str, environ: Mapping[str, str], parse: Callable[..., Secret] = parse_secret
    ) -> None:
        self.source = f"the environment variable {variable}"
        self.awaits = f"a restart with another value of {self.source}"
        self.state = SourceState()
        self._variable = variable
        self._environ = environ
        self._parse = parse

    def current(self) -> Secret:
        """Return the secret. Raises SecretUnavailableError where there is none."""
        return _secret_of(self.state, self.source)

    def previous(self) -> Secret | None:
        """Return None: there is no other secret to try."""

    async def load(self) -> Outcome:
        """Read the variable and return what that came to."""
        value = self._environ.get(self._variable)
        reading: Secret | str = f"no client secret: {self.source} is not set"
        if value is not None:
            try:
                # What is not UTF-8 stands in the environment as lone surrogates (PEP 383).
                reading = self._parse(value.encode("utf-8", "surrogateescape"), source=self.source)
            except SecretUnavailableError as error:
                reading = str(error)
        self.state, outcome = take_reading(self.state, reading)
        return outcome

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
        main: FileSecret | EnvironmentSecret,
        previous: FileSecret | EnvironmentSecret | None = None,
        beside: Sequence[FileSecret] = (),
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
            previous = self.previous()
            self._due.append(Changed(secret=self.current(), others=() if previous is None else (previous,)))
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
    settings: CredentialSettings, *, environ: Mapping[str, str], clock: Clock
) -> FileSecret | EnvironmentSecret | CombinedCredentials:
    """Return what a credential authenticates with, as its configuration names it; nothing is read yet."""
    tls_files = _tls_files(settings.tls, clock)
    if settings.auth_method in TLS_METHODS and tls_files is not None:
        return tls_files
    previous = None
    main: FileSecret | EnvironmentSecret
    if settings.private_key is not None:
        main = _private_key(settings.private_key, clock)
    elif settings.client_assertion is not None:
        main = _line(settings.client_assertion.file, parse_assertion, clock)
    elif settings.client_secret is not None:
        shortest = _HMAC_KEY if settings.auth_method in SIGNING_METHODS else 1
        main = secret_from(settings.client_secret, environ=environ, clock=clock, shortest=shortest)
        if settings.previous_client_secret is not None:
            previous = _optional_secret(settings.previous_client_secret, environ, clock, shortest)
    else:
        raise SecretUnavailableError("no client secret: the configuration names none")
    if previous is None and tls_files is None:
        return main
    beside = () if tls_files is None else (tls_files,)
    return CombinedCredentials(main=main, previous=previous, beside=beside, clock=clock)


def secret_from(
    settings: SecretSource, *, environ: Mapping[str, str], clock: Clock, shortest: int = 1
) -> FileSecret | EnvironmentSecret:
    """Return the secret that a configuration names, of `shortest` bytes at least; nothing is read yet."""
    parse = partial(parse_secret, shortest=shortest)
    if settings.file is not None:
        return _line(settings.file, parse, clock)
    return EnvironmentSecret(variable=settings.env or "", environ=environ, parse=parse)


def _line(path: str, parse: Callable[..., Secret], clock: Clock) -> FileSecret:
    kind = "client assertion" if parse is parse_assertion else "client secret"
    return FileSecret(path=path, clock=clock, read=partial(_read, path, parse=parse, kind=kind))


def _optional_secret(
    settings: SecretSource, environ: Mapping[str, str], clock: Clock, shortest: int
) -> FileSecret | EnvironmentSecret:
    """Return a secret that may be missing or empty: between two rotations there is none."""

    def parse(raw: bytes, *, source: str) -> Secret:
        return parse_secret(raw, source=source, shortest=shortest) if raw.strip() else _NONE

    path = settings.file
    if path is None:
        variable = settings.env or ""
        given = {variable: environ.get(variable, "")}
        return EnvironmentSecret(variable=variable, environ=given, parse=parse)

    def read() -> Secret:
        return _read(path, parse=parse) if Path(path).exists() else _NONE

    return FileSecret(path=path, clock=clock, read=read)


def _private_key(settings: PrivateKeySettings, clock: Clock) -> FileSecret:
    """Return a key with its certificate, where one is named: one text, so that both change at once or not at all."""
    kind = "private key"
    source = _named(settings.file)

    def read() -> Secret:
        parse = partial(parse_pem, kind=kind)
        text = _read(settings.file, parse=parse, kind=kind).reveal()
        if settings.certificate_file is not None:
            text += "\n" + _read(settings.certificate_file, parse=parse, kind=kind).reveal()
        # Imported here: it brings cryptography, which the plain case does without.
        from switch_proxy.core.client_assertion import check_private_key  # noqa: PLC0415

        check_private_key(text, settings, source=source)
        return Secret(text)

    return FileSecret(path=settings.file, clock=clock, read=read)


def _tls_files(settings: TlsSettings, clock: Clock) -> FileSecret | None:
    """Return the files of TLS as a source, so that they are watched; None where there are none."""
    certificate, key, authorities = settings.client_certificate_file, settings.client_key_file, settings.ca_file
    first = certificate or authorities
    if first is None:
        return None
    kind = "TLS files"

    def read() -> Secret:
        parse = partial(parse_pem, kind=kind)
        texts = [_read(path, parse=parse, kind=kind) for path in (certificate, key) if path is not None]
        digest = ""
        if authorities is not None:
            digest = hashlib.sha256(_read_raw(authorities, kind, LARGEST_CA_FILE)).hexdigest()
        try:
            tls.load_files(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), settings, owner="the credential")
        except TlsFilesError as error:
            problem = f"no {kind}: {_named(error.path)} cannot be used: {error.reason}"
        else:
            return Secret("\n".join([*(text.reveal() for text in texts), digest]))
        raise SecretUnavailableError(problem)

    return FileSecret(path=first, clock=clock, read=read)


def _secret_of(state: SourceState, source: str) -> Secret:
    if state.last_good is not None:
        return state.last_good
    raise SecretUnavailableError(state.error or f"{source} has not been read yet")


def _read(path: str, *, parse: Callable[..., Secret] = parse_secret, kind: str = "client secret") -> Secret:
    return parse(_read_raw(path, kind, MAX_SECRET), source=_named(path))


def _read_raw(path: str, kind: str, longest: int) -> bytes:
    """Return a file's bytes, at most one more than `longest`. Raises SecretUnavailableError that names its `kind`."""
    source = _named(path)
    try:
        # Not to wait for the other end where it is a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SecretUnavailableError(f"no {kind}: {source} is not a regular file")
            return file.read(longest + 1)
    except FileNotFoundError:
        problem = "does not exist"
    except PermissionError:
        problem = f"may not be read by this process (user {os.geteuid()}, group {os.getegid()})"
    except OSError as error:
        problem = f"cannot be read: {error.strerror or type(error).__name__}"
    except ValueError:
        problem = "is no path: it has a NUL in it"
    raise SecretUnavailableError(f"no {kind}: {source} {problem}")


def _named(path: str) -> str:
    return f"the file {_printable(path)}"


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode("utf-8")
