"""The effect of each fault on a client, over real connections."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import aiohttp
import pytest
import trustme
import uvloop

from switch_proxy.demo.auth_server import FakeAuthorizationServer
from switch_proxy.demo.fake_server import FakeServer
from switch_proxy.demo.faults import (
    HTML_PAGE,
    MALFORMED_JSON,
    Body,
    Close,
    CloseAfterwards,
    Delay,
    Fault,
    FaultScript,
    Field,
    Hang,
    Reset,
    SlowBody,
    StalledBody,
    Status,
    TruncatedBody,
)
from switch_proxy.demo.messages import ReceivedRequest, Response
from tests.demo.settable_time import SettableTime

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONTENT = b'{"answer": "a body of some length"}'


class PlainFake:
    """A fake with one response for everything: these tests are about the server of both fakes."""

    def __init__(self, ssl_context: ssl.SSLContext | None = None) -> None:
        self.faults: FaultScript[Fault] = FaultScript()
        self.decided: list[ReceivedRequest] = []
        self.server = FakeServer(
            decide=self._decide,
            refuse=lambda status: Response(status=status, body=b"refused"),
            take_faults=self.faults.take,
            now=SettableTime(0.0),
            host="127.0.0.1",
            port=0,
            ssl_context=ssl_context,
        )

    def _decide(self, request: ReceivedRequest, _: tuple[object, ...]) -> Response:
        self.decided.append(request)
        return Response(
            status=200,
            fields=(("Content-Type", "application/json"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")),
            body=CONTENT,
        )


@pytest.fixture
async def fake() -> AsyncIterator[PlainFake]:
    plain = PlainFake()
    await plain.server.start()
    yield plain
    await plain.server.stop()


async def read_raw(fake: PlainFake, request: bytes = b"GET / HTTP/1.1\r\nHost: fake\r\n\r\n") -> bytes:
    """Return all bytes of a response until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", fake.server.port)
    try:
        writer.write(request)
        return await reader.read()
    finally:
        writer.close()


async def test_without_faults_the_answer_comes_as_decided(fake: PlainFake, client: aiohttp.ClientSession) -> None:
    """Status, repeated fields, body."""
    async with client.get(fake.server.url) as response:
        assert (response.status, await response.read()) == (200, CONTENT)
        assert response.headers.getall("Set-Cookie") == ["a=1", "b=2"]


async def test_answers_are_dated_by_the_clock_of_the_fake(fake: PlainFake, client: aiohttp.ClientSession) -> None:
    """Clients compare lifetimes with the date; a fault may set another one."""
    dates = []
    fake.faults.add(Field(name="date", value="yesterday"))
    for _ in range(2):
        async with client.get(fake.server.url) as response:
            dates += response.headers.getall("Date")
    assert dates == ["yesterday", "Thu, 01 Jan 1970 00:00:00 GMT"]


