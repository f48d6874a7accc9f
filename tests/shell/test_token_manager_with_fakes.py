"""The whole token plane, a watched file and real requests to the fake authorization server, in manual time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest

from switch_proxy.core.config.models import CredentialSettings, SecretSource
from switch_proxy.core.errors import TokenUnavailableError
from switch_proxy.demo.auth_server import FakeAuthorizationServer
from switch_proxy.demo.faults import HTML_PAGE, Close, Fault, Reset, Status, TokenFault, TokenField, WithoutTokenField
from switch_proxy.tokens.client import TokenClient
from switch_proxy.tokens.manager import TokenManager
from switch_proxy.tokens.sources import CombinedCredentials, client_secret_file
from tests.manual_clock import ManualClock
from tests.masking import ignore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from switch_proxy.core.events import CredentialEvent
    from switch_proxy.core.secret import Secret
    from switch_proxy.core.tokens import TokenGrant
    from switch_proxy.watched_files import WatchedFile

POLL_INTERVAL: Final = 30.0
"""Seconds; longer than the real one, because each look at the file takes a thread and real time."""


_SLEEPERS_AT_REST: Final = 2


class CountedFetcher:
    """A token client whose requests count as work in flight: manual time does not pass while one is under way."""

    def __init__(self, client: TokenClient, clock: ManualClock) -> None:
        self._client = client
        self._clock = clock

    async def fetch(self, secret: Secret) -> TokenGrant:
        with self._clock.working():
            return await self._client.fetch(secret)


class Plane:
    """A credential with everything that belongs to it."""

    def __init__(
        self, *, server: FakeAuthorizationServer, clock: ManualClock, manager: TokenManager, file: Path
    ) -> None:
        self.server = server
        self.clock = clock
        self.manager = manager
        self._file = file

    async def pass_time(self, seconds: float, *, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Let time pass in the steps of the file's watch, each with all the I/O that it leads to."""
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            await self.clock.advance(min(POLL_INTERVAL, end - self.clock.now()))
            self.check_is_at_rest()
            meanwhile()

    def check_is_at_rest(self) -> None:
        """Check that both the timer of the next fetch and the watch of the file are set."""
        assert self.clock.sleepers == _SLEEPERS_AT_REST

    def write_secret(self, secret: str) -> None:
        """Replace the file by a rename, as a careful writer does."""
        temporary = self._file.with_suffix(".new")
        temporary.write_text(secret + "\n", encoding="utf-8")
        temporary.rename(self._file)

    @property
    def generation(self) -> int | None:
        token = self.manager.peek()
        return None if token is None else token.generation


class Events(list["CredentialEvent"]):
    """An observer that remembers."""

    def on_event(self, event: CredentialEvent) -> None:
        self.append(event)


@asynccontextmanager
async def _running(tmp_path: Path, *, has_file: bool = True, has_previous: bool = False) -> AsyncIterator[Plane]:
    clock = ManualClock()
    # The server's own clock is real: tokens are told by their lifetime alone, and Auth0's lockout is on.
    async with FakeAuthorizationServer(
        client_id="app", lifetime=3600.0, lockout_after=10, tokens_per_hour=None, tokens_per_day=None
    ) as server:
        settings = CredentialSettings(
            token_url=server.token_url,
            client_id="app",
            client_secret=SecretSource(file=str(tmp_path / "client_secret")),
            audience="https://api.switchmarket.se",
        )
        secrets: WatchedFile | CombinedCredentials
        secrets = client_secret_file(
            str(tmp_path / "client_secret"), clock=clock, mask=ignore, poll_interval=POLL_INTERVAL
        )
        if has_previous:
            previous = client_secret_file(str(tmp_path / "previous_client_secret"), clock=clock, mask=ignore)
            secrets = CombinedCredentials(main=secrets, previous=previous, clock=clock, poll_interval=POLL_INTERVAL)
        async with TokenClient(settings=settings, clock=clock, mask=ignore) as client:
            manager = TokenManager(
                name="switch",
                settings=settings,
                fetcher=CountedFetcher(client, clock),
                credential_source=secrets,
                clock=clock,
                random=lambda: 0.5,
                observer=Events(),
            )
            plane = Plane(server=server, clock=clock, manager=manager, file=tmp_path / "client_secret")
            if has_file:
                plane.write_secret(server.client_secret)
            task = asyncio.get_running_loop().create_task(manager.run())
            try:
                await clock.settle()
                plane.check_is_at_rest()
                yield plane
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def test_a_rotation_with_one_secret_at_a_time_is_ridden_out(tmp_path: Path) -> None:
    """
    The old secret is dead, the new one not in the pod for ten minutes, and a refresh falls into them.

    The token that is there serves, the server is asked four times and not hammered, and the new file ends the wait.
    """
    async with _running(tmp_path) as plane:
        await plane.pass_time(2879.0)
        secret = plane.server.rotate_secret()
        generations: list[int | None] = []
        await plane.pass_time(601.0, meanwhile=lambda: generations.append(plane.generation))
        assert set(generations) == {1}
        status = plane.manager.status()
        assert status.fetches == {"ok": 1, "refused": 4}
        assert status.last_error is not None
        assert "401 Unauthorized: access_denied" in status.last_error
        # Refused since the refresh, until when the token lasts, and which file is awaited.
        assert status.refused_since == pytest.approx(1000.0 + 2880.0, abs=1.0)
        assert status.usable_until == pytest.approx(1000.0 + 3590.0, abs=1.0)
        assert status.remedy == f"another content of the file {tmp_path / 'client_secret'}"
        plane.write_secret(secret)
        await plane.pass_time(POLL_INTERVAL)
        assert plane.generation == 2
        assert plane.manager.status().consecutive_failures == 0
        assert len(plane.server.requests) == 6


