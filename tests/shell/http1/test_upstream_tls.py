"""TLS to the upstream: who is trusted, what is shown, which versions, what a session spares, how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from switch_proxy.core.config.models import TimeoutSettings, TlsSettings
from tests.shell.http1.certificates import Certificates
from tests.shell.http1.raw_peer import TlsStream, send_until_stopped, until_steady, working
from tests.shell.http1.raw_upstream import RawUpstream
from tests.shell.http1.test_broken_upstreams import kind, problem
from tests.shell.http1.tokens import BEARER

if TYPE_CHECKING:
    from pathlib import Path

    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.messages import Response
    from tests.shell.http1.raw_upstream import UpstreamSide
    from tests.shell.http1.world import World

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@pytest.fixture(scope="module")
def authorities() -> tuple[trustme.CA, trustme.CA]:
    return trustme.CA(), trustme.CA()


@pytest.fixture
def certificates(authorities: tuple[trustme.CA, trustme.CA], tmp_path: Path) -> Certificates:
    return Certificates(authority=authorities[0], stranger=authorities[1], folder=tmp_path)


def tls_object(side: UpstreamSide) -> ssl.SSLObject:
    assert isinstance(side.stream, TlsStream)
    return side.stream.tls


async def refused_with(world: World) -> Response:
    """Return the answer to a request whose TLS handshake fails."""

    async def shake_hands() -> None:
        while True:
            with suppress(ssl.SSLError, ConnectionError):
                await world.upstream.accept()

    async with working(shake_hands()):
        client = await world.client()
        await client.send(GET)
        response = await client.receive_response()
    await world.until(lambda now: now.upstream_busy == 0)
    return response


async def test_requests_go_through_tls_and_connections_are_used_again(
    start_world: StartWorld, certificates: Certificates
) -> None:
    world = await start_world(
        upstream=RawUpstream(tls=certificates.server()), tls=TlsSettings(ca_file=certificates.ca_file)
    )
    client, server, head = await world.begin(GET)
    assert head.value("Authorization") == BEARER
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
    await server.receive_head()
    assert await server.receive(5) == b"hello"
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"
    assert world.snapshot().upstream_connects == 1


async def test_large_bodies_pass_intact_both_ways(start_world: StartWorld, certificates: Certificates) -> None:
    world = await start_world(
        upstream=RawUpstream(tls=certificates.server()), tls=TlsSettings(ca_file=certificates.ca_file)
    )
    body = os.urandom(3_000_000)
    client, server, _ = await world.begin(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n")
    async with working(client.send(body)):
        assert await server.receive(len(body)) == body
    async with working(server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + body)):
        assert (await client.receive_response()).body == body


async def test_a_download_through_tls_to_a_client_that_stands_still_is_stopped(
    start_world: StartWorld, certificates: Certificates
) -> None:
    """Memory is bounded: neither plain nor encrypted bytes may pile up."""
    world = await start_world(
        upstream=RawUpstream(tls=certificates.server()), tls=TlsSettings(ca_file=certificates.ca_file)
    )
    client = await world.narrow_client()
    await client.send(GET)
    server = await world.upstream.accept()
    await server.receive_head()
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 33554432\r\n\r\n")
    sent = 0

    async def send_all() -> None:
        nonlocal sent
        while sent < 32 << 20:
            await server.stream.write(bytes(65536))
            sent += 65536

    async with working(send_all()):
        assert await until_steady(lambda: sent) < 16 << 20
        await client.receive_head()
        received = len(client.buffer)
        client.buffer.clear()
        while received < 32 << 20:
            data = await client.stream.read()
            assert data
            received += len(data)


async def test_an_upload_through_tls_to_an_upstream_that_stands_still_is_stopped(
    start_world: StartWorld, certificates: Certificates
) -> None:
    world = await start_world(
        upstream=RawUpstream(tls=certificates.server()), tls=TlsSettings(ca_file=certificates.ca_file)
    )
    client, server, _ = await world.begin(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 33554432\r\n\r\n")
    sent = await send_until_stopped(client.socket, bytes(65536), limit=32 << 20)
    assert sent < 16 << 20
    async with working(client.send(bytes((32 << 20) - sent))):
        received = len(server.buffer)
        while received < 32 << 20:
            received += len(await server.stream.read())
    assert received == 32 << 20


# Trust.


async def assert_certificate_refused(world: World, reason: str) -> None:
    response = await refused_with(world)
    assert kind(response) == (502, "upstream-certificate")
    assert reason in problem(response)["detail"]
    assert b"error=tls_certificate_error" in (response.head.value("Proxy-Status") or b"")


async def test_a_certificate_of_an_authority_that_is_not_trusted_is_a_502(
    start_world: StartWorld, certificates: Certificates
) -> None:
    context = certificates.server(issuer=certificates.stranger)
    world = await start_world(upstream=RawUpstream(tls=context), tls=TlsSettings(ca_file=certificates.ca_file))
    await assert_certificate_refused(world, "unable to get local issuer certificate")


async def test_without_a_file_of_authorities_the_systems_are_trusted_and_no_others(
    start_world: StartWorld, certificates: Certificates
) -> None:
    world = await start_world(upstream=RawUpstream(tls=certificates.server()))
    await assert_certificate_refused(world, "certificate")


async def test_a_variable_that_names_no_authorities_is_told_with_the_certificate(
    start_world: StartWorld, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL says only that the issuer is unknown."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/authorities.pem")
    world = await start_world(upstream=RawUpstream(tls=certificates.server()))
    await assert_certificate_refused(
        world, "the variable SSL_CERT_FILE names the file /nowhere/authorities.pem, which does not exist"
    )


async def test_a_certificate_for_another_name_is_a_502(start_world: StartWorld, certificates: Certificates) -> None:
    """RFC 9110 §4.3.4."""
    context = certificates.server("elsewhere.example")
    world = await start_world(upstream=RawUpstream(tls=context), tls=TlsSettings(ca_file=certificates.ca_file))
    await assert_certificate_refused(world, "127.0.0.1")


async def test_an_expired_certificate_is_a_502(start_world: StartWorld, certificates: Certificates) -> None:
    context = certificates.server(not_after=datetime.now(UTC) - timedelta(days=1))
    world = await start_world(upstream=RawUpstream(tls=context), tls=TlsSettings(ca_file=certificates.ca_file))
    await assert_certificate_refused(world, "expired")


# Names.


async def test_the_upstreams_host_is_asked_for_and_verified(
    start_world: StartWorld, certificates: Certificates
) -> None:
    """RFC 6066 §3."""
    asked: list[str | None] = []
    context = certificates.server("localhost")
    context.sni_callback = lambda _tls, name, _context: asked.append(name)
    world = await start_world(
        upstream=RawUpstream(tls=context), host="localhost", tls=TlsSettings(ca_file=certificates.ca_file)
    )
    client, server, _ = await world.begin(GET)
    assert asked == ["localhost"]
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"


async def test_a_configured_name_is_asked_for_and_verified_instead(
    start_world: StartWorld, certificates: Certificates
) -> None:
    asked: list[str | None] = []
    context = certificates.server("api.example.com")
    context.sni_callback = lambda _tls, name, _context: asked.append(name)
    settings = TlsSettings(ca_file=certificates.ca_file, server_name="api.example.com")
    world = await start_world(upstream=RawUpstream(tls=context), tls=settings)
    client, server, head = await world.begin(GET)
    assert asked == ["api.example.com"]
    assert head.value("Host") == world.host
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"


async def test_an_address_is_not_sent_as_a_name(start_world: StartWorld, certificates: Certificates) -> None:
    """RFC 6066 §3: literal addresses are not permitted in SNI."""
    asked: list[str | None] = []
    context = certificates.server("127.0.0.1")
    context.sni_callback = lambda _tls, name, _context: asked.append(name)
    world = await start_world(upstream=RawUpstream(tls=context), tls=TlsSettings(ca_file=certificates.ca_file))
    await world.begin(GET)
    assert asked in ([], [None])


async def test_http_1_1_is_negotiated(start_world: StartWorld, certificates: Certificates) -> None:
    """RFC 7301: a server that could do HTTP/2 must know that we cannot."""
    context = certificates.server()
    context.set_alpn_protocols(["h2", "http/1.1"])
    world = await start_world(upstream=RawUpstream(tls=context), tls=TlsSettings(ca_file=certificates.ca_file))
    _, server, _ = await world.begin(GET)
    assert tls_object(server).selected_alpn_protocol() == "http/1.1"


# Client certificates.


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
async def test_a_client_certificate_is_shown_where_it_is_asked_for(
    start_world: StartWorld, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    context = certificates.server(clients=certificates.authority)
    context.minimum_version = context.maximum_version = version
    settings = TlsSettings(ca_file=certificates.ca_file, **certificates.client_files())
    world = await start_world(upstream=RawUpstream(tls=context), tls=settings)
    client, server, _ = await world.begin(GET)
    shown = tls_object(server).getpeercert()
    assert shown is not None
    subject: Any = shown["subject"]
    assert (("commonName", "switch-proxy"),) in subject
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
@pytest.mark.parametrize("has_one", [False, True], ids=["none", "another authority's"])
async def test_an_upstream_that_refuses_our_certificate_is_a_502_that_says_so(
    start_world: StartWorld, certificates: Certificates, version: ssl.TLSVersion, has_one: bool
) -> None:
    """In TLS 1.3 the refusal comes after our side of the handshake (RFC 8446 §4.4.2.4, §6.2)."""
    context = certificates.server(clients=certificates.authority)
    context.minimum_version = context.maximum_version = version
    files = certificates.client_files(issuer=certificates.stranger) if has_one else {}
    settings = TlsSettings(ca_file=certificates.ca_file, **files)
    world = await start_world(upstream=RawUpstream(tls=context), tls=settings)
    response = await refused_with(world)
    assert kind(response) == (502, "upstream-tls")
    assert world.snapshot().upstream_connects <= 2


# Versions and sessions.


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_an_upstream_that_can_do_no_more_than_tls_1_1_is_a_502(
    start_world: StartWorld, certificates: Certificates
) -> None:
    """RFC 8996."""
    context = certificates.server()
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    world = await start_world(upstream=RawUpstream(tls=context), tls=TlsSettings(ca_file=certificates.ca_file))
    assert kind(await refused_with(world)) == (502, "upstream-tls")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
async def test_a_session_is_used_again_for_the_next_connection(
    start_world: StartWorld, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    """RFC 8446 §2.2, RFC 5077: it spares half the handshake."""
    context = certificates.server()
    context.minimum_version = context.maximum_version = version
    world = await start_world(upstream=RawUpstream(tls=context), tls=TlsSettings(ca_file=certificates.ca_file))
    reused = []
    for _ in range(3):
        client, server, _ = await world.begin(GET)
        reused.append(tls_object(server).session_reused)
        await server.send(OK)
        assert (await client.receive_response()).body == b"hi"
        await server.close()
        await world.until(lambda now: now.upstream_idle == 0)
    assert reused == [False, True, True]


async def test_a_session_that_the_upstream_has_forgotten_is_no_obstacle(
    start_world: StartWorld, certificates: Certificates
) -> None:
    """RFC 8446 §4.2.11: it falls back to a full handshake."""
    first, second = certificates.server(), certificates.server()
    upstream = RawUpstream(tls=first)
    world = await start_world(upstream=upstream, tls=TlsSettings(ca_file=certificates.ca_file))
    for context in (first, second):
        upstream.tls = context
        client, server, _ = await world.begin(GET)
        assert not tls_object(server).session_reused
        await server.send(OK)
        assert (await client.receive_response()).body == b"hi"
        await server.close()
        await world.until(lambda now: now.upstream_idle == 0)


class CountingTlsObject:
    """A TLS connection that counts how often its session is read, which leaks on older versions of Python."""

    reads = 0

    def __init__(self, context: object, *, is_reused: bool) -> None:
        self.context = context
        self.session_reused = is_reused

    @property
    def session(self) -> None:
        CountingTlsObject.reads += 1


async def test_a_session_is_not_read_from_each_connection(start_world: StartWorld, certificates: Certificates) -> None:
    """python/cpython#116810: each reading leaks some 6 KB, and an upstream may close after every response."""
    world = await start_world(
        upstream=RawUpstream(tls=certificates.server()), tls=TlsSettings(ca_file=certificates.ca_file)
    )
    connector = world.route.connector
    CountingTlsObject.reads = 0
    for seconds, reads in ((0, 1), (0, 1), (59, 1), (2, 2), (0, 2), (61, 3)):
        world.clock.skip(seconds)
        connection: Any = SimpleNamespace(
            transport=SimpleNamespace(
                get_extra_info=lambda _: CountingTlsObject(connector._tls, is_reused=False)  # the context in use
            )
        )
        connector.remember_session(connection)
        assert CountingTlsObject.reads == reads


