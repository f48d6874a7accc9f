"""The way out through an egress proxy: a tunnel by CONNECT, and TLS with the upstream inside it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trustme

from switch_proxy.core.config.models import Origin, TimeoutSettings, TlsSettings
from switch_proxy.core.egress import EgressProxy
from switch_proxy.core.secret import Secret
from tests.shell.http1.certificates import Certificates
from tests.shell.http1.raw_peer import TlsStream, bounded
from tests.shell.http1.raw_upstream import RawUpstream
from tests.shell.http1.test_broken_upstreams import kind, problem
from tests.shell.http1.tokens import BEARER, TOKEN

if TYPE_CHECKING:
    from pathlib import Path

    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.messages import Response
    from tests.shell.http1.raw_client import RawClient
    from tests.shell.http1.raw_upstream import UpstreamSide
    from tests.shell.http1.world import World

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
UPSTREAM = Origin(scheme="https", host="api.example.com", port=443)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificates(authority: trustme.CA, tmp_path: Path) -> Certificates:
    return Certificates(authority=authority, stranger=authority, folder=tmp_path)


async def behind_egress_proxy(
    start_world: StartWorld,
    certificates: Certificates,
    *,
    origin: Origin = UPSTREAM,
    authorization: str | None = None,
    timeouts: TimeoutSettings | None = None,
) -> World:
    """Start a world whose raw upstream is the egress proxy."""
    egress = RawUpstream()
    return await start_world(
        upstream=egress,
        origin=origin,
        egress_proxy=EgressProxy(
            host="127.0.0.1", port=egress.port, authorization=Secret(authorization) if authorization else None
        ),
        tls=TlsSettings(ca_file=certificates.ca_file),
        timeouts=timeouts or TimeoutSettings(),
    )


async def asked(world: World) -> tuple[RawClient, UpstreamSide]:
    """Send a request; return the client and the egress proxy's end, at which nothing has been read yet."""
    client = await world.client()
    await client.send(GET)
    return client, await world.upstream.accept()


async def begin_tls(side: UpstreamSide, certificates: Certificates, name: str) -> None:
    """Become the upstream at the far end of the tunnel."""
    stream = TlsStream(side.socket, certificates.server(name))
    async with bounded("the TLS handshake"):
        await stream.handshake()
    side.stream = stream


async def test_a_tunnel_is_asked_for_and_tls_goes_through_it(
    start_world: StartWorld, certificates: Certificates
) -> None:
    """RFC 9110 §9.3.6."""
    world = await behind_egress_proxy(start_world, certificates)
    client, side = await asked(world)
    connect = await side.receive_head()
    assert connect.start == b"CONNECT api.example.com:443 HTTP/1.1"
    assert connect.lines == (b"Host: api.example.com:443",)
    await side.send(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 egress\r\n\r\n")
    await begin_tls(side, certificates, "api.example.com")
    head = await side.receive_head()
    assert (head.start, head.value("Host")) == (b"GET / HTTP/1.1", b"api.example.com")
    assert head.value("Authorization") == BEARER
    await side.send(OK)
    assert (await client.receive_response()).body == b"hi"


async def test_the_roots_dot_is_for_dns_alone(start_world: StartWorld, certificates: Certificates) -> None:
    """RFC 6066 §3: who resolves the name gets the dot; the certificate, SNI and Host do not have it."""
    world = await behind_egress_proxy(
        start_world, certificates, origin=Origin(scheme="https", host="api.example.com.", port=443)
    )
    client, side = await asked(world)
    assert (await side.receive_head()).start == b"CONNECT api.example.com.:443 HTTP/1.1"
    await side.send(b"HTTP/1.1 200 OK\r\n\r\n")
    context = certificates.server("api.example.com")
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)
    stream = TlsStream(side.socket, context)
    async with bounded("the TLS handshake"):
        await stream.handshake()
    side.stream = stream
    assert ((await side.receive_head()).value("Host"), names) == (b"api.example.com", ["api.example.com"])
    await side.send(OK)
    assert (await client.receive_response()).body == b"hi"


async def test_a_tunnel_is_used_again(start_world: StartWorld, certificates: Certificates) -> None:
    world = await behind_egress_proxy(start_world, certificates)
    client, side = await asked(world)
    await side.receive_head()
    await side.send(b"HTTP/1.1 200 OK\r\n\r\n")
    await begin_tls(side, certificates, "api.example.com")
    for _ in range(2):
        await side.receive_head()
        await side.send(OK)
        assert (await client.receive_response()).body == b"hi"
        await client.send(GET)
    await side.receive_head()


async def test_the_answer_to_connect_is_read_in_any_segmentation(
    start_world: StartWorld, certificates: Certificates
) -> None:
    world = await behind_egress_proxy(start_world, certificates)
    _, side = await asked(world)
    await side.receive_head()
    answer = b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n"
    await side.send(*(answer[at : at + 1] for at in range(len(answer))))
    await begin_tls(side, certificates, "api.example.com")
    assert (await side.receive_head()).start == b"GET / HTTP/1.1"


