"""The admin plane over real HTTP: what each page answers, and to whom."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import aiohttp
import pytest

from switch_proxy.admin.server import AdminServer
from switch_proxy.clock import SystemClock
from switch_proxy.core.config.models import Address
from switch_proxy.core.errors import ListenError
from switch_proxy.core.policy.browsers import BrowserGuard
from switch_proxy.resolver import Resolver
from tests.credential_statuses import READY, REFUSED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from switch_proxy.core.events import AdminRequestMalformed
    from switch_proxy.core.health import HealthSnapshot

RESOLVER = Resolver(used_by="the listeners", now=SystemClock().now)

NOT_READY = replace(READY, credentials=(REFUSED,), listeners=())


async def metrics(accept: str) -> tuple[bytes, str]:
    return f"asked for {accept}\n".encode(), "text/plain; version=0.0.4; charset=utf-8"


def admin(
    health: HealthSnapshot = READY,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    observe: Callable[[AdminRequestMalformed], None] | None = None,
    refresh: Callable[[], None] | None = None,
    guard: BrowserGuard | None = None,
) -> AdminServer:
    return AdminServer(
        listen=Address(host=host, port=port),
        health=lambda: health,
        metrics=metrics,
        observe=observe or (lambda _: None),
        refresh=refresh or (lambda: None),
        resolver=RESOLVER,
        guard=guard or BrowserGuard(hosts=(), origins=(), owner="admin"),
    )


@asynccontextmanager
async def serving(health: HealthSnapshot = READY) -> AsyncIterator[aiohttp.ClientSession]:
    server = admin(health)
    await server.bind()
    await server.serve()
    host, port = server.address
    try:
        async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
            yield session
    finally:
        await server.close()


async def test_livez_answers_200_even_where_it_is_not_ready() -> None:
    async with serving(NOT_READY) as session, session.get("/livez") as response:
        assert (response.status, await response.json()) == (200, {"status": "alive"})


async def test_readyz_answers_200_with_its_checks_while_ready() -> None:
    async with serving() as session, session.get("/readyz") as response:
        document = await response.json()
        assert response.status == 200
        assert document["status"] == "ready"
        assert [check["name"] for check in document["checks"]] == ["credential switch", "listener switch-api"]


async def test_readyz_answers_503_and_says_why_while_not_ready() -> None:
    async with serving(NOT_READY) as session, session.get("/readyz") as response:
        assert response.status == 503
        assert await response.json() == {
            "status": "not ready",
            "checks": [
                {
                    "name": "credential switch",
                    "ok": False,
                    "reason": "has no usable token: fetches have failed since 2026-09-21T14:13:18.000Z: "
                    "401 invalid_client: wrong secret",
                    "since": "2026-09-21T14:13:10.000Z",
                    "next_attempt": "2026-09-21T14:18:20.000Z",
                }
            ],
        }


async def test_metrics_are_answered_in_the_format_asked_for() -> None:
    headers = {"Accept": "application/openmetrics-text"}
    async with serving() as session, session.get("/metrics", headers=headers) as response:
        assert await response.text() == "asked for application/openmetrics-text\n"
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_head_answers_as_get_does_without_a_body(path: str) -> None:
    async with serving() as session:
        async with session.get(path) as response:
            length = response.headers["Content-Length"]
        async with session.head(path) as response:
            assert (response.status, await response.read()) == (200, b"")
            assert response.headers["Content-Length"] == length


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_other_methods_are_refused_with_405_and_told_which_are_not(method: str, path: str) -> None:
    async with serving() as session, session.request(method, path) as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET,HEAD")


@pytest.mark.parametrize("path", ["/", "/livez/", "/readyz/x", "/status"])
async def test_other_paths_are_not_found(path: str) -> None:
    async with serving() as session, session.get(path) as response:
        assert response.status == 404


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/nowhere"])
async def test_answers_are_not_to_be_stored_and_tell_no_versions(path: str) -> None:
    async with serving() as session, session.get(path) as response:
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Server"] == "switch-proxy"


async def test_a_probe_that_comes_before_serving_has_begun_waits_for_its_answer() -> None:
    server = admin()
    await server.bind()
    try:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        await server.serve()
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()
        await writer.wait_closed()
    finally:
        await server.close()


async def test_an_address_that_is_taken_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=rf"admin listener cannot listen on 127\.0\.0\.1:{port}: .* in use"):
            await admin(port=port).bind()


async def test_an_address_of_no_interface_is_not_said_to_be_taken() -> None:
    with pytest.raises(ListenError, match="no interface of this machine has this address"):
        await admin(host="192.0.2.1", port=8080).bind()


async def test_all_of_ipv6_serves_both_families() -> None:
    """As with Envoy, Go and Node: in a cluster of both families, probes come by either."""
    server = admin(host="::")
    try:
        await server.bind()
    except ListenError:
        pytest.skip("this machine has no IPv6")
    await server.serve()
    for host in ("127.0.0.1", "::1"):
        _, writer = await asyncio.open_connection(host, server.address[1])
        writer.close()
        await writer.wait_closed()
    await server.close()


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\n\n", id="TLS"),
        pytest.param(b"GET / HTTP/1.1\r\nNo Colon\r\n\r\n", id="a line without a colon"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", id="a long line"),
        pytest.param(b"\x00\xff\r\n\r\n", id="bytes"),
    ],
)
async def test_what_is_not_http_is_an_event_and_no_error(noise: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Port scanners and clients of another protocol are not the proxy's errors."""
    events: list[AdminRequestMalformed] = []
    server = admin(observe=events.append)
    await server.bind()
    await server.serve()
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(noise)
    await reader.read()
    writer.close()
    await server.close()
    assert [record for record in caplog.records if record.name == "aiohttp.server"] == []
    assert [event.level for event in events] == ["debug"]