async def test_a_session_in_use_is_read_again_after_ten_minutes(
    start_world: StartWorld, certificates: Certificates
) -> None:
    world = await start_world(
        upstream=RawUpstream(tls=certificates.server()), tls=TlsSettings(ca_file=certificates.ca_file)
    )
    client, server, _ = await world.begin(GET)
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"
    connector = world.route.connector
    CountingTlsObject.reads = 0
    for seconds, reads in ((0, 0), (599, 0), (2, 1), (599, 1)):
        world.clock.skip(seconds)
        connection: Any = SimpleNamespace(
            transport=SimpleNamespace(get_extra_info=lambda _: CountingTlsObject(connector._tls, is_reused=True))
        )
        connector.remember_session(connection)
        assert CountingTlsObject.reads == reads


# Failures of the handshake.


async def test_a_server_without_tls_on_the_port_is_a_502(start_world: StartWorld, certificates: Certificates) -> None:
    upstream = RawUpstream(tls=certificates.server())
    world = await start_world(upstream=upstream, tls=TlsSettings(ca_file=certificates.ca_file))
    client = await world.client()
    await client.send(GET)
    side = await upstream.accept_without_handshake()
    side.socket.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    response = await client.receive_response()
    assert kind(response) == (502, "upstream-tls")
    assert json.loads(response.body)["detail"].endswith("; it seems to speak plain HTTP on this port")


