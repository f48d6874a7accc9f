"""A real Redis server on a free port of loopback, for as long as a test lasts."""

from __future__ import annotations

import asyncio
import shutil
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncIterator
    from pathlib import Path

WITHIN: Final = 20.0
"""Seconds for the start, on a busy machine."""


class RedisServer:
    """The server's process and its address."""

    def __init__(self, folder: Path, options: tuple[str, ...]) -> None:
        self._folder = folder
        self._options = options
        self._process: asyncio.subprocess.Process | None = None
        self.port = _free_port()

    @property
    def url(self) -> str:
        """Return the URL of its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Start it, empty, and wait until it responds; on the port it had before."""
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed")
        arguments = ("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder))
        self._process = await asyncio.create_subprocess_exec(
            program, *arguments, *self._options, stdout=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(WITHIN):
            while not await self._responds():  # noqa: ASYNC110 - another process has no event
                await asyncio.sleep(0.01)

    async def _responds(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.write(b"PING\r\n")
        line = await reader.readline()
        writer.close()
        return line.startswith((b"+PONG", b"-NOAUTH"))

    async def command(self, *words: str) -> bytes:
        """Send one command, and return what comes back until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for parts in (words, ("QUIT",)):
            writer.write(b"*%d\r\n" % len(parts))
            for part in parts:
                writer.write(b"$%d\r\n%s\r\n" % (len(part.encode()), part.encode()))
        content = await reader.read()
        writer.close()
        return content

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """End it at once; everything in it is lost."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def redis_server(folder: Path, *options: str) -> AsyncIterator[RedisServer]:
    """Run a server with further options of its command line. Skips the test if it is not installed."""
    server = RedisServer(folder, options)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])
