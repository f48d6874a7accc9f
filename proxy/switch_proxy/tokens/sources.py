"""
Sources of what authenticates the client: secrets, keys, assertions and certificates from files and environment variables.

watched_files.py reads and watches a file. If several sources belong together (a secret and the previous one, a key and the
TLS files), CombinedCredentials makes one of them, so that files which change together are one change.
"""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from switch_proxy.core.authentication.method import SourcePlan
from switch_proxy.core.authentication.registry import method_of, plans_of
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
    parse_secret,
    take_reading,
)
from switch_proxy.tls import TlsFiles
from switch_proxy.watched_files import (
    POLL_INTERVAL,
    FileReading,
    FileUnreadableError,
    WatchedFile,
    name_of,
    read_file,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from switch_proxy.clock import Clock
    from switch_proxy.core.authentication.method import Parser
    from switch_proxy.core.config.models import CredentialSettings, TlsSettings
    from switch_proxy.core.secret import Mask


class _Part(Protocol):
    """One of several sources."""

    source: str
    state: SourceState

    async def load(self) -> Outcome: ...


class EnvironmentSecret:
    """A secret in an environment variable, which does not change while the process runs."""

    def __init__(
        self,
        *,
        variable: str,
        environ: Mapping[str, str],
        mask: Mask,
        parse: Parser = parse_secret,
        is_optional: bool = False,
        kind: str = "client secret",
    ) -> None:
        """Take the variable's name. If the secret is optional, it may be unset or empty: the secret is empty then."""
        self.source = f"the environment variable {variable}"
        self.remedy = f"a restart with another value of {self.source}"
        self.state = SourceState()
        self._variable = variable
        self._environ = environ
        self._mask = mask
        self._parse = parse
        self._is_optional = is_optional
        self._kind = kind

    def current(self) -> Secret:
        """Return the secret. Raises SecretUnavailableError if there is none."""
        return self.state.current(self.source)

    def previous(self) -> Secret | None:
        """Return None: there is no other secret to try."""

    async def load(self) -> Outcome:
        """Read the variable and return the outcome."""
        reading = self._read()
        if isinstance(reading, Secret):
            self._mask(self.source, reading)
        self.state, outcome = take_reading(self.state, reading)
        return outcome

    def _read(self) -> Secret | str:
        value = self._environ.get(self._variable, "" if self._is_optional else None)
        if value is None:
            return f"no {self._kind}: {self.source} is not set"
        try:
            # What is not UTF-8 stands in the environment as lone surrogates (PEP 383).
            raw = value.encode("utf-8", "surrogateescape")
            return _parse(self._parse, raw, source=self.source, is_optional=self._is_optional)
        except SecretUnavailableError as error:
            return str(error)

    async def wait_for_change(self) -> Outcome:
        """Never return: a process does not see changes of its environment."""
        for_ever: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        return await for_ever

    def __repr__(self) -> str:
        return f"<EnvironmentSecret {self._variable}>"


class CombinedCredentials:
    """
    Several sources of one client: `main`, and others that are watched with it.

    `previous` is the source of the secret to try if that of `main` is refused.
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
        self.remedy = main.remedy
        self._main = main
        self._previous = previous
        self._parts: tuple[_Part, ...] = (main, *(() if previous is None else (previous,)), *beside)
        self._clock = clock
        self._poll_interval = poll_interval
        self._error: str | None = None
        self._due: deque[Outcome] = deque()

    def current(self) -> Secret:
        """Return the last good secret of the main source. Raises SecretUnavailableError if there never was one."""
        return self._main.current()

    def previous(self) -> Secret | None:
        """Return the secret to try if the current one is refused; None if there is none, or it is the same."""
        if self._previous is None or self._previous.state.last_good in {None, _NONE, self._main.state.last_good}:
            return None
        return self._previous.state.last_good

    async def load(self) -> Outcome:
        """Read all sources now and return the first outcome; `wait_for_change` returns the others."""
        # At the same time, so that one that hangs does not keep the others waiting.
        outcomes = await asyncio.gather(*(part.load() for part in self._parts))
        errors = list(dict.fromkeys(part.state.error for part in self._parts if part.state.error is not None))
        before, self._error = self._error, "; ".join(errors) or None
        if any(isinstance(outcome, Changed) for outcome in outcomes) and self._main.state.last_good is not None:
            before = None
            self._due.append(Changed(secret=self.current()))
        if self._error is not None and self._error != before:
            self._due.append(Broken(error=self._error))
        elif self._error is None and before is not None:
            self._due.append(Restored())
        return self._due.popleft() if self._due else Unchanged()

    async def wait_for_change(self) -> Outcome:
        """Return the next outcome that is not Unchanged."""
        while not self._due:
            await self._clock.sleep_until(self._clock.now() + self._poll_interval)
            outcome = await self.load()
            if not isinstance(outcome, Unchanged):
                return outcome
        return self._due.popleft()

    def __repr__(self) -> str:
        return f"<CombinedCredentials {', '.join(map(repr, self._parts))}>"


_NONE: Final = Secret("")
"""Placeholder for a previous secret that is missing or empty."""


def credentials_from(
    settings: CredentialSettings, *, environ: Mapping[str, str], clock: Clock, mask: Mask
) -> WatchedFile | EnvironmentSecret | CombinedCredentials:
    """Return the source of what authenticates the client; each secret is masked as it is read."""
    tls_files = _tls_files(settings.tls, clock)
    main_plan, previous_plan = plans_of(settings)
    if main_plan is None:
        if tls_files is None:
            raise SecretUnavailableError("no client certificate: the configuration names none")
        return tls_files
    if method_of(settings).sign is not None:
        # joserfc warns of the name EdDSA, for which RFC 9864 has another that servers do not know yet, and of short keys,
        # which are refused anyway.
        warnings.filterwarnings("ignore", message="EdDSA is deprecated|Key size should be")
    main = secret_source(main_plan, environ=environ, clock=clock, mask=mask)
    if previous_plan is None and tls_files is None:
        return main
    return CombinedCredentials(
        main=main,
        previous=None
        if previous_plan is None
        else secret_source(previous_plan, environ=environ, clock=clock, mask=mask),
        beside=() if tls_files is None else (tls_files,),
        clock=clock,
    )


def client_secret_file(path: str, *, clock: Clock, mask: Mask, poll_interval: float = POLL_INTERVAL) -> WatchedFile:
    """Return a file that holds a client secret and nothing else; it is not read yet."""
    plan = SourcePlan(kind="client secret", parse=parse_secret, paths=(path,))
    return _watch(plan, clock, mask, poll_interval=poll_interval)


def secret_source(
    plan: SourcePlan, *, environ: Mapping[str, str], clock: Clock, mask: Mask
) -> WatchedFile | EnvironmentSecret:
    """Return the source of a plan; nothing is read yet, and each secret is masked as it is read."""
    if plan.variable is None:
        return _watch(plan, clock, mask)
    return EnvironmentSecret(
        variable=plan.variable,
        environ=environ,
        mask=mask,
        parse=plan.parse,
        is_optional=plan.is_optional,
        kind=plan.kind,
    )


def _watch(plan: SourcePlan, clock: Clock, mask: Mask, *, poll_interval: float = POLL_INTERVAL) -> WatchedFile:
    path = plan.paths[0]
    return WatchedFile(
        path=path,
        clock=clock,
        read=FileReading(
            partial(read_plan, plan),
            now=clock.now,
            hang_error=lambda problem: SecretUnavailableError(f"no {plan.kind}: {name_of(path)} {problem}"),
        ),
        on_read=partial(mask, name_of(path)),
        poll_interval=poll_interval,
    )


def read_plan(plan: SourcePlan) -> Secret:
    """Read and parse the files of a plan. Blocks: for a thread. Raises SecretUnavailableError."""
    contents = []
    for path in plan.paths:
        try:
            contents.append(read_file(path, longest=MAX_SECRET))
        except FileUnreadableError as error:
            if plan.is_optional and error.is_missing:
                return _NONE
            problem = f"no {plan.kind}: {name_of(path)} {error.problem}"
        else:
            continue
        raise SecretUnavailableError(problem)
    return _parse(plan.parse, *contents, source=name_of(plan.paths[0]), is_optional=plan.is_optional)


def _parse(parse: Parser, *contents: bytes, source: str, is_optional: bool) -> Secret:
    if is_optional and not contents[0].strip():
        return _NONE
    return parse(*contents, source=source)


def _tls_files(settings: TlsSettings, clock: Clock) -> WatchedFile | None:
    """
    Return the files of TLS as a source, so that they are watched; None if there are none.

    They are not registered for masking, because a private key in PEM is masked by its shape.
    """
    files = TlsFiles(
        settings,
        owner="the credential",
        new_context=partial(ssl.SSLContext, ssl.PROTOCOL_TLS_CLIENT),
        now=clock.now,
    )
    return files.watch(clock) if files.are_named else None
