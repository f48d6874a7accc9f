"""Responses before the final one (1xx), Expect, and final ones that come before the request is whole."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from switch_proxy.core.config.models import TimeoutSettings
from tests.shell.http1.raw_peer import turn, working
from tests.shell.http1.test_broken_upstreams import kind
from tests.shell.http1.world import until

if TYPE_CHECKING:
    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.world import World

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
EXPECT = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nlink:</b>\r\n\r\n",
        b"HTTP/1.1 104 Upload Resumption Supported\r\n\r\n",
        b"HTTP/1.1 199 Odd\r\n\r\n",
    ],
    ids=lambda interim: interim.split(b" ")[1].decode(),
)
async def test_an_interim_response_passes_as_it_is_before_the_final_one(world: World, interim: bytes) -> None:
    """RFC 9110 §15.2: a proxy forwards 1xx responses."""
    client, server, _ = await world.begin(GET)
    await server.send(interim)
    assert await client.receive(len(interim)) == interim
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"


async def test_several_interim_responses_pass_in_order_even_with_the_final_one_in_one_segment(world: World) -> None:
    client, server, _ = await world.begin(GET)
    interims = (
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    )
    await server.send(interims + OK)
    assert await client.receive(len(interims)) == interims
    assert (await client.receive_response()).body == b"hi"


async def test_lines_for_one_hop_do_not_pass_in_an_interim_response(world: World) -> None:
    """RFC 9110 §7.6.1; §8.6 for the length, which an interim response cannot have."""
    client, server, _ = await world.begin(GET)
    await server.send(
        b"HTTP/1.1 103 Early Hints\r\nConnection: x-a\r\nX-A: b\r\nContent-Length: 0\r\nLink: a\r\n\r\n" + OK
    )
    assert await client.receive_until(b"\r\n\r\n") == b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
    assert (await client.receive_response()).body == b"hi"


async def test_an_http_1_0_client_gets_no_interim_response(world: World) -> None:
    """RFC 9110 §15.2: HTTP/1.0 does not have them."""
    client, server, _ = await world.begin(b"GET / HTTP/1.0\r\n\r\n")
    await server.send(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK)
    response = await client.receive_response()
    assert (response.status, response.body) == (200, b"hi")


# Expect.


async def test_a_client_that_expects_100_gets_it_from_the_upstream_and_then_sends_its_body(world: World) -> None:
    """RFC 9110 §10.1.1: the expectation is the upstream's to meet."""
    client, server, head = await world.begin(EXPECT)
    assert head.value("Expect") == b"100-continue"
    await server.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert (await client.receive_head()).status == 100
    await client.send(b"hello")
    assert await server.receive(5) == b"hello"
    await server.send(OK)
    response = await client.receive_response()
    assert (response.status, response.head.value("Connection")) == (200, None)


async def test_the_proxy_does_not_answer_100_by_itself(world: World) -> None:
    """RFC 9110 §10.1.1: the client would send a body that the upstream may not want."""
    client, server, _ = await world.begin(EXPECT)
    await server.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    assert (await client.receive_head()).status == 103


async def test_a_client_that_does_not_wait_for_100_has_its_body_passed_on(world: World) -> None:
    """RFC 9110 §10.1.1: a client need not wait for ever."""
    client, server, _ = await world.begin(EXPECT)
    await client.send(b"hello")
    assert await server.receive(5) == b"hello"
    await server.send(OK)
    assert (await client.receive_response()).status == 200