async def test_a_new_secret_that_comes_early_fails_no_fetch(tmp_path: Path) -> None:
    """The pod has the new secret before the server knows it: the previous one is taken, until the new one is."""
    async with _running(tmp_path, has_previous=True) as plane:
        (tmp_path / "previous_client_secret").write_text(plane.server.client_secret)
        plane.write_secret("the-secret-to-come")
        await plane.pass_time(POLL_INTERVAL)
        assert plane.generation == 2
        assert plane.manager.status().uses_previous_secret
        plane.server.rotate_secret(client_secret="the-secret-to-come")
        await plane.pass_time(2880.0)
        status = plane.manager.status()
        assert (plane.generation, status.uses_previous_secret) == (3, False)
        assert status.fetches == {"ok": 3}
        assert len(plane.server.requests) == 4


async def test_a_wrong_secret_does_not_lock_the_client_out_before_a_person_can_mend_it(tmp_path: Path) -> None:
    """An hour with a wrong secret is less than the ten refusals after which the fake, like Auth0, locks out."""
    async with _running(tmp_path) as plane:
        secret = plane.server.rotate_secret()
        await plane.pass_time(2880.0 + 3600.0)
        assert plane.generation is None
        assert plane.server.refusals_in_a_row["app"] < 10
        with pytest.raises(TokenUnavailableError, match="check client_id and the client secret"):
            await plane.manager.acquire(1.0)
        plane.write_secret(secret)
        await plane.pass_time(POLL_INTERVAL)
        assert plane.generation == 2


async def test_a_file_that_comes_late_is_taken_up(tmp_path: Path) -> None:
    """The pod starts before its secret: nothing is sent, and within seconds of its arrival there is a token."""
    async with _running(tmp_path, has_file=False) as plane:
        await plane.pass_time(120.0)
        assert plane.server.requests == []
        assert (
            plane.manager.status().last_error
            == f"no client secret: the file {tmp_path / 'client_secret'} does not exist"
        )
        plane.write_secret(plane.server.client_secret)
        await plane.pass_time(POLL_INTERVAL)
        assert plane.generation == 1


MISBEHAVIOURS: Final[dict[str, tuple[str, tuple[Fault | TokenFault, ...]]]] = {
    "unavailable": ("unavailable", (Status(code=503),)),
    "rate limited": ("exhausted", (Status(code=429, retry_after=20),)),
    "closing": ("unavailable", (Close(),)),
    "resetting": ("unavailable", (Reset(),)),
    "a page": ("invalid", (HTML_PAGE,)),
    "another type": ("invalid", (TokenField(name="token_type", value="mac"),)),
    "no token": ("invalid", (WithoutTokenField(name="access_token"),)),
    "refusing": ("refused", (Status(code=403),)),
}


@pytest.mark.parametrize(("outcome", "faults"), MISBEHAVIOURS.values(), ids=MISBEHAVIOURS)
async def test_requests_pass_while_the_server_misbehaves_and_the_token_lasts(
    tmp_path: Path, outcome: str, faults: tuple[Fault | TokenFault, ...]
) -> None:
    """From the refresh to five minutes later; then the server is well again, and so is the credential."""
    async with _running(tmp_path) as plane:
        await plane.pass_time(2879.0)
        generations: list[int | None] = []
        with plane.server.faults.during(*faults):
            await plane.pass_time(300.0, meanwhile=lambda: generations.append(plane.generation))
        assert set(generations) == {1}
        failed = plane.manager.status().fetches[outcome]
        assert 1 < failed < 25
        # At the latest after what the slow lane may wait for by then.
        await plane.pass_time(310.0)
        assert plane.generation == 2