async def test_a_server_of_http_2_alone_is_called_that(start_world: StartWorld, certificates: Certificates) -> None:
    """RFC 7301 §3.2: it accepts no protocol that was offered."""
    upstream = RawUpstream(tls=certificates.server())
    world = await start_world(upstream=upstream, tls=TlsSettings(ca_file=certificates.ca_file))
    client = await world.client()
    await client.send(GET)
    side = await upstream.accept_without_handshake()
    side.socket.send(b"\x15\x03\x03\x00\x02\x02\x78")
    response = await client.receive_response()
    assert kind(response) == (502, "upstream-tls")
    assert json.loads(response.body)["detail"].endswith("; it speaks HTTP/2 alone, and this proxy HTTP/1.1")


@pytest.mark.parametrize("is_reset", [False, True], ids=["closes", "resets"])
async def test_an_upstream_that_breaks_off_the_handshake_is_a_502(
    start_world: StartWorld, certificates: Certificates, is_reset: bool
) -> None:
    upstream = RawUpstream(tls=certificates.server())
    world = await start_world(upstream=upstream, tls=TlsSettings(ca_file=certificates.ca_file))
    client = await world.client()
    await client.send(GET)
    side = await upstream.accept_without_handshake()
    if is_reset:
        side.reset()
    else:
        side.truncate()
    assert kind(await client.receive_response()) == (502, "upstream-tls")
    assert not upstream.has_connection_waiting()


