"""Pooled connections that the upstream has closed in the meantime: what is sent again, and what is not."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from switch_proxy.core.config.models import PoolSettings
from tests.shell.http1.test_broken_upstreams import kind
from tests.shell.http1.tokens import access_token

if TYPE_CHECKING:
    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.raw_client import RawClient
    from tests.shell.http1.raw_upstream import UpstreamSide
    from tests.shell.http1.world import World

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def used_once(world: World) -> tuple[RawClient, UpstreamSide]:
    """Return a client, and the upstream's end of the pooled connection that its first request used."""
    client, server, _ = await world.begin(GET)
    await server.send(OK)
    await client.receive_response()
    assert world.snapshot().upstream_idle == 1
    world.records.all.clear()
    return client, server


REPEATED = {
    "GET": (GET, b""),
    "HEAD": (b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    "OPTIONS": (b"OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    "DELETE": (b"DELETE /1 HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    "PUT with its whole body": (b"PUT /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "GET with its whole body": (b"GET /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "PUT with its whole chunked body": (
        b"PUT /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-A: b\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX-A: b\r\n\r\n",
    ),
}


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(("request_", "body"), REPEATED.values(), ids=REPEATED.keys())
async def test_a_request_that_may_be_repeated_is_sent_again_on_a_fresh_connection(
    world: World, request_: bytes, body: bytes, is_reset: bool
) -> None:
    """RFC 9110 §9.2.2: idempotent methods, when the connection ends before any response."""
    client, stale = await used_once(world)
    await client.send(request_)
    first = await stale.receive_head()
    if is_reset:
        stale.reset()
    else:
        assert await stale.receive(len(body)) == body
        await stale.close()
    fresh = await world.upstream.accept()
    second = await fresh.receive_head()
    assert second.raw == first.raw
    assert await fresh.receive(len(body)) == body
    await fresh.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert (await client.receive_head()).status == 200
    assert world.snapshot().retries == 1
    assert (await world.record()).failure is None


async def test_a_repeated_request_carries_the_token_of_that_moment(world: World) -> None:
    client, stale = await used_once(world)
    await client.send(GET)
    await stale.receive_head()
    world.tokens.give(access_token("second", generation=2))
    await stale.close()
    fresh = await world.upstream.accept()
    assert (await fresh.receive_head()).value("Authorization") == b"Bearer second"


NOT_REPEATED = {
    "POST": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    "POST without body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "PATCH": b"PATCH / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    "unknown method": b"PROPFIND / HTTP/1.1\r\nHost: x\r\n\r\n",
    "PUT of which half the body has come": b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel",
    "PUT of which half the chunks have come": (
        b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    ),
    "PUT with a large body": b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n" + bytes(70_000),
    "PUT that waits for 100": b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
}


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("request_", NOT_REPEATED.values(), ids=NOT_REPEATED.keys())
async def test_a_request_that_may_not_be_repeated_is_a_502(world: World, request_: bytes, is_reset: bool) -> None:
    """RFC 9110 §9.2.2: the upstream may have acted on it; and what is not at hand any more cannot be sent again."""
    client, stale = await used_once(world)
    await client.send(request_)
    await stale.receive_head()
    if is_reset:
        stale.reset()
    else:
        await stale.receive(len(request_.partition(b"\r\n\r\n")[2]))
        await stale.close()
    assert kind(await client.receive_response()) == (502, "upstream-closed")
    assert not world.upstream.has_connection_waiting()
    assert world.snapshot().retries == 0


async def test_a_request_is_sent_again_only_once(world: World) -> None:
    """RFC 9110 §9.2.2: no automatic repetition of a repetition."""
    client, stale = await used_once(world)
    await client.send(GET)
    await stale.receive_head()
    await stale.close()
    fresh = await world.upstream.accept()
    await fresh.receive_head()
    await fresh.close()
    assert kind(await client.receive_response()) == (502, "upstream-closed")
    assert not world.upstream.has_connection_waiting()
    assert world.snapshot().retries == 1


async def test_a_repetition_takes_a_fresh_connection_even_where_others_are_idle(world: World) -> None:
    """Idle ones of the same age are as likely to be stale."""
    first, first_side, _ = await world.begin(GET)
    second, second_side, _ = await world.begin(GET)
    for client, side in ((first, first_side), (second, second_side)):
        await side.send(OK)
        await client.receive_response()
    assert world.snapshot().upstream_idle == 2
    await first.send(GET)
    await second_side.receive_head()
    await second_side.close()
    fresh = await world.upstream.accept()
    await fresh.receive_head()
    await fresh.send(OK)
    assert (await first.receive_response()).body == b"hi"


async def test_a_connection_that_breaks_after_a_byte_of_the_answer_is_not_stale(world: World) -> None:
    """Something answered: it is the answer that broke."""
    client, used = await used_once(world)
    await client.send(GET)
    await used.receive_head()
    await used.send(b"H")
    await used.close()
    assert kind(await client.receive_response()) == (502, "upstream-closed")
    assert not world.upstream.has_connection_waiting()


async def test_a_connection_that_breaks_after_an_interim_response_is_not_stale(world: World) -> None:
    """The upstream had begun to work on it, and the client has been told so."""
    client, used = await used_once(world)
    await client.send(GET)
    await used.receive_head()
    await used.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    assert (await client.receive_head()).status == 103
    await used.close()
    assert kind(await client.receive_response()) == (502, "upstream-closed")
    assert not world.upstream.has_connection_waiting()


async def test_a_connection_whose_end_has_been_seen_is_not_used_at_all(world: World) -> None:
    """Not even POST fails on it."""
    client, stale = await used_once(world)
    await stale.close()
    await world.until(lambda now: now.upstream_idle == 0)
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
    fresh = await world.upstream.accept()
    await fresh.receive_head()
    assert await fresh.receive(5) == b"hello"
    assert world.snapshot().retries == 0


async def test_a_repetition_to_an_upstream_that_is_gone_is_a_502(world: World) -> None:
    client, stale = await used_once(world)
    world.upstream.stop_listening()
    await client.send(GET)
    await stale.receive_head()
    await stale.close()
    assert kind(await client.receive_response()) == (502, "upstream-refused")


async def test_a_client_that_goes_away_during_the_repetition_cancels_it(world: World) -> None:
    client, stale = await used_once(world)
    await client.send(GET)
    await stale.receive_head()
    await stale.close()
    fresh = await world.upstream.accept()
    await fresh.receive_head()
    await client.close()
    assert await fresh.receive_to_any_end() == b""
    assert (await world.record()).failure == "client-gone"


@pytest.mark.parametrize("turns", range(4))
async def test_a_client_that_goes_away_in_the_moment_of_the_repetition_leaves_nothing_behind(
    start_world: StartWorld, turns: int
) -> None:
    """
    The second way is looked for while the first is not yet put away.

    The connection is handed over by one who is done with it, and is ended by the upstream in the very next turn.
    """
    world = await start_world(pool=PoolSettings(max_connections=1))
    first, server, _ = await world.begin(GET)
    second = await world.client()
    await second.send(GET)
    await world.until(lambda now: now.waiting_for_upstream == 1)
    server.socket.send(OK)
    await asyncio.sleep(0)
    server.socket.shutdown(socket.SHUT_WR)
    for _ in range(turns):
        await asyncio.sleep(0)
    second.reset()
    assert (await first.receive_response()).body == b"hi"
    await world.until(lambda now: now.client_connections == 1)
    # With the one client gone and the other answered, nothing works any more.
    await world.until(lambda now: now.upstream_busy == 0)


async def test_a_request_behind_a_repeated_one_is_answered_after_it(world: World) -> None:
    """RFC 9112 §9.3.2."""
    client, stale = await used_once(world)
    await client.send(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await stale.receive_head()).start == b"GET /1 HTTP/1.1"
    await stale.close()
    fresh = await world.upstream.accept()
    for number in (1, 2):
        assert (await fresh.receive_head()).start == b"GET /%d HTTP/1.1" % number
        await fresh.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
        assert (await client.receive_response()).body == b"%d" % number
