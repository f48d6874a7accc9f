"""
Keeps one credential's token fresh: passes events to core/lifecycle.py and performs the effects that it returns.

Everything runs on one event loop, and `_feed` never awaits, so state and effects always agree. `run` owns the tasks: timer,
fetch, watch of the secret. Requests cause no I/O: `peek` compares the time, and `acquire` waits for a fetch that is already
in flight. A request that gives up waiting does not disturb the others.
"""

from __future__ import annotations

import asyncio
import contextlib
from math import inf
from typing import TYPE_CHECKING, Final, Protocol, assert_never

from switch_proxy.core.authentication.registry import method_of
from switch_proxy.core.backoff import Lane
from switch_proxy.core.errors import (
    SecretUnavailableError,
    TokenFetchError,
    TokenRequestRefusedError,
    TokenResponseInvalidError,
    TokenUnavailableError,
)
from switch_proxy.core.events import (
    CredentialEvent,
    SecretBroken,
    SecretLoaded,
    SecretRefused,
    SecretReloaded,
    SecretRestored,
    TokenFound,
    TokenNoted,
    TokenRefreshed,
    TokenRefreshFailed,
)
from switch_proxy.core.lifecycle import (
    FETCHED,
    SHORTEST_RETRY_AFTER,
    BackingOff,
    CredentialsChanged,
    CredentialStatus,
    Effect,
    Event,
    Failed,
    Fetched,
    FetchFailure,
    Fetching,
    FetchReason,
    Found,
    NothingNewer,
    Publish,
    Refuse,
    Rejected,
    Serve,
    StartFetch,
    Stopping,
    Ticked,
    TokenState,
    Wait,
    WakeAt,
    WakeWaiters,
    decide_request,
    describe,
    initial_state,
    secrets_to_try,
    status_of,
    step,
    tick_at,
    usable_token,
    wake_at,
)
from switch_proxy.core.secret import Broken, Changed, Outcome, Restored, Secret, Unchanged
from switch_proxy.core.tokens import freshness, hold_until
from switch_proxy.tokens.sharing import Turn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from switch_proxy.clock import Clock
    from switch_proxy.core.config.models import CredentialSettings
    from switch_proxy.core.token_sharing import Judgement
    from switch_proxy.core.tokens import AccessToken, TokenGrant
    from switch_proxy.tokens.sharing import TokenSharing

_REREAD_WITHIN: Final = 1.0
"""Seconds that a fetch waits for its secret to be read again; a volume that hangs must not delay it further."""

_WATCH_AGAIN_AFTER: Final = 60.0
"""Seconds until the secret's source is watched again after an unexpected error."""

_RECORDED_WITHIN: Final = 3.0
"""Seconds at a shutdown in which the result of the last fetch may be recorded in the store."""

_TIMEOUT_GRACE: Final = 5.0
"""
Seconds after the configured timeout (of each request) after which a fetch is cancelled. The fetcher has that timeout itself
and reports it better; this limit is for a fetcher that does not keep to it.
"""


class TokenFetcher(Protocol):
    """Sends token requests."""

    async def fetch(self, secret: Secret) -> TokenGrant:
        """Fetch one token within a time limit of its own. Raises TokenFetchError, SecretUnavailableError."""


class CredentialSource(Protocol):
    """Source of what authenticates the client: a secret, a key, an assertion or a certificate."""

    source: str
    """Its name in messages: `the file /…`."""
    remedy: str
    """What would end a refusal, for people: `another content of the file /…`."""

    def current(self) -> Secret:
        """Return the last good secret; no I/O. Raises SecretUnavailableError if there never was one."""

    def previous(self) -> Secret | None:
        """Return the secret to try if the current one is refused, or None; no I/O."""

    async def load(self) -> Outcome:
        """Read the source now."""

    async def wait_for_change(self) -> Outcome:
        """Return the next outcome that is not Unchanged."""


class CredentialObserver(Protocol):
    """Receives the events of a credential; must not block."""

    def on_event(self, event: CredentialEvent) -> None:
        """Take note of an event."""


