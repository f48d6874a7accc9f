"""The process keeps serving if standard output is not read, is closed, or never existed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from tests.e2e.held_upstream import HeldUpstream
from tests.e2e.proxy_process import ROOT, WITHIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiohttp

    from tests.e2e.conftest import Configure

LONG_PATH = "/" + "x" * 4000


@asynccontextmanager
async def silent_process(config: Path, *, output: int | None) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a proxy whose standard output is `output`, or closed if that is None."""
    close = "" if output is not None else "exec 1>&-; "
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", close + 'exec "$0" "$@"', sys.executable, "-m", "switch_proxy", "run", "--config", str(config)),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=output,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def send_many(client: aiohttp.ClientSession, url: str, count: int) -> None:
    async with asyncio.timeout(WITHIN):
        for _ in range(count):
            async with client.get(url + LONG_PATH) as response:
                assert response.status == 200


async def wait_until_it_listens(client: aiohttp.ClientSession, admin: str) -> None:
    async with asyncio.timeout(WITHIN):
        while True:
            with suppress(OSError):
                async with client.get(f"{admin}/readyz") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.02)


async def end(process: asyncio.subprocess.Process) -> int:
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(WITHIN):
        return await process.wait()


async def wait_until_lines_are_dropped(client: aiohttp.ClientSession, admin: str, count: int) -> None:
    async with asyncio.timeout(WITHIN):
        while True:
            async with client.get(f"{admin}/metrics") as response:
                text = await response.text()
            lines = [line for line in text.splitlines() if line.startswith("switch_proxy_log_lines_dropped_total ")]
            if float(lines[0].split()[1]) >= count:
                return
            await asyncio.sleep(0.02)


@pytest.fixture
def ports() -> tuple[str, str]:
    """Two addresses that are free now: these tests take away the log, which would show the port."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return f"127.0.0.1:{one.getsockname()[1]}", f"127.0.0.1:{other.getsockname()[1]}"


async def test_a_pipe_that_nobody_reads_stops_neither_requests_nor_the_end(
    configure: Configure, client: aiohttp.ClientSession, ports: tuple[str, str]
) -> None:
    listen, admin = ports
    reading, writing = os.pipe()
    async with HeldUpstream() as upstream:
        upstream.release()
        config = configure(upstream=upstream.url, listen=listen, admin={"listen": admin})
        async with silent_process(config, output=writing) as process:
            os.close(writing)
            await wait_until_it_listens(client, f"http://{admin}")
            # A pipe holds 64 KiB; these are four times as much.
            await send_many(client, f"http://{listen}", 64)
            assert await end(process) == 0
    os.close(reading)


async def test_a_pipe_whose_reader_has_gone_costs_lines_which_are_counted(
    configure: Configure, client: aiohttp.ClientSession, ports: tuple[str, str]
) -> None:
    listen, admin = ports
    reading, writing = os.pipe()
    os.close(reading)
    async with HeldUpstream() as upstream:
        upstream.release()
        config = configure(upstream=upstream.url, listen=listen, admin={"listen": admin})
        async with silent_process(config, output=writing) as process:
            os.close(writing)
            await wait_until_it_listens(client, f"http://{admin}")
            await send_many(client, f"http://{listen}", 70)
            await wait_until_lines_are_dropped(client, f"http://{admin}", 70)
            assert await end(process) == 0


async def test_without_any_standard_output_it_serves_and_writes_no_line_into_a_socket(
    configure: Configure, client: aiohttp.ClientSession, ports: tuple[str, str]
) -> None:
    listen, admin = ports
    async with HeldUpstream() as upstream:
        upstream.release()
        config = configure(upstream=upstream.url, listen=listen, admin={"listen": admin})
        async with silent_process(config, output=None) as process:
            await wait_until_it_listens(client, f"http://{admin}")
            await send_many(client, f"http://{listen}", 70)
            assert await end(process) == 0


async def test_a_disk_that_is_full_costs_lines_and_nothing_else(
    configure: Configure, client: aiohttp.ClientSession, ports: tuple[str, str]
) -> None:
    listen, admin = ports
    full = os.open("/dev/full", os.O_WRONLY)
    async with HeldUpstream() as upstream:
        upstream.release()
        config = configure(upstream=upstream.url, listen=listen, admin={"listen": admin})
        async with silent_process(config, output=full) as process:
            os.close(full)
            await wait_until_it_listens(client, f"http://{admin}")
            await send_many(client, f"http://{listen}", 70)
            await wait_until_lines_are_dropped(client, f"http://{admin}", 70)
            assert await end(process) == 0
