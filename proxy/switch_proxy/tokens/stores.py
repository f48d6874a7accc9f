"""The store of shared tokens that a configuration names, with what encrypts its entries; only the one that is used is imported."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from switch_proxy.core.authentication.secret_source import plan_source
from switch_proxy.core.config.models.token_store import SHORTEST_ENCRYPTION_KEY
from switch_proxy.core.errors import TokenStoreError
from switch_proxy.tokens.sharing import TokenSharing
from switch_proxy.tokens.sources import secret_source

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from switch_proxy.clock import Clock
    from switch_proxy.core.config.models import CredentialSettings, StoreSecretSource, TokenStoreSettings
    from switch_proxy.core.events import CredentialEvent
    from switch_proxy.core.secret import Mask, Secret
    from switch_proxy.tokens.sharing import TokenStore

_PROBED_WITHIN: Final = 5.0
"""Seconds for a person who asks whether the store can be used."""

_READ_WITHIN: Final = 1.0
"""Seconds that a secret of the store is waited for; the last good one is used if a volume hangs."""


class SharedTokens:
    """The store of one configuration, for all of its credentials."""

    def __init__(self, settings: TokenStoreSettings, *, environ: Mapping[str, str], clock: Clock, mask: Mask) -> None:
        """Take the settings; nothing is opened or read yet."""
        self._clock = clock
        self._encryption_key = None
        if settings.encryption_key is not None:
            self._encryption_key = _reader(
                settings.encryption_key,
                kind="encryption key",
                shortest=SHORTEST_ENCRYPTION_KEY,
                environ=environ,
                clock=clock,
                mask=mask,
            )
        self._store = _make_store(settings, environ=environ, clock=clock, mask=mask)

    def of(
        self, name: str, settings: CredentialSettings, *, mask: Mask, observe: Callable[[CredentialEvent], None]
    ) -> TokenSharing:
        """Return the part of the credential of this name."""
        return TokenSharing(
            name=name,
            settings=settings,
            store=self._store,
            encryption_key=self._encryption_key,
            clock=self._clock,
            mask=mask,
            observe=observe,
        )

    async def find_fault(self) -> str | None:
        """Return why the store cannot be used, as a sentence; None if it can."""
        try:
            async with asyncio.timeout(_PROBED_WITHIN):
                await self._store.read(())
        except TokenStoreError as error:
            return str(error)
        except TimeoutError:
            return f"{self._store.description} did not respond within {_PROBED_WITHIN:g} seconds"
        return None

    @property
    def description(self) -> str:
        """Return the store's name in messages."""
        return self._store.description

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()


def _make_store(settings: TokenStoreSettings, *, environ: Mapping[str, str], clock: Clock, mask: Mask) -> TokenStore:
    if settings.redis is not None:
        from switch_proxy.tokens.redis_store import RedisStore  # noqa: PLC0415 - only the store that is used

        section = settings.redis.password
        password = None
        if section is not None:
            password = _reader(section, kind="Redis password", environ=environ, clock=clock, mask=mask)
        return RedisStore(settings.redis, password=password, clock=clock)
    from switch_proxy.tokens.directory_store import DirectoryStore  # noqa: PLC0415 - only the store that is used

    return DirectoryStore(settings.directory or "")


def _reader(
    section: StoreSecretSource,
    *,
    kind: str,
    environ: Mapping[str, str],
    clock: Clock,
    mask: Mask,
    shortest: int = 1,
) -> Callable[[], Awaitable[Secret]]:
    """Return what reads a secret anew each time, and returns the last good one. It raises SecretUnavailableError."""
    source = secret_source(plan_source(section, kind=kind, shortest=shortest), environ=environ, clock=clock, mask=mask)

    async def read() -> Secret:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READ_WITHIN):
                await source.load()
        return source.current()

    return read
