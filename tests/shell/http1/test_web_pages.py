"""What a web page may send: refused over loopback, before a route, a token or an upstream is looked for."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.shell.http1.raw_client import connect
from tests.shell.http1.test_broken_upstreams import kind, problem

if TYPE_CHECKING:
    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.world import World

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
PREFLIGHT = (
    b"OPTIONS / HTTP/1.1\r\nHost: localhost\r\nOrigin: https://attacker.example\r\n"
    b"Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-a\r\n\r\n"
)
REBOUND = b"GET / HTTP/1.1\r\nHost: attacker.example\r\n\r\n"


@pytest.fixture
async def guarded(start_world: StartWorld) -> World:
    return await start_world(allowed_hosts=())


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        pytest.param(REBOUND, (421, "host-not-allowed"), id="a rebinding name"),
        pytest.param(
            REBOUND.replace(b"GET", b"TRACE"), (421, "host-not-allowed"), id="a method that is refused anyway"
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n\r\n", (403, "origin-not-allowed"), id="a sandbox"
        ),
        pytest.param(PREFLIGHT, (403, "origin-not-allowed"), id="a preflight"),
        pytest.param(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nOrigin: https://attacker.example\r\nConnection: upgrade\r\n"
            b"Upgrade: websocket\r\n\r\n",
            (403, "origin-not-allowed"),
            id="a WebSocket",
        ),
    ],
)
async def test_what_a_page_sends_over_loopback_is_refused(
    guarded: World, request_bytes: bytes, expected: tuple[int, str]
) -> None:
    client = await guarded.client()
    await client.send(request_bytes)
    response = await client.receive_response()
    assert kind(response) == expected
    assert "of route 'switch-api'" in problem(response)["detail"]
    assert response.head.values("Access-Control-Allow-Origin") == []
    assert not guarded.upstream.has_connection_waiting()
    assert (await guarded.record()).failure == expected[1]


async def test_after_a_refusal_the_connection_goes_on(guarded: World) -> None:
    client, server, _ = await guarded.begin(REBOUND + REBOUND.replace(b"attacker.example", b"localhost"))
    await server.send(OK)
    assert [(await client.receive_response()).status for _ in range(2)] == [421, 200]


async def test_a_refused_request_with_a_body_ends_the_connection(guarded: World) -> None:
    client = await guarded.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nContent-Length: 9\r\n\r\nname")
    assert (await client.receive_response()).status == 403
    assert await client.receive_to_end() == b""


@pytest.mark.parametrize("host", [b"localhost", b"127.0.0.1:%d", b"localhost:%d", b""])
async def test_a_program_on_this_machine_notices_nothing(guarded: World, host: bytes) -> None:
    port = guarded.listener.address[1]
    client, server, _ = await guarded.begin(
        b"GET / HTTP/1.1\r\nHost: " + (host % port if b"%d" in host else host) + b"\r\n\r\n"
    )
    await server.send(OK)
    assert (await client.receive_response()).status == 200


async def test_the_name_of_the_api_is_taken_over_loopback(guarded: World) -> None:
    """An app may know the proxy by the API's name, from its hosts file."""
    client, server, _ = await guarded.begin(b"GET / HTTP/1.1\r\nHost: " + guarded.upstream.host.encode() + b"\r\n\r\n")
    await server.send(OK)
    assert (await client.receive_response()).status == 200


async def test_allowed_hosts_and_origins_are_taken(start_world: StartWorld) -> None:
    world = await start_world(allowed_hosts=("proxy.pod.local",), allowed_origins=("http://localhost:3000",))
    client, server, _ = await world.begin(
        b"GET / HTTP/1.1\r\nHost: proxy.pod.local\r\nOrigin: http://localhost:3000\r\nSec-Fetch-Site: cross-site\r\n\r\n"
    )
    await server.send(OK)
    assert (await client.receive_response()).status == 200


async def test_what_comes_in_over_the_network_is_not_looked_at(start_world: StartWorld) -> None:
    """A Service reaches a gateway by a name of its own, and a browser elsewhere is not on this machine."""
    address = _other_address()
    world = await start_world(allowed_hosts=(), listen="0.0.0.0", allow_remote_clients=True)
    port = world.listener.address[1]
    for host, expected in ((address, 200), ("127.0.0.1", 421)):
        client = await connect((host, port))
        world.clients.append(client)
        await client.send(b"GET / HTTP/1.1\r\nHost: gateway.default.svc\r\n\r\n")
        if expected == 200:
            server = await world.upstream.accept()
            await server.receive_head()
            await server.send(OK)
        assert (await client.receive_response()).status == expected


def _other_address() -> str:
    """Return an address of this machine that is not of loopback; skip the test if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: nothing is sent.
        except OSError:
            pytest.skip("this machine has no address beside loopback")
        address = str(probe.getsockname()[0])
    if address.startswith("127."):
        pytest.skip("this machine has no address beside loopback")
    return address
