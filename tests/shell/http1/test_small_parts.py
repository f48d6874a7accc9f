"""What a peer sends in many small parts is read in shares, a share in each turn of the event loop, so that others are served."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fuzz.memory import MemoryTransport, MemoryWorld, Reply
from switch_proxy.core.http.chunked import CHUNKS_PER_CALL, LAST_CHUNK
from switch_proxy.http1.client_connection import ClientConnection
from switch_proxy.http1.turns import Turns
from tests.shell.http1.raw_peer import working
from tests.shell.http1.tokens import access_token
from tests.shell.http1.world import until

if TYPE_CHECKING:
    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.world import World

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PUT = b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TRACE = b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n"
INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"
TINY = b"1\r\na\r\n"
MOST_INTERIM = 1000
PER_TURN = 25
"""Requests that are answered at once, and interim responses, of one connection in one turn: at most."""


async def warm_world() -> MemoryWorld:
    """Return a world with an idle upstream connection, so that requests are sent at once."""
    world = MemoryWorld([Reply(pieces=[OK])])
    world.client_transport.receive(GET)
    await world.settle()
    world.channels[0].transport.written.clear()
    world.client_transport.written.clear()
    return world


async def parts_in_each_turn(transport: MemoryTransport, part: bytes) -> list[int]:
    """Let the loop turn until nothing more is written; return how many parts were written before, and in each turn."""
    counts = [transport.written.count(part)]
    still = 0
    while still < 6:
        await asyncio.sleep(0)
        count = transport.written.count(part)
        still = 0 if count > sum(counts) else still + 1
        counts.append(count - sum(counts))
    return counts


def another_client(world: MemoryWorld) -> MemoryTransport:
    client = ClientConnection(world.context, clients=world.clients, on_opened=lambda: None, on_closed=lambda: None)
    transport = MemoryTransport(client)
    client.connection_made(transport)
    return transport


async def test_an_upload_of_tiny_chunks_passes_in_shares() -> None:
    world = await warm_world()
    world.client_transport.receive(PUT + b"1\r\n~\r\n" * 5000)
    assert not world.client_transport.is_reading()
    counts = await parts_in_each_turn(world.channels[0].transport, b"~")
    assert (sum(counts), max(counts)) == (5000, CHUNKS_PER_CALL)
    assert world.client_transport.is_reading()


async def test_a_download_of_tiny_chunks_passes_in_shares() -> None:
    world = await warm_world()
    world.client_transport.receive(GET)
    upstream = world.channels[0].transport
    upstream.receive(CHUNKED + b"1\r\n~\r\n" * 5000)
    assert not upstream.is_reading()
    counts = await parts_in_each_turn(world.client_transport, b"~")
    assert (sum(counts), max(counts)) == (5000, CHUNKS_PER_CALL)
    assert upstream.is_reading()
    upstream.receive(LAST_CHUNK)
    assert world.client_transport.written.endswith(LAST_CHUNK)
    assert world.route.pool.idle == 1


async def test_interim_responses_pass_in_shares() -> None:
    world = await warm_world()
    world.client_transport.receive(GET)
    upstream = world.channels[0].transport
    upstream.receive(INTERIM * 600)
    assert not upstream.is_reading()
    counts = await parts_in_each_turn(world.client_transport, INTERIM)
    assert sum(counts) == 600
    assert max(counts) <= PER_TURN
    assert upstream.is_reading()


@pytest.mark.parametrize(
    ("count", "status"),
    [
        pytest.param(MOST_INTERIM, b"200", id="as many as may be"),
        pytest.param(MOST_INTERIM + 1, b"502", id="one more"),
        pytest.param(20_000, b"502", id="a flood"),
    ],
)
async def test_a_request_gets_no_more_interim_responses_than_a_thousand(count: int, status: bytes) -> None:
    """They cost the proxy work, and no client waits for so many."""
    world = await warm_world()
    world.client_transport.receive(GET)
    world.channels[0].transport.receive(INTERIM * count + OK)
    await world.settle()
    passed, _, final = bytes(world.client_transport.written).rpartition(INTERIM)
    assert final[9:12] == status
    assert (passed + INTERIM).count(INTERIM) == min(count, MOST_INTERIM)


async def test_the_interim_responses_of_one_request_do_not_count_for_the_next() -> None:
    world = await warm_world()
    for _ in range(2):
        world.client_transport.written.clear()
        world.client_transport.receive(GET)
        world.channels[0].transport.receive(INTERIM * MOST_INTERIM + OK)
        await world.settle()
        assert world.client_transport.written.endswith(OK[-2:])


async def test_requests_that_the_proxy_answers_itself_are_answered_in_shares() -> None:
    """A refusal costs the client nothing to wait for: a pipeline of them would be answered in one go."""
    world = await warm_world()
    world.client_transport.receive(TRACE * 300)
    assert not world.client_transport.is_reading()
    counts = await parts_in_each_turn(world.client_transport, b"HTTP/1.1 405 ")
    assert sum(counts) == 300
    assert max(counts) <= PER_TURN
    assert world.client_transport.is_reading()


async def test_of_many_connections_that_have_put_work_off_one_goes_on_in_a_turn() -> None:
    """What others wait for does not grow with the number of those that send small parts."""
    world = await warm_world()
    transports = [another_client(world) for _ in range(8)]
    for transport in transports:
        transport.receive(TRACE * 100)
    told = sum(transport.written.count(b"HTTP/1.1 405 ") for transport in transports)
    while told < 800:
        await asyncio.sleep(0)
        now = sum(transport.written.count(b"HTTP/1.1 405 ") for transport in transports)
        assert now - told <= PER_TURN
        assert now > told
        told = now


async def test_a_client_that_asks_once_is_served_before_those_that_have_put_work_off() -> None:
    world = await warm_world()
    flood = another_client(world)
    flood.receive(TRACE * 300)
    world.client_transport.receive(TRACE)
    assert world.client_transport.written.startswith(b"HTTP/1.1 405 ")
    assert flood.written.count(b"HTTP/1.1 405 ") < 300


async def test_an_upload_of_tiny_chunks_that_waited_for_a_token_arrives_whole(start_world: StartWorld) -> None:
    """What is put off waits until the request can be sent on."""
    world = await start_world(token=None)
    client = await world.client()
    async with working(client.send(PUT + TINY * 20_000 + LAST_CHUNK)):
        await until(lambda: world.tokens.waiting == 1, lambda: "nobody waits for a token")
        world.tokens.give(access_token())
        server = await world.upstream.accept()
        await server.receive_head()
        assert await chunked_body(server) == b"a" * 20_000
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"


async def test_an_upload_of_tiny_chunks_with_another_request_behind_it_arrives_whole(world: World) -> None:
    client, server, _ = await world.begin(PUT)
    async with working(client.send(TINY * 20_000 + LAST_CHUNK + GET)):
        assert await chunked_body(server) == b"a" * 20_000
        await server.send(OK)
        assert (await client.receive_response()).body == b"hi"
        await server.receive_head()
        await server.send(OK)
        assert (await client.receive_response()).body == b"hi"


async def test_a_download_of_tiny_chunks_whose_upstream_closes_behind_it_arrives_whole(world: World) -> None:
    """The end of the connection is not noticed before what came ahead of it is passed on."""
    client, server, _ = await world.begin(GET)
    async with working(send_and_close(server, CHUNKED + TINY * 20_000 + LAST_CHUNK)):
        assert (await client.receive_response()).body == b"a" * 20_000


async def test_a_download_of_tiny_chunks_that_is_cut_is_cut_for_the_client(world: World) -> None:
    client, server, _ = await world.begin(GET)
    async with working(send_and_close(server, CHUNKED + TINY * 20_000)):
        assert not (await client.receive_to_end()).endswith(LAST_CHUNK)
    assert (await world.record()).failure == "upstream-incomplete"


@pytest.mark.parametrize("is_orderly", [True, False], ids=["in order", "broken"])
async def test_an_end_that_comes_while_a_response_is_put_off_counts_after_what_came_before(is_orderly: bool) -> None:
    """A TLS connection may be told of its end although nobody reads from it."""
    world = await warm_world()
    world.client_transport.receive(GET)
    upstream = world.channels[0].transport
    upstream.receive(CHUNKED + TINY * 2000 + LAST_CHUNK)
    if is_orderly:
        upstream.receive_eof()
    upstream.lose(None)
    await world.settle()
    assert world.client_transport.written.endswith(b"\r\n" + LAST_CHUNK)
    assert world.route.pool.idle == 0


async def test_an_end_in_the_middle_of_a_response_that_is_put_off_cuts_it() -> None:
    world = await warm_world()
    world.client_transport.receive(GET)
    upstream = world.channels[0].transport
    upstream.receive(CHUNKED + TINY * 2000)
    upstream.receive_eof()
    await world.settle()
    assert world.records[-1].failure == "upstream-incomplete"
    assert world.records[-1].response_body_bytes == 2000


async def test_a_client_that_stands_still_is_not_written_to_when_its_response_has_its_turn() -> None:
    world = await warm_world()
    world.client_transport.receive(GET)
    upstream = world.channels[0].transport
    upstream.receive(CHUNKED + b"1\r\n~\r\n" * 5000)
    world.client.pause_writing()
    before = world.client_transport.written.count(b"~")
    await world.settle()
    assert world.client_transport.written.count(b"~") == before
    world.client.resume_writing()
    await world.settle()
    assert world.client_transport.written.count(b"~") == 5000
    assert upstream.is_reading()


async def test_draining_does_not_close_a_connection_that_waits_for_its_turn() -> None:
    """Its next response says that the connection ends; a plain end would look like the loss of a request."""
    world = await warm_world()
    world.client_transport.receive(TRACE * 100)
    world.context.announces_close = world.context.stopped_accepting = True
    world.client.close_when_idle()
    assert not world.client_transport.is_closing()
    await world.settle()
    first, _, last = bytes(world.client_transport.written).rpartition(b"HTTP/1.1 405 ")
    assert first.count(b"HTTP/1.1 405 ") > 0
    assert b"Connection: close" not in first
    assert b"Connection: close" in last


async def test_draining_closes_a_connection_that_waited_for_its_turn_with_nothing_left_to_read() -> None:
    world = await warm_world()
    count = 0
    while world.client_transport.is_reading():
        count += 1
        world.client_transport.receive(TRACE * count)
    world.context.stopped_accepting = True
    await world.settle()
    assert world.client_transport.is_closing()


async def test_a_client_that_ends_its_side_behind_a_pipeline_gets_all_its_responses(world: World) -> None:
    client = await world.client()
    await client.send(TRACE * 100)
    client.socket.shutdown(1)
    assert (await client.receive_to_end()).count(b"HTTP/1.1 405 ") == 100


@pytest.mark.parametrize("size", [1, 2, 3, 1000], ids=lambda size: f"{size} at a time")
async def test_empty_lines_before_a_request_are_passed_over_up_to_a_heads_size(size: int) -> None:
    """RFC 9112 §2.2 asks for one; endless ones would be work without a request."""
    world = await warm_world()
    for lines in (b"\r\n" * 32_768, b"\r\n" * 32_768):
        for piece in split(lines, size):
            world.client_transport.receive(piece)
        world.client_transport.receive(TRACE)
    await world.settle()
    assert world.client_transport.written.count(b"HTTP/1.1 405 ") == 2
    for piece in split(b"\r\n" * 32_769, size):
        world.client_transport.receive(piece)
    await world.settle()
    assert world.client_transport.written.count(b"HTTP/1.1 400 ") == 1


def split(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


async def test_work_that_fails_in_its_turn_is_given_up_and_told_of_and_the_others_go_on() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    done: list[str] = []

    class Work:
        def __init__(self, name: str) -> None:
            self.name = name

        def go_on(self) -> None:
            if self.name == "bad":
                raise ValueError("made up")
            done.append(self.name)

        def abort(self) -> None:
            done.append(f"{self.name} given up")

    turns = Turns()
    for name in ("first", "bad", "last"):
        turns.put_off(Work(name))
    for _ in range(3):
        await asyncio.sleep(0)
    assert done == ["first", "bad given up", "last"]
    assert [str(context["exception"]) for context in told] == ["made up"]


async def chunked_body(peer: Any) -> bytes:
    body = []
    while chunk := await peer.receive_chunk():
        body.append(chunk)
    assert await peer.receive(2) == b"\r\n"
    return b"".join(body)


async def send_and_close(peer: Any, data: bytes) -> None:
    await peer.send(data)
    peer.socket.close()