async def test_a_handshake_that_does_not_end_in_time_is_a_504(
    start_world: StartWorld, certificates: Certificates
) -> None:
    upstream = RawUpstream(tls=certificates.server())
    world = await start_world(
        upstream=upstream,
        tls=TlsSettings(ca_file=certificates.ca_file),
        timeouts=TimeoutSettings(tls_handshake=0.05),
    )
    client = await world.client()
    await client.send(GET)
    await upstream.accept_without_handshake()
    assert kind(await client.receive_response()) == (504, "upstream-connect-timeout")


async def test_a_client_that_goes_away_during_the_handshake_ends_it(
    start_world: StartWorld, certificates: Certificates
) -> None:
    upstream = RawUpstream(tls=certificates.server())
    world = await start_world(upstream=upstream, tls=TlsSettings(ca_file=certificates.ca_file))
    client = await world.client()
    await client.send(GET)
    side = await upstream.accept_without_handshake()
    await asyncio.get_running_loop().sock_recv(side.socket, 10)
    client.reset()
    while await asyncio.get_running_loop().sock_recv(side.socket, 65536):
        pass
    assert (await world.record()).failure == "client-gone"


# The end of a connection.


async def test_a_body_that_ends_with_close_notify_is_whole(start_world: StartWorld, certificates: Certificates) -> None:
    """RFC 9112 §9.8."""
    world = await start_world(
        upstream=RawUpstream(tls=certificates.server()), tls=TlsSettings(ca_file=certificates.ca_file)
    )
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
    await server.close()
    response = await client.receive_response()
    assert response.body == b"hello"
    assert (await world.record()).failure is None


