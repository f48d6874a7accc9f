"""
A store of shared tokens in a Redis server (6 or later) or Valkey, for a fleet.

Per name there are the keys `PREFIX{NAME}:entry`, an entry after the number of the lock under which it was written, and
`PREFIX{NAME}:lock`, the number of the lock that is held. Both expire by themselves. Each step is one script, so it is whole or not
at all. Numbers are the server's time in microseconds, so they grow even if the server has lost everything.

Connections are not kept between fetches, which are hours apart: what lies between would have cut them without a word.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from switch_proxy.core.errors import SecretUnavailableError, TlsFilesError, TokenStoreError
from switch_proxy.core.token_sharing import MAX_ENTRY
from switch_proxy.tls import TlsFiles, reason_of
from switch_proxy.tokens.sharing import LockAttempt, StoreReading

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from switch_proxy.clock import Clock
    from switch_proxy.core.config.models import RedisSettings
    from switch_proxy.core.secret import Secret

_MOST_CONNECTIONS: Final = 4
"""Connections at once; each is used by one credential at a time."""

_KEPT_FOR: Final = 5.0
"""Seconds that a connection is kept after its last use: from one step of a fetch to the next, but not to the next fetch."""

_NUMBER_DIGITS: Final = 16
"""Digits of a lock's number, with which an entry begins."""

_READ: Final = """
local entries = {}
for index, key in ipairs(KEYS) do entries[index] = redis.call('GETRANGE', key, 0, ARGV[1]) end
return {redis.call('TIME'), entries}
"""

_LOCK: Final = """
local holder = redis.call('GET', KEYS[1])
if holder then return {0, holder} end
local time = redis.call('TIME')
local number = time[1] * 1000000 + time[2]
local last = tonumber(redis.call('GETRANGE', KEYS[2], 0, 15)) or 0
if number <= last then number = last + 1 end
number = string.format('%016.0f', number)
redis.call('SET', KEYS[1], number, 'PX', ARGV[1])
return {1, number}
"""

_WRITE: Final = """
local last = tonumber(redis.call('GETRANGE', KEYS[1], 0, 15)) or 0
if last > tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
return 1
"""

_UNLOCK: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""

_HINTS: Final = {
    "AuthenticationError": "the user or the password is wrong, or missing: username and password of token_store.redis",
    "BusyLoadingError": "it is still reading its data",
    "ClusterDownError": "it is a node of a cluster, which is not supported; name a single server",
    "MasterDownError": "it is a replica without its primary",
    "MISCONF": "it refuses writes, because it cannot save its data",
    "MOVED": "it is a node of a cluster, which is not supported; name a single server",
    "MovedError": "it is a node of a cluster, which is not supported; name a single server",
    "NoPermissionError": "the user may not use these keys or commands; docs/fleet.md has a rule for it",
    "NOPERM": "the user may not use these keys or commands; docs/fleet.md has a rule for it",
    "NOREPLICAS": "it refuses writes, because it has too few replicas",
    "OOM": "its memory is full (maxmemory)",
    "OutOfMemoryError": "its memory is full (maxmemory)",
    "READONLY": "it is a replica, which cannot be written to; name the primary",
    "ReadOnlyError": "it is a replica, which cannot be written to; name the primary",
}
"""
What an error means, by the client's name for it or the server's first word. The server's other words are not shown: they may repeat
what was sent.
"""


