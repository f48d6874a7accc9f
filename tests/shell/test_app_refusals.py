"""The application, its API and its authorization server together: what becomes of tokens that the API refuses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest

from proxy.app import Application
from proxy.clock import SystemClock
from proxy.core.addresses import parse_origin
from proxy.core.config import (
    Address,
    AdminSettings,
    CredentialSettings,
    LogSettings,
    RouteSettings,
    SecretSource,
    Settings,
)
from proxy.demo import faults
from proxy.demo.auth_server import SWITCH_AUDIENCE, FakeAuthorizationServer
from proxy.demo.switch_api import FakeSwitchAPI
from proxy.logs.log import Log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

METERS = "/api/meter?organizationId=1"
ANY_PORT = Address(host="127.0.0.1", port=0)


@pytest.fixture
async def auth() -> AsyncIterator[FakeAuthorizationServer]:
    async with FakeAuthorizationServer(client_id="app", client_secret="the-secret-of-the-app") as server:
        yield server


@pytest.fixture
async def api(auth: FakeAuthorizationServer) -> AsyncIterator[FakeSwitchAPI]:
    async with FakeSwitchAPI(introspect=auth.introspect) as server:
        yield server


@pytest.fixture
async def url(auth: FakeAuthorizationServer, api: FakeSwitchAPI) -> AsyncIterator[str]:
    """Where the proxy listens."""
    settings = Settings(
        credentials={
            "switch": CredentialSettings(
                token_url=auth.token_url,
                client_id="app",
                client_secret=SecretSource(env="APP_SECRET"),
                audience=SWITCH_AUDIENCE,
            )
        },
        routes=(RouteSettings(name="api", listen=ANY_PORT, upstream=parse_origin(api.url), credential="switch"),),
        admin=AdminSettings(listen=ANY_PORT),
    )
    log = Log(LogSettings(level="error"), environ={}, wall=SystemClock().wall)
    application = Application(settings, log=log, environ={"APP_SECRET": "the-secret-of-the-app"}, clock=SystemClock())
    await application.start()
    host, port = application.addresses["api"]
    yield f"http://{host}:{port}"
    await application.stop()
    await asyncio.to_thread(log.close)


async def statuses(url: str, count: int) -> list[int]:
    """Send requests at once; return what they were answered with."""

    async def ask(session: aiohttp.ClientSession) -> int:
        async with session.get(url + METERS) as response:
            await response.read()
            return response.status

    async with aiohttp.ClientSession() as session:
        return await asyncio.gather(*(ask(session) for _ in range(count)))


async def test_tokens_that_are_revoked_fail_no_request_and_cost_one_fetch(
    url: str, auth: FakeAuthorizationServer
) -> None:
    """All requests that meet the 401 share the one forced refresh."""
    assert await statuses(url, 1) == [200]
    auth.revoke_all()
    assert await statuses(url, 20) == [200] * 20
    assert len(auth.requests) == 2


async def test_an_api_that_refuses_every_token_is_no_storm_at_the_token_endpoint(
    url: str, auth: FakeAuthorizationServer, api: FakeSwitchAPI
) -> None:
    """At any rate of requests: one fetch at the start, and one that a 401 may force within the interval."""
    with api.faults.during(faults.Status(code=401)):
        for _ in range(5):
            assert await statuses(url, 20) == [401] * 20
    assert len(auth.requests) == 2
    assert await statuses(url, 1) == [200]
