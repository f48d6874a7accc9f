"""
One credential's part in the store of tokens: asks before a token request, takes the lock for it, and records its result.

core/token_sharing.py decides, core/token_sealing.py encrypts; a TokenStore keeps bytes. A store that fails, hangs or lies costs each
fetch at most some seconds, and then the token is requested without it: nothing here raises to the fetch.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets as random_secrets
from collections import Counter
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final, Protocol

from switch_proxy.core.errors import SecretUnavailableError, TokenQuotaExhaustedError, TokenStoreError
from switch_proxy.core.events import TokenStoreEntryIgnored, TokenStoreFailed, TokenStoreRestored
from switch_proxy.core.lifecycle import Failed, FetchReason, NothingNewer, SharedStoreStatus
from switch_proxy.core.quota import current_quota, used_up
from switch_proxy.core.token_sealing import NONCE_BYTES, SealingKey, failure_name, fingerprint, identity_of
from switch_proxy.core.token_sharing import (
    LONGEST_LOCK_WAIT,
    Question,
    RecordedFailure,
    SharedToken,
    UnusableEntryError,
    decode_failure,
    decode_token,
    encode_failure,
    encode_token,
    failure_to_share,
    judge,
    lease_of,
    token_to_share,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from switch_proxy.clock import Clock
    from switch_proxy.core.config.models import CredentialSettings
    from switch_proxy.core.events import CredentialEvent
    from switch_proxy.core.lifecycle import TokenState
    from switch_proxy.core.secret import Mask, Secret
    from switch_proxy.core.token_sharing import Judgement

    Result = TypeVar("Result")

_EACH_CALL_WITHIN: Final = 2.0
"""
Seconds that one call of the store may take. A healthy one takes milliseconds, its first with TLS some hundred; more than twice this
is the time that a request waits for a token.
"""

_SHORTEST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 0.25
"""Seconds between two looks of a process that waits for the lock; they grow, so that a large fleet does not load the store."""

_LOCK_GRACE: Final = 0.5
"""Seconds after the end of its lease in which a lock must have been released, or the store lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReading:
    """The entries that were asked for, None for those that do not exist, and the store's own time as Unix time in seconds."""

    entries: tuple[bytes | None, ...]
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LockAttempt:
    """An attempt to take a lock: whether it is ours now, and its number. Each lock has a higher one than those before it."""

    is_ours: bool
    number: int


class TokenStore(Protocol):
    """
    Keeps entries and locks for several processes. Every method may raise TokenStoreError, and may hang.

    Names are hexadecimal. The number of the lock is a fence: what was written under a later lock is not overwritten.
    """

    description: str
    """Its name in messages: `the directory /…`."""

    async def read(self, names: tuple[str, ...]) -> StoreReading:
        """Return the entries of these names."""

    async def lock(self, name: str, *, lease: float) -> LockAttempt:
        """Try to take the lock of a name for `lease` seconds; do not wait for it."""

    async def write(self, name: str, entry: bytes, *, number: int, lifetime: float) -> None:
        """Write an entry under the lock of this number; it may be forgotten after `lifetime` seconds."""

    async def unlock(self, name: str, *, number: int) -> None:
        """Release the lock, if it is still ours."""

    async def close(self) -> None:
        """Close what is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """
    The right to send a token request, with what is needed to record its result.

    `lock` is the lock's number; None if the store cannot be used, so that nothing is recorded.
    """

    lock: int | None = None
    token: SharedToken | None = None
    fingerprint: str = ""
    key: SealingKey | None = None
    ahead: float = 0.0
    """Seconds by which the store's clock is ahead of this process's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entries:
    """What was read from the store."""

    token: SharedToken | None
    failure: RecordedFailure | None
    ahead: float


