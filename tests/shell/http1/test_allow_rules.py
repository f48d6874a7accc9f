"""A route with rules: what they allow goes to the upstream byte for byte, the rest is refused before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from switch_proxy.core.config.models import AllowSettings
from switch_proxy.core.path_pattern import parse_path_pattern
from tests.shell.http1.test_broken_upstreams import kind, problem

if TYPE_CHECKING:
    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.world import World

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
ALLOW = (
    AllowSettings(
        methods=("GET",), paths=(parse_path_pattern("/api/readings"), parse_path_pattern("/api/readings/**"))
    ),
    AllowSettings(methods=("POST",), paths=(parse_path_pattern("/api/readings"),)),
)


@pytest.fixture
async def ruled(start_world: StartWorld) -> World:
    return await start_world(base_path="/v1", allow=ALLOW)


async def test_what_is_allowed_is_forwarded_byte_for_byte(ruled: World) -> None:
    client, server, head = await ruled.begin(b"GET /%61pi/readings/caf%c3%A9?a=%2e%2e//;b HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.start == b"GET /v1/%61pi/readings/caf%c3%A9?a=%2e%2e//;b HTTP/1.1"
    await server.send(OK)
    assert (await client.receive_response()).status == 200


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"DELETE /api/readings", "allow GET, HEAD, POST at this path, not DELETE"),
        (b"GET /admin", "allow nothing at this path"),
        (b"GET /api/readings/%2e%2e/%2e%2e/admin", "'..' segment"),
        (b"GET /api/readings/..;/admin", "semicolon"),
        (b"OPTIONS *", "allow nothing at this path"),
    ],
)
async def test_what_is_not_allowed_is_a_403_and_the_connection_goes_on(ruled: World, line: bytes, words: str) -> None:
    client, server, head = await ruled.begin(
        line + b" HTTP/1.1\r\nHost: x\r\n\r\nGET /api/readings HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    await server.send(OK)
    response = await client.receive_response()
    assert kind(response) == (403, "request-not-allowed")
    assert words in problem(response)["detail"]
    assert head.start == b"GET /v1/api/readings HTTP/1.1"
    assert (await client.receive_response()).status == 200


async def test_the_rules_see_the_path_below_the_upstream(start_world: StartWorld) -> None:
    """The base path of the upstream is put before it."""
    world = await start_world(base_path="/api", allow=(AllowSettings(paths=(parse_path_pattern("/readings"),)),))
    client, server, _ = await world.begin(b"GET /readings HTTP/1.1\r\nHost: x\r\n\r\n")
    await server.send(OK)
    assert (await client.receive_response()).status == 200
