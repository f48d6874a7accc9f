"""A day of processes that come and go, in manual time: they need as many tokens as lives of tokens begin."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from switch_proxy.core.config.models import CredentialSettings, SecretSource
from switch_proxy.demo.auth_server import SWITCH_AUDIENCE, FakeAuthorizationServer
from switch_proxy.tokens.client import TokenClient
from switch_proxy.tokens.directory_store import DirectoryStore
from switch_proxy.tokens.manager import TokenManager
from switch_proxy.tokens.sharing import TokenSharing
from switch_proxy.tokens.sources import client_secret_file
from tests.manual_clock import ManualClock
from tests.masking import ignore

if TYPE_CHECKING:
    from pathlib import Path

    from switch_proxy.core.events import CredentialEvent

WITHIN: Final = 20.0


class _Events(list["CredentialEvent"]):
    def on_event(self, event: CredentialEvent) -> None:
        self.append(event)


async def _run_once(folder: Path, auth: FakeAuthorizationServer, clock: ManualClock, *, ahead: float = 0.0) -> str:
    """Run one process until it has a token, and return that; the clock of its machine is `ahead` of the others."""
    settings = CredentialSettings(
        token_url=auth.token_url,
        client_id="app",
        client_secret=SecretSource(file=str(folder / "secret")),
        audience=SWITCH_AUDIENCE,
    )
    own_clock = ManualClock(clock.now() + ahead)
    store = DirectoryStore(str(folder / "tokens"), read_clock=lambda _: clock.wall())
    async with TokenClient(settings=settings, clock=own_clock, mask=ignore) as client:
        sharing = TokenSharing(
            name="switch",
            settings=settings,
            store=store,
            encryption_key=None,
            clock=own_clock,
            mask=ignore,
            observe=_Events().append,
        )
        manager = TokenManager(
            name="switch",
            settings=settings,
            fetcher=client,
            credential_source=client_secret_file(str(folder / "secret"), clock=own_clock, mask=ignore),
            clock=own_clock,
            random=lambda: 0.5,
            observer=_Events(),
            sharing=sharing,
        )
        task = asyncio.get_running_loop().create_task(manager.run())
        try:
            async with asyncio.timeout(WITHIN):
                while (token := manager.peek()) is None:  # noqa: ASYNC110 - the token of a manager has no event
                    await asyncio.sleep(0.002)
                # Until what it has fetched is stored.
                while any(folder.glob("tokens/*.lock.*")):  # noqa: ASYNC110, ASYNC240 - nor have files
                    await asyncio.sleep(0.002)
            return token.value.reveal()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await store.close()


@pytest.mark.parametrize(
    ("lifetime", "lives"),
    [pytest.param(86_400.0, 1, id="tokens of a day"), pytest.param(6 * 3600.0, 4, id="tokens of six hours")],
)
async def test_a_job_every_quarter_of_an_hour_needs_as_many_tokens_as_lives_begin(
    tmp_path: Path, lifetime: float, lives: int
) -> None:
    """96 runs in a day. A token of six hours is used for all but its last minutes: by 24 runs."""
    clock = ManualClock()
    (tmp_path / "secret").write_text("the-secret-of-the-job")
    async with FakeAuthorizationServer(
        client_id="app", client_secret="the-secret-of-the-job", lifetime=lifetime, now=clock.now
    ) as auth:
        for _ in range(96):
            await _run_once(tmp_path, auth, clock)
            await clock.advance(900.0)
        assert len(auth.issued) == lives


async def test_clocks_that_are_five_minutes_apart_neither_waste_a_token_nor_use_one_after_its_end(
    tmp_path: Path,
) -> None:
    """Tokens of an hour: whoever starts within 58 minutes finds it, and nobody gets one that has ended."""
    clock = ManualClock()
    (tmp_path / "secret").write_text("the-secret-of-the-job")
    async with FakeAuthorizationServer(
        client_id="app", client_secret="the-secret-of-the-job", lifetime=3600.0, now=clock.now
    ) as auth:
        for minute in range(120):
            token = await _run_once(tmp_path, auth, clock, ahead=(-300.0, 0.0, 300.0)[minute % 3])
            issued = auth.find(token)
            assert issued is not None
            assert issued.expires_at > clock.now()
            await clock.advance(60.0)
        assert len(auth.issued) == 3