async def test_a_status_comes_in_place_of_the_answer(fake: PlainFake, client: aiohttp.ClientSession) -> None:
    """The fake does not read the request."""
    fake.faults.add(Status(code=503, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"))
    async with client.get(fake.server.url) as response:
        assert (response.status, await response.read()) == (503, b"refused")
        assert response.headers["Retry-After"] == "Wed, 21 Oct 2026 07:28:00 GMT"
    assert fake.decided == []


@pytest.mark.parametrize(
    ("fault", "content_type", "body"),
    [
        pytest.param(HTML_PAGE, "text/html; charset=utf-8", HTML_PAGE.content, id="HTML"),
        pytest.param(MALFORMED_JSON, "application/json; charset=utf-8", MALFORMED_JSON.content, id="malformed JSON"),
        pytest.param(Body(content=b""), "application/json", b"", id="empty body"),
        pytest.param(Field(name="content-type", value="text/plain"), "text/plain", CONTENT, id="wrong content type"),
    ],
)
async def test_the_body_is_what_the_fault_says(
    fake: PlainFake, client: aiohttp.ClientSession, fault: Fault, content_type: str, body: bytes
) -> None:
    """It is complete by its Content-Length nevertheless."""
    fake.faults.add(fault)
    async with client.get(fake.server.url) as response:
        assert (response.status, response.headers.getall("Content-Type")) == (200, [content_type])
        assert await response.read() == body


async def test_faults_combine(fake: PlainFake, client: aiohttp.ClientSession) -> None:
    """A gateway's error page: a status, HTML and Retry-After together."""
    fake.faults.add(Status(code=502, retry_after=5), HTML_PAGE)
    async with client.get(fake.server.url) as response:
        assert (response.status, response.content_type, response.headers["Retry-After"]) == (502, "text/html", "5")


async def test_a_delay_holds_the_answer_back(fake: PlainFake) -> None:
    """The request is recorded before the delay, the response is decided after it."""
    fake.faults.add(Delay(seconds=30))
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(read_raw(fake))
        await fake.server.wait_for_requests(1, within=5)

        assert fake.decided == []
        assert not asking.done()
        await fake.server.stop()  # a fake that stops does not wait for its delays

    assert len(fake.decided) == 1


async def test_a_hang_lasts_until_the_client_leaves(fake: PlainFake) -> None:
    """No byte arrives, and the connection stays open until the client gives up."""
    fake.faults.add(Hang())
    reader, writer = await asyncio.open_connection("127.0.0.1", fake.server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: fake\r\n\r\n")
    await fake.server.wait_for_requests(1, within=5)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.05)
    writer.close()
    await writer.wait_closed()


async def test_a_stopping_fake_lets_go_of_what_hangs(fake: PlainFake) -> None:
    """The end of a test does not wait for it."""
    fake.faults.add(Hang())
    async with asyncio.TaskGroup() as tasks:
        answer = tasks.create_task(read_raw(fake))
        await fake.server.wait_for_requests(1, within=5)
        await fake.server.stop()

    assert answer.result() == b""


async def test_a_reset_is_a_reset(fake: PlainFake) -> None:
    """The client's read fails with ECONNRESET, without a byte of a response."""
    fake.faults.add(Reset())
    with pytest.raises(ConnectionResetError):
        await read_raw(fake)


def test_a_reset_is_a_reset_on_uvloop_too() -> None:
    """The demo runs on uvloop, whose sockets differ from asyncio's."""

    async def meet_a_reset() -> None:
        fake = PlainFake()
        await fake.server.start()
        fake.faults.add(Reset())
        try:
            await read_raw(fake)
        finally:
            await fake.server.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, pytest.raises(ConnectionResetError):
        runner.run(meet_a_reset())


async def test_a_close_is_an_end_without_an_answer(fake: PlainFake) -> None:
    """The client reads the end of the stream immediately."""
    fake.faults.add(Close())

    assert await read_raw(fake) == b""


@pytest.mark.parametrize("is_chunked", [False, True], ids=["content-length", "chunked"])
async def test_a_truncated_body_ends_early_and_does_not_look_complete(fake: PlainFake, *, is_chunked: bool) -> None:
    """The whole body is announced and a part of it sent; a chunked one has no last chunk."""
    fake.faults.add(TruncatedBody(after=10, is_chunked=is_chunked))
    head, _, body = (await read_raw(fake)).partition(b"\r\n\r\n")

    if is_chunked:
        assert b"Transfer-Encoding: chunked" in head
        assert body == b"a\r\n" + CONTENT[:10] + b"\r\n"
    else:
        assert b"Content-Length: %d" % len(CONTENT) in head
        assert body == CONTENT[:10]


@pytest.mark.parametrize("is_chunked", [False, True], ids=["content-length", "chunked"])
async def test_a_stalled_body_stops_on_an_open_connection(fake: PlainFake, *, is_chunked: bool) -> None:
    """The first bytes arrive, then nothing, not even the end."""
    fake.faults.add(StalledBody(after=10, is_chunked=is_chunked))
    reader, writer = await asyncio.open_connection("127.0.0.1", fake.server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: fake\r\n\r\n")
    await reader.readuntil(CONTENT[:10])

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readexactly(3), 0.05)  # a chunk's own line end is 2
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("is_chunked", [False, True], ids=["content-length", "chunked"])
async def test_a_slow_body_comes_in_pieces_and_whole(
    fake: PlainFake, client: aiohttp.ClientSession, *, is_chunked: bool
) -> None:
    """A slow body is complete."""
    fake.faults.add(SlowBody(pause=0.002, piece=10, is_chunked=is_chunked))
    async with client.get(fake.server.url) as response:
        pieces = [piece async for piece in response.content.iter_any()]

    assert b"".join(pieces) == CONTENT
    assert len(pieces) > 1


async def test_a_connection_closed_afterwards_was_not_announced(fake: PlainFake) -> None:
    """The response is complete and promises to keep the connection, which is then closed: stale for a pool."""
    fake.faults.add(CloseAfterwards())
    head, _, body = (await read_raw(fake)).partition(b"\r\n\r\n")

    assert body == CONTENT
    assert b"connection:" not in head.lower()


async def test_faults_are_met_by_a_matching_request_alone(fake: PlainFake, client: aiohttp.ClientSession) -> None:
    """Method and path of the request as it was sent."""
    fake.faults.add(Status(code=500), method="POST", path="/a%20b")
    statuses = []
    for method, path in (("GET", "/a%20b"), ("POST", "/a"), ("POST", "/a%20b?c=d"), ("POST", "/a%20b")):
        async with client.request(method, f"{fake.server.url}{path}") as response:
            statuses.append(response.status)

    assert statuses == [200, 200, 500, 200]


async def test_a_body_that_was_cut_short_is_recorded_as_such(fake: PlainFake) -> None:
    """A test can check what a client sent before it broke off."""
    _, writer = await asyncio.open_connection("127.0.0.1", fake.server.port)
    writer.write(b"POST /cut HTTP/1.1\r\nHost: fake\r\nContent-Length: 10\r\n\r\nabc")
    await writer.drain()
    writer.close()
    [request] = await fake.server.wait_for_requests(1, within=5)

    assert (request.target, request.is_complete) == ("/cut", False)
    assert fake.decided == []


async def test_a_client_that_waits_for_continue_is_told_to(fake: PlainFake) -> None:
    """RFC 9110 §10.1.1."""
    reader, writer = await asyncio.open_connection("127.0.0.1", fake.server.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: fake\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"abc")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await writer.wait_closed()

    assert fake.decided[0].body == b"abc"


async def test_requests_on_one_connection_have_one_peer(fake: PlainFake) -> None:
    """So a test can see whether a connection is used again."""
    async with aiohttp.ClientSession() as keeping:
        for _ in range(2):
            async with keeping.get(fake.server.url) as response:
                await response.read()

    first, second = fake.server.requests
    assert first.peer == second.peer


async def test_waiting_for_requests_that_do_not_come_says_how_many_did(
    fake: PlainFake, client: aiohttp.ClientSession
) -> None:
    """A failing test has a clear error."""
    async with client.get(fake.server.url):
        pass
    with pytest.raises(TimeoutError, match=r"1 of 3 requests came within 0\.01 s"):
        await fake.server.wait_for_requests(3, within=0.01)


async def test_a_fake_that_is_stopped_refuses_connections_and_comes_back_at_the_same_port(
    fake: PlainFake, client: aiohttp.ClientSession
) -> None:
    """An outage: stop, and start again."""
    url = fake.server.url
    await fake.server.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.get(url)
    await fake.server.start()

    async with client.get(url) as response:
        assert response.status == 200


async def test_an_answer_to_a_connection_that_has_been_closed_is_no_error_of_the_fake(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It happens if either side ends at a bad moment; the fake's user sees no error."""
    fake = PlainFake()

    def close_and_answer(_: ReceivedRequest, __: tuple[object, ...]) -> Response:
        runner = fake.server._runner
        assert runner is not None
        assert runner.server is not None
        for connection in runner.server.connections:
            assert connection.transport is not None
            connection.transport.close()
        return Response(status=200, body=CONTENT)

    fake.server._decide = close_and_answer
    await fake.server.start()
    answered = await read_raw(fake)
    await fake.server.stop()

    assert answered == b""
    assert caplog.records == []


async def test_starting_twice_is_an_error(fake: PlainFake) -> None:
    """The first server would be leaked."""
    with pytest.raises(RuntimeError, match="already serves at http://127"):
        await fake.server.start()


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_behind(fake: PlainFake) -> None:
    """The error has the address, and the fake can still be stopped."""
    second = FakeAuthorizationServer(port=fake.server.port)
    with pytest.raises(OSError, match=str(fake.server.port)):
        await second.start()
    await second.stop()


async def test_a_fake_speaks_tls_when_given_a_context(client: aiohttp.ClientSession) -> None:
    """With verification on, against a certificate authority of the test's own."""
    authority = trustme.CA()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with FakeAuthorizationServer(ssl_context=serving) as auth:
        assert auth.token_url.startswith("https://127.0.0.1:")
        async with client.post(auth.token_url, ssl=trusting) as response:
            assert response.status == 400
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await client.post(auth.token_url)


async def test_a_reset_works_over_tls_too(client: aiohttp.ClientSession) -> None:
    """The connection below is reset, without a close_notify."""
    authority = trustme.CA()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    plain = PlainFake(ssl_context=serving)
    await plain.server.start()
    plain.faults.add(Reset())
    try:
        with pytest.raises(aiohttp.ClientOSError):
            await client.post(plain.server.url, ssl=trusting)  # aiohttp would try a GET again
    finally:
        await plain.server.stop()
