"""Signals that do not end the process: none of them cuts a request, and SIGHUP refreshes credentials."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from tests.e2e.held_upstream import HeldUpstream
from tests.e2e.proxy_process import proxy_process

if TYPE_CHECKING:
    import aiohttp

    from switch_proxy.demo.auth_server import FakeAuthorizationServer
    from tests.e2e.conftest import Configure


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2], ids=lambda number: number.name)
async def test_the_request_in_flight_is_answered_and_the_proxy_runs_on(
    configure: Configure, client: aiohttp.ClientSession, number: signal.Signals
) -> None:
    """Other servers reload, reopen or upgrade at these; their default would end the process."""
    async with HeldUpstream() as upstream, proxy_process(configure(upstream=upstream.url)) as proxy:
        url = await proxy.url("switch-api")
        async with asyncio.TaskGroup() as tasks:
            in_flight = tasks.create_task(client.get(url))
            await upstream.arrivals(1)
            proxy.send(number)
            await proxy.event("signal.received", signal=number.name)
            upstream.release()
        assert in_flight.result().status == 200
        proxy.send(signal.SIGTERM)
        assert await proxy.exit_code() == 0


async def test_during_the_shutdown_they_do_not_end_it_at_once(
    configure: Configure, client: aiohttp.ClientSession
) -> None:
    async with HeldUpstream() as upstream, proxy_process(configure(upstream=upstream.url)) as proxy:
        url = await proxy.url("switch-api")
        async with asyncio.TaskGroup() as tasks:
            in_flight = tasks.create_task(client.get(url))
            await upstream.arrivals(1)
            proxy.send(signal.SIGTERM)
            await proxy.event("proxy.draining")
            for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                proxy.send(number)
                await proxy.event("signal.received", signal=number.name)
            upstream.release()
        assert in_flight.result().status == 200
        assert await proxy.exit_code() == 0


async def test_after_a_refusal_was_mended_at_the_server_sighup_brings_the_token(
    configure: Configure, auth: FakeAuthorizationServer
) -> None:
    """Without it the next attempt is a minute away, later a quarter of an hour."""
    known = auth.client_secret
    auth.rotate_secret()
    async with proxy_process(configure()) as proxy:
        await proxy.event("token.refresh_failed", outcome="refused")
        auth.rotate_secret(client_secret=known)
        proxy.send(signal.SIGHUP)
        await proxy.event("token.refreshed")
        await proxy.event("proxy.became_ready")
        proxy.send(signal.SIGTERM)
        assert await proxy.exit_code() == 0
