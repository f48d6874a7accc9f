"""Shared by the tests of the fakes: a clock set by hand, running fakes, a client without kept connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from switch_proxy.demo.auth_server import FakeAuthorizationServer
from switch_proxy.demo.switch_api import FakeSwitchAPI
from tests.demo.settable_time import SettableTime

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def now() -> SettableTime:
    """Unix time, 2025-11-03T15:51:44.667Z at first."""
    return SettableTime(1762185104.667)


@pytest.fixture
async def auth(now: SettableTime) -> AsyncIterator[FakeAuthorizationServer]:
    async with FakeAuthorizationServer(client_id="app", client_secret="s3cret", now=now) as server:
        yield server


@pytest.fixture
async def api(auth: FakeAuthorizationServer, now: SettableTime) -> AsyncIterator[FakeSwitchAPI]:
    async with FakeSwitchAPI(introspect=auth.introspect, now=now) as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    # Every request has its own connection, because aiohttp repeats requests that fail on a kept one.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield session