async def test_an_expectation_that_is_not_met_is_a_417_and_the_connection_is_closed(world: World) -> None:
    """RFC 9110 §10.1.1: whether the body still comes cannot be known."""
    client, server, _ = await world.begin(EXPECT)
    await server.send(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
    response = await client.receive_response()
    assert (response.status, response.head.value("Connection")) == (417, b"close")
    assert await client.receive_to_end() == b""
    await server.receive_to_any_end()


async def test_an_expectation_that_the_upstream_leaves_unanswered_is_a_504(start_world: StartWorld) -> None:
    world = await start_world(timeouts=TimeoutSettings(response_head=0.04))
    client, _, _ = await world.begin(EXPECT)
    assert kind(await client.receive_response()) == (504, "upstream-timeout")
    assert await client.receive_to_end() == b""


async def test_an_expectation_of_an_http_1_0_client_is_ignored(world: World) -> None:
    """RFC 9110 §10.1.1."""
    client, server, head = await world.begin(
        b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"
    )
    assert head.value("Expect") is None
    assert await server.receive(5) == b"hello"
    await server.send(OK)
    assert (await client.receive_response()).status == 200


async def test_an_unknown_expectation_passes(world: World) -> None:
    """RFC 9110 §10.1.1: 417 is the upstream's choice."""
    _, _, head = await world.begin(b"GET / HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\n\r\n")
    assert head.value("Expect") == b"200-ok"


# Final responses that come early.


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 1000000", b"Transfer-Encoding: chunked"], ids=["length", "chunked"]
)
async def test_a_final_response_while_the_body_still_comes_closes_the_connection(world: World, framing: bytes) -> None:
    """RFC 9112 §9.3, §9.6: the rest of the body would otherwise have to be waited for, perhaps for ever."""
    client, server, _ = await world.begin(b"POST / HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n")
    await server.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
    response = await client.receive_response()
    assert (response.status, response.body, response.head.value("Connection")) == (413, b"no", b"close")
    assert await client.receive_to_end() == b""
    await server.receive_to_any_end()


