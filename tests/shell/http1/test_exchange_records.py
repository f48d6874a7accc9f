"""What the observer is told of each exchange: once, with values that logs and metrics can rely on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from switch_proxy.core.config.models import TimeoutSettings
from tests.shell.http1.world import WALL

if TYPE_CHECKING:
    from switch_proxy.core.exchange_record import ExchangeRecord
    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.world import World

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def numbers(record: ExchangeRecord) -> tuple[int, int, int, str | None]:
    """Return status, bytes up, bytes down, failure."""
    return record.status, record.request_body_bytes, record.response_body_bytes, record.failure


async def test_a_whole_exchange(world: World) -> None:
    client, server, _ = await world.begin(
        b"PUT /readings/1?a=b HTTP/1.1\r\nHost: x\r\nX-Request-Id: r-1\r\nContent-Length: 5\r\n\r\nhello"
    )
    assert await server.receive(5) == b"hello"
    await server.send(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nhi")
    await client.receive_response()
    record = await world.record()
    assert (record.route, record.method, record.target) == ("switch-api", b"PUT", b"/readings/1?a=b")
    assert record.request_id == b"r-1"
    assert numbers(record) == (201, 5, 2, None)
    assert record.started_at_wall == WALL
    assert record.upstream_duration is not None
    assert 0 <= record.upstream_duration <= record.duration


async def test_the_target_is_the_clients_without_the_base_path(start_world: StartWorld) -> None:
    world = await start_world(base_path="/api")
    client, server, _ = await world.begin(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    await server.send(OK)
    await client.receive_response()
    assert (await world.record()).target == b"/a"


async def test_a_body_is_counted_without_its_chunks_framing(world: World) -> None:
    client, server, _ = await world.begin(
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nX-A: b\r\n\r\n"
    )
    await server.receive_until(b"X-A: b\r\n\r\n")
    await server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\nX-A: b\r\n\r\n")
    await client.receive_response()
    assert numbers(await world.record()) == (200, 6, 3, None)


async def test_a_body_that_ends_with_the_connection_is_counted(world: World) -> None:
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
    await server.close()
    await client.receive_response()
    assert numbers(await world.record()) == (200, 0, 5, None)


async def test_a_response_to_head_has_no_bytes(world: World) -> None:
    client, server, _ = await world.begin(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    await client.receive_head()
    assert numbers(await world.record()) == (200, 0, 0, None)


async def test_interim_responses_are_not_exchanges(world: World) -> None:
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    await client.receive_head()
    await client.receive_response()
    assert numbers(await world.record()) == (200, 0, 2, None)


async def test_each_pipelined_request_is_reported_in_order(world: World) -> None:
    client, server, _ = await world.begin(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % each for each in range(3)))
    for number in range(3):
        if number:
            await server.receive_head()
        await server.send(OK)
        await client.receive_response()
    assert [record.target for record in world.records.all] == [b"/0", b"/1", b"/2"]


async def test_a_response_of_the_upstreams_own_that_says_5xx_is_no_failure_of_the_proxys(world: World) -> None:
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
    await client.receive_response()
    assert numbers(await world.record()) == (503, 0, 0, None)


async def test_a_failure_before_the_response(world: World) -> None:
    client, server, _ = await world.begin(GET)
    server.reset()
    await client.receive_response()
    record = await world.record()
    assert (record.status, record.failure, record.upstream_duration) == (502, "upstream-closed", None)


async def test_a_cut_response_has_the_status_that_was_sent_and_the_bytes_that_were_passed(world: World) -> None:
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    await client.receive_head()
    server.reset()
    await client.receive_to_any_end()
    assert numbers(await world.record()) == (200, 0, 5, "upstream-incomplete")


async def test_a_client_that_goes_away_before_the_response_has_no_status(world: World) -> None:
    client, _, _ = await world.begin(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhello")
    client.reset()
    assert numbers(await world.record()) == (0, 5, 0, "client-gone")


async def test_a_failure_is_reported_with_what_the_client_is_told(world: World) -> None:
    """Apps throw the body away: the log must say it too."""
    client, server, _ = await world.begin(GET)
    server.reset()
    told = json.loads((await client.receive_response()).body)["detail"]
    assert (await world.record()).detail == told == "the upstream reset the connection before it responded"


async def test_bytes_that_are_no_request_are_reported_with_what_the_client_is_told(world: World) -> None:
    client = await world.client()
    await client.send(b"nonsense\r\n")
    told = json.loads((await client.receive_response()).body)["detail"]
    assert (await world.record()).detail == told == "the request line is not 'METHOD target HTTP/1.1' (RFC 9112 §3)"


@pytest.mark.parametrize(
    ("rest", "detail"),
    [
        pytest.param(None, "the upstream closed the connection in the middle of the response's body", id="closed"),
        pytest.param(b"no chunk\r\n", "in the chunked body of the upstream's response, ", id="malformed"),
    ],
)
async def test_a_response_that_is_cut_is_reported_with_the_cause(world: World, rest: bytes | None, detail: str) -> None:
    """Its client is told nothing but that it is cut."""
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    await client.receive_head()
    if rest is None:
        await server.close()
    else:
        await server.send(rest)
    await client.receive_to_any_end()
    assert str((await world.record()).detail).startswith(detail)


async def test_what_is_whole_has_no_detail(world: World) -> None:
    client, server, _ = await world.begin(GET)
    await server.send(OK)
    await client.receive_response()
    assert (await world.record()).detail is None


async def test_a_client_that_goes_away_is_reported_with_a_detail(world: World) -> None:
    client, _, _ = await world.begin(GET)
    client.reset()
    assert (await world.record()).detail == "the client closed the connection before it had the whole response"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000, 414),
        (b"nonsense\r\n\r\n", 400),
    ],
    ids=["no host", "line too long", "nonsense"],
)
async def test_bytes_that_are_no_request_are_reported_without_what_they_say(
    world: World, request_: bytes, status: int
) -> None:
    client = await world.client()
    await client.send(request_)
    await client.receive_response()
    record = await world.record()
    assert (record.method, record.target) == (b"-", b"-")
    assert (record.status, record.failure) == (status, "request-malformed")
    assert record.request_id


async def test_a_refused_request_is_reported_with_its_method_and_target(world: World) -> None:
    client = await world.client()
    await client.send(b"TRACE /a HTTP/1.1\r\nHost: x\r\n\r\n")
    await client.receive_response()
    record = await world.record()
    assert (record.method, record.target, record.status) == (b"TRACE", b"/a", 405)
    assert record.failure == "method-not-allowed"


async def test_an_answer_of_the_proxys_own_that_is_no_failure_is_none(world: World) -> None:
    client = await world.client()
    await client.send(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n")
    await client.receive_response()
    record = await world.record()
    assert (record.status, record.failure, record.upstream_duration) == (200, None, None)


async def test_a_repeated_request_is_one_exchange(world: World) -> None:
    client, stale, _ = await world.begin(GET)
    await stale.send(OK)
    await client.receive_response()
    world.records.all.clear()
    await client.send(GET)
    await stale.receive_head()
    await stale.close()
    fresh = await world.upstream.accept()
    await fresh.receive_head()
    await fresh.send(OK)
    await client.receive_response()
    assert numbers(await world.record()) == (200, 0, 2, None)


async def test_a_head_that_does_not_come_in_time_is_reported(start_world: StartWorld) -> None:
    world = await start_world(timeouts=TimeoutSettings(request_head=0.1))
    client = await world.client()
    await client.send(b"GET / HT")
    await client.receive_response()
    assert numbers(await world.record()) == (408, 0, 0, "request-timeout")


async def test_an_idle_connection_that_is_closed_is_no_exchange(start_world: StartWorld) -> None:
    world = await start_world(timeouts=TimeoutSettings(request_head=0.03, keep_alive=0.03))
    client = await world.client()
    await client.receive_to_end()
    assert world.records.all == []


async def test_a_tunnel_is_one_exchange_with_the_bytes_of_both_directions(world: World) -> None:
    client, server, _ = await world.begin(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    await server.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    await client.receive_head()
    await client.send(b"hello")
    assert await server.receive(5) == b"hello"
    await server.send(b"hi")
    assert await client.receive(2) == b"hi"
    assert world.records.all == []
    await client.close()
    assert await server.receive_to_end() == b""
    await server.close()
    assert numbers(await world.record()) == (101, 5, 2, None)
