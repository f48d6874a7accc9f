"""How the process ends: SIGTERM, SIGINT and SIGQUIT drain it, requests in flight finish, a second signal ends it immediately."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.e2e.held_upstream import HeldUpstream
from tests.e2e.proxy_process import proxy_process

if TYPE_CHECKING:
    from tests.e2e.conftest import Configure

all_signals = pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT], ids=lambda number: number.name
)


async def get(client: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    async with client.get(url) as response:
        return response.status, await response.text()


@all_signals
async def test_an_idle_proxy_ends_with_exit_code_0(configure: Configure, number: signal.Signals) -> None:
    async with proxy_process(configure()) as proxy:
        await proxy.event("proxy.became_ready")
        proxy.send(number)
        assert await proxy.exit_code() == 0
    assert proxy.event_names[-3:] == ["signal.received", "proxy.draining", "proxy.stopped"]
    assert proxy.events[-3]["signal"] == number.name
    assert proxy.errors == ""


@pytest.mark.usefixtures("wrong_secret")
async def test_a_proxy_that_never_got_a_token_ends_with_exit_code_0(configure: Configure) -> None:
    async with proxy_process(configure()) as proxy:
        await proxy.event("token.refresh_failed")
        proxy.send(signal.SIGTERM)
        assert await proxy.exit_code() == 0


@all_signals
async def test_requests_in_flight_are_answered_while_new_ones_are_refused_and_readiness_is_red(
    configure: Configure, client: aiohttp.ClientSession, number: signal.Signals
) -> None:
    async with HeldUpstream() as upstream, proxy_process(configure(upstream=upstream.url)) as proxy:
        url, admin = await proxy.url("switch-api"), await proxy.url("admin")
        async with asyncio.TaskGroup() as tasks:
            in_flight = [tasks.create_task(get(client, f"{url}/{number}")) for number in range(5)]
            await upstream.arrivals(5)
            proxy.send(number)
            await proxy.event("proxy.draining")
            status, text = await get(client, f"{admin}/readyz")
            assert (status, "shutting down" in text) == (503, True)
            assert (await get(client, f"{admin}/livez"))[0] == 200
            with pytest.raises(aiohttp.ClientConnectorError):
                await get(client, url)
            upstream.release()
        assert [task.result() for task in in_flight] == [(200, "done")] * 5
        assert await proxy.exit_code() == 0
    assert "requests.cut" not in proxy.event_names
    assert proxy.event_names.count("request.forwarded") == 5
    assert proxy.event_names[-1] == "proxy.stopped"


async def test_a_thread_that_hangs_does_not_keep_it_from_ending(configure: Configure) -> None:
    """Python waits for all threads of its pools, and reading a lost volume may take forever."""
    hang = (
        "import time; from concurrent.futures import ThreadPoolExecutor; ThreadPoolExecutor().submit(time.sleep, 600)"
    )
    async with proxy_process(configure(), before=hang) as proxy:
        await proxy.event("proxy.started")
        proxy.send(signal.SIGTERM)
        assert await proxy.exit_code() == 0
    assert proxy.event_names[-1] == "proxy.stopped"


async def test_idle_connections_that_clients_keep_do_not_hold_it_up(configure: Configure) -> None:
    async with HeldUpstream() as upstream, proxy_process(configure(upstream=upstream.url)) as proxy:
        upstream.release()
        async with aiohttp.ClientSession() as keeping:
            assert await get(keeping, await proxy.url("switch-api")) == (200, "done")
            proxy.send(signal.SIGTERM)
            assert await proxy.exit_code() == 0


async def test_during_the_drain_delay_new_requests_are_served_while_readiness_is_red(
    configure: Configure, client: aiohttp.ClientSession
) -> None:
    """Clients learn of the end with a delay: the endpoints of a Service take seconds to be withdrawn."""
    config = configure(shutdown={"drain_delay": "1s"})
    async with proxy_process(config) as proxy:
        url, admin = await proxy.url("switch-api"), await proxy.url("admin")
        await proxy.event("proxy.started")
        proxy.send(signal.SIGTERM)
        await proxy.event("proxy.draining")
        assert (await get(client, f"{admin}/readyz"))[0] == 503
        assert (await get(client, f"{url}/api/meter?organizationId=1"))[0] == 200
        assert await proxy.exit_code() == 0


async def test_what_is_not_answered_within_the_grace_period_is_cut_and_told(
    configure: Configure, client: aiohttp.ClientSession
) -> None:
    config_changes = {"shutdown": {"grace_period": "100ms"}}
    async with HeldUpstream() as upstream, proxy_process(configure(upstream=upstream.url, **config_changes)) as proxy:
        url = await proxy.url("switch-api")
        async with asyncio.TaskGroup() as tasks:
            in_flight = tasks.create_task(get(client, url))
            await upstream.arrivals(1)
            proxy.send(signal.SIGTERM)
            status, text = await in_flight
        assert (status, "shutting-down" in text) == (503, True)
        assert await proxy.exit_code() == 0
    cut = await proxy.event("requests.cut")
    assert (cut["level"], cut["count"]) == ("warning", 1)
    assert (await proxy.event("request.failed"))["failure"] == "shutting-down"


@pytest.mark.parametrize(
    ("first", "second", "exit_code"),
    [
        pytest.param(signal.SIGTERM, signal.SIGTERM, 143, id="SIGTERM twice"),
        pytest.param(signal.SIGINT, signal.SIGINT, 130, id="SIGINT twice"),
        pytest.param(signal.SIGQUIT, signal.SIGQUIT, 131, id="SIGQUIT twice"),
        pytest.param(signal.SIGTERM, signal.SIGINT, 130, id="SIGTERM, then SIGINT"),
    ],
)
async def test_a_second_signal_ends_it_at_once_with_128_and_the_signal(
    configure: Configure,
    client: aiohttp.ClientSession,
    first: signal.Signals,
    second: signal.Signals,
    exit_code: int,
) -> None:
    async def lose(url: str) -> None:
        with pytest.raises(aiohttp.ClientError):
            await get(client, url)

    async with (
        HeldUpstream() as upstream,
        proxy_process(configure(upstream=upstream.url)) as proxy,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(lose(await proxy.url("switch-api")))
        await upstream.arrivals(1)
        proxy.send(first)
        await proxy.event("proxy.draining")
        proxy.send(second)
        assert await proxy.exit_code() == exit_code
    assert proxy.event_names[-1] == "proxy.aborted"
    assert proxy.events[-1]["signal"] == second.name
