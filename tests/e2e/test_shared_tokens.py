"""Processes that share a store of tokens: the holder of the lock is killed or paused at each step of its fetch."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from switch_proxy.demo.faults import Hang
from tests.e2e.proxy_process import WITHIN, proxy_process
from tests.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiohttp

    from switch_proxy.demo.auth_server import FakeAuthorizationServer
    from tests.e2e.conftest import Configure
    from tests.e2e.proxy_process import ProxyProcess

READINGS = "/api/readings?organizationId=1&registerId=1&start=2025-11-03T15%3A51%3A44Z&end=2025-11-04T15%3A51%3A44Z&resolution=3600"


@pytest.fixture(params=["directory", "Redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    async with AsyncExitStack() as stack:
        if request.param == "directory":
            yield {"directory": str(tmp_path / "tokens")}
        else:
            server = await stack.enter_async_context(redis_server(tmp_path))
            yield {"redis": {"url": server.url}}


async def _get(client: aiohttp.ClientSession, proxy: ProxyProcess) -> int:
    async with client.get(await proxy.url("switch-api") + READINGS) as response:
        return response.status


def _ends_itself_at(step: str, number: signal.Signals) -> str:
    """Return statements after which a process sends itself the signal when it comes to this step of the store."""
    return (
        "import os; from switch_proxy.tokens.directory_store import DirectoryStore; "
        "from switch_proxy.tokens.redis_store import RedisStore; "
        f"end = lambda *_, **__: os.kill(os.getpid(), {int(number)}); "
        f"DirectoryStore.{step} = end; RedisStore.{step} = end"
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "paused"])
@pytest.mark.parametrize(
    ("step", "issued"),
    [
        pytest.param("write", 2, id="before the token is stored"),
        pytest.param("unlock", 1, id="before the lock is released"),
    ],
)
async def test_a_holder_that_ends_holds_up_nobody_for_longer_than_its_lock(
    configure: Configure,
    auth: FakeAuthorizationServer,
    client: aiohttp.ClientSession,
    store: dict[str, Any],
    step: str,
    issued: int,
    number: signal.Signals,
) -> None:
    """What it has fetched and not stored is lost; the others' requests are served, and they need one token."""
    config = configure(token_store=store)
    async with proxy_process(config, before=_ends_itself_at(step, number)) as holder:
        await auth.wait_for_requests(1, within=WITHIN)
        async with proxy_process(config) as second:
            assert await _get(client, second) == 200
            async with proxy_process(config) as third:
                assert await _get(client, third) == 200
            assert len(auth.issued) == issued
            if number is signal.SIGSTOP:
                # It comes back late, and what it writes replaces nothing.
                holder.send(signal.SIGCONT)
                await asyncio.sleep(0.2)
                async with proxy_process(config) as fourth:
                    assert await _get(client, fourth) == 200
                assert len(auth.issued) == issued


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "paused"])
async def test_a_holder_that_ends_during_its_token_request_costs_one_more(
    configure: Configure,
    auth: FakeAuthorizationServer,
    client: aiohttp.ClientSession,
    store: dict[str, Any],
    number: signal.Signals,
) -> None:
    config = configure(token_store=store)
    auth.faults.add(Hang())
    async with proxy_process(config) as holder:
        await auth.wait_for_requests(1, within=WITHIN)
        holder.send(number)
        async with proxy_process(config) as second:
            assert await _get(client, second) == 200
    assert len(auth.issued) == 1


async def test_a_crash_loop_costs_one_token(
    configure: Configure, auth: FakeAuthorizationServer, client: aiohttp.ClientSession, store: dict[str, Any]
) -> None:
    config = configure(token_store=store)
    for _ in range(4):
        async with proxy_process(config) as proxy:
            assert await _get(client, proxy) == 200
            proxy.send(signal.SIGKILL)
            assert await proxy.exit_code() == -signal.SIGKILL
    assert len(auth.issued) == 1
