"""Few file descriptors: clients, however many, leave those that tokens, secrets and upstreams need."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.proxy_process import WITHIN, proxy_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from switch_proxy.demo.auth_server import FakeAuthorizationServer
    from tests.e2e.conftest import Configure
    from tests.e2e.proxy_process import ProxyProcess

REQUEST: Final = b"GET /api/meter?organizationId=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"

USED_UP: Final = """
import os, threading, time
def use_up():
    while not os.path.exists(TRIGGER):
        time.sleep(0.01)
    taken = []
    has_ended = False
    # What others close meanwhile is taken too.
    while not has_ended:
        try:
            while True:
                taken.append(os.dup(1))
        except OSError:
            time.sleep(0.001)
        has_ended = os.path.exists(TRIGGER + '.over')
    for each in taken:
        os.close(each)
threading.Thread(target=use_up, daemon=True).start()
"""


def limited(limit: int) -> str:
    return f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))"


def open_descriptors(proxy: ProxyProcess) -> int:
    return len(list(Path(f"/proc/{proxy.pid}/fd").iterdir()))


class App:
    """An app with one connection that it keeps."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, url: str) -> AsyncIterator[App]:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    async def ask(self) -> tuple[int, bytes]:
        """Return status and body of a response."""
        async with asyncio.timeout(WITHIN):
            self._writer.write(REQUEST)
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
            return int(head.split()[1]), await self._reader.readexactly(int(length))

    async def ask_until(self, problem: bytes) -> None:
        """Ask until the response is this problem."""
        async with asyncio.timeout(WITHIN):
            while b"problem:" + problem not in (await self.ask())[1]:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.01)


def half_sent(url: str, count: int) -> list[socket.socket]:
    """Connect so many clients, each of which sends the beginning of a request and nothing more."""
    host, port = url.removeprefix("http://").split(":")
    clients = []
    for _ in range(count):
        client = socket.socket()
        client.setblocking(False)  # noqa: FBT003 - the standard library's
        with contextlib.suppress(BlockingIOError):
            client.connect((host, int(port)))
        clients.append(client)
    return clients


@pytest.mark.parametrize("loop", ["pass", "import sys; sys.modules['uvloop'] = None"], ids=["uvloop", "asyncio"])
@pytest.mark.parametrize(("limit", "expected"), [(64, 13), (256, 97)])
async def test_with_many_clients_tokens_are_replaced_the_app_is_served_and_others_wait_their_turn(
    configure: Configure, auth: FakeAuthorizationServer, limit: int, expected: int, loop: str
) -> None:
    auth.lifetime = 2.0
    async with proxy_process(configure(), before=f"{limited(limit)}; {loop}") as proxy:
        url = await proxy.url("switch-api")
        async with App.connected(url) as app:
            assert (await app.ask())[0] == 200
            crowd = half_sent(url, 2 * limit)
            full = await proxy.event("listener.full")
            assert (full["listener"], full["limit"]) == ("switch-api", expected)
            fetches = len(auth.requests)
            async with asyncio.timeout(WITHIN):
                while len(auth.requests) < fetches + 2:
                    assert (await app.ask())[0] == 200
                    await asyncio.sleep(0.1)
            assert open_descriptors(proxy) < limit
            # One that waits in the kernel is served when the others are gone.
            async with App.connected(url) as late:
                for each in crowd:
                    each.close()
                assert (await late.ask())[0] == 200
        assert proxy.event_names.count("listener.full") == 1
        assert not {"token.refresh_failed", "secret.broken", "descriptors.exhausted", "loop.error_caught"} & set(
            proxy.event_names
        )


async def test_running_out_is_one_log_line_and_a_502_that_does_not_blame_the_api(
    configure: Configure, tmp_path: Path
) -> None:
    trigger = tmp_path / "trigger"
    before = f"{limited(128)}; exec({f'TRIGGER = {str(trigger)!r}' + USED_UP!r}, {{}})"
    # Each request opens a connection of its own.
    config = configure(
        routes=[
            {
                "name": "switch-api",
                "listen": "127.0.0.1:0",
                "upstream": "http://127.0.0.1:1",
                "credential": "switch",
                "allow_plaintext": True,
            }
        ]
    )
    async with proxy_process(config, before=before) as proxy:
        await proxy.event("proxy.became_ready")
        async with App.connected(await proxy.url("switch-api")) as app:
            status, body = await app.ask()
            assert (status, b"problem:upstream-refused" in body) == (502, True)
            trigger.touch()
            await app.ask_until(b"descriptors-exhausted")
            for _ in range(3):
                status, body = await app.ask()
                assert status == 502
                assert b"the proxy has run out of file descriptors (RLIMIT_NOFILE); no connection to" in body
            await proxy.event("descriptors.exhausted", limit=128)
            trigger.with_name("trigger.over").touch()
            await app.ask_until(b"upstream-refused")
        assert proxy.event_names.count("descriptors.exhausted") == 1


async def test_the_soft_limit_is_raised_to_the_hard_one(configure: Configure) -> None:
    before = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 256))"
    async with proxy_process(configure(), before=before) as proxy:
        await proxy.event("proxy.started")
        limits = await asyncio.to_thread(Path(f"/proc/{proxy.pid}/limits").read_text)
        assert [line.split()[3:5] for line in limits.splitlines() if "open files" in line] == [["256", "256"]]
