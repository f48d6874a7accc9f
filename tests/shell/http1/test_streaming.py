"""Bodies of any size: as they come, with bounded memory, at the pace of whoever reads slowest."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest

from switch_proxy.core.config.models import TimeoutSettings
from tests.shell.http1.raw_peer import send_until_stopped, until_steady, working
from tests.shell.http1.tokens import access_token

if TYPE_CHECKING:
    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.raw_peer import RawPeer
    from tests.shell.http1.world import World

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

SIZE: Final = 32 << 20
BLOCK: Final = hashlib.shake_128(b"a body that does not repeat within a read").digest(1_000_003)
"""Its length is a prime, so that a piece that is lost, doubled or moved changes the whole."""

MOST: Final = 12 << 20
"""Bytes that may be under way to a reader that stands still: the kernel's buffers of four sockets, and ours."""


def body_from(position: int) -> bytes:
    """Return the bytes of the body from a position up to the end of the block they are in."""
    return BLOCK[position % len(BLOCK) :]


async def send_rest(sender: RawPeer, position: int) -> None:
    """Send the body from a position to its end."""
    while position < SIZE:
        piece = body_from(position)[: SIZE - position]
        await sender.stream.write(piece)
        position += len(piece)


async def send_until_cut(sender: RawPeer) -> None:
    """Send the body until the connection is reset."""
    with suppress(ConnectionError):
        await send_rest(sender, 0)


async def receive_body(receiver: RawPeer) -> str:
    """Return the hash of the whole body."""
    digest = hashlib.sha256(receiver.buffer)
    received = len(receiver.buffer)
    receiver.buffer.clear()
    while received < SIZE:
        data = await receiver.stream.read()
        assert data, f"the body ended after {received} bytes"
        digest.update(data)
        received += len(data)
    assert received == SIZE
    return digest.hexdigest()


def expected_hash() -> str:
    digest = hashlib.sha256()
    position = 0
    while position < SIZE:
        piece = body_from(position)[: SIZE - position]
        digest.update(piece)
        position += len(piece)
    return digest.hexdigest()


async def test_a_download_to_a_client_that_stands_still_is_stopped_and_then_arrives_intact(world: World) -> None:
    """Memory is bounded in either direction, whatever the size of the body."""
    client = await world.narrow_client()
    await client.send(GET)
    server = await world.upstream.accept()
    await server.receive_head()
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
    sent = await send_until_stopped(server.socket, BLOCK, limit=SIZE)
    assert sent < MOST
    async with working(send_rest(server, sent)):
        assert (await client.receive_head()).status == 200
        assert await receive_body(client) == expected_hash()


async def test_an_upload_to_an_upstream_that_stands_still_is_stopped_and_then_arrives_intact(world: World) -> None:
    client, server, _ = await world.begin(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % SIZE)
    sent = await send_until_stopped(client.socket, BLOCK, limit=SIZE)
    assert sent < MOST
    async with working(send_rest(client, sent)):
        assert await receive_body(server) == expected_hash()
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"


async def test_a_chunked_download_to_a_client_that_stands_still_is_stopped(world: World) -> None:
    client = await world.narrow_client()
    await client.send(GET)
    server = await world.upstream.accept()
    await server.receive_head()
    await server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    assert await send_until_stopped(server.socket, chunk, limit=SIZE) < MOST


async def test_a_download_without_length_to_a_client_that_stands_still_is_stopped(world: World) -> None:
    client = await world.narrow_client()
    await client.send(GET)
    server = await world.upstream.accept()
    await server.receive_head()
    await server.send(b"HTTP/1.1 200 OK\r\n\r\n")
    assert await send_until_stopped(server.socket, BLOCK, limit=SIZE) < MOST


async def test_a_chunked_upload_to_an_upstream_that_stands_still_is_stopped(world: World) -> None:
    client, _, _ = await world.begin(b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    assert await send_until_stopped(client.socket, chunk, limit=SIZE) < MOST


async def test_an_upload_that_waits_for_a_token_is_not_read(start_world: StartWorld) -> None:
    """What cannot be sent on yet stays with the client."""
    world = await start_world(token=None)
    client = await world.client()
    await client.send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % SIZE)
    sent = await send_until_stopped(client.socket, BLOCK, limit=SIZE)
    assert sent < MOST
    world.tokens.give(access_token())
    server = await world.upstream.accept()
    await server.receive_head()
    async with working(send_rest(client, sent)):
        assert await receive_body(server) == expected_hash()


async def test_a_flood_of_interim_responses_to_a_client_that_stands_still_is_stopped(world: World) -> None:
    client = await world.narrow_client()
    await client.send(GET)
    server = await world.upstream.accept()
    await server.receive_head()
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"a" * 1000 + b"\r\n\r\n"
    assert await send_until_stopped(server.socket, interim * 100, limit=SIZE) < MOST


