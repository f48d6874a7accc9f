"""How the process starts: its output, what it serves before it is ready, and what prevents a start."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from switch_proxy.demo import faults
from tests.e2e.proxy_process import WITHIN, proxy_process

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from switch_proxy.demo.auth_server import FakeAuthorizationServer
    from switch_proxy.demo.switch_api import FakeSwitchAPI
    from tests.e2e.conftest import Configure

METERS = "/api/meter?organizationId=1"


async def wait_until_ready(client: aiohttp.ClientSession, admin: str) -> None:
    async with asyncio.timeout(WITHIN):
        while True:
            async with client.get(f"{admin}/readyz") as response:
                if response.status == 200:
                    return
            await asyncio.sleep(0.01)


async def test_once_ready_a_request_is_served_with_a_token(
    configure: Configure, api: FakeSwitchAPI, client: aiohttp.ClientSession
) -> None:
    async with proxy_process(configure()) as proxy:
        await wait_until_ready(client, await proxy.url("admin"))
        async with client.get(await proxy.url("switch-api") + METERS) as response:
            assert response.status == 200
        assert len(api.requests) == 1


async def test_a_request_that_comes_before_the_first_token_waits_for_it(
    configure: Configure, auth: FakeAuthorizationServer, client: aiohttp.ClientSession
) -> None:
    auth.faults.add(faults.Delay(seconds=0.5), times=1)
    async with proxy_process(configure()) as proxy:
        url = await proxy.url("switch-api") + METERS
        async with client.get(await proxy.url("admin") + "/readyz") as ready, client.get(url) as response:
            assert (ready.status, response.status) == (503, 200)
    assert len(auth.requests) == 1


@pytest.mark.usefixtures("wrong_secret")
async def test_with_a_wrong_secret_it_stays_up_and_says_what_is_wrong(
    configure: Configure, client: aiohttp.ClientSession
) -> None:
    """It is not ready, refuses requests with the reason, and waits for the right secret: a restart would not help."""
    async with proxy_process(configure()) as proxy:
        admin = await proxy.url("admin")
        failed = await proxy.event("token.refresh_failed")
        assert (failed["level"], failed["credential"]) == ("warning", "switch")
        async with client.get(f"{admin}/livez") as response:
            assert response.status == 200
        async with client.get(f"{admin}/readyz") as response:
            document = await response.json()
            assert response.status == 503
            assert "401" in document["checks"][0]["reason"]
        async with client.get(await proxy.url("switch-api") + METERS) as response:
            problem = await response.json()
            assert (response.status, problem["type"]) == (503, "urn:switch-proxy:problem:token-unavailable")
        await proxy.event("request.failed", failure="token-unavailable")


async def test_authorities_that_the_environment_names_are_trusted(
    configure: Configure, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """SSL_CERT_FILE is OpenSSL's variable; many images set it for their certificates."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authorities.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(text="over TLS")

    environ = f"import os; os.environ['SSL_CERT_FILE'] = {str(tmp_path / 'authorities.pem')!r}"
    upstream = RawTestServer(answer, scheme="https", host="localhost")
    await upstream.start_server(ssl=context)
    try:
        config = configure(upstream=f"https://localhost:{upstream.port}")
        async with (
            proxy_process(config, before=environ) as proxy,
            client.get(await proxy.url("switch-api")) as response,
        ):
            assert (response.status, await response.text()) == (200, "over TLS")
    finally:
        await upstream.close()


async def test_a_port_that_is_taken_ends_it_with_one_clear_line_and_exit_code_1(
    configure: Configure, auth: FakeAuthorizationServer
) -> None:
    """No token is requested: a pod that restarts repeatedly would pay for each."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        async with proxy_process(configure(listen=listen)) as proxy:
            assert await proxy.exit_code() == 1
    (event,) = proxy.events
    assert (event["event"], event["level"]) == ("proxy.start_failed", "error")
    assert "switch-api" in event["reason"]
    assert listen in event["reason"]
    assert "in use" in event["reason"]
    assert proxy.errors == ""
    assert not auth.requests


async def test_an_admin_port_that_is_taken_ends_it_likewise(
    configure: Configure, auth: FakeAuthorizationServer
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        async with proxy_process(configure(admin={"listen": listen})) as proxy:
            assert await proxy.exit_code() == 1
    assert proxy.event_names == ["listener.started", "proxy.start_failed"]
    assert listen in proxy.events[-1]["reason"]
    assert not auth.requests


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(None, "does not exist", id="missing"),
        pytest.param(
            "no certificate", "cannot be loaded as certificates in PEM form: no certificate or crl found", id="not PEM"
        ),
    ],
)
async def test_a_file_of_tls_that_cannot_be_used_ends_it_with_one_clear_line_and_exit_code_1(
    configure: Configure, auth: FakeAuthorizationServer, tmp_path: Path, content: str | None, reason: str
) -> None:
    path = tmp_path / "authorities.pem"
    if content is not None:
        path.write_text(content)
    route = {"name": "switch-api", "listen": "127.0.0.1:0", "upstream": "https://localhost:1", "credential": "switch"}
    async with proxy_process(configure(routes=[{**route, "tls": {"ca_file": str(path)}}])) as proxy:
        assert await proxy.exit_code() == 1
    (event,) = proxy.events
    assert (event["event"], event["level"]) == ("proxy.start_failed", "error")
    assert event["reason"] == f"tls.ca_file of route 'switch-api' cannot be used: the file {path} {reason}"
    assert proxy.errors == ""
    assert not auth.requests


async def test_without_an_admin_listener_it_serves_all_the_same(
    configure: Configure, client: aiohttp.ClientSession
) -> None:
    async with proxy_process(configure(admin={"listen": "off"})) as proxy:
        async with client.get(await proxy.url("switch-api") + METERS) as response:
            assert response.status == 200
        await proxy.event("proxy.started")
        assert proxy.event_names.count("listener.started") == 1


async def test_without_uvloop_it_runs_on_asyncios_own_loop_and_says_so(
    configure: Configure, client: aiohttp.ClientSession
) -> None:
    async with proxy_process(configure(), before="sys.modules['uvloop'] = None") as proxy:
        await wait_until_ready(client, await proxy.url("admin"))
        async with client.get(await proxy.url("switch-api") + METERS) as response:
            assert response.status == 200
        assert (await proxy.event("proxy.started"))["loop"] == "asyncio"
    assert proxy.errors == ""


async def test_the_log_tells_of_the_start_in_order_and_nothing_else_is_printed(
    configure: Configure, client: aiohttp.ClientSession
) -> None:
    async with proxy_process(configure()) as proxy:
        await wait_until_ready(client, await proxy.url("admin"))
        await proxy.event("proxy.became_ready")
        started = await proxy.event("proxy.started")
        assert started["loop"] == "uvloop"
        assert proxy.event_names[:2] == ["listener.started", "listener.started"]
    assert proxy.errors == ""