async def test_a_body_without_length_that_ends_without_close_notify_is_cut(
    start_world: StartWorld, certificates: Certificates
) -> None:
    """RFC 9112 §9.8: an incomplete close is a truncation, whoever did it."""
    world = await start_world(
        upstream=RawUpstream(tls=certificates.server()), tls=TlsSettings(ca_file=certificates.ca_file)
    )
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
    await client.receive_head()
    assert await client.receive_chunk() == b"hello"
    server.truncate()
    assert await client.receive_to_any_end() == b""
    record = await world.record()
    assert record.failure == "upstream-incomplete"
    assert record.detail is not None
    assert record.detail.endswith("without TLS's close_notify")


async def test_a_body_without_length_that_is_cut_never_looks_whole(
    start_world: StartWorld, certificates: Certificates
) -> None:
    """An HTTP/1.0 client takes any orderly end of the connection for the body's: it gets a reset."""
    world = await start_world(
        upstream=RawUpstream(tls=certificates.server()), tls=TlsSettings(ca_file=certificates.ca_file)
    )
    client, server, _ = await world.begin(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
    await server.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
    await client.receive_head()
    assert await client.receive(5) == b"hello"
    server.truncate()
    assert await client.receive_to_reset() == b""


async def test_what_comes_after_close_notify_is_not_part_of_a_body(
    start_world: StartWorld, certificates: Certificates
) -> None:
    """RFC 8446 §6.1: data behind it is ignored."""
    world = await start_world(
        upstream=RawUpstream(tls=certificates.server()), tls=TlsSettings(ca_file=certificates.ca_file)
    )
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
    await server.stream.write_end()
    await asyncio.get_running_loop().sock_sendall(server.socket, b"\x17\x03\x03\x00\x20" + bytes(32))
    assert (await client.receive_response()).body == b"hello"
    assert (await world.record()).failure is None


@pytest.mark.parametrize(
    "tail",
    [b"", b"\x17\x03\x03\x00\x20half of it", b"\x17\x03\x03\x00\x20" + bytes(32), b"HTTP/1.1 200 OK\r\n\r\n"],
    ids=["nothing", "part of a record", "a forged record", "plain bytes"],
)
async def test_a_body_behind_which_tls_breaks_is_cut(
    start_world: StartWorld, certificates: Certificates, tail: bytes
) -> None:
    world = await start_world(
        upstream=RawUpstream(tls=certificates.server()), tls=TlsSettings(ca_file=certificates.ca_file)
    )
    client, server, _ = await world.begin(GET)
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    await client.receive_head()
    assert await client.receive(5) == b"hello"
    await asyncio.get_running_loop().sock_sendall(server.socket, tail)
    server.truncate()
    assert await client.receive_to_any_end() == b""
    assert (await world.record()).failure == "upstream-incomplete"


@pytest.mark.parametrize(
    "body",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
    ids=["length", "chunked"],
)
async def test_a_body_that_says_its_end_is_whole_even_without_close_notify(
    start_world: StartWorld, certificates: Certificates, body: bytes
) -> None:
    """RFC 9112 §9.8: the message is complete by its own framing."""
    world = await start_world(
        upstream=RawUpstream(tls=certificates.server()), tls=TlsSettings(ca_file=certificates.ca_file)
    )
    client, server, _ = await world.begin(GET)
    await server.send(body)
    server.truncate()
    assert (await client.receive_response()).body == b"hello"
    assert (await world.record()).failure is None


async def test_an_idle_connection_is_closed_with_close_notify(
    start_world: StartWorld, certificates: Certificates
) -> None:
    """RFC 8446 §6.1."""
    world = await start_world(
        upstream=RawUpstream(tls=certificates.server()), tls=TlsSettings(ca_file=certificates.ca_file)
    )
    client, server, _ = await world.begin(GET)
    await server.send(OK)
    await client.receive_response()
    world.route.pool.close_idle()
    assert await server.receive_to_end() == b""
    # It would raise if close_notify had not come.
    tls_object(server).unwrap()


@pytest.mark.parametrize("has_goodbye", [True, False], ids=["close_notify", "truncated"])
async def test_a_pooled_connection_that_the_upstream_closes_is_not_used_again(
    start_world: StartWorld, certificates: Certificates, has_goodbye: bool
) -> None:
    world = await start_world(
        upstream=RawUpstream(tls=certificates.server()), tls=TlsSettings(ca_file=certificates.ca_file)
    )
    client, server, _ = await world.begin(GET)
    await server.send(OK)
    await client.receive_response()
    if has_goodbye:
        await server.close()
    else:
        server.truncate()
    await world.until(lambda now: now.upstream_idle == 0)
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    fresh = await world.upstream.accept()
    await fresh.receive_head()
    await fresh.send(OK)
    assert (await client.receive_response()).body == b"hi"


async def test_a_web_socket_passes_through_tls(start_world: StartWorld, certificates: Certificates) -> None:
    world = await start_world(
        upstream=RawUpstream(tls=certificates.server()), tls=TlsSettings(ca_file=certificates.ca_file)
    )
    client, server, _ = await world.begin(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    await server.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert (await client.receive_head()).status == 101
    await client.send(b"hello")
    assert await server.receive(5) == b"hello"
    await server.send(b"bye")
    await server.close()
    assert await client.receive_to_any_end() == b"bye"


UPGRADE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


async def test_a_tunnels_client_that_has_ended_its_side_gets_the_rest_of_the_upstreams(
    start_world: StartWorld, certificates: Certificates
) -> None:
    """RFC 8446 §6.1: TLS 1.3 has sides that end one by one, as TCP."""
    world = await start_world(
        upstream=RawUpstream(tls=certificates.server()), tls=TlsSettings(ca_file=certificates.ca_file)
    )
    client, server, _ = await world.begin(UPGRADE)
    await server.send(SWITCH)
    await client.receive_head()
    await client.send(b"the last question")
    await client.end()
    assert await server.receive_to_end() == b"the last question"
    await server.send(b"the answer")
    await server.close()
    assert await client.receive_to_end() == b"the answer"


async def test_a_tunnels_upstream_that_has_ended_its_side_gets_the_rest_of_the_clients(
    start_world: StartWorld, certificates: Certificates
) -> None:
    world = await start_world(
        upstream=RawUpstream(tls=certificates.server()), tls=TlsSettings(ca_file=certificates.ca_file)
    )
    client, server, _ = await world.begin(UPGRADE)
    await server.send(SWITCH + b"bye")
    await server.stream.write_end()
    await client.receive_head()
    assert await client.receive_to_end() == b"bye"
    await client.send(b"goodbye")
    assert await server.receive(7) == b"goodbye"
    await client.close()
    assert await server.receive_to_end() == b""


async def test_a_tunnel_over_tls_1_2_ends_as_a_whole(start_world: StartWorld, certificates: Certificates) -> None:
    """RFC 5246 §7.2.1: who gets close_notify closes at once. What was sent before it arrives."""
    context = certificates.server()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    world = await start_world(upstream=RawUpstream(tls=context), tls=TlsSettings(ca_file=certificates.ca_file))
    client, server, _ = await world.begin(UPGRADE)
    await server.send(SWITCH)
    await client.receive_head()
    await client.send(b"the last words")
    await client.end()
    assert await server.receive_to_end() == b"the last words"
    assert await client.receive_to_any_end() == b""
