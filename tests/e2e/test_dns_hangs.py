"""DNS does not respond for one name: everything that does not need this name goes on."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.proxy_process import proxy_process

if TYPE_CHECKING:
    import aiohttp

    from switch_proxy.demo.auth_server import FakeAuthorizationServer
    from switch_proxy.demo.switch_api import FakeSwitchAPI
    from tests.e2e.conftest import Configure
    from tests.e2e.proxy_process import ProxyProcess

METERS = "/api/meter?organizationId=1"

HANGING_NAMES = """
import socket, time
ask = socket.getaddrinfo
def ask_or_hang(host, *rest, **options):
    if host.startswith('hangs') and not options.get('flags', 0) & socket.AI_NUMERICHOST:
        time.sleep(3600)
    return ask(host, *rest, **options)
socket.getaddrinfo = ask_or_hang
"""
"""The system's function, as it is while the name server does not respond for some names. It cannot be cancelled."""

WITHOUT_UVLOOP = "sys.modules['uvloop'] = None"


def before(*programs: str) -> str:
    return f"exec({chr(10).join(programs)!r})"


def threads(proxy: ProxyProcess) -> int:
    return len(list(Path(f"/proc/{proxy.pid}/task").iterdir()))


@pytest.mark.parametrize("loop", ["import sys", WITHOUT_UVLOOP], ids=["uvloop", "asyncio"])
async def test_an_upstream_whose_name_hangs_takes_neither_other_routes_nor_tokens_along(
    configure: Configure, auth: FakeAuthorizationServer, api: FakeSwitchAPI, client: aiohttp.ClientSession, loop: str
) -> None:
    auth.lifetime = 2.0
    config = configure(
        routes=[
            {
                "name": name,
                "listen": "127.0.0.1:0",
                "upstream": upstream,
                "credential": "switch",
                "allow_plaintext": True,
                "timeouts": {"connect": 0.5},
            }
            for name, upstream in (
                ("hangs", "http://hangs.example.com"),
                ("fine", api.url.replace("127.0.0.1", "localhost")),
            )
        ]
    )
    async with proxy_process(config, before=before("import sys", loop, HANGING_NAMES)) as proxy:
        fine, hanging = await proxy.url("fine"), await proxy.url("hangs")

        async def ask(url: str) -> int:
            async with client.get(url + METERS) as response:
                return response.status

        assert await ask(fine) == 200
        at_first = threads(proxy)
        fetches = len(auth.requests)
        while len(auth.requests) < fetches + 2:
            statuses = await asyncio.gather(*(ask(hanging) for _ in range(20)), ask(fine))
            assert statuses == [502] * 20 + [200]
        # One for the name, and one for what the other route and the credential do meanwhile.
        assert threads(proxy) <= at_first + 2
        failed = await proxy.event("dns.failed", host="hangs.example.com")
        assert failed["used_by"] == "route hangs"
        assert not [event for event in proxy.events if event["event"] == "token.refresh_failed"]
        proxy.send(signal.SIGTERM)
        assert await proxy.exit_code() == 0
    assert proxy.errors == ""


async def test_while_the_name_of_a_listener_hangs_a_signal_ends_the_start(
    configure: Configure, auth: FakeAuthorizationServer
) -> None:
    config = configure(admin={"listen": "hangs.example.com:9901", "allow_remote_clients": True})
    async with proxy_process(config, before=before(HANGING_NAMES)) as proxy:
        await proxy.event("dns.failed", used_by="the listeners")
        proxy.send(signal.SIGTERM)
        assert await proxy.exit_code() == 0
    assert proxy.event_names[-2:] == ["signal.received", "proxy.stopped"]
    assert not auth.requests
