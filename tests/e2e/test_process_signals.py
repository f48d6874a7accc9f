"""Signals that do not end the process: none of them cuts a request, and SIGHUP refreshes credentials."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.e2e.held_upstream import HeldUpstream
from tests.e2e.proxy_process import ROOT, proxy_process

if TYPE_CHECKING:
    from pathlib import Path

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


WHILE_IT_IS_IMPORTED = (
    "import importlib.abc, os, signal; sys.meta_path.insert(0, type('Sender', (importlib.abc.MetaPathFinder,), "
    "{'find_spec': lambda *a: os.kill(os.getpid(), signal.SIGHUP) if a[1] == 'switch_proxy.settings' else None})())"
)
"""Sends SIGHUP to itself before most of the proxy is imported; on a busy machine that takes a second."""


async def test_while_the_process_starts_they_do_not_end_it(configure: Configure) -> None:
    async with proxy_process(configure(), before=WHILE_IT_IS_IMPORTED) as proxy:
        await proxy.event("proxy.became_ready")
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


async def _run(*arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "switch_proxy", *arguments),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, output.decode()


async def test_after_a_refusal_was_mended_at_the_server_the_command_brings_the_token(
    configure: Configure, auth: FakeAuthorizationServer, tmp_path: Path
) -> None:
    """Where there is no shell to send a signal."""
    known = auth.client_secret
    auth.rotate_secret()
    async with proxy_process(configure()) as proxy:
        await proxy.event("token.refresh_failed", outcome="refused")
        auth.rotate_secret(client_secret=known)
        admin = (await proxy.url("admin")).removeprefix("http://")
        config = tmp_path / "admin.yaml"
        config.write_text(f"admin: {{listen: '{admin}'}}\n")
        code, output = await _run("refresh", "--config", str(config))
        assert (code, "tries refused credentials at once" in output) == (0, True)
        await proxy.event("token.refreshed")
        code, output = await _run("refresh", "--config", str(config))
        assert (code, "less than 5 seconds ago" in output) == (1, True)
        proxy.send(signal.SIGTERM)
        assert await proxy.exit_code() == 0
    code, output = await _run("refresh", "--config", str(config))
    assert (code, "cannot be reached" in output) == (1, True)


async def test_without_an_admin_listener_the_command_names_the_signal(tmp_path: Path) -> None:
    config = tmp_path / "admin.yaml"
    config.write_text("admin: {listen: off}\n")
    code, output = await _run("refresh", "--config", str(config))
    assert (code, "send SIGHUP" in output) == (2, True)


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