async def test_the_user_of_the_egress_proxy_is_sent_to_it_and_the_access_token_is_not(
    start_world: StartWorld, certificates: Certificates
) -> None:
    """RFC 9110 §11.7.2; the tunnel's other end is the only one that may see the token."""
    world = await behind_egress_proxy(start_world, certificates, authorization="Basic dTpw")
    _, side = await asked(world)
    connect = await side.receive_head()
    assert connect.value("Proxy-Authorization") == b"Basic dTpw"
    assert TOKEN.encode() not in connect.raw
    await side.send(b"HTTP/1.1 200 OK\r\n\r\n")
    await begin_tls(side, certificates, "api.example.com")
    assert (await side.receive_head()).value("Proxy-Authorization") is None


async def test_an_ipv6_upstream_is_named_in_brackets(start_world: StartWorld, certificates: Certificates) -> None:
    """RFC 9112 §3.2.3."""
    world = await behind_egress_proxy(
        start_world, certificates, origin=Origin(scheme="https", host="2001:db8::1", port=8443)
    )
    _, side = await asked(world)
    assert (await side.receive_head()).start == b"CONNECT [2001:db8::1]:8443 HTTP/1.1"


async def answered(start_world: StartWorld, certificates: Certificates, answer: bytes) -> Response:
    """Return what the client gets where the egress proxy answers CONNECT like this and closes."""
    world = await behind_egress_proxy(start_world, certificates, authorization="Basic dTpw")
    client, side = await asked(world)
    await side.receive_head()
    await side.send(answer)
    await side.close()
    response = await client.receive_response()
    assert b"dTpw" not in response.head.raw + response.body
    return response


REFUSALS = {
    "forbidden": (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "403"),
    "unknown user": (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "user and password"),
    "bad gateway": (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "502"),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: https://login.example/\r\nContent-Length: 0\r\n\r\n", "302"),
    "another protocol": (b"220 mail.example ESMTP\r\n\r\n", "does not speak HTTP"),
    "nothing": (b"", "closed the connection"),
    "half a head": (b"HTTP/1.1 200 OK\r\nX-", "closed the connection"),
    "head too large": (b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 70_000, "egress proxy"),
    "bytes before TLS has begun": (b"HTTP/1.1 200 OK\r\n\r\nearly", "egress proxy"),
}


@pytest.mark.parametrize(("answer", "detail"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_an_egress_proxy_that_opens_no_tunnel_is_a_502_that_says_why(
    start_world: StartWorld, certificates: Certificates, answer: bytes, detail: str
) -> None:
    response = await answered(start_world, certificates, answer)
    assert kind(response) == (502, "egress-proxy")
    assert detail in problem(response)["detail"]


async def test_an_interim_response_to_connect_is_passed_over(
    start_world: StartWorld, certificates: Certificates
) -> None:
    """RFC 9110 §15.2: a client must be able to parse 1xx responses before a final one, even unexpected ones."""
    world = await behind_egress_proxy(start_world, certificates)
    _, side = await asked(world)
    await side.receive_head()
    await side.send(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n")
    await begin_tls(side, certificates, "api.example.com")
    assert (await side.receive_head()).start == b"GET / HTTP/1.1"


async def test_an_egress_proxy_that_refuses_connections_is_a_502_that_names_it(
    start_world: StartWorld, certificates: Certificates
) -> None:
    """It is not the upstream that refuses."""
    world = await behind_egress_proxy(start_world, certificates)
    world.upstream.stop_listening()
    client = await world.client()
    await client.send(GET)
    response = await client.receive_response()
    assert kind(response) == (502, "egress-proxy")
    assert f"127.0.0.1:{world.upstream.port}" in problem(response)["detail"]


async def test_an_egress_proxy_that_does_not_answer_is_a_504_that_names_it(
    start_world: StartWorld, certificates: Certificates
) -> None:
    """Else one would look at the upstream for what the proxy before it does."""
    world = await behind_egress_proxy(start_world, certificates, timeouts=TimeoutSettings(connect=0.05))
    client, _ = await asked(world)
    response = await client.receive_response()
    assert kind(response) == (504, "upstream-connect-timeout")
    assert f"127.0.0.1:{world.upstream.port}" in problem(response)["detail"]


async def test_a_certificate_for_another_name_behind_the_tunnel_is_a_502(
    start_world: StartWorld, certificates: Certificates
) -> None:
    """RFC 9110 §4.3.4: the egress proxy cannot stand in for the upstream."""
    world = await behind_egress_proxy(start_world, certificates)
    client, side = await asked(world)
    await side.receive_head()
    await side.send(b"HTTP/1.1 200 OK\r\n\r\n")
    # Our side breaks the handshake off, which the far end may see before or after its own is done.
    with suppress(OSError):
        await begin_tls(side, certificates, "egress.example")
    assert kind(await client.receive_response()) == (502, "upstream-certificate")