class RedisStore:
    """One database of a Redis server."""

    def __init__(
        self, settings: RedisSettings, *, password: Callable[[], Awaitable[Secret]] | None, clock: Clock
    ) -> None:
        """Take the settings; `password` returns the present password, and raises SecretUnavailableError."""
        # Before anything is served. In the first call it would use up the call's time where the CPU is short, as in a rollout, and each
        # pod would fetch a token by itself. If the package is missing, the first call says so.
        with contextlib.suppress(ImportError):
            import redis.asyncio  # noqa: F401, PLC0415 - a large import that only this store needs

        self.description = f"the Redis server {settings.url}"
        self._settings = settings
        self._password = password
        self._tls = TlsFiles(
            settings.tls,
            owner="the token store",
            new_context=partial(ssl.SSLContext, ssl.PROTOCOL_TLS_CLIENT),
            now=clock.now,
        )
        self._clock = clock
        self._client: Redis | None = None
        self._used_at = 0.0
        self._opening = asyncio.Lock()

    async def read(self, names: tuple[str, ...]) -> StoreReading:
        """Return the entries of these names. Raises TokenStoreError."""
        keys = [self._key(name, "entry") for name in names]
        (seconds, microseconds), entries = await self._eval(_READ, keys, str(_NUMBER_DIGITS + MAX_ENTRY))
        return StoreReading(
            entries=tuple(entry[_NUMBER_DIGITS:] or None for entry in entries),
            at=int(seconds) + int(microseconds) / 1e6,
        )

    async def lock(self, name: str, *, lease: float) -> LockAttempt:
        """Try to take the lock of a name. Raises TokenStoreError."""
        keys = [self._key(name, "lock"), self._key(name, "entry")]
        is_ours, number = await self._eval(_LOCK, keys, str(int(lease * 1000)))
        return LockAttempt(is_ours=is_ours == 1, number=int(number))

    async def write(self, name: str, entry: bytes, *, number: int, lifetime: float) -> None:
        """Write an entry, unless there is one of a later lock. Raises TokenStoreError."""
        fence = f"{number:0{_NUMBER_DIGITS}d}"
        await self._eval(_WRITE, [self._key(name, "entry")], fence, entry, str(int(lifetime * 1000)))

    async def unlock(self, name: str, *, number: int) -> None:
        """Release the lock, if it is still ours. Raises TokenStoreError."""
        await self._eval(_UNLOCK, [self._key(name, "lock")], f"{number:0{_NUMBER_DIGITS}d}")

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _key(self, name: str, kind: str) -> str:
        return f"{self._settings.prefix}{{{name}}}:{kind}"

    async def _eval(self, script: str, keys: list[str], *arguments: str | bytes) -> Any:
        try:
            client = await self._open()
            return await client.eval(script, len(keys), *keys, *arguments)
        except (SecretUnavailableError, TlsFilesError) as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - every error of the client, the network and a server that lies is ours
            problem = f"{self.description} cannot be used: {_reason_of(error)}"
            await self.close()
        # Outside the handler, so that our error does not carry the foreign one, which may hold what was sent.
        raise TokenStoreError(problem)

    async def _open(self) -> Redis:
        now = self._clock.now()
        async with self._opening:
            if self._client is not None and now > self._used_at + _KEPT_FOR:
                await self.close()
            if self._client is None:
                context = await self._tls.renew_context() if self._settings.url.is_tls else None
                self._client = await self._connect(context)
            self._used_at = now
            return self._client

    async def _connect(self, context: ssl.SSLContext | None) -> Redis:
        from redis.asyncio import BlockingConnectionPool, Connection, Redis  # noqa: PLC0415 - see above
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415

        server_name = self._settings.tls.server_name or self._settings.url.host.removesuffix(".")

        class OurConnection(Connection):
            """Connects with a context of ours, whose files are watched."""

            def _connection_arguments(self) -> dict[str, Any]:
                arguments = dict(super()._connection_arguments())
                if context is not None:
                    arguments |= {"ssl": context, "server_hostname": server_name}
                return arguments

        url = self._settings.url
        password = None if self._password is None else (await self._password()).reveal()
        pool = BlockingConnectionPool(
            connection_class=OurConnection,
            max_connections=_MOST_CONNECTIONS,
            host=url.host,
            port=url.port,
            db=url.database,
            username=self._settings.username,
            password=password,
            protocol=2,
            # It would look up its own version in files, and send it.
            driver_info=None,
            retry=Retry(NoBackoff(), 0),
        )
        return Redis.from_pool(pool)

    def __repr__(self) -> str:
        return f"<RedisStore {self._settings.url}>"


def _reason_of(error: Exception) -> str:
    """Return why a call failed, in words of ours."""
    cause = error.__cause__ or error.__context__
    match error:
        case ImportError():
            return "the Python package redis is not installed; install switch-proxy[redis]"
        case OSError():
            return reason_of(error)
    word = str(error).split(" ", 1)[0].removesuffix(":")
    # An error of the network has the system's error as its cause.
    otherwise = reason_of(cause) if isinstance(cause, OSError) else type(error).__name__
    return _HINTS.get(type(error).__name__) or _HINTS.get(word) or otherwise