async def test_a_client_can_read_an_early_response_though_it_goes_on_sending(world: World) -> None:
    """RFC 9112 §9.6: what is still under way is swallowed, or a reset would destroy the answer."""
    client, server, _ = await world.begin(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n")
    await server.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    async with working(client.send(bytes(8_000_000))):
        response = await client.receive_response()
        assert (response.status, response.body) == (403, b"no")
        assert await client.receive_to_end() == b""


async def test_an_early_response_and_the_body_stream_side_by_side(world: World) -> None:
    """Both directions are open at once, as in a conversation."""
    client, server, _ = await world.begin(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    await server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert (await client.receive_head()).status == 200
    for word in (b"one", b"two", b"six"):
        await client.send(b"3\r\n" + word + b"\r\n")
        assert await server.receive(8) == b"3\r\n" + word + b"\r\n"
        await server.send(b"3\r\n" + word.upper() + b"\r\n")
        assert await client.receive_chunk() == word.upper()
    await client.send(b"0\r\n\r\n")
    assert await server.receive(5) == b"0\r\n\r\n"
    await server.send(b"0\r\n\r\n")
    assert await client.receive_to_end() == b"0\r\n\r\n"


async def test_a_malformed_chunk_after_an_early_response_has_begun_cuts_both_sides(world: World) -> None:
    """RFC 9112 §8: a 400 inside a 200 would look like its body."""
    client, server, _ = await world.begin(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    await server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
    await client.receive_head()
    assert await client.receive_chunk() == b"hi"
    await client.send(b"nonsense\r\n")
    assert await client.receive_to_any_end() == b""
    assert await server.receive_to_any_end() == b""
    assert (await world.record()).failure == "request-malformed"


async def test_an_upstream_that_closes_while_the_body_still_comes_has_its_answer_passed(world: World) -> None:
    """RFC 9112 §9.5: a server may answer and close without reading; the answer must not be lost to the break."""
    client, server, _ = await world.begin(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc")
    assert await server.receive(3) == b"abc"
    await server.send(b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
    await server.close()
    response = await client.receive_response()
    assert (response.status, response.body) == (401, b"no")


@pytest.mark.parametrize("turns", range(5))
async def test_an_upstream_that_refuses_a_body_and_closes_without_reading_it_has_its_answer_passed(
    world: World, turns: int
) -> None:
    """
    RFC 9112 §9.5: a sender of a body watches for a response while it sends.

    The close with unread bytes is a reset, so the next write fails; what had arrived before can still be read.
    """
    client, server, _ = await world.begin(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n")

    async def send_all() -> None:
        with suppress(ConnectionError):
            await client.stream.write(bytes(8_000_000))

    async with working(send_all()):
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.send(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
        server.truncate()
        response = await client.receive_response()
        assert (response.status, response.body) == (413, b"no")


async def test_a_slow_client_gets_an_early_response_in_full(world: World) -> None:
    """RFC 9112 §9.6: the time to linger begins when the last byte of the response has left."""
    client = await world.narrow_client()
    await client.send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
    server = await world.upstream.accept()
    await server.receive_head()
    body = bytes(100_000)
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + body[:50_000], body[50_000:])
    await world.record()
    (connection,) = world.listener._clients
    world.pass_time(10)
    assert len((await client.receive_response()).body) == len(body)
    await until(lambda: not connection.transport.get_write_buffer_size(), lambda: "the last bytes have not left")
    # One look finds that they have left, and the next is within the time that begins then.
    world.listener.check_time()
    world.listener.check_time()
    assert not connection.transport.is_closing()
    world.pass_time(10)
    assert await client.receive_to_end() == b""


async def test_a_connection_whose_response_comes_before_the_last_of_the_body_is_sent_is_not_used_again(
    world: World,
) -> None:
    """The upstream would take the next request for the body that it never got (RFC 9112 §9.3)."""
    client, server, _ = await world.begin(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
    # Both are there before the proxy looks: the body first, which is held up because there is something to read.
    client.socket.send(b"hello")
    server.socket.send(b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\nno")
    response = await client.receive_response()
    assert (response.status, response.body) == (409, b"no")
    assert await server.receive_to_any_end() in {b"", b"hello"}
    await client.send(GET)
    fresh = await world.upstream.accept()
    await fresh.receive_head()
    await fresh.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    assert (await client.receive_response()).body == b"hi"


# The limit on the response's head is one on the whole of it.


@pytest.mark.parametrize(
    "drop",
    [b"X", b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"],
    ids=["a byte", "an interim response", "the word to continue"],
)
async def test_a_head_that_drips_has_no_more_time_than_another(start_world: StartWorld, drop: bytes) -> None:
    """Neither bytes of a head nor interim responses extend it: an upstream that goes on like this is not at work."""
    world = await start_world(timeouts=TimeoutSettings(response_head=10))
    client, server, _ = await world.begin(GET)
    if drop == b"X":
        await server.send(b"HTTP/1.1 200 OK\r\nX-A: ")
    for _ in range(3):
        await server.send(drop)
        await turn()
        world.pass_time(3)
    assert not world.records.all
    await server.send(drop)
    await turn()
    world.pass_time(2)
    if drop != b"X":
        assert await client.receive(4 * len(drop)) == 4 * drop
    assert kind(await client.receive_response()) == (504, "upstream-timeout")


async def test_once_told_to_continue_the_client_has_the_time_of_a_body(start_world: StartWorld) -> None:
    """The limit on the head begins anew when the request has ended."""
    world = await start_world(timeouts=TimeoutSettings(response_head=10, idle=30))
    client, server, _ = await world.begin(EXPECT)
    world.pass_time(9)
    await server.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    await client.receive_head()
    world.pass_time(29)
    await client.send(b"hello")
    assert await server.receive(5) == b"hello"
    world.pass_time(9)
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"


class FailingClient:
    """A client connection whose look at the time fails."""

    is_busy = False
    busy_route = None

    def __init__(self) -> None:
        self.is_aborted = False

    def check_time(self, now: float) -> None:
        raise ZeroDivisionError

    def abort(self) -> None:
        self.is_aborted = True


async def test_a_client_that_fails_in_the_timers_round_does_not_skip_the_others(start_world: StartWorld) -> None:
    """Whatever the error is: it ends one connection, it is logged, and the others have their time limits."""
    world = await start_world(timeouts=TimeoutSettings(response_head=10))
    clients = [(await world.begin(GET))[0] for _ in range(3)]
    failing = FailingClient()
    known: Any = world.listener._clients
    known.add(failing)
    world.pass_time(11)
    known.discard(failing)
    for client in clients:
        assert kind(await client.receive_response()) == (504, "upstream-timeout")
    assert failing.is_aborted
    (told,) = world.unexpected
    assert isinstance(told["exception"], ZeroDivisionError)
    world.unexpected.clear()
