"""Upgrades: WebSocket and whatever else the upstream switches to, as a tunnel of bytes."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest
import websockets.asyncio.client
import websockets.asyncio.server
from aiohttp import web

from switch_proxy.core.config.models import PoolSettings, TimeoutSettings
from tests.shell.http1.raw_peer import send_until_stopped, turn
from tests.shell.http1.test_broken_upstreams import kind
from tests.shell.http1.tokens import BEARER
from tests.shell.http1.world import World, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.raw_client import RawClient
    from tests.shell.http1.raw_upstream import UpstreamSide

    Talk = Callable[[str, bytes], Awaitable[None]]
    Serve = Callable[[], AbstractAsyncContextManager[int]]

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
ASK = b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n\r\n"
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: b\r\n\r\n"
)


async def tunnel(world: World) -> tuple[RawClient, UpstreamSide]:
    """Return both ends of a tunnel."""
    client, server, _ = await world.begin(ASK)
    await server.send(SWITCH)
    assert (await client.receive_head()).status == 101
    return client, server


async def test_the_handshake_passes_with_the_bearer(world: World) -> None:
    """RFC 9110 §7.8, RFC 6455 §4."""
    client, server, head = await world.begin(ASK)
    assert head.value("Upgrade") == b"websocket"
    assert (head.value("Connection") or b"").lower() == b"upgrade"
    assert head.value("Sec-WebSocket-Key") == b"a"
    assert head.value("Authorization") == BEARER
    await server.send(SWITCH)
    answer = await client.receive_head()
    assert answer.start == b"HTTP/1.1 101 Switching Protocols"
    assert answer.value("Upgrade") == b"websocket"
    assert (answer.value("Connection") or b"").lower() == b"upgrade"
    assert answer.value("Sec-WebSocket-Accept") == b"b"


async def test_bytes_pass_both_ways_as_they_are(world: World) -> None:
    client, server = await tunnel(world)
    everything = bytes(range(256))
    await client.send(everything)
    assert await server.receive(256) == everything
    await server.send(everything, GET)
    assert await client.receive(256) == everything
    assert await client.receive(len(GET)) == GET


async def test_bytes_that_come_with_the_switch_pass(world: World) -> None:
    """The upstream may speak first."""
    client, server, _ = await world.begin(ASK)
    await server.send(SWITCH + b"welcome")
    await client.receive_head()
    assert await client.receive(7) == b"welcome"


async def test_bytes_that_the_client_sends_before_the_switch_pass_after_it(world: World) -> None:
    """They are the new protocol's where the upstream agrees."""
    client, server, _ = await world.begin(ASK)
    await client.send(b"early")
    await server.send(SWITCH)
    await client.receive_head()
    assert await server.receive(5) == b"early"


async def test_an_interim_response_before_the_switch_passes(world: World) -> None:
    client, server, _ = await world.begin(ASK)
    await server.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + SWITCH)
    assert (await client.receive_head()).status == 103
    assert (await client.receive_head()).status == 101


async def test_several_protocols_are_offered_as_the_client_does(start_world: StartWorld) -> None:
    """RFC 9110 §7.8: in order of preference, on one line or several."""
    world = await start_world(upgrades=("a", "b", "c"))
    client, server, head = await world.begin(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: a/1, b\r\nUpgrade: c\r\n\r\n"
    )
    assert b", ".join(head.values("Upgrade")) == b"a/1, b, c"
    await server.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: b\r\n\r\n")
    assert (await client.receive_head()).value("Upgrade") == b"b"


async def test_an_upgrade_that_is_refused_is_an_ordinary_response_and_both_connections_go_on(world: World) -> None:
    """RFC 9110 §7.8: a server may ignore it."""
    client, server, _ = await world.begin(ASK)
    await server.send(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno")
    response = await client.receive_response()
    assert (response.status, response.body, response.head.value("Connection")) == (426, b"no", None)
    await client.send(GET)
    await server.receive_head()
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"


async def test_a_switch_that_was_not_asked_for_is_a_502(world: World) -> None:
    """RFC 9110 §7.8: only to a protocol that the client offered."""
    client, server, _ = await world.begin(GET)
    await server.send(SWITCH)
    assert kind(await client.receive_response()) == (502, "upstream-malformed")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
    ids=["not named by connection", "without a protocol", "HTTP/1.0"],
)
async def test_an_upgrade_that_is_none_is_not_passed_on(world: World, request_: bytes) -> None:
    """RFC 9110 §7.8: Upgrade needs the connection option, and HTTP/1.1."""
    _, _, head = await world.begin(request_)
    assert head.value("Upgrade") is None
    assert head.value("Connection") is None


