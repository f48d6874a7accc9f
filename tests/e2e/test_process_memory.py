"""The process's memory while bodies pass that are far larger."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import trustme

from tests.e2e.proxy_process import proxy_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    import aiohttp

    from tests.e2e.conftest import Configure

MIB: Final = 1024 * 1024
BODY: Final = 2048 * MIB
PIECE: Final = bytes(MIB)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """The API's port; the test serves one connection of it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(120)
        yield listening


def send_body(connected: socket.socket) -> None:
    for _ in range(BODY // len(PIECE)):
        connected.sendall(PIECE)


def receive_body(connected: socket.socket, early: bytes) -> int:
    buffer = bytearray(MIB)
    received = len(early)
    while received < BODY:
        count = connected.recv_into(buffer)
        if not count:
            break
        received += count
    return received


def receive_head(connected: socket.socket) -> bytes:
    """Return the bytes after a head."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connected.recv(65536)
    return data.partition(b"\r\n\r\n")[2]


def accept_and_answer(listening: socket.socket) -> socket.socket:
    """Serve one small request as the API, and return its connection."""
    connected, _ = listening.accept()
    connected.settimeout(120)
    receive_head(connected)
    connected.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    return connected


def memory(pid: int, kind: str) -> int:
    """Return `VmRSS`, the resident memory, or `VmHWM`, its maximum so far; bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    [kibibytes] = re.findall(rf"{kind}:\s+(\d+) kB", status)
    return int(kibibytes) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason=f"{sys.platform} does not tell a process's memory")
@pytest.mark.timeout(180)
@pytest.mark.parametrize("direction", ["download", "upload"])
async def test_a_body_of_2_gib_passes_within_16_mib_of_memory(
    direction: str, configure: Configure, client: aiohttp.ClientSession, listening: socket.socket
) -> None:
    host, port = listening.getsockname()
    async with proxy_process(configure(upstream=f"http://{host}:{port}")) as proxy:
        api = asyncio.create_task(asyncio.to_thread(accept_and_answer, listening))  # noqa: TID251 - awaited below
        async with client.get(await proxy.url("switch-api")) as response:
            assert response.status == 200
        with await api as upstream:
            before = memory(proxy.pid, "VmRSS")
            address = (await proxy.url("switch-api")).removeprefix("http://")
            received = await asyncio.to_thread(pass_body, address, upstream, direction)
            grown = memory(proxy.pid, "VmHWM") - before
    assert received == BODY
    assert grown <= 16 * MIB, f"{grown / MIB:.1f} MiB"


def pass_body(address: str, upstream: socket.socket, direction: str) -> int:
    """Send a body through the proxy; return how many bytes arrived at the other end."""
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=120) as app:
        if direction == "download":
            app.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            receive_head(upstream)
            sender, receiver, head = upstream, app, b"HTTP/1.1 200 OK\r\n"
        else:
            sender, receiver, head = app, upstream, b"POST / HTTP/1.1\r\nHost: localhost\r\n"
        sender.sendall(head + b"Content-Length: %d\r\n\r\n" % BODY)
        early = receive_head(receiver)
        return asyncio.run(_both(sender, receiver, early))


async def _both(sender: socket.socket, receiver: socket.socket, early: bytes) -> int:
    sent = asyncio.to_thread(send_body, sender)
    received = asyncio.to_thread(receive_body, receiver, early)
    return (await asyncio.gather(sent, received))[1]


CONNECTIONS: Final = 128
PER_CONNECTION: Final = 128 * 1024
"""Bytes: OpenSSL's state, a record in the making, and one read that the client has not taken."""


async def serve_megabytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be an API whose responses have 1 MiB."""
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MIB + PIECE)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason=f"{sys.platform} does not tell a process's memory")
@pytest.mark.timeout(180)
async def test_busy_tls_connections_share_their_buffers(configure: Configure, tmp_path: Path) -> None:
    """256 of them are the default pool: with buffers of its own, each would hold more than half a MiB."""
    authority, ca_file = trustme.CA(), tmp_path / "authorities.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    api = await asyncio.start_server(serve_megabytes, "127.0.0.1", 0, ssl=context)
    async with api:
        url = f"https://127.0.0.1:{api.sockets[0].getsockname()[1]}"
        route = {"name": "switch-api", "listen": "127.0.0.1:0", "upstream": url, "credential": "switch"}
        file = configure(routes=[route | {"tls": {"ca_file": str(ca_file)}}])
        async with proxy_process(file) as proxy:
            host, _, port = (await proxy.url("switch-api")).removeprefix("http://").partition(":")
            clients = [await begin_download(host, port) for _ in range(2)]
            before = memory(proxy.pid, "VmRSS")
            clients += await asyncio.gather(*[begin_download(host, port) for _ in range(CONNECTIONS)])
            bodies = await asyncio.gather(*[reader.readexactly(MIB) for reader, _ in clients])
            grown = memory(proxy.pid, "VmHWM") - before
            for _, writer in clients:
                writer.close()
    assert all(body == PIECE for body in bodies)
    assert grown <= CONNECTIONS * PER_CONNECTION, f"{grown / CONNECTIONS / 1024:.0f} KiB for each connection"


async def begin_download(host: str, port: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for a megabyte, and take no more than its head for now."""
    reader, writer = await asyncio.open_connection(host, int(port), limit=65536)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
    return reader, writer
