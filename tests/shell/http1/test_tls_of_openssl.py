"""What only another TLS server does: key updates in the middle of an exchange, and a second handshake."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trustme

from switch_proxy.core.config.models import TlsSettings
from tests.shell.http1.certificates import Certificates
from tests.shell.http1.raw_peer import bounded
from tests.shell.http1.raw_upstream import RawUpstream
from tests.shell.http1.test_broken_upstreams import kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.shell.http1.conftest import StartWorld

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None or shutil.which("stdbuf") is None, reason="openssl or stdbuf is not installed"
)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(authority=trustme.CA(), stranger=trustme.CA(), folder=tmp_path)


class OpenSslServer:
    """`openssl s_server`: sends what it is given, prints what it gets, and does what a letter on a line says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._printed = bytearray()
        self.port = 0

    async def say(self, text: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        await self._process.stdin.drain()

    async def prints(self, text: bytes) -> bytes:
        """Wait until it prints `text`; return what comes before."""
        assert self._process.stdout is not None
        async with bounded(repr(text), self._printed):
            while (found := self._printed.find(text)) < 0:
                piece = await self._process.stdout.read(65536)
                assert piece, f"it ended before it printed {text!r}, with {bytes(self._printed)!r}"
                self._printed += piece
        before = bytes(self._printed[:found])
        del self._printed[: found + len(text)]
        return before


@asynccontextmanager
async def openssl_server(certificates: Certificates, *options: str) -> AsyncIterator[OpenSslServer]:
    file = certificates.folder / "server.pem"
    certificates.authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(file))
    process = await asyncio.create_subprocess_exec(
        # It prints to a pipe in blocks otherwise.
        *("stdbuf", "--output=0"),
        *("openssl", "s_server"),
        *("-accept", "127.0.0.1:0"),
        *("-cert", str(file)),
        *options,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    server = OpenSslServer(process)
    try:
        await server.prints(b"ACCEPT 127.0.0.1:")
        server.port = int(await server.prints(b"\n"))
        yield server
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("letter", [b"k", b"K"], ids=["its own", "and asks for ours"])
async def test_keys_may_be_updated_at_any_time(
    start_world: StartWorld, certificates: Certificates, letter: bytes
) -> None:
    """RFC 8446 §4.6.3."""
    async with openssl_server(certificates, "-tls1_3") as server:
        world = await start_world(
            upstream=RawUpstream(tls=certificates.server()),
            port=server.port,
            tls=TlsSettings(ca_file=certificates.ca_file),
        )
        client = await world.client()
        for path in (b"/first", b"/second"):
            await client.send(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
            await server.prints(b"GET %b HTTP/1.1\r\n" % path)
            await server.prints(b"\r\n\r\n")
            await server.say(letter + b"\n")
            await server.prints(b"SSL_do_handshake -> 1")
            await server.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
            assert (await client.receive_response()).body == b"hi"
        assert world.snapshot().upstream_connects == 1


async def test_a_second_handshake_is_refused(start_world: StartWorld, certificates: Certificates) -> None:
    """RFC 5246 §7.2.2: no_renegotiation. It would be one more way to make the proxy work, and nobody needs it."""
    async with openssl_server(certificates, "-tls1_2") as server:
        world = await start_world(
            upstream=RawUpstream(tls=certificates.server()),
            port=server.port,
            tls=TlsSettings(ca_file=certificates.ca_file),
        )
        client = await world.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        await server.prints(b"\r\n\r\n")
        await server.say(b"r\n")
        await server.prints(b"no renegotiation")
        # What becomes of the connection is the server's choice; this one ends it.
        assert kind(await client.receive_response()) == (502, "upstream-tls")
