"""What of a request reaches the upstream, and how: all that is not ours to change, byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.shell.http1.raw_upstream import RawUpstream
from tests.shell.http1.tokens import BEARER, access_token

if TYPE_CHECKING:
    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.world import World

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def get(*lines: bytes, target: bytes = b"/", method: bytes = b"GET") -> bytes:
    return b"\r\n".join((method + b" " + target + b" HTTP/1.1", b"Host: localhost:8080", *lines, b"", b""))


async def test_a_request_is_answered_by_the_upstream(world: World) -> None:
    client, server, head = await world.begin(get(b"Accept: */*", target=b"/readings?from=1"))
    assert head.start == b"GET /readings?from=1 HTTP/1.1"
    assert head.passed == [b"Accept: */*"]
    await server.send(OK)
    response = await client.receive_response()
    assert (response.head.start, response.body) == (b"HTTP/1.1 200 OK", b"hi")


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"//",
        b"/a//b/",
        b"/a/../b",
        b"/a/./b",
        b"/%7Euser/%2fetc%2F/%41",
        b"/a;b=c/d,e",
        b"/?",
        b"/?a=1&a=2&b",
        b"/?q=%C3%A5+%20&q=/?:@",
        b"/a?b=http://elsewhere.example/",
        "/sökväg?å".encode(),
        b"/\xff\xfe",
        b'/a"<>\\^`{|}',
        b"/%",
        b"/%zz",
        b"/a?b=[1]",
        b"/" + b"a" * 8000,
    ],
    ids=lambda target: target[:24].decode("ascii", "backslashreplace"),
)
async def test_the_target_passes_byte_for_byte(world: World, target: bytes) -> None:
    """RFC 3986 §6 is for those who compare; a proxy must not rewrite path and query (RFC 9110 §7.7)."""
    _, _, head = await world.begin(get(target=target))
    assert head.start == b"GET " + target + b" HTTP/1.1"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/", b"/api/v1/"),
        (b"/readings?a=%2e%2e", b"/api/v1/readings?a=%2e%2e"),
        (b"//x", b"/api/v1//x"),
        (b"/a/../b", b"/api/v1/a/../b"),
        (b"/?../..", b"/api/v1/?../.."),
    ],
)
async def test_the_base_path_stands_before_the_target(start_world: StartWorld, target: bytes, expected: bytes) -> None:
    world = await start_world(base_path="/api/v1")
    _, _, head = await world.begin(get(target=target))
    assert head.start == b"GET " + expected + b" HTTP/1.1"


@pytest.mark.parametrize(
    "target",
    [b"/..", b"/../admin", b"/a/../../admin", b"/%2e%2e/admin", b"/.%2E/admin", b"/a%2f..%2f../b", b"/..;a=b/admin"],
)
async def test_a_target_that_climbs_out_of_the_base_path_is_refused(start_world: StartWorld, target: bytes) -> None:
    """The token is meant for what is under the base path (RFC 3986 §5.2.4)."""
    world = await start_world(base_path="/api")
    client = await world.client()
    await client.send(get(target=target))
    assert (await client.receive_response()).status == 400
    assert not world.upstream.has_connection_waiting()


@pytest.mark.parametrize(
    "method", [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND", b"M-SEARCH", b"!#$%&'*"]
)
async def test_the_method_passes_as_it_is(world: World, method: bytes) -> None:
    """RFC 9110 §9.1: methods are case-sensitive tokens, and there may be others than the known ones."""
    _, _, head = await world.begin(get(method=method))
    assert head.start == method + b" / HTTP/1.1"


async def test_lines_keep_their_order_spelling_and_white_space(world: World) -> None:
    """RFC 9110 §5.3: lines of one name keep their order; the rest is how one finds a fault between two programs."""
    lines = [
        b"accept:*/*",
        b"X-One:  two  ",
        b"x-ONE:\t\tthree\t",
        b"Cookie: a=b; c=d",
        b"X-Empty:",
        b"X-Empty:   ",
        b'If-None-Match: "a", W/"b"',
        b"Range: bytes=0-99",
        b"X-Latin: caf\xe9",
        "X-Utf-8: kött".encode(),
        b"Cookie: e=f",
        b"!#$%&'*+-.^_`|~09aZ: token characters",
        b"X-One: 1,2, 3",
        b"Accept-Encoding: gzip, br",
        b"User-Agent: curl/8",
        b"Forwarded: for=1.2.3.4",
        b"X-Forwarded-For: 1.2.3.4",
    ]
    _, _, head = await world.begin(get(*lines))
    assert head.passed == lines


async def test_the_same_request_twice_is_forwarded_the_same_twice(world: World) -> None:
    """What is remembered of a head must not differ from what is found in it."""
    request = get(b"Cookie: a=b", b"Cookie: c=d", b"X-Request-Id: abc")
    client, server, first = await world.begin(request)
    await server.send(OK)
    await client.receive_response()
    world.records.all.clear()
    await client.send(request)
    assert (await server.receive_head()).raw == first.raw


@pytest.mark.parametrize("host", [b"localhost:8080", b"elsewhere.example", b"[::1]:8080", b"", b"127.0.0.1"])
async def test_host_is_the_upstreams_whatever_the_client_says(world: World, host: bytes) -> None:
    """RFC 9110 §7.2; the token goes to the configured origin and nowhere else."""
    _, _, head = await world.begin(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert head.lines[0] == b"Host: " + world.host
    assert head.value("Host") == world.host


async def test_an_ipv6_upstream_is_named_in_brackets(start_world: StartWorld) -> None:
    """RFC 3986 §3.2.2."""
    upstream = RawUpstream(host="::1")
    world = await start_world(upstream=upstream)
    client, server, head = await world.begin(get())
    assert head.value("Host") == b"[::1]:%d" % upstream.port
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"


AUTHORIZATIONS = {
    "none": [],
    "a bearer of its own": [b"Authorization: Bearer mine"],
    "basic": [b"Authorization: Basic dTpw"],
    "lower case": [b"authorization: Bearer mine"],
    "upper case": [b"AUTHORIZATION: Bearer mine"],
    "several": [b"Authorization: Bearer mine", b"X-A: b", b"aUthorization: Bearer other"],
    "empty": [b"Authorization:"],
    "named by connection": [b"Connection: Authorization", b"Authorization: Bearer mine"],
}


@pytest.mark.parametrize("lines", AUTHORIZATIONS.values(), ids=AUTHORIZATIONS.keys())
async def test_the_upstream_gets_exactly_one_authorization_and_it_is_ours(world: World, lines: list[bytes]) -> None:
    """RFC 6750 §2: one way to send the token; a second line could win over it."""
    _, _, head = await world.begin(get(*lines))
    assert head.values("Authorization") == [BEARER]
    assert b"mine" not in head.raw
    assert b"other" not in head.raw


async def test_a_new_token_is_used_from_the_next_request_on(world: World) -> None:
    client, server, _ = await world.begin(get())
    world.tokens.give(access_token("second", generation=2))
    await server.send(OK)
    await client.receive_response()
    await client.send(get())
    assert (await server.receive_head()).value("Authorization") == b"Bearer second"


HOP_BY_HOP = {
    "connection close": [b"Connection: close"],
    "connection keep-alive": [b"Connection: keep-alive", b"Keep-Alive: timeout=5, max=100"],
    "proxy-connection": [b"Proxy-Connection: keep-alive"],
    "te": [b"TE: gzip"],
    "upgrade that connection does not name": [b"Upgrade: websocket"],
    "proxy-authorization": [b"Proxy-Authorization: Basic dTpw"],
    "named by connection": [b"Connection: x-private, X-Other", b"X-Private: a", b"x-OTHER: b", b"X-private: c"],
    "named by connection on several lines": [b"Connection: close", b"connection: x-private", b"X-Private: a"],
    "named by connection with empty members": [b"Connection: , x-private ,,", b"X-Private: a"],
    "named by connection after it": [b"X-Private: a", b"Connection: X-Private"],
}


@pytest.mark.parametrize("lines", HOP_BY_HOP.values(), ids=HOP_BY_HOP.keys())
async def test_lines_for_one_hop_do_not_pass(world: World, lines: list[bytes]) -> None:
    """RFC 9110 §7.6.1: an intermediary removes what Connection names, and Connection itself."""
    _, _, head = await world.begin(get(b"Accept: a", *lines, b"Accept: b"))
    assert head.passed == [b"Accept: a", b"Accept: b"]


async def test_a_connection_line_cannot_have_the_proxys_own_lines_removed(start_world: StartWorld) -> None:
    """A client that names them hop-by-hop would strip what others rely on (CVE-2022-31813 in Apache)."""
    world = await start_world(via="edge-7")
    named = b"Connection: authorization, host, via, x-request-id, content-length, transfer-encoding"
    _, server, head = await world.begin(get(named, b"Content-Length: 2", method=b"POST") + b"hi")
    assert head.value("Authorization") == BEARER
    assert head.value("Host") == world.host
    assert head.value("Via") == b"1.1 edge-7"
    assert head.value("X-Request-Id") is not None
    assert head.value("Content-Length") == b"2"
    assert await server.receive(2) == b"hi"


async def test_the_wish_for_trailers_is_passed_on_as_our_own(world: World) -> None:
    """RFC 9110 §10.1.4: TE is for one hop, and is named in Connection."""
    _, _, head = await world.begin(get(b"TE: trailers, gzip;q=0.5", b"Connection: TE"))
    assert head.value("TE") == b"trailers"
    assert head.value("Connection") == b"TE"


async def test_a_body_with_a_length_passes(world: World) -> None:
    """RFC 9112 §6.2."""
    body = bytes(range(256))
    client, server, head = await world.begin(
        get(b"Content-Type: application/json", b"Content-Length: 256", method=b"POST") + body
    )
    assert head.passed == [b"Content-Type: application/json", b"Content-Length: 256"]
    assert await server.receive(256) == body
    await server.send(OK)
    assert (await client.receive_response()).status == 200


async def test_a_body_of_length_nought_passes_with_its_length(world: World) -> None:
    """RFC 9110 §8.6: a POST without content says so."""
    _, _, head = await world.begin(get(b"Content-Length: 0", method=b"POST"))
    assert head.value("Content-Length") == b"0"


async def test_a_request_without_a_length_gets_none(world: World) -> None:
    """RFC 9112 §6.3: no length and no coding means no content, which is not ours to spell out."""
    _, _, head = await world.begin(get(method=b"DELETE"))
    assert head.value("Content-Length") is None
    assert head.value("Transfer-Encoding") is None


async def test_a_body_is_passed_on_as_it_comes(world: World) -> None:
    """A body must not be held back until it is whole."""
    client, server, _ = await world.begin(get(b"Content-Length: 10", method=b"POST"))
    for piece in (b"a", b"bcd", b"efghi"):
        await client.send(piece)
        assert await server.receive(len(piece)) == piece
    await client.send(b"j")
    assert await server.receive(1) == b"j"
    await server.send(OK)
    assert (await client.receive_response()).status == 200


async def test_a_chunked_body_passes_chunked(world: World) -> None:
    """RFC 9112 §7.1; extensions are for one hop (§7.1.1)."""
    client, server, head = await world.begin(get(b"Transfer-Encoding: chunked", method=b"POST"))
    assert head.value("Transfer-Encoding") == b"chunked"
    assert head.value("Content-Length") is None
    for chunk in (b"5\r\nhello\r\n", b"00A;ext=1\r\n0123456789\r\n"):
        await client.send(chunk)
        size = int(await server.receive_until(b"\r\n"), 16)
        assert await server.receive(size + 2) == chunk.split(b"\r\n", 1)[1]
    await client.send(b"0\r\n\r\n")
    assert await server.receive(5) == b"0\r\n\r\n"
    await server.send(OK)
    assert (await client.receive_response()).status == 200


async def test_trailers_of_a_request_pass(world: World) -> None:
    """RFC 9110 §6.5."""
    _, server, head = await world.begin(
        get(b"Trailer: X-Sum", b"Transfer-Encoding: chunked", method=b"POST")
        + b"2\r\nhi\r\n0\r\nX-Sum: 1\r\nx-b:2\r\n\r\n"
    )
    assert head.value("Trailer") == b"X-Sum"
    assert await server.receive_until(b"\r\n\r\n") == b"2\r\nhi\r\n0\r\nX-Sum: 1\r\nx-b:2\r\n\r\n"


FORBIDDEN_TRAILERS = {
    "authorization": b"Authorization: Bearer mine",
    "authorization in lower case": b"authorization: Bearer mine",
    "host": b"Host: elsewhere.example",
    "content-length": b"Content-Length: 5",
    "transfer-encoding": b"Transfer-Encoding: chunked",
    "connection": b"Connection: close",
    "named by connection": b"X-Private: a",
    "cookie": b"Cookie: a=b",
    "content-type": b"Content-Type: text/plain",
    "te": b"TE: trailers",
}


@pytest.mark.parametrize("trailer", FORBIDDEN_TRAILERS.values(), ids=FORBIDDEN_TRAILERS.keys())
async def test_a_trailer_that_would_change_framing_routing_or_authentication_does_not_pass(
    world: World, trailer: bytes
) -> None:
    """RFC 9110 §6.5.1; §7.6.1 for what Connection names."""
    _, server, _ = await world.begin(
        get(b"Connection: x-private", b"Transfer-Encoding: chunked", method=b"POST")
        + b"2\r\nhi\r\n0\r\nX-A: b\r\n"
        + trailer
        + b"\r\n\r\n"
    )
    assert await server.receive_until(b"\r\n\r\n") == b"2\r\nhi\r\n0\r\nX-A: b\r\n\r\n"


async def test_via_names_the_protocol_that_was_received(start_world: StartWorld) -> None:
    """RFC 9110 §7.6.3."""
    world = await start_world(via="switch-proxy")
    _, _, head = await world.begin(get(b"Via: 1.0 first"))
    assert head.values("Via") == [b"1.0 first", b"1.1 switch-proxy"]
    _, _, head = await world.begin(b"GET / HTTP/1.0\r\n\r\n")
    assert head.values("Via") == [b"1.0 switch-proxy"]


async def test_via_has_the_configured_name(start_world: StartWorld) -> None:
    world = await start_world(via="edge-7")
    _, _, head = await world.begin(get())
    assert head.values("Via") == [b"1.1 edge-7"]


async def test_via_can_be_turned_off(start_world: StartWorld) -> None:
    world = await start_world(via=None)
    _, _, head = await world.begin(get(b"Via: 1.0 first"))
    assert head.values("Via") == [b"1.0 first"]


async def test_a_request_id_is_kept(world: World) -> None:
    client, server, head = await world.begin(get(b"X-Request-Id: abc-123"))
    assert head.values("X-Request-Id") == [b"abc-123"]
    await server.send(OK)
    await client.receive_response()
    assert (await world.record()).request_id == b"abc-123"


@pytest.mark.parametrize("lines", [[], [b"X-Request-Id:"], [b"x-request-id:  "]], ids=["none", "empty", "blank"])
async def test_a_request_without_an_id_gets_one(world: World, lines: list[bytes]) -> None:
    client, server, head = await world.begin(get(*lines))
    value = head.value("X-Request-Id")
    assert value
    await server.send(OK)
    await client.receive_response()
    assert (await world.record()).request_id == value


async def test_each_request_gets_an_id_of_its_own(world: World) -> None:
    client, server, head = await world.begin(get())
    await server.send(OK)
    await client.receive_response()
    await client.send(get())
    assert (await server.receive_head()).value("X-Request-Id") != head.value("X-Request-Id")


async def test_an_http_1_0_request_is_forwarded_as_http_1_1(world: World) -> None:
    """RFC 9110 §6.2, §7.2: a version belongs to a hop; Host is needed on this one."""
    _, _, head = await world.begin(b"GET /a HTTP/1.0\r\nAccept: b\r\n\r\n")
    assert head.start == b"GET /a HTTP/1.1"
    assert head.value("Host") == world.host
    assert head.passed == [b"Accept: b"]


async def test_a_higher_minor_version_is_read_as_http_1_1(world: World) -> None:
    """RFC 9110 §2.5."""
    client, server, head = await world.begin(b"GET / HTTP/1.7\r\nHost: x\r\n\r\n")
    assert head.start == b"GET / HTTP/1.1"
    await server.send(OK)
    assert (await client.receive_response()).head.start == b"HTTP/1.1 200 OK"


async def test_empty_lines_before_a_request_are_passed_over(world: World) -> None:
    """RFC 9112 §2.2: in the interest of robustness."""
    _, _, head = await world.begin(b"\r\n\r\n\r\n" + get())
    assert head.start == b"GET / HTTP/1.1"


async def test_a_head_is_read_in_any_segmentation(world: World) -> None:
    client = await world.client()
    request = get(b"Cookie: a=b", b"Content-Length: 2", method=b"POST") + b"hi"
    await client.send(*(request[at : at + 1] for at in range(len(request))))
    server = await world.upstream.accept()
    assert (await server.receive_head()).passed == [b"Cookie: a=b", b"Content-Length: 2"]
    assert await server.receive(2) == b"hi"


async def test_a_redirect_is_passed_and_not_followed(world: World) -> None:
    """The token must not go where a Location points."""
    client, server, _ = await world.begin(get())
    await server.send(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
    response = await client.receive_response()
    assert (response.status, response.head.value("Location")) == (302, b"http://127.0.0.1:1/")
    assert not world.upstream.has_connection_waiting()


async def test_a_cookie_that_the_upstream_sets_is_not_kept(world: World) -> None:
    """The proxy has no memory of one client's answers for another's requests."""
    client, server, _ = await world.begin(get())
    await server.send(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
    await client.receive_response()
    await client.send(get())
    assert (await server.receive_head()).passed == []


async def test_a_url_that_names_the_listener_is_forwarded_as_a_path(world: World) -> None:
    """RFC 9112 §3.2.2: what an app with `http_proxy` set sends."""
    port = world.listener.address[1]
    _, _, head = await world.begin(b"GET http://127.0.0.1:%d/readings?a=b HTTP/1.1\r\nHost: localhost\r\n\r\n" % port)
    assert head.start == b"GET /readings?a=b HTTP/1.1"
    assert head.value("Host") == world.host


@pytest.mark.parametrize("authority", [b"elsewhere.example", b"127.0.0.1:1"], ids=["a host", "a port"])
async def test_a_url_of_another_server_is_misdirected_and_nothing_is_forwarded(world: World, authority: bytes) -> None:
    client = await world.client()
    await client.send(b"GET http://%s/readings HTTP/1.1\r\nHost: localhost\r\n\r\n" % authority)
    response = await client.receive_response()
    assert response.head.status == 421
    assert b"urn:switch-proxy:problem:host-not-allowed" in response.body
    assert (await world.record()).failure == "host-not-allowed"
    assert not world.upstream.has_connection_waiting()
