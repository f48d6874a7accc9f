"""What a route changes in heads beside what every proxy does: Authorization, Via, Location, its own lines, our token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from switch_proxy.core.config.models import RequestHeaderSettings, ResponseHeaderSettings
from tests.shell.http1.test_broken_upstreams import kind
from tests.shell.http1.tokens import TOKEN

if TYPE_CHECKING:
    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.world import World

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
BASIC = b"Authorization: Basic b3duOmFwcA==\r\n"


async def test_no_via_is_added_by_default(world: World) -> None:
    """Nginx upstreams would stop compressing."""
    _, _, head = await world.begin(GET + b"\r\n")
    assert head.values("Via") == []


@pytest.mark.parametrize("via", [b"1.1 edge-7", b"1.0 a, HTTP/1.1 EDGE-7 (Apache)", b"1.0 a\r\nVia: 1.1 edge-7"])
async def test_a_request_that_has_been_here_is_a_508_if_via_is_on(start_world: StartWorld, via: bytes) -> None:
    world = await start_world(via="edge-7")
    client = await world.client()
    await client.send(GET + b"Via: " + via + b"\r\n\r\n")
    assert kind(await client.receive_response()) == (508, "loop")
    assert not world.upstream.has_connection_waiting()


@pytest.mark.parametrize("via", [b"1.1 edge-77", b"1.1 a (edge-7)", b"edge-7 a"])
async def test_other_names_in_via_pass(start_world: StartWorld, via: bytes) -> None:
    world = await start_world(via="edge-7")
    _, _, head = await world.begin(GET + b"Via: " + via + b"\r\n\r\n")
    assert head.values("Via") == [via, b"1.1 edge-7"]


async def test_an_apps_own_authorization_passes_if_it_is_kept(start_world: StartWorld) -> None:
    world = await start_world(authorization="keep")
    client, server, head = await world.begin(GET + BASIC + b"\r\n" + GET + b"\r\n")
    assert head.values("Authorization") == [b"Basic b3duOmFwcA=="]
    await server.send(OK)
    assert (await client.receive_response()).status == 200
    assert (await server.receive_head()).values("Authorization") == [b"Bearer " + TOKEN.encode()]


@pytest.mark.parametrize("more", [BASIC + BASIC, BASIC + b"Connection: authorization\r\n"], ids=["two", "one hop's"])
async def test_of_several_and_of_one_hops_authorization_none_passes(start_world: StartWorld, more: bytes) -> None:
    world = await start_world(authorization="keep")
    _, _, head = await world.begin(GET + more + b"\r\n")
    assert head.values("Authorization") == [b"Bearer " + TOKEN.encode()]


async def test_a_401_for_the_apps_own_authorization_says_nothing_of_the_token(start_world: StartWorld) -> None:
    world = await start_world(authorization="keep")
    client, server, _ = await world.begin(GET + BASIC + b"\r\n")
    await server.send(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 0\r\n\r\n")
    assert (await client.receive_response()).status == 401
    assert world.tokens.rejected == []


async def test_a_location_at_the_upstream_is_led_back_through_the_proxy(start_world: StartWorld) -> None:
    world = await start_world(base_path="/v1")
    client, server, _ = await world.begin(GET + b"\r\n")
    origin = b"http://" + world.host
    await server.send(
        b"HTTP/1.1 201 Created\r\nLocation: "
        + origin
        + b"/v1/readings/7\r\nContent-Location: https://cdn.example/a\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    head = (await client.receive_response()).head
    assert (head.value("Location"), head.value("Content-Location")) == (b"/readings/7", b"https://cdn.example/a")


async def test_a_location_passes_as_it_is_if_that_is_configured(start_world: StartWorld) -> None:
    world = await start_world(rewrite_location=False)
    client, server, _ = await world.begin(GET + b"\r\n")
    await server.send(b"HTTP/1.1 302 Found\r\nLocation: http://" + world.host + b"/a\r\nContent-Length: 0\r\n\r\n")
    assert (await client.receive_response()).head.value("Location") == b"http://" + world.host + b"/a"


async def test_lines_are_set_and_removed_in_both_directions(start_world: StartWorld) -> None:
    world = await start_world(
        request_headers=RequestHeaderSettings(set={"X-Tenant": "a"}, remove=("Cookie",)),
        response_headers=ResponseHeaderSettings(set={"X-From": "b"}, remove=("Server",)),
    )
    client, server, head = await world.begin(GET + b"Cookie: c\r\nx-tenant: evil\r\n\r\n")
    assert (head.values("Cookie"), head.values("X-Tenant")) == ([], [b"a"])
    await server.send(b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\n\r\nhi")
    response = await client.receive_response()
    assert (response.head.values("Server"), response.head.value("X-From"), response.body) == ([], b"b", b"hi")


# Our own token, reflected.


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Echo: Bearer TOKEN; TOKEN\r\nContent-Length: 2\r\n\r\nhi", id="a head"),
        pytest.param(b"HTTP/1.1 200 TOKEN\r\nContent-Length: 2\r\n\r\nhi", id="a reason"),
        pytest.param(b"HTTP/1.1 302 Found\r\nLocation: /?a=TOKEN\r\nContent-Length: 2\r\n\r\nhi", id="a location"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nX-Echo: TOKEN\r\n\r\n" + OK, id="an interim head"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Echo: TOKEN\r\n\r\n", id="trailers"
        ),
    ],
)
async def test_a_token_in_a_responses_head_is_masked_and_counted(world: World, response: bytes) -> None:
    client, server, _ = await world.begin(GET + b"Connection: close\r\n\r\n")
    await server.send(response.replace(b"TOKEN", TOKEN.encode()))
    received = await client.receive_to_end()
    assert TOKEN.encode() not in received
    assert b"[access token]" in received
    assert b"hi" in received
    assert world.snapshot().reflected_tokens == 1


async def test_a_body_passes_whatever_is_in_it(world: World) -> None:
    client, server, _ = await world.begin(GET + b"\r\n")
    await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(TOKEN) + TOKEN.encode())
    assert (await client.receive_response()).body == TOKEN.encode()
    assert world.snapshot().reflected_tokens == 0