async def test_a_request_with_a_body_can_ask_for_an_upgrade_that_is_granted_after_it(start_world: StartWorld) -> None:
    """RFC 9110 §7.8: the switch comes after the request has been read."""
    world = await start_world(upgrades=("a",))
    client, server, _ = await world.begin(
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: a\r\nContent-Length: 5\r\n\r\nhello"
    )
    assert await server.receive(5) == b"hello"
    await server.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\nx")
    assert (await client.receive_head()).status == 101
    assert await client.receive(1) == b"x"


async def test_a_switch_before_the_request_is_whole_is_a_502(start_world: StartWorld) -> None:
    """RFC 9110 §7.8: where the body ends and the protocol begins would be in doubt."""
    world = await start_world(upgrades=("a",))
    client, server, _ = await world.begin(
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: a\r\nContent-Length: 5\r\n\r\nhe"
    )
    await server.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n")
    assert kind(await client.receive_response()) == (502, "upstream-malformed")


# Which protocols pass.


def ask(*offers: bytes, more: bytes = b"", options: bytes = b"Upgrade") -> bytes:
    lines = b"".join(b"Upgrade: " + offer + b"\r\n" for offer in offers)
    return b"GET / HTTP/1.1\r\nHost: x\r\nConnection: " + options + b"\r\n" + lines + more + b"\r\n"


@pytest.mark.parametrize("offer", [b"h2c", b"H2C", b"HTTP/2.0", b"h2c, HTTP/2.0", b"TLS/1.0", b"mqtt", b"", b", ,"])
@pytest.mark.parametrize("upgrades", [("websocket",), ()], ids=["by default", "with none allowed"])
async def test_a_protocol_that_is_not_listed_is_not_offered_to_the_upstream(
    start_world: StartWorld, offer: bytes, upgrades: tuple[str, ...]
) -> None:
    """A client that offers HTTP/2 with each request (Java's does) gets its response over HTTP/1.1."""
    world = await start_world(upgrades=upgrades)
    settings = b"HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAA\r\n"
    client, server, head = await world.begin(ask(offer, more=settings, options=b"Upgrade, HTTP2-Settings"))
    assert [head.value(name) for name in ("Upgrade", "Connection", "HTTP2-Settings")] == [None, None, None]
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"
    await client.send(GET)
    assert (await server.receive_head()).value("Authorization") == BEARER


async def test_the_settings_of_http2_do_not_pass_though_connection_does_not_name_them(world: World) -> None:
    """RFC 7540 §3.2.1 has them named there; curl and others have not always done so."""
    _, _, head = await world.begin(GET.removesuffix(b"\r\n") + b"HTTP2-Settings: AAEAAEAA\r\n\r\n")
    assert head.value("HTTP2-Settings") is None


async def test_of_several_offers_those_that_are_listed_pass(world: World) -> None:
    _, _, head = await world.begin(ask(b"h2c, WebSocket", b"mqtt"))
    assert head.values("Upgrade") == [b"WebSocket"]


async def test_websocket_does_not_pass_if_it_is_not_listed(start_world: StartWorld) -> None:
    world = await start_world(upgrades=())
    client, server, head = await world.begin(ASK)
    assert head.value("Upgrade") is None
    await server.send(SWITCH)
    assert kind(await client.receive_response()) == (502, "upstream-malformed")


@pytest.mark.parametrize(
    "lines",
    [
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket/2\r\n",
        b"Upgrade: h2c\r\n",
        b"Connection: Upgrade\r\n",
        b"",
    ],
    ids=["another", "one more", "another version", "another that connection does not name", "none", "no line at all"],
)
async def test_a_switch_to_something_else_than_was_offered_is_a_502(world: World, lines: bytes) -> None:
    """RFC 9110 §7.8: nothing passes as raw bytes that was not agreed on."""
    client, server, _ = await world.begin(ASK)
    await server.send(b"HTTP/1.1 101 Switching Protocols\r\n" + lines + b"\r\nraw bytes")
    assert kind(await client.receive_response()) == (502, "upstream-malformed")
    assert await server.receive_to_any_end() == b""