async def test_a_refresh_is_accepted_once_in_a_while() -> None:
    """Each may cause a token request, and many refused ones lock a client out."""
    calls: list[str] = []
    server = admin(refresh=lambda: calls.append("refresh"))
    await server.bind()
    await server.serve()
    host, port = server.address
    async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
        async with session.post("/refresh") as response:
            assert (response.status, await response.json()) == (200, {"status": "refreshing"})
        async with session.post("/refresh") as response:
            assert response.status == 429
        async with session.get("/refresh") as response:
            assert response.status == 405
    await server.close()
    assert calls == ["refresh"]


async def test_a_refresh_by_a_page_in_a_browser_is_refused() -> None:
    server = admin(refresh=lambda: pytest.fail("it was refreshed"))
    await server.bind()
    await server.serve()
    host, port = server.address
    headers = {"Origin": "https://a.example"}
    async with (
        aiohttp.ClientSession(f"http://{host}:{port}") as session,
        session.post("/refresh", headers=headers) as response,
    ):
        assert response.status == 403
    await server.close()


@pytest.mark.parametrize("path", ["/readyz", "/metrics", "/not-there"])
@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        ({"Host": "attacker.example"}, 421, "attacker.example"),
        ({"Host": "attacker.example:9901"}, 421, "attacker.example"),
        ({"Host": "two hosts"}, 421, "two hosts"),
        ({"Origin": "https://attacker.example"}, 403, "https://attacker.example"),
        ({"Origin": "null"}, 403, "null"),
        ({"Sec-Fetch-Site": "cross-site"}, 403, "Sec-Fetch-Site"),
    ],
)
async def test_web_pages_are_kept_out(path: str, fields: dict[str, str], status: int, reason: str) -> None:
    """Metrics and readiness name hosts and clients; a page may not read them."""
    async with serving() as session, session.get(path, headers=fields) as response:
        assert response.status == status
        document = await response.json()
        assert reason in document["reason"]
        assert "of admin" in document["reason"]


async def test_names_and_pages_that_are_allowed_get_in() -> None:
    server = admin(guard=BrowserGuard(hosts=["admin.pod.local"], origins=["http://localhost:3000"], owner="admin"))
    await server.bind()
    await server.serve()
    url = "http://{}:{}/livez".format(*server.address)
    fields = {"Host": "Admin.Pod.Local:80", "Origin": "http://localhost:3000", "Sec-Fetch-Site": "cross-site"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=fields) as response:
        assert response.status == 200
    await server.close()


async def test_an_error_in_a_handler_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(accept: str) -> tuple[bytes, str]:
        raise RuntimeError(accept)

    server = AdminServer(
        listen=Address(host="127.0.0.1", port=0),
        health=lambda: READY,
        metrics=fail,
        observe=lambda _: None,
        refresh=lambda: None,
        resolver=RESOLVER,
        guard=BrowserGuard(hosts=(), origins=(), owner="admin"),
    )
    await server.bind()
    await server.serve()
    host, port = server.address
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/metrics") as response:
        assert response.status == 500
    await server.close()
    assert [record.levelname for record in caplog.records if record.name == "aiohttp.server"] == ["ERROR"]


async def test_an_ipv6_address_is_bound_as_it_is_written() -> None:
    server = admin(host="::1")
    try:
        await server.bind()
    except ListenError:
        pytest.skip("this machine has no IPv6")
    assert server.address[0] == "::1"
    await server.close()


async def test_closing_lets_go_of_the_address_and_of_idle_connections() -> None:
    server = admin()
    await server.bind()
    await server.serve()
    host, port = server.address
    reader, writer = await asyncio.open_connection(host, port)
    await server.close()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    with socket.create_server((host, port), reuse_port=False):
        pass
