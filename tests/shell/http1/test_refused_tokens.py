"""The upstream answers 401 or 403: one more try with a newer token, where that can help, and never a loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from switch_proxy.core.config.models import LimitSettings, PoolSettings
from tests.shell.http1.test_broken_upstreams import kind
from tests.shell.http1.tokens import access_token

if TYPE_CHECKING:
    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.world import World

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
REFUSAL = b"HTTP/1.1 401 Unauthorized\r\nX-Api: a\r\nContent-Length: 4\r\n\r\nnope"
NEWER = access_token("newer", generation=2)


@pytest.fixture
async def world(start_world: StartWorld) -> World:
    """One in which a newer token is being fetched, once the first is refused."""
    world = await start_world()
    world.tokens.has_newer = True
    return world


def post(size: int) -> bytes:
    return b"POST /readings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + b"r" * size


async def test_a_request_whose_token_is_refused_is_sent_again_with_the_newer_one(world: World) -> None:
    """The client sees nothing of it."""
    client, server, head = await world.begin(GET)
    assert head.value("Authorization") != b"Bearer newer"
    await server.send(REFUSAL)
    await world.until(lambda _: world.tokens.waiting == 1)
    assert world.tokens.rejected == [1]
    world.tokens.give(NEWER)
    again = await server.receive_head()
    assert (again.start, again.value("Authorization")) == (b"GET / HTTP/1.1", b"Bearer newer")
    assert again.value("X-Request-Id") == head.value("X-Request-Id")
    await server.send(OK)
    response = await client.receive_response()
    assert (response.status, response.body) == (200, b"hi")
    counts = world.snapshot()
    assert (counts.token_refusals, counts.replays) == (1, 1)


async def test_a_token_that_has_been_replaced_meanwhile_is_not_waited_for(world: World) -> None:
    client, server, _ = await world.begin(GET)
    world.tokens.give(NEWER)
    world.tokens.has_newer = False
    await server.send(REFUSAL)
    assert (await server.receive_head()).value("Authorization") == b"Bearer newer"
    await server.send(OK)
    assert (await client.receive_response()).status == 200
    assert world.tokens.waiting == 0


async def test_the_second_401_passes_as_it_came(world: World) -> None:
    """It is not about the token then; and the newer token is not refused in its turn, which could go on for ever."""
    client, server, _ = await world.begin(GET)
    world.tokens.give(NEWER)
    await server.send(REFUSAL)
    await server.receive_head()
    await server.send(b"HTTP/1.1 401 Unauthorized\r\nX-Api: b\r\nContent-Length: 5\r\n\r\nstill")
    response = await client.receive_response()
    assert (response.status, response.head.value("X-Api"), response.body) == (401, b"b", b"still")
    assert world.tokens.rejected == [1]


async def test_where_no_newer_token_is_to_be_had_the_401_passes_as_it_came(world: World) -> None:
    world.tokens.has_newer = False
    client, server, _ = await world.begin(GET)
    await server.send(REFUSAL)
    response = await client.receive_response()
    assert (response.status, response.head.value("X-Api"), response.body) == (401, b"a", b"nope")
    # Both connections are as good as before.
    await client.send(GET)
    await server.receive_head()
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"


SAME = access_token(generation=2)


@pytest.mark.parametrize("request_", [GET, post(4)], ids=["GET", "POST"])
@pytest.mark.parametrize("is_at_hand", [True, False], ids=["at hand", "awaited"])
async def test_a_newer_token_of_the_same_text_is_not_tried(world: World, request_: bytes, *, is_at_hand: bool) -> None:
    """An authorization server that caches grants the refused token again: the API gets the request once."""
    client, server, _ = await world.begin(request_)
    if is_at_hand:
        world.tokens.give(SAME)
    await server.send(REFUSAL)
    if not is_at_hand:
        await world.until(lambda _: world.tokens.waiting == 1)
        world.tokens.give(SAME)
    response = await client.receive_response()
    assert (response.status, response.head.value("X-Api"), response.body) == (401, b"a", b"nope")
    assert world.snapshot().replays == 0
    await client.send(GET)
    await server.receive_head()
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([REFUSAL[:-4], b"no", b"pe"], id="in pieces"),
        pytest.param(
            [b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnope\r\n", b"0\r\n\r\n"],
            id="chunked",
        ),
        pytest.param([b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"], id="empty"),
    ],
)
async def test_a_401_is_known_in_any_framing(world: World, pieces: list[bytes]) -> None:
    """RFC 9112 §6: its body is read to the end, so that the connection can serve the second try."""
    client, server, _ = await world.begin(GET)
    world.tokens.give(NEWER)
    for piece in pieces:
        await server.send(piece)
    await server.receive_head()
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"


async def test_a_401_that_ends_with_the_connection_is_followed_by_a_new_one(world: World) -> None:
    client, server, _ = await world.begin(GET)
    world.tokens.give(NEWER)
    await server.send(b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\nnope")
    await server.close()
    again = await world.upstream.accept()
    assert (await again.receive_head()).value("Authorization") == b"Bearer newer"
    await again.send(OK)
    assert (await client.receive_response()).body == b"hi"


async def test_a_body_that_is_still_at_hand_is_sent_again(world: World) -> None:
    """Also of a POST: who answers 401 has not acted on it."""
    client, server, _ = await world.begin(post(3000))
    assert await server.receive(3000) == b"r" * 3000
    world.tokens.give(NEWER)
    await server.send(REFUSAL)
    assert (await server.receive_head()).value("Authorization") == b"Bearer newer"
    assert await server.receive(3000) == b"r" * 3000
    await server.send(OK)
    assert (await client.receive_response()).status == 200


async def test_a_chunked_body_that_is_still_at_hand_is_sent_again(world: World) -> None:
    client, server, _ = await world.begin(
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    framed = b"3\r\nabc\r\n0\r\n\r\n"
    assert await server.receive(len(framed)) == framed
    world.tokens.give(NEWER)
    await server.send(REFUSAL)
    await server.receive_head()
    assert await server.receive(len(framed)) == framed
    await server.send(OK)
    assert (await client.receive_response()).status == 200


async def test_a_body_that_was_not_kept_whole_is_sent_once(start_world: StartWorld) -> None:
    """The 401 passes; the token is refused all the same, so that the next request has a better one."""
    world = await start_world(limits=LimitSettings(replay_buffer=999))
    client, server, _ = await world.begin(post(1000))
    await server.receive(1000)
    world.tokens.give(NEWER)
    await server.send(REFUSAL)
    assert (await client.receive_response()).status == 401
    assert world.tokens.rejected == [1]
    assert world.snapshot().replays == 0


async def test_a_401_before_the_body_has_come_passes_at_once(world: World) -> None:
    """RFC 9112 §9.6: the client may stop sending."""
    client, server, _ = await world.begin(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe")
    world.tokens.give(NEWER)
    await server.send(REFUSAL)
    response = await client.receive_response()
    assert (response.status, response.head.value("Connection")) == (401, b"close")


@pytest.mark.parametrize(
    "challenge", [b'Bearer error="invalid_request"', b'Basic realm="api"', b'Bearer error="insufficient_scope"']
)
async def test_a_401_that_is_not_about_the_token_passes(world: World, challenge: bytes) -> None:
    """RFC 6750 §3.1."""
    client, server, _ = await world.begin(GET)
    world.tokens.give(NEWER)
    await server.send(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: " + challenge + b"\r\nContent-Length: 0\r\n\r\n")
    assert (await client.receive_response()).head.value("WWW-Authenticate") == challenge
    assert world.tokens.rejected == []


async def test_a_403_for_want_of_scope_passes_and_is_counted(world: World) -> None:
    """RFC 6750 §3.1: another token would be the same."""
    client, server, _ = await world.begin(GET)
    await server.send(
        b'HTTP/1.1 403 Forbidden\r\nWWW-Authenticate: Bearer error="insufficient_scope"\r\nContent-Length: 0\r\n\r\n'
    )
    assert (await client.receive_response()).status == 403
    assert world.tokens.rejected == []
    assert world.snapshot().scope_refusals == 1


async def test_any_other_403_passes_and_is_not_counted(world: World) -> None:
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    assert (await client.receive_response()).status == 403
    assert world.snapshot().scope_refusals == 0


async def test_a_401_too_long_to_be_held_passes(world: World) -> None:
    """What is held costs memory; the token is refused all the same."""
    client, server, _ = await world.begin(GET)
    size = 70_000
    await server.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n" % size)
    await server.send(b"n" * size)
    response = await client.receive_response()
    assert (response.status, len(response.body)) == (401, size)
    assert world.tokens.rejected == [1]


async def test_a_401_that_breaks_off_breaks_off_for_the_client(world: World) -> None:
    client, server, _ = await world.begin(GET)
    await server.send(REFUSAL[:-2])
    await server.close()
    answer = await client.receive_to_any_end()
    assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\nX-Api: a\r\n")
    assert answer.endswith(b"\r\n\r\nno")


async def test_a_client_that_goes_away_while_a_newer_token_is_awaited_ends_it(world: World) -> None:
    client, server, _ = await world.begin(GET)
    await server.send(REFUSAL)
    await world.until(lambda _: world.tokens.waiting == 1)
    client.reset()
    await world.until(lambda now: now.requests_in_flight == 0)
    assert world.tokens.waiting == 0
    [record] = world.records.all
    assert (record.status, record.failure) == (0, "client-gone")


async def test_while_a_newer_token_is_awaited_the_connection_serves_others(start_world: StartWorld) -> None:
    """It holds no place in the pool meanwhile."""
    world = await start_world(pool=PoolSettings(max_connections=1))
    world.tokens.has_newer = True
    refused, server, _ = await world.begin(GET)
    await server.send(REFUSAL)
    await world.until(lambda _: world.tokens.waiting == 1)
    other = await world.client()
    await other.send(GET)
    await server.receive_head()
    await server.send(OK)
    assert (await other.receive_response()).body == b"hi"
    world.tokens.give(NEWER)
    await server.receive_head()
    await server.send(OK)
    assert (await refused.receive_response()).body == b"hi"


async def test_a_stop_while_a_newer_token_is_awaited_delivers_the_401(world: World) -> None:
    client, server, _ = await world.begin(GET)
    await server.send(REFUSAL)
    await world.until(lambda _: world.tokens.waiting == 1)
    world.listener.stop_accepting()
    assert await world.listener.drain(0.0) == 1
    assert (await client.receive_response()).status == 401


async def test_a_second_try_that_cannot_be_sent_is_a_problem_of_its_own(world: World) -> None:
    client, server, _ = await world.begin(GET)
    world.tokens.give(NEWER)
    world.upstream.stop_listening()
    await server.send(b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert kind(await client.receive_response()) == (502, "upstream-refused")
