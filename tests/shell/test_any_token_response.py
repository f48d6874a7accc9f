"""Whatever bytes an authorization server sends: the proxy goes on asking, gets the next good token, and shows nothing secret."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tempfile
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from hypothesis import HealthCheck, example, given, settings

from switch_proxy.core.backoff import EXHAUSTED_SPREAD_CEILING, LONGEST_EXHAUSTION
from switch_proxy.core.config.models import CredentialSettings, LogSettings, SecretSource
from switch_proxy.core.events import log_fields
from switch_proxy.core.secret import Outcome, Secret, SourceState, take_reading
from switch_proxy.logs.log import Log
from switch_proxy.tokens.client import TokenClient
from switch_proxy.tokens.manager import TokenManager
from tests.hostile_responses import CLIENT_ID, SECRET, Performance, find_leak, performances, secrets_of
from tests.manual_clock import ManualClock, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from switch_proxy.core.events import CredentialEvent

GOOD: Final = json.dumps({"access_token": "the-good-one", "token_type": "Bearer", "expires_in": 3600}).encode()
_RIGHT: Final = Performance(data=b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(GOOD), GOOD), end="close")


class Source:
    """The client secret, which never changes."""

    source = "the file /secret"
    remedy = "another content of the file /secret"

    def __init__(self) -> None:
        self._state = SourceState()

    def current(self) -> Secret:
        return Secret(SECRET)

    def previous(self) -> Secret | None:
        return None

    async def load(self) -> Outcome:
        self._state, outcome = take_reading(self._state, Secret(SECRET))
        return outcome

    async def wait_for_change(self) -> Outcome:
        await asyncio.Event().wait()
        return await self.load()


class World:
    """A manager with the real client and the real log, before a server that performs one response and then is right."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.clock = ManualClock()
        self.events: list[CredentialEvent] = []
        self.manager: TokenManager
        self._play: list[Performance] = []

    def on_event(self, event: CredentialEvent) -> None:
        self.events.append(event)
        self._log.write(event)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        performance = self._play.pop(0) if self._play else _RIGHT
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(performance.data)
            await writer.drain()
            while performance.end != "close":
                if performance.end == "drip":
                    writer.write(b" ")
                await asyncio.sleep(0.02)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has given up
        finally:
            writer.close()

    @asynccontextmanager
    async def running(self, performance: Performance) -> AsyncIterator[None]:
        """Serve, and run the manager."""
        self._play = [performance]
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            configured = CredentialSettings(
                token_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/oauth/token",
                client_id=CLIENT_ID,
                client_secret=SecretSource(env="X"),
                scope="read",
                timeout=20.0 if performance.end == "close" else 0.3,
            )
            redactor = self._log.redactor
            client = TokenClient(
                settings=configured,
                clock=self.clock,
                mask=redactor.learn,
                known_secrets=redactor.known_values,
            )
            async with client:
                self.manager = TokenManager(
                    name="switch",
                    settings=configured,
                    fetcher=client,
                    credential_source=Source(),
                    clock=self.clock,
                    random=lambda: 0.5,
                    observer=self,
                )
                task = asyncio.get_running_loop().create_task(self.manager.run())
                try:
                    yield
                    assert not task.done()
                finally:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)


@example(performance=Performance(data=b"", end="close"))
@example(performance=Performance(data=b"HTTP/1.1 200 OK\r\n\r\n<html>%s</html>" % SECRET.encode(), end="close"))
@example(performance=Performance(data=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", end="hang"))
@given(performance=performances())
@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
async def test_no_bytes_stop_the_refreshing_or_reach_the_log(
    performance: Performance, caplog: pytest.LogCaptureFixture
) -> None:
    """The log is written at its most talkative, and whatever libraries say to Python's own logging is looked at too."""
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    with tempfile.TemporaryFile() as file:
        log = Log(LogSettings(level="debug", access="off"), environ={}, wall=lambda: 0.0, descriptor=file.fileno())
        world = World(log)
        async with world.running(performance):
            await until(lambda: world.manager.status().phase in {"idle", "backing_off"}, within=30.0)
            status = world.manager.status()
            assert status.next_fetch_at is not None
            if status.consecutive_failures:
                wait = status.next_fetch_at - world.clock.now()
                assert 0.0 < wait <= LONGEST_EXHAUSTION + EXHAUSTED_SPREAD_CEILING + 1.0
            shown = [json.dumps(asdict(status), default=str), repr(world.manager)]
            generation = status.generation
            for _ in range(5):
                at = world.manager.status().next_fetch_at
                if at is not None:
                    await world.clock.advance(max(0.0, at - world.clock.now()))
                await until(lambda: world.manager.status().phase in {"idle", "backing_off"}, within=30.0)
                if world.manager.status().generation > generation:
                    break
            assert world.manager.status().generation == generation + 1
            assert world.manager.peek() is not None
        shown += [json.dumps(log_fields(event), default=str) for event in world.events]
        shown += [record.getMessage() for record in caplog.records]
        await asyncio.to_thread(log.close)
        written = os.pread(file.fileno(), 1 << 20, 0).decode()
    assert written
    head, _, body = performance.data.partition(b"\r\n\r\n")
    secrets = secrets_of(body, is_coded=b"content-encoding" in head.lower())
    for text in (*shown, written):
        assert find_leak(text, secrets) is None, text