async def test_protocols_are_compared_in_any_case(world: World) -> None:
    """RFC 9110 §7.8: their names are case-insensitive."""
    client, server, _ = await world.begin(ASK)
    await server.send(SWITCH.replace(b"Upgrade: websocket", b"Upgrade: WebSocket"))
    assert (await client.receive_head()).status == 101


# Upgrades with a body.

ASK_WITH_BODY = (
    b"POST / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello"
)


async def test_an_upgrade_with_a_body_has_a_connection_of_its_own(world: World) -> None:
    """A server that ignores the body behind Upgrade takes it for the next request, which must be nobody else's."""
    client, server, _ = await world.begin(GET)
    await server.send(OK)
    await client.receive_response()
    await world.until(lambda now: now.upstream_idle == 1)
    await client.send(ASK_WITH_BODY)
    own = await world.upstream.accept()
    await own.receive_head()
    assert await own.receive(5) == b"hello"
    await own.send(OK)
    assert (await client.receive_response()).body == b"hi"
    assert await own.receive_to_any_end() == b""
    await client.send(GET)
    await server.receive_head()
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"


async def test_an_upgrade_with_a_body_takes_no_used_connection_when_one_becomes_free(start_world: StartWorld) -> None:
    """The connection that becomes free is closed, and another is opened in its place."""
    world = await start_world(pool=PoolSettings(max_connections=1))
    client, server, _ = await world.begin(GET)
    other = await world.client()
    await other.send(ASK_WITH_BODY)
    await world.until(lambda now: now.waiting_for_upstream == 1)
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"
    assert await server.receive_to_any_end() == b""
    own = await world.upstream.accept()
    await own.receive_head()
    await own.send(OK)
    assert (await other.receive_response()).body == b"hi"
    assert world.snapshot().upstream_reuses == 0


# How tunnels end.


async def test_a_client_that_ends_its_side_still_gets_what_the_upstream_sends(world: World) -> None:
    client, server = await tunnel(world)
    await client.send(b"bye")
    await client.end()
    assert await server.receive_to_end() == b"bye"
    await server.send(b"see you")
    await server.close()
    assert await client.receive_to_end() == b"see you"


async def test_a_client_that_ended_its_side_before_the_switch_has_its_end_passed_on(world: World) -> None:
    """The end of its bytes is part of them."""
    client, server, _ = await world.begin(ASK)
    await client.send(b"early")
    await client.end()
    await turn()
    await server.send(SWITCH)
    assert (await client.receive_head()).status == 101
    assert await server.receive_to_end() == b"early"
    await server.send(b"bye")
    await server.close()
    assert await client.receive_to_end() == b"bye"


async def test_an_upstream_that_ends_its_side_still_gets_what_the_client_sends(world: World) -> None:
    client, server = await tunnel(world)
    await server.send(b"bye")
    await server.end()
    assert await client.receive_to_end() == b"bye"
    await client.send(b"see you")
    await client.close()
    assert await server.receive_to_end() == b"see you"


async def test_an_upstream_that_resets_ends_the_clients_side(world: World) -> None:
    client, server = await tunnel(world)
    server.reset()
    await client.receive_to_any_end()
    await world.until(lambda now: now.client_connections == 0)


async def test_a_client_that_resets_ends_the_upstreams_side(world: World) -> None:
    client, server = await tunnel(world)
    client.reset()
    await server.receive_to_any_end()
    await world.until(lambda now: now.upstream_busy == 0)


async def test_a_tunnel_in_which_nothing_moves_is_ended(start_world: StartWorld) -> None:
    world = await start_world(timeouts=TimeoutSettings(idle=0.04))
    client, server = await tunnel(world)
    assert await client.receive_to_any_end() == b""
    assert await server.receive_to_any_end() == b""


async def test_a_tunnel_is_ended_when_the_proxy_stops(world: World) -> None:
    client, server = await tunnel(world)
    world.listener.stop_accepting()
    assert await world.listener.drain(0.02) == 1
    assert await client.receive_to_any_end() == b""
    assert await server.receive_to_any_end() == b""


