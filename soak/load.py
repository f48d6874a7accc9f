"""A steady load of small requests, and their outcomes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import aiohttp

from soak.promises import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET: Final = "/api/meter?organizationId=1"

_TIMEOUT: Final = 30.0
"""Seconds; far longer than a request may wait in the proxy."""


class Load:
    """Clients that each send one request after the other, together `rate` in a second."""

    def __init__(self, url: str, *, clients: int, rate: float, now: Callable[[], float]) -> None:
        self._url = url + TARGET
        self.clients = clients
        self._pause = clients / rate
        self._now = now
        self.outcomes: list[Outcome] = []

    async def run(self) -> None:
        """Send until cancelled."""
        connector = aiohttp.TCPConnector(limit=self.clients)
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, asyncio.TaskGroup() as tasks:
            for number in range(self.clients):
                tasks.create_task(self._client(session, first_in=self._pause * number / self.clients))

    async def _client(self, session: aiohttp.ClientSession, *, first_in: float) -> None:
        loop = asyncio.get_running_loop()
        due_at = loop.time() + first_in
        while True:
            await asyncio.sleep(max(0.0, due_at - loop.time()))
            self.outcomes.append(await self._request(session))
            # A delayed request is not caught up on: the load stays the same.
            due_at = max(due_at + self._pause, loop.time())

    async def _request(self, session: aiohttp.ClientSession) -> Outcome:
        began_at = self._now()
        try:
            async with session.get(self._url) as response:
                await response.read()
                status, has_retry_after = response.status, "Retry-After" in response.headers
        except (aiohttp.ClientError, TimeoutError):
            status, has_retry_after = 0, False
        return Outcome(began_at=began_at, ended_at=self._now(), status=status, has_retry_after=has_retry_after)
