"""The proxy as a watched process: started, sampled for memory and file descriptors, and ended by a signal."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_START: Final = 20.0
_END: Final = 40.0
"""Seconds allowed for start and end on a busy machine."""


class WatchedProxy:
    """A running proxy, and the file of its log."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def memory(self) -> int:
        """Return the resident memory in bytes."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def descriptors(self) -> int:
        """Return the number of open file descriptors."""
        return sum(1 for _ in Path(f"/proc/{self._process.pid}/fd").iterdir())

    @property
    def is_running(self) -> bool:
        """Return whether the process still runs."""
        return self._process.returncode is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        self._process.send_signal(number)

    async def wait(self) -> None:
        """Wait until the process has ended."""
        await self._process.wait()

    def events(self, name: str) -> list[dict[str, object]]:
        """Return the lines of this event in the log so far."""
        with self._log.open(encoding="utf-8") as lines:
            return [event for line in lines if line.endswith("\n") and (event := json.loads(line))["event"] == name]

    async def url(self, listener: str) -> str:
        """Return the URL of a listener, once it is bound. Raises TimeoutError."""
        async with asyncio.timeout(_START):
            while True:
                for event in self.events("listener.started"):
                    if event["listener"] == listener:
                        return f"http://{event['address']}"
                await asyncio.sleep(0.02)


@asynccontextmanager
async def watched_proxy(configuration: Path, log: Path) -> AsyncIterator[WatchedProxy]:
    """Run a proxy for the duration of the context. Raises RuntimeError if its exit code is not 0."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SWITCH_")}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "switch_proxy", "run", "--config", str(configuration)), env=environ, stdout=output
        )
    try:
        yield WatchedProxy(process, log)
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(_END):
            exit_code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if exit_code != 0:
        raise RuntimeError(f"the proxy ended with exit code {exit_code}")
