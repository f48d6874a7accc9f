"""Clients that speak something else than HTTP/1.1 get a response that names it, and so does the log."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING, Final

import pytest

from tests.shell.http1.test_broken_upstreams import kind

if TYPE_CHECKING:
    from tests.shell.http1.world import World


def client_hello() -> bytes:
    """Return what a TLS client begins with."""
    outgoing = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


OPENINGS: Final = {
    "TLS": (client_hello(), 400, "TLS"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), 505, "HTTP/2"),
    "PROXY": (b"PROXY TCP4 10.0.0.1 10.0.0.2 5000 80\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "PROXY protocol"),
    "PROXY, binary": (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12), 400, "PROXY protocol"),
    "SOCKS": (b"\x05\x01\x00", 400, "SOCKS"),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", 400, "request line"),
}


@pytest.mark.parametrize("is_in_pieces", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize(("opening", "status", "name"), OPENINGS.values(), ids=OPENINGS.keys())
async def test_a_client_of_another_protocol_is_told_at_once(
    world: World, opening: bytes, status: int, name: str, *, is_in_pieces: bool
) -> None:
    """The peer waits for a response to these bytes: no time limit has to pass."""
    client = await world.client()
    if is_in_pieces:
        for at in range(min(len(opening), 24)):
            await client.send(opening[at : at + 1])
    else:
        await client.send(opening)
    response = await client.receive_response()
    assert kind(response) == (status, "request-malformed")
    detail = json.loads(response.body)["detail"]
    assert name in detail
    record = await world.record()
    assert (record.failure, record.detail) == ("request-malformed", detail)
    assert not world.upstream.has_connection_waiting()