class TokenSharing:
    """Shares one credential's tokens with other processes."""

    def __init__(
        self,
        *,
        name: str,
        settings: CredentialSettings,
        store: TokenStore,
        encryption_key: Callable[[], Awaitable[Secret]] | None,
        clock: Clock,
        mask: Mask,
        observe: Callable[[CredentialEvent], None],
    ) -> None:
        """
        Take the parts; `encryption_key` returns the secret that keys are derived from, in place of the credential's own.

        It raises SecretUnavailableError; tokens are then requested without the store.
        """
        self._name = name
        self._shortest = settings.min_forced_refresh_interval
        self._identity = identity_of(settings)
        self._store = store
        self._encryption_key = encryption_key
        self._clock = clock
        self._mask = mask
        self._observe = observe
        self._error: str | None = None
        self._errors = 0
        self._ignored: Counter[str] = Counter()

    @property
    def description(self) -> str:
        """Return the store's name in messages."""
        return self._store.description

    def status(self, *, found: int) -> SharedStoreStatus:
        """Return the state of the store as this credential has met it; `found` tokens were found in it."""
        return SharedStoreStatus(
            store=self._store.description,
            error=self._error,
            errors=self._errors,
            found=found,
            ignored=dict(self._ignored),
        )

    async def consult(
        self, state: TokenState, reason: FetchReason, secret: Secret, previous: Secret | None
    ) -> Judgement | Turn:
        """
        Return what the store says to a fetch that has begun, or the right to send a token request.

        It waits for its turn. `secret` is the client's, `previous` the one that older entries may be encrypted with.
        """
        began_at = self._clock.now()
        try:
            keys, mark = await self._keys(secret, previous)
            question = Question(reason=reason, since=began_at, held=state.token, fingerprint=mark)
            judgement = self._judge(await self._read(keys, mark), question)
            if judgement is not None:
                return judgement
            lock = await self._take_lock(keys, question)
            if not isinstance(lock, int):
                return lock
            entries = await self._read(keys, mark)
            judgement = self._judge(entries, question)
            if judgement is None:
                return Turn(lock=lock, token=entries.token, fingerprint=mark, key=keys[0], ahead=entries.ahead)
            await self._release(lock)
        except TokenStoreError as error:
            self._note_failure(error)
        else:
            return judgement
        if reason is FetchReason.LOOK:
            return NothingNewer()
        return self._go_without(state) or Turn()

    async def conclude(self, turn: Turn, state: TokenState, *, has_token: bool) -> None:
        """Record the result of a fetch, with the state after it, and release the lock."""
        if turn.lock is None or turn.key is None:
            return
        try:
            await self._record(turn, turn.key, turn.lock, state, has_token=has_token)
        except TokenStoreError as error:
            self._note_failure(error)
        await self._release(turn.lock)

    async def release(self, turn: Turn) -> None:
        """Release the lock without a result."""
        if turn.lock is not None:
            await self._release(turn.lock)

    # --- steps -----------------------------------------------------------------------------------------------------

    async def _keys(self, secret: Secret, previous: Secret | None) -> tuple[tuple[SealingKey, ...], str]:
        """
        Return the keys that entries may be encrypted with, the present one first, and the secret's fingerprint.

        Raises TokenStoreError.
        """
        materials = [secret] if previous is None else [secret, previous]
        if self._encryption_key is not None:
            try:
                materials = [await self._encryption_key()]
            except SecretUnavailableError as error:
                raise TokenStoreError(f"{self._store.description} is not used: {error}") from None
        # In a thread: the first time, it imports cryptography.
        return await asyncio.to_thread(lambda: (tuple(map(SealingKey, materials)), fingerprint(secret)))

    def _judge(self, entries: _Entries, question: Question) -> Judgement | None:
        return judge(entries.token, entries.failure, question, now=self._clock.now(), shortest=self._shortest)

    async def _read(self, keys: tuple[SealingKey, ...], mark: str) -> _Entries:
        names = (self._identity, failure_name(self._identity, mark))
        reading = await self._call(self._store.read(names))
        self._note_success()
        now = self._clock.now()
        ahead = reading.at - now
        token: SharedToken | None = None
        failure: RecordedFailure | None = None
        for name, entry in zip(names, reading.entries, strict=True):
            if entry is None:
                continue
            try:
                content = _open(entry, keys, name)
                if name == self._identity:
                    token = decode_token(content, ahead=ahead, now=now)
                    # Before anybody else has it.
                    self._mask("token", token.grant.value)
                else:
                    failure = decode_failure(content, ahead=ahead, now=now)
            except UnusableEntryError as error:
                self._note_ignored(error.reason)
        return _Entries(token=token, failure=failure, ahead=ahead)

    async def _take_lock(self, keys: tuple[SealingKey, ...], question: Question) -> int | Judgement:
        """Return the number of the lock; or what the store says while another process has it."""
        pause = _SHORTEST_PAUSE
        holder, held_since = 0, inf
        gives_up_at = self._clock.now() + LONGEST_LOCK_WAIT
        while True:
            now = self._clock.now()
            lease = lease_of(question, now=now)
            attempt = await self._call(self._store.lock(self._identity, lease=lease))
            if attempt.is_ours:
                return attempt.number
            if attempt.number != holder:
                holder, held_since = attempt.number, now
            if now >= min(gives_up_at, held_since + lease + _LOCK_GRACE):
                raise TokenStoreError(f"{self._store.description} says for too long that another process has the lock")
            await self._clock.sleep_until(now + pause)
            pause = min(_LONGEST_PAUSE, pause * 1.5)
            judgement = self._judge(await self._read(keys, question.fingerprint), question)
            if judgement is not None:
                return judgement

    async def _record(self, turn: Turn, key: SealingKey, lock: int, state: TokenState, *, has_token: bool) -> None:
        now, ahead = self._clock.now(), turn.ahead
        shared = token_to_share(state, turn.token, fingerprint=turn.fingerprint) if has_token else None
        failure = None if has_token else failure_to_share(state, now=now)
        if shared is not None:
            name, content = self._identity, encode_token(shared, ahead=ahead)
            lifetime = shared.requested_at + shared.grant.lifetime - now
        elif failure is not None:
            name, content = failure_name(self._identity, turn.fingerprint), encode_failure(failure, ahead=ahead)
            lifetime = failure.until - now
        else:
            return
        entry = key.seal(content, name=name, nonce=random_secrets.token_bytes(NONCE_BYTES))
        await self._call(self._store.write(name, entry, number=lock, lifetime=max(1.0, lifetime)))

    async def _release(self, lock: int) -> None:
        # If this fails, the lock ends by itself.
        with contextlib.suppress(TokenStoreError):
            await self._call(self._store.unlock(self._identity, number=lock))

    def _go_without(self, state: TokenState) -> Failed | None:
        """Return a failure if the quota was used up when it was last seen: without the store, nobody says that there is a token."""
        bucket = used_up(current_quota(state.quota, self._clock.now()))
        if bucket is None:
            return None
        text = f"{bucket.description} was used up when it was last stated, and the token store cannot be used"
        return Failed(error=TokenQuotaExhaustedError(text, exhausted_until=bucket.resets_at))

    async def _call(self, call: Awaitable[Result]) -> Result:
        """Wait for a call of the store, but not for long. Raises TokenStoreError."""
        try:
            async with asyncio.timeout(_EACH_CALL_WITHIN):
                return await call
        except TimeoutError:
            problem = f"{self._store.description} did not respond within {_EACH_CALL_WITHIN:g} seconds"
        except TokenStoreError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the token must be kept fresh
            problem = f"{self._store.description} failed: unexpected {type(error).__name__}"
        raise TokenStoreError(problem)

    # --- reports ---------------------------------------------------------------------------------------------------

    def _note_failure(self, error: TokenStoreError) -> None:
        self._errors += 1
        before, self._error = self._error, str(error)
        if self._error != before:
            self._observe(TokenStoreFailed(credential=self._name, store=self._store.description, error=self._error))

    def _note_success(self) -> None:
        if self._error is not None:
            self._error = None
            self._observe(TokenStoreRestored(credential=self._name, store=self._store.description))

    def _note_ignored(self, reason: str) -> None:
        self._ignored[reason] += 1
        if self._ignored[reason] == 1:
            self._observe(TokenStoreEntryIgnored(credential=self._name, store=self._store.description, reason=reason))

    def __repr__(self) -> str:
        return f"<TokenSharing {self._name} by {self._store.description}>"


def _open(entry: bytes, keys: tuple[SealingKey, ...], name: str) -> bytes:
    """Return the content of an entry that one of the keys opens. Raises UnusableEntryError."""
    for key in keys[:-1]:
        with contextlib.suppress(UnusableEntryError):
            return key.open(entry, name=name)
    return keys[-1].open(entry, name=name)