class TokenManager:
    """Keeps one credential's token fresh and provides it."""

    def __init__(
        self,
        *,
        name: str,
        settings: CredentialSettings,
        fetcher: TokenFetcher,
        credential_source: CredentialSource,
        clock: Clock,
        random: Callable[[], float],
        observer: CredentialObserver,
        sharing: TokenSharing | None = None,
    ) -> None:
        """
        Take the parts; nothing is fetched before `run`. `random` returns a number in [0, 1).

        `sharing` is the store of tokens that other processes share, if there is one.
        """
        self._name = name
        requests = 1 if settings.previous_client_secret is None else 2
        self._longest_fetch = requests * settings.timeout + _TIMEOUT_GRACE
        self._fetcher = fetcher
        self._credential_source = credential_source
        self._clock = clock
        self._random = random
        self._observer = observer
        self._sharing = sharing
        self._is_renewed_by_others = method_of(settings).is_assertion
        self._found = 0
        self._recordings: set[asyncio.Task[None]] = set()
        self._state = initial_state(
            clock.now(),
            min_forced_refresh_interval=settings.min_forced_refresh_interval,
            is_shared=sharing is not None,
        )
        self._tasks: asyncio.TaskGroup | None = None
        self._timer: asyncio.Task[None] | None = None
        self._decision_changed = asyncio.Event()
        self._secret_error: str | None = None
        self._has_secret = False
        self._accepted: Secret | None = None
        self._uses_previous = False
        self._noted: set[str] = set()
        self._fetches: dict[str, int] = {FETCHED: 0}
        self._tokens_issued = 0
        # What `peek` reads.
        self._now = clock.now
        self._token: AccessToken | None = None
        self._usable_until = -inf

    # --- for the data plane ----------------------------------------------------------------------------------------

    def peek(self) -> AccessToken | None:
        """Return the token that is usable now, or None."""
        return self._token if self._now() < self._usable_until else None

    async def acquire(self, timeout: float, *, newer_than: int = 0) -> AccessToken:  # noqa: ASYNC109 - told in the error
        """
        Return a usable token of a generation after `newer_than`, waiting at most `timeout` seconds for a fetch.

        Raises TokenUnavailableError: immediately if no fetch is in flight.
        """
        try:
            async with asyncio.timeout(timeout):
                while True:
                    self._tick_if_due()
                    match decide_request(self._state, self._clock.now(), newer_than=newer_than):
                        case Serve(token=token):
                            return token
                        case Refuse(reason=reason, retry_after=retry_after):
                            raise TokenUnavailableError(credential=self._name, reason=reason, retry_after=retry_after)
                        case Wait():
                            await self._decision_changed.wait()
        except TimeoutError:
            reason = f"no access token within {timeout:g} seconds: the token request is still under way"
            if self._state.error is not None:
                reason += f"; the one before it failed: {describe(self._state.error)}"
        raise TokenUnavailableError(credential=self._name, reason=reason, retry_after=SHORTEST_RETRY_AFTER)

    def reject(self, generation: int) -> None:
        """Report that the upstream refused the token of this generation (401)."""
        if self._tasks is not None:
            self._feed(Rejected(generation=generation))

    # --- for the owner ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the token fresh until cancelled. To be run once."""
        try:
            await self._run()
        finally:
            # What is being recorded would be fetched, and paid, again.
            if self._recordings:
                await asyncio.wait(self._recordings, timeout=_RECORDED_WITHIN)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            try:
                await self._handle_reading(self._credential_source.load())
                self._tasks = tasks
                self._feed(Ticked())
                while True:
                    has_changed = await self._handle_reading(self._credential_source.wait_for_change())
                    if has_changed and (not self._is_renewed_by_others or self._state.error is not None):
                        self._feed(CredentialsChanged())
            finally:
                # Clear first, so that tasks can tell a shutdown from an unexpected cancellation.
                self._tasks = None
                self._feed(Stopping())

    def refresh(self) -> None:
        """Read the secret again, and end a wait after a refusal or an unusable response: the operator says that the cause may be mended."""
        if self._tasks is not None:
            self._tasks.create_task(self._refresh(), name=f"refresh of credential {self._name}")

    async def _refresh(self) -> None:
        has_changed = False
        # A source that hangs must not keep a mended client waiting.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REREAD_WITHIN):
                has_changed = await self._handle_reading(self._credential_source.load())
        phase = self._state.phase
        may_be_mended = isinstance(phase, BackingOff) and phase.lane in {Lane.REFUSED, Lane.UNUSABLE}
        if has_changed or may_be_mended:
            self._feed(CredentialsChanged())

    def status(self) -> CredentialStatus:
        """Return the credential's status now."""
        return status_of(
            self._state,
            self._clock.now(),
            name=self._name,
            secret_error=self._secret_error,
            fetches=dict(self._fetches),
            remedy=self._credential_source.remedy,
            uses_previous_secret=self._uses_previous,
            tokens_issued=self._tokens_issued,
            store=None if self._sharing is None else self._sharing.status(found=self._found),
        )

    def __repr__(self) -> str:
        now, at = self._clock.now(), wake_at(self._state)
        token = self._state.token
        generation = 0 if token is None else token.generation
        if isinstance(self._state.phase, Fetching):
            following = f"fetching_for={now - self._state.phase.since:.0f}s"
        else:
            following = "stopped" if at is None else f"refresh_in={max(0.0, at - now):.0f}s"
        return (
            f"<TokenManager {self._name} {freshness(token, now).name} gen={generation} {following} "
            f"failures={self._state.failures}>"
        )

    # --- events in, effects out ------------------------------------------------------------------------------------

    def _feed(self, event: Event) -> None:
        now = self._clock.now()
        before = self._state
        self._state, effects = step(before, event, now, self._random())
        self._report_fetch(before, self._state, event, now)
        for effect in effects:
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case StartFetch():
                self._set_timer(None)
                self._start_fetch()
            case WakeAt(at=at):
                self._set_timer(at)
            case Publish(token=token):
                self._token = token
                self._usable_until = token.usable_until
            case WakeWaiters():
                self._decision_changed.set()
                self._decision_changed = asyncio.Event()

    def _tick_if_due(self) -> None:
        """Do the timer's work if it is late: the machine may have slept."""
        at = tick_at(self._state)
        if at is not None and self._tasks is not None and self._clock.now() >= at:
            self._feed(Ticked())

    def _set_timer(self, at: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is not None and self._tasks is not None:
            self._timer = self._tasks.create_task(self._tick_at(at), name=f"timer of credential {self._name}")

    async def _tick_at(self, at: float) -> None:
        await self._clock.sleep_until(at)
        # Forget this task first: `_feed` may set the next timer, and must not cancel this task.
        self._timer = None
        self._feed(Ticked())

    # --- the fetch -------------------------------------------------------------------------------------------------

    def _start_fetch(self) -> None:
        if self._tasks is not None and isinstance(self._state.phase, Fetching):
            fetch = self._fetch(self._state.phase.reason)
            self._tasks.create_task(fetch, name=f"token request of credential {self._name}")

    async def _fetch(self, reason: FetchReason) -> None:
        """Feed the outcome of a fetch: what the store says, or that of a token request, which is then recorded in the store."""
        await self._reread_secret()
        outcome = None if self._sharing is None else await self._consult(self._sharing, reason)
        if self._sharing is not None and isinstance(outcome, Turn):
            try:
                event = await self._request()
            except asyncio.CancelledError:
                self._record(self._sharing.release(outcome))
                raise
            self._feed(event)
            self._record(self._sharing.conclude(outcome, self._state, has_token=isinstance(event, Fetched)))
        else:
            self._feed(await self._request() if outcome is None or isinstance(outcome, Turn) else outcome)

    def _record(self, recording: Coroutine[None, None, None]) -> None:
        """Use the store in a task that is not cancelled with the others."""
        task = asyncio.get_running_loop().create_task(recording, name=f"token store of credential {self._name}")
        self._recordings.add(task)
        task.add_done_callback(self._recordings.discard)

    async def _consult(self, sharing: TokenSharing, reason: FetchReason) -> Judgement | Turn | None:
        """Return what the store says; None if a token is to be requested without it."""
        source = self._credential_source
        try:
            return await sharing.consult(self._state, reason, source.current(), source.previous())
        except SecretUnavailableError as error:
            # A look is no attempt, and its failure does not put off the next one.
            if reason is not FetchReason.LOOK:
                return Failed(error=_without_frames(error))
        except asyncio.CancelledError:
            if self._tasks is None:
                raise
        except Exception as error:  # noqa: BLE001 - the store must not stop the refreshing
            self._note((f"the token store was not used: unexpected {_locate(error)}; a defect of the proxy",))
        return NothingNewer() if reason is FetchReason.LOOK else None

    async def _request(self) -> Event:
        """Send a token request, and return its outcome."""
        try:
            async with asyncio.timeout(self._longest_fetch):
                grant = await self._request_grant()
            self._note(grant.notes)
            await self._wait_until_valid(grant)
            return Fetched(grant=grant)
        except (TokenFetchError, SecretUnavailableError) as error:
            return Failed(error=_without_frames(error))
        except TimeoutError:
            text = f"the token request did not end within {self._longest_fetch:g} seconds"
            return Failed(error=TokenFetchError(text))
        except asyncio.CancelledError:
            if self._tasks is None:
                raise
            # Not a shutdown: something below was cancelled and let the error through.
            return Failed(error=TokenFetchError("the token request was cancelled from within; a defect of the proxy"))
        except Exception as error:  # noqa: BLE001 - any error is a failed fetch, and never ends the task
            return Failed(error=TokenFetchError(f"unexpected {_locate(error)}; a defect of the proxy"))

    async def _wait_until_valid(self, grant: TokenGrant) -> None:
        """Keep a token that is not valid yet, while there is a usable one."""
        now = self._clock.now()
        at = hold_until(grant, token=self._state.token, now=now)
        if at > now:
            await self._clock.sleep_until(at)

    def _note(self, notes: tuple[str, ...]) -> None:
        for note in notes:
            if note not in self._noted:
                self._noted.add(note)
                self._emit(TokenNoted(credential=self._name, note=note))

    async def _reread_secret(self) -> None:
        """Read the source again: an assertion may have been replaced after the last poll."""
        try:
            async with asyncio.timeout(_REREAD_WITHIN):
                outcome = await self._credential_source.load()
        except Exception:  # noqa: BLE001 - the watch meets the same error and reports it
            return
        except asyncio.CancelledError:
            if self._tasks is None:
                raise
            # Not a shutdown: something below was cancelled and let the error through.
            return
        self._take(outcome)

    async def _request_grant(self) -> TokenGrant:
        """Request a token with the current secret, and with the previous one if that is refused. Raises as the fetcher does."""
        refusals: list[TokenRequestRefusedError] = []
        current = self._credential_source.current()
        for secret in secrets_to_try(current, self._credential_source.previous(), refusals=self._state.refusals):
            try:
                grant = await self._fetcher.fetch(secret)
            except TokenRequestRefusedError as error:
                if not error.is_about_client:
                    raise
                refusals.append(error)
            else:
                if refusals:
                    error_text = describe(refusals[0])
                    source, is_first_occurrence = self._credential_source.source, not self._uses_previous
                    self._emit(
                        SecretRefused(
                            credential=self._name,
                            source=source,
                            error=error_text,
                            is_first_occurrence=is_first_occurrence,
                        )
                    )
                self._uses_previous = secret is not current
                self._accepted = secret
                return grant
        raise refusals[0]

    def _report_fetch(self, before: TokenState, after: TokenState, event: Event, now: float) -> None:
        if not isinstance(before.phase, Fetching):
            return
        duration = now - before.phase.since
        next_at = wake_at(after)
        next_in = 0.0 if next_at is None else next_at - now
        if after.failures > before.failures and after.error is not None:
            if not isinstance(event, Failed) or event.shared is None:
                self._count_failure(after.error)
            self._report_failure(before, after, after.error, now=now, duration=duration, next_in=next_in)
        elif after.token is not None and isinstance(event, Found) and self._sharing is not None:
            self._found += 1
            self._emit(
                TokenFound(
                    credential=self._name,
                    store=self._sharing.description,
                    generation=after.token.generation,
                    usable_for=after.token.usable_until - now,
                    refresh_in=next_in,
                )
            )
        elif after.token is not None and after.token is not before.token:
            self._fetches[FETCHED] += 1
            self._tokens_issued += 1
            self._emit(
                TokenRefreshed(
                    credential=self._name,
                    generation=after.token.generation,
                    lifetime=after.token.lifetime,
                    refresh_in=next_in,
                    duration=duration,
                    after_failures=before.failures,
                )
            )

    def _count_failure(self, error: FetchFailure) -> None:
        self._fetches[error.outcome] = self._fetches.get(error.outcome, 0) + 1
        self._tokens_issued += isinstance(error, TokenResponseInvalidError) and error.may_have_cost_token

    def _report_failure(
        self, before: TokenState, after: TokenState, error: FetchFailure, *, now: float, duration: float, next_in: float
    ) -> None:
        token = usable_token(after, now)
        self._emit(
            TokenRefreshFailed(
                credential=self._name,
                outcome=error.outcome,
                error=describe(error),
                retry_in=next_in,
                duration=duration,
                consecutive_failures=after.failures,
                token_usable_for=None if token is None else token.usable_until - now,
                refused_for=None if after.refused_since is None else now - after.refused_since,
                remedy=None if after.refused_since is None else self._credential_source.remedy,
                is_first_occurrence=describe(before.error) != describe(error),
            )
        )

    # --- the secret ------------------------------------------------------------------------------------------------

    async def _handle_reading(self, reading: Awaitable[Outcome]) -> bool:
        """Wait for a reading of the secret and report its outcome; return whether the secret has changed."""
        try:
            outcome = await reading
        except Exception as error:  # noqa: BLE001 - the token must be kept fresh whatever happens
            outcome = Broken(
                error=f"{self._credential_source.source} was not read because of an unexpected {_locate(error)}"
            )
            self._take(outcome)
            if self._tasks is not None:
                await self._clock.sleep_until(self._clock.now() + _WATCH_AGAIN_AFTER)
            return False
        return self._take(outcome)

    def _take(self, outcome: Outcome) -> bool:
        source = self._credential_source.source
        match outcome:
            case Unchanged():
                return False
            case Changed():
                self._secret_error = None
                event = SecretReloaded if self._has_secret else SecretLoaded
                self._has_secret = True
                self._emit(event(credential=self._name, source=source))
                return True
            case Broken(error=error):
                self._secret_error = error
                has_last_good = self._uses_accepted_secret()
                self._emit(SecretBroken(credential=self._name, source=source, error=error, has_last_good=has_last_good))
                return False
            case Restored():
                self._secret_error = None
                self._emit(SecretRestored(credential=self._name, source=source))
                return False
            case _:
                assert_never(outcome)

    def _uses_accepted_secret(self) -> bool:
        """Return whether the authorization server has granted a token for a secret that is in use now."""
        try:
            in_use = self._credential_source.current(), self._credential_source.previous()
        except SecretUnavailableError:
            return False
        return self._accepted is not None and self._accepted in in_use

    def _emit(self, event: CredentialEvent) -> None:
        try:
            self._observer.on_event(event)
        except Exception as error:  # noqa: BLE001 - an observer must not stop what it observes
            # Reported by asyncio's handler, which needs no logger; without the exception, whose text may hold a secret.
            message = f"the observer of credential {self._name} failed at {event.name}: unexpected {_locate(error)}"
            asyncio.get_running_loop().call_exception_handler({"message": message})


def _without_frames(error: FetchFailure) -> FetchFailure:
    """Return the error without its frames, which hold the secret and the response, so that it can be kept."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def _locate(error: BaseException) -> str:
    """Return the type of an exception and where it was raised, without its text, which may hold a secret."""
    place = ""
    traceback = error.__traceback__
    while traceback is not None:
        place = f" at {traceback.tb_frame.f_globals.get('__name__')}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return type(error).__name__ + place