async def test_a_download_by_a_slow_client_is_not_cut_as_long_as_it_moves(start_world: StartWorld) -> None:
    """The idle limit is for who stands still, not for who is slow: it begins anew with each byte that the client took."""
    world = await start_world(timeouts=TimeoutSettings(idle=30))
    client = await world.narrow_client()
    (connection,) = world.listener._clients
    await client.send(GET)
    server = await world.upstream.accept()
    await server.receive_head()
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
    async with working(send_rest(server, 0)):
        await client.receive_head()
        await world.until(lambda _: connection.is_write_paused)
        for _ in range(2):
            waiting = connection.transport.get_write_buffer_size()
            while connection.transport.get_write_buffer_size() >= waiting:
                client.buffer += await client.stream.read()
            world.pass_time(20)
        # It moved until the last look, and may now stand still for less than the limit.
        world.pass_time(20)
        assert await receive_body(client) == expected_hash()
    assert (await world.record()).failure is None


async def test_a_client_that_stands_still_for_too_long_is_cut(start_world: StartWorld) -> None:
    world = await start_world(timeouts=TimeoutSettings(idle=30))
    client = await world.narrow_client()
    (connection,) = world.listener._clients
    await client.send(GET)
    server = await world.upstream.accept()
    await server.receive_head()
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
    async with working(send_until_cut(server)):
        await world.until(lambda _: connection.is_write_paused)
        await until_steady(connection.transport.get_write_buffer_size)
        # The first look finds a buffer that it has not seen, the second one the same.
        world.pass_time(31)
        world.pass_time(31)
        record = await world.record()
        assert (record.status, record.failure) == (200, "client-stalled")
        # What lies with us has the same time once more, and is dropped.
        world.pass_time(31)
        world.pass_time(31)
        await world.until(lambda now: now.client_connections == 0)


async def test_a_client_that_does_not_fetch_a_finished_answer_is_closed_in_the_end(start_world: StartWorld) -> None:
    """The exchange is over, but its bytes still lie with us."""
    world = await start_world(timeouts=TimeoutSettings(idle=30, keep_alive=30))
    client = await world.narrow_client()
    (connection,) = world.listener._clients
    await client.send(GET)
    server = await world.upstream.accept()
    await server.receive_head()
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(50_000), bytes(50_000))
    await world.record()
    await until_steady(connection.transport.get_write_buffer_size)
    world.pass_time(31)
    assert world.listener.snapshot().client_connections == 1
    world.pass_time(31)
    await world.until(lambda now: now.client_connections == 0)


async def test_the_upstreams_connection_is_free_as_soon_as_its_part_is_done(world: World) -> None:
    """A slow reader must not hold it."""
    client = await world.narrow_client()
    await client.send(GET)
    server = await world.upstream.accept()
    await server.receive_head()
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(50_000), bytes(50_000))
    await world.record()
    assert world.snapshot().upstream_idle == 1
    other = await world.client()
    await other.send(GET)
    await server.receive_head()
    await server.send(OK)
    assert (await other.receive_response()).body == b"hi"
    assert len((await client.receive_response()).body) == 100_000


@pytest.mark.parametrize(
    ("head", "frame"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", False),
    ],
    ids=["chunked", "without length"],
)
async def test_server_sent_events_arrive_event_by_event(world: World, head: bytes, frame: bool) -> None:
    """Each is passed before the next is sent."""
    client, server, _ = await world.begin(GET)
    await server.send(head)
    assert (await client.receive_head()).value("Content-Type") == b"text/event-stream"
    for number in range(20):
        event = b"id: %d\ndata: %s\n\n" % (number, b"x" * number)
        await server.send(b"%x\r\n%s\r\n" % (len(event), event) if frame else event)
        assert await client.receive_chunk() == event


async def test_a_stream_that_is_silent_for_less_than_the_idle_limit_goes_on(start_world: StartWorld) -> None:
    """There is no limit on the whole."""
    world = await start_world(timeouts=TimeoutSettings(idle=30, response_head=10))
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await client.receive_head()
    for _ in range(8):
        world.pass_time(20)
        await server.send(b"1\r\n.\r\n")
        assert await client.receive_chunk() == b"."


async def test_many_small_pieces_in_both_directions_at_once_arrive_intact(world: World) -> None:
    client, server, _ = await world.begin(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    pieces = [BLOCK[at : at + 1 + at % 700] for at in range(0, 300_000, 1009)]
    whole = b"".join(pieces)
    await server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await client.receive_head()

    async def send_all(sender: RawPeer) -> None:
        for piece in pieces:
            await sender.send(b"%x\r\n%s\r\n" % (len(piece), piece))

    async def receive_all(receiver: RawPeer) -> bytes:
        received = b""
        while len(received) < len(whole):
            received += await receiver.receive_chunk()
        return received

    async with working(send_all(client)), working(send_all(server)):
        up, down = await asyncio.gather(receive_all(server), receive_all(client))
    assert up == whole
    assert down == whole
