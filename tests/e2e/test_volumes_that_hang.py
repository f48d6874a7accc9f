"""A volume with a secret, certificate or authority's file hangs: at the start and later, only its own user notices."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from tests.e2e.hanging_volume import can_be_made, hanging_from_the_start, hanging_once
from tests.e2e.proxy_process import proxy_process

if TYPE_CHECKING:
    import aiohttp

    from switch_proxy.demo.auth_server import FakeAuthorizationServer
    from switch_proxy.demo.switch_api import FakeSwitchAPI
    from tests.e2e.conftest import Configure
    from tests.e2e.proxy_process import ProxyProcess

METERS = "/api/meter?organizationId=1"


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """Return the folder of a volume with an authority's file and a secret."""
    folder = tmp_path / "volume"
    folder.mkdir()
    if not can_be_made(folder):
        pytest.skip("this machine has no /dev/fuse, or no namespaces for ordinary users")
    trustme.CA().cert_pem.write_to_path(folder / "authority.pem")
    (folder / "secret").write_text("another-secret")
    return folder


def threads(proxy: ProxyProcess) -> int:
    return len(list(Path(f"/proc/{proxy.pid}/task").iterdir()))


def route(name: str, upstream: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "listen": "127.0.0.1:0", "upstream": upstream, "credential": "switch", **changes}


async def test_at_the_start_it_serves_the_other_routes_says_what_hangs_and_a_signal_ends_it(
    configure: Configure, api: FakeSwitchAPI, client: aiohttp.ClientSession, volume: Path
) -> None:
    broken = route(
        "broken",
        "https://localhost:1",
        tls={"ca_file": str(volume / "authority.pem")},
        timeouts={"connect": 0.5},
    )
    config = configure(routes=[broken, route("fine", api.url)])
    async with proxy_process(config, before=hanging_from_the_start(volume)) as proxy:
        async with client.get(await proxy.url("fine") + METERS) as response:
            assert response.status == 200
        async with client.get(await proxy.url("broken") + METERS) as response:
            problem = await response.json()
            assert (response.status, problem["type"]) == (502, "urn:switch-proxy:problem:upstream-tls")
        admin = await proxy.url("admin")
        async with client.get(f"{admin}/livez") as response:
            assert response.status == 200
        event = await proxy.event("tls.broken", route="broken")
        said = f"tls.ca_file of route 'broken' cannot be used: the file {volume}/authority.pem was not read within"
        assert event["error"].startswith(said)
        assert problem["detail"].startswith(said)
        assert not event["has_last_good"]
        async with client.get(f"{admin}/readyz") as response:
            assert response.status == 503
            assert said in await response.text()
        proxy.send(signal.SIGTERM)
        assert await proxy.exit_code() == 0
    assert proxy.errors == ""


async def test_a_signal_during_the_wait_ends_the_start(
    configure: Configure, auth: FakeAuthorizationServer, volume: Path, tmp_path: Path
) -> None:
    """`before` tells, in a file, when the handlers of signals are in place: the log is empty then."""
    config = configure(routes=[route("broken", "https://localhost:1", tls={"ca_file": str(volume / "authority.pem")})])
    opened = tmp_path / "opened"
    tell = (
        "import asyncio, pathlib; from switch_proxy.http1 import connector; read = connector.TlsFiles.read\n"
        f"async def told(*given, **named): pathlib.Path({str(opened)!r}).touch(); return await read(*given, **named)\n"
        "connector.TlsFiles.read = told"
    )
    before = f"{hanging_from_the_start(volume)}; exec({tell!r}, {{}})"
    async with proxy_process(config, before=before) as proxy:
        async with asyncio.timeout(20):
            while not opened.exists():  # noqa: ASYNC110 - what another process does has no event here
                await asyncio.sleep(0.01)
        proxy.send(signal.SIGTERM)
        assert await proxy.exit_code() == 0
    assert not auth.requests
    assert proxy.errors == ""


async def test_later_the_other_credentials_get_tokens_and_metrics_are_served(
    configure: Configure,
    auth: FakeAuthorizationServer,
    api: FakeSwitchAPI,
    client: aiohttp.ClientSession,
    volume: Path,
    tmp_path: Path,
    secret_file: Path,
) -> None:
    """So many that they would take all threads of a pool of threads."""
    auth.lifetime = 2.0
    common = {"token_url": auth.token_url, "client_id": auth.client_id, "client_secret": {"file": str(secret_file)}}
    hanging = {
        f"hangs-{number}": {
            **common,
            "token_url": "https://127.0.0.1:1/token",
            "timeout": 0.2,
            "tls": {"ca_file": str(volume / "authority.pem")},
        }
        for number in range(20)
    }
    trigger = tmp_path / "trigger"
    config = configure(
        credentials={"switch": {**common, "audience": "https://api.switchmarket.se"}, **hanging},
        routes=[route("fine", api.url)],
    )
    async with proxy_process(config, before=hanging_once(trigger, volume)) as proxy:
        url, admin = await proxy.url("fine") + METERS, await proxy.url("admin")
        for name in hanging:
            await proxy.event("token.refresh_failed", credential=name)
        trigger.touch()
        for name in hanging:
            event = await proxy.event("secret.broken", credential=name)
            assert "was not read within" in event["error"]
        fetches = len(auth.requests)
        async with asyncio.timeout(20):
            while len(auth.requests) < fetches + 2:
                async with client.get(url) as response:
                    assert response.status == 200
                async with client.get(f"{admin}/metrics") as response:
                    assert response.status == 200
                await asyncio.sleep(0.05)
        # One for the credential's watch, one for its requests.
        assert threads(proxy) < 8 + 2 * len(hanging)
        proxy.send(signal.SIGTERM)
        assert await proxy.exit_code() == 0
    assert proxy.errors == ""


async def test_later_a_secret_that_hangs_leaves_the_last_good_one_in_use(
    configure: Configure,
    auth: FakeAuthorizationServer,
    api: FakeSwitchAPI,
    client: aiohttp.ClientSession,
    volume: Path,
    tmp_path: Path,
) -> None:
    auth.lifetime = 2.0
    (volume / "secret").write_text(auth.client_secret)
    trigger = tmp_path / "trigger"
    config = configure(
        credentials={
            "switch": {
                "token_url": auth.token_url,
                "client_id": auth.client_id,
                "client_secret": {"file": str(volume / "secret")},
                "audience": "https://api.switchmarket.se",
            }
        },
        routes=[route("fine", api.url)],
    )
    async with proxy_process(config, before=hanging_once(trigger, volume)) as proxy:
        url = await proxy.url("fine") + METERS
        await proxy.event("token.refreshed")
        trigger.touch()
        event = await proxy.event("secret.broken")
        said = f"no client secret: the file {volume}/secret was not read within 5 seconds; does its volume respond?"
        assert event["error"] == said
        fetches = len(auth.requests)
        async with asyncio.timeout(20):
            while len(auth.requests) < fetches + 2:
                async with client.get(url) as response:
                    assert response.status == 200
                await asyncio.sleep(0.05)