async def test_a_tunnels_upstream_connection_does_not_go_back_to_the_pool(world: World) -> None:
    client, server = await tunnel(world)
    await client.close()
    await server.receive_to_end()
    await server.close()
    await world.until(lambda now: now.upstream_busy == 0)
    assert world.snapshot().upstream_idle == 0


@pytest.mark.parametrize("is_upward", [True, False], ids=["to the upstream", "to the client"])
async def test_a_tunnel_whose_reader_stands_still_stops_the_sender(world: World, is_upward: bool) -> None:
    client, server = await tunnel(world)
    sender = client if is_upward else server
    limit = 64 << 20
    assert await send_until_stopped(sender.socket, bytes(1 << 16), limit=limit) < limit


@pytest.mark.parametrize("end", ["client resets", "client closes", "proxy stops"])
async def test_a_tunnel_that_ends_while_the_upstream_stands_still_leaves_nothing_behind(
    start_world: StartWorld, end: str
) -> None:
    """What the upstream does not take cannot be kept for ever: the idle limit ends it."""
    world = await start_world(timeouts=TimeoutSettings(idle=0.2, keep_alive=0.2))
    client, _ = await tunnel(world)
    await send_until_stopped(client.socket, bytes(1 << 16), limit=64 << 20)
    if end == "client resets":
        client.reset()
    elif end == "client closes":
        await client.close()
    else:
        await world.listener.close()
    # The upstream reads nothing, and yet the connection to it ends; only the listening socket stays.
    expected = 0 if end == "proxy stops" else 1
    await until(lambda: world.connections_of_the_proxy() == expected, lambda: "a connection is left")


# With real clients and servers.


@asynccontextmanager
async def websockets_server() -> AsyncIterator[int]:
    """Run an echo server of the websockets package; yields its port."""

    async def echo(connection: websockets.asyncio.server.ServerConnection) -> None:
        assert connection.request is not None
        await connection.send(connection.request.headers["Authorization"])
        async for message in connection:
            await connection.send(message)

    async with websockets.asyncio.server.serve(echo, "127.0.0.1", 0, max_size=None) as server:
        yield next(iter(server.sockets)).getsockname()[1]


@asynccontextmanager
async def aiohttp_server() -> AsyncIterator[int]:
    """Run an echo server of aiohttp; yields its port."""

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        await socket.send_str(request.headers["Authorization"])
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data)
            else:
                await socket.send_bytes(message.data)
        return socket

    application = web.Application()
    application.router.add_get("/chat", echo)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def talk_with_websockets(url: str, big: bytes) -> None:
    async with websockets.asyncio.client.connect(url, max_size=None, proxy=None) as connection:
        assert await connection.recv() == BEARER.decode()
        for message in ("hello", "å" * 1000, b"\x00\xff", big):
            await connection.send(message)
            assert await connection.recv() == message
        pong = await connection.ping()
        await pong


async def talk_with_aiohttp(url: str, big: bytes) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as connection:
        assert await connection.receive_str() == BEARER.decode()
        await connection.send_str("hello")
        assert await connection.receive_str() == "hello"
        await connection.send_bytes(big)
        assert await connection.receive_bytes() == big


@pytest.mark.parametrize("talk", [talk_with_websockets, talk_with_aiohttp], ids=["websockets client", "aiohttp client"])
@pytest.mark.parametrize("serve", [websockets_server, aiohttp_server], ids=["websockets server", "aiohttp server"])
async def test_web_sockets_work_between_real_peers(start_world: StartWorld, talk: Talk, serve: Serve) -> None:
    """RFC 6455: text, binary, pings, a message larger than any buffer, and the closing handshake."""
    big = hashlib.shake_128(b"big").digest(3_000_000)
    async with serve() as port:
        world = await start_world(port=port)
        host, listening = world.listener.address
        await talk(f"ws://{host}:{listening}/chat", big)
        await world.until(lambda now: now.requests_in_flight == 0)
    record = await world.record()
    assert (record.status, record.failure) == (101, None)
    assert record.request_body_bytes > len(big)
    assert record.response_body_bytes > len(big)
