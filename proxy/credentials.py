"""
Client secrets from files and environment variables; files are watched.

A file is read anew every few seconds and its content compared. Nothing else is as sure: Kubernetes swaps a symlink two
folders up, others rename or write in place, within one tick of the clock and without a change of size. It is read in a
thread, for the loop must not wait for a volume that hangs.
"""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING, Final

from proxy.core.errors import SecretUnavailableError
from proxy.core.secret import MAX_SECRET, Outcome, Secret, SourceState, Unchanged, parse_secret, take_reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.clock import Clock
    from proxy.core.config import SecretSource

POLL_INTERVAL: Final = 5.0
"""Seconds between two looks at a file. A kubelet takes a minute or more to bring a change, so this adds little to it."""


class FileSecret:
    """A secret in a file that may be replaced at any time."""

    def __init__(self, *, path: str, clock: Clock, poll_interval: float = POLL_INTERVAL) -> None:
        self.source = f"the file {_printable(path)}"
        self._path = path
        self._clock = clock
        self._poll_interval = poll_interval
        self._state = SourceState()

    def current(self) -> Secret:
        """Return the last good secret. Raises SecretUnavailableError where there never was one."""
        return _secret_of(self._state, self.source)

    async def load(self) -> Outcome:
        """Read the file now and return what that came to."""
        try:
            reading: Secret | str = await asyncio.to_thread(_read, self._path, self.source)
        except SecretUnavailableError as error:
            reading = str(error)
        self._state, outcome = take_reading(self._state, reading)
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

    def __init__(self, *, variable: str, environ: Mapping[str, str]) -> None:
        self.source = f"the environment variable {variable}"
        self._variable = variable
        self._environ = environ
        self._state = SourceState()

    def current(self) -> Secret:
        """Return the secret. Raises SecretUnavailableError where there is none."""
        return _secret_of(self._state, self.source)

    async def load(self) -> Outcome:
        """Read the variable and return what that came to."""
        value = self._environ.get(self._variable)
        reading: Secret | str = f"no client secret: {self.source} is not set"
        if value is not None:
            try:
                # What is not UTF-8 stands in the environment as lone surrogates (PEP 383).
                reading = parse_secret(value.encode("utf-8", "surrogateescape"), source=self.source)
            except SecretUnavailableError as error:
                reading = str(error)
        self._state, outcome = take_reading(self._state, reading)
        return outcome

    async def wait_for_change(self) -> Outcome:
        """Wait for ever: a process does not see changes of its environment."""
        for_ever: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        return await for_ever

    def __repr__(self) -> str:
        return f"<EnvironmentSecret {self._variable}>"


def secret_from(settings: SecretSource, *, environ: Mapping[str, str], clock: Clock) -> FileSecret | EnvironmentSecret:
    """Return the secret that a configuration names; nothing is read yet."""
    if settings.file is not None:
        return FileSecret(path=settings.file, clock=clock)
    return EnvironmentSecret(variable=settings.env or "", environ=environ)


def _secret_of(state: SourceState, source: str) -> Secret:
    if state.last_good is not None:
        return state.last_good
    raise SecretUnavailableError(state.error or f"no client secret: {source} has not been read yet")


def _read(path: str, source: str) -> Secret:
    try:
        # Not to wait for the other end where it is a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SecretUnavailableError(f"no client secret: {source} is not a regular file")
            raw = file.read(MAX_SECRET + 1)
    except FileNotFoundError:
        problem = "does not exist"
    except PermissionError:
        problem = f"may not be read by this process (user {os.geteuid()}, group {os.getegid()})"
    except OSError as error:
        problem = f"cannot be read: {error.strerror or type(error).__name__}"
    except ValueError:
        problem = "is no path: it has a NUL in it"
    else:
        return parse_secret(raw, source=source)
    raise SecretUnavailableError(f"no client secret: {source} {problem}")


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode("utf-8")
