"""`python -m switch_proxy run` as a process: started, found by its log, signalled, and never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncIterator

ROOT: Final = Path(__file__).parents[2]

WITHIN: Final = 20.0
"""Seconds for any step before a test fails: far more than it takes, for busy machines."""


class ProxyProcess:
    """The process, and its output so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._grown = asyncio.Condition()
        self._has_ended = False
        self.events: list[dict[str, Any]] = []
        self.errors = ""

    @classmethod
    @asynccontextmanager
    async def of(cls, process: asyncio.subprocess.Process) -> AsyncIterator[Self]:
        """Read the output of a process whose streams are piped; kill it if it still runs at the end."""
        proxy = cls(process)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(proxy._read())
            try:
                yield proxy
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        errors = asyncio.create_task(self._process.stderr.read())  # noqa: TID251 - awaited below
        while line := await self._process.stdout.readline():
            async with self._grown:
                self.events.append(json.loads(line))
                self._grown.notify_all()
        self.errors = (await errors).decode()
        async with self._grown:
            self._has_ended = True
            self._grown.notify_all()

    async def event(self, name: str, **fields: object) -> dict[str, Any]:
        """Wait for the first event of this name with these fields."""

        def find() -> dict[str, Any] | None:
            for event in self.events:
                if event["event"] == name and event.items() >= fields.items():
                    return event
            return None

        async with asyncio.timeout(WITHIN), self._grown:
            await self._grown.wait_for(lambda: find() or self._has_ended)
        found = find()
        assert found is not None, f"it ended without {name}; events: {self.event_names}; errors: {self.errors}"
        return found

    @property
    def event_names(self) -> list[str]:
        """Return the names of all events so far, in order."""
        return [str(event["event"]) for event in self.events]

    async def url(self, listener: str) -> str:
        """Return the address of a listener, once it is bound."""
        started = await self.event("listener.started", listener=listener)
        return f"http://{started['address']}"

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def exit_code(self) -> int:
        """Wait for the end; return the exit code, or minus the signal that killed the process."""
        async with asyncio.timeout(WITHIN):
            return await self._process.wait()


@asynccontextmanager
async def proxy_process(config: Path, *, before: str = "pass") -> AsyncIterator[ProxyProcess]:
    """Run a proxy, after the Python statements `before` in its process; kill it if it still runs at the end."""
    program = (
        f"import sys; {before}; import runpy; runpy.run_module('switch_proxy', run_name='__main__', alter_sys=True)"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SWITCH_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, "run", "--config", str(config)),
        env={**environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with ProxyProcess.of(process) as proxy:
        yield proxy
