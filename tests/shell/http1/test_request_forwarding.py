"""What of a request reaches the upstream, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.shell.http1.tokens import BEARER

if TYPE_CHECKING:
    from tests.shell.http1.world import World

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


async def test_a_request_and_its_response_pass(world: World) -> None:
    client, server, head = await world.begin(b"GET /readings?from=1 HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n")
    assert head.start == b"GET /readings?from=1 HTTP/1.1"
    assert head.value("Authorization") == BEARER
    await server.send(OK)
    response = await client.receive_response()
    assert (response.status, response.body) == (200, b"hi")
    assert (await world.record()).failure is None
