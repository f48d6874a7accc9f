"""The proxy as a process that is watched: started, asked for its memory and descriptors, and ended by a signal."""

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
"""Seconds that these may take on a busy machine."""


class WatchedProxy:
    """A running proxy, and the file that its log goes to."""

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
        """Return how many file descriptors are open."""
        return sum(1 for _ in Path(f"/proc/{self._process.pid}/fd").iterdir())

    @property
    def is_running(self) -> bool:
        """Tell whether it has not ended."""
        return self._process.returncode is None

    def events(self, name: str) -> list[dict[str, object]]:
        """Return what the log has of this event so far."""
        with self._log.open(encoding="utf-8") as lines:
            return [event for line in lines if line.endswith("\n") and (event := json.loads(line))["event"] == name]

    async def url(self, listener: str) -> str:
        """Return where a listener is, once it is bound. Raises TimeoutError."""
        async with asyncio.timeout(_START):
            while True:
                for event in self.events("listener.started"):
                    if event["listener"] == listener:
                        return f"http://{event['address']}"
                await asyncio.sleep(0.02)


@asynccontextmanager
async def watched_proxy(configuration: Path, log: Path) -> AsyncIterator[WatchedProxy]:
    """Run a proxy for as long as the context lasts. Raises RuntimeError where it did not end with exit code 0."""
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
