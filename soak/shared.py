"""
The soak of three processes that share a store of tokens: `python -m soak --shared`.

Tokens live twenty seconds. In turn: nothing happens, a process is killed and started again, one is paused for three seconds, the
directory cannot be used, its entries are damaged, and all tokens are revoked (at most once a minute). No request may fail but those
on their way in the process that is killed or paused; and all together may send no more token requests than lives begin, with
one more for each kill, pause and revocation, and one for each process while the store cannot be used.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import secrets
import signal
import tempfile
from contextlib import AsyncExitStack
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop

from soak.load import Load
from soak.promises import SERVED, told
from soak.watched import watched_proxy
from switch_proxy.demo.auth_server import SWITCH_AUDIENCE, FakeAuthorizationServer
from switch_proxy.demo.fake_server import wall_time
from switch_proxy.demo.switch_api import FakeSwitchAPI

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from soak.watched import WatchedProxy

LIFETIME: Final = 20.0
REPLACED_AFTER: Final = 0.75 * LIFETIME
"""Seconds: the earliest refresh of a token."""

PROCESSES: Final = 3
STEP: Final = 6.0
"""Seconds of each disturbance and of the rest before the next."""

PAUSE: Final = 3.0
REVOCATION_INTERVAL: Final = 60.0


class Member:
    """One of the processes, with its load; it may be started again."""

    def __init__(self, number: int, folder: Path, configuration: Path) -> None:
        self._number = number
        self._folder = folder
        self._configuration = configuration
        self._stack = AsyncExitStack()
        self._sending: asyncio.Task[None] | None = None
        self._starts = 0
        self.proxy: WatchedProxy | None = None
        self.loads: list[Load] = []

    async def start(self, *, rate: float, clients: int) -> None:
        """Start the process, and its load once it listens."""
        self._starts += 1
        log = self._folder / f"log-{self._number}-{self._starts}"
        self.proxy = await self._stack.enter_async_context(watched_proxy(self._configuration, log))
        await self.resume_load(rate=rate, clients=clients)

    async def resume_load(self, *, rate: float, clients: int) -> None:
        """Send requests from now on."""
        assert self.proxy is not None
        load = Load(await self.proxy.url("api"), clients=clients, rate=rate, now=wall_time)
        self.loads.append(load)
        self._sending = asyncio.get_running_loop().create_task(load.run())

    async def stop_load(self) -> None:
        """Stop the load, and wait until it has ended."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)

    async def end(self) -> None:
        """End the process in an orderly way."""
        await self.stop_load()
        await self._stack.aclose()

    async def kill(self) -> None:
        """Kill the process."""
        await self.stop_load()
        assert self.proxy is not None
        self.proxy.send(signal.SIGKILL)
        await self.proxy.wait()
        # It has no exit code 0.
        with contextlib.suppress(RuntimeError):
            await self._stack.aclose()
        self._stack = AsyncExitStack()


class SharedSoak:
    """One run."""

    def __init__(
        self, members: list[Member], auth: FakeAuthorizationServer, store: Path, *, rate: float, clients: int
    ) -> None:
        self._members = members
        self._auth = auth
        self._store = store
        self._rate = rate
        self._clients = clients
        self._revoked_at = wall_time()
        self.extra = 0
        """Token requests that the disturbances may have caused."""
        self.told: list[str] = []

    async def run(self, seconds: float) -> None:
        """Disturb until the time is over."""
        disturbances: Sequence[tuple[str, Callable[[], Awaitable[None]]]] = (
            ("killed", self._kill),
            ("paused", self._pause),
            ("store away", self._away),
            ("entries damaged", self._damage),
            ("revoked", self._revoke),
        )
        end_at = wall_time() + seconds
        turn = 0
        await asyncio.sleep(STEP)
        while wall_time() < end_at:
            name, disturb = disturbances[turn % len(disturbances)]
            turn += 1
            await disturb()
            self.told.append(name)
            await asyncio.sleep(STEP)

    async def _kill(self) -> None:
        member = self._members[len(self.told) % PROCESSES]
        await member.kill()
        self.extra += 1
        await member.start(rate=self._rate, clients=self._clients)

    async def _pause(self) -> None:
        member = self._members[len(self.told) % PROCESSES]
        await member.stop_load()
        assert member.proxy is not None
        member.proxy.send(signal.SIGSTOP)
        await asyncio.sleep(PAUSE)
        member.proxy.send(signal.SIGCONT)
        self.extra += 1
        await member.resume_load(rate=self._rate, clients=self._clients)

    async def _away(self) -> None:
        self._store.chmod(0o777)
        await asyncio.sleep(STEP)
        self._store.chmod(0o700)
        self.extra += PROCESSES

    async def _damage(self) -> None:
        for entry in self._store.glob("*.entry.*"):
            entry.write_bytes(b"SPT\x01" + secrets.token_bytes(100))
        # Each has a token, and the first that refreshes writes the entry anew.
        self.extra += 1

    async def _revoke(self) -> None:
        if wall_time() - self._revoked_at < REVOCATION_INTERVAL:
            return
        self._revoked_at = wall_time()
        self._auth.revoke_all()
        self.extra += 1


def verdict(soak: SharedSoak, members: list[Member], auth: FakeAuthorizationServer, *, seconds: float) -> list[str]:
    """Return the broken promises, one sentence each, and print the numbers."""
    outcomes = [outcome for member in members for load in member.loads for outcome in load.outcomes]
    broken = [outcome for outcome in outcomes if outcome.status not in SERVED]
    most = ceil(seconds / REPLACED_AFTER) + 1 + soak.extra
    alone = PROCESSES * seconds / (0.8 * LIFETIME)
    print(f"requests     {told(outcomes)}")
    print(f"disturbances {', '.join(soak.told)}")
    print(f"token calls  {len(auth.requests)}, at most {most} allowed; without a store some {alone:.0f}")
    findings = [] if outcomes else ["no request was made"]
    if broken:
        findings.append(f"{len(broken)} requests failed ({told(broken)})")
    if len(auth.requests) > most:
        findings.append(f"{len(auth.requests)} token requests; at most {most} are allowed")
    return findings


async def soak_for(seconds: float, *, rate: float, clients: int, folder: Path) -> list[str]:
    """Run a soak and return the promises that were broken."""
    secret_file, configuration, store = folder / "client_secret", folder / "config.yaml", folder / "tokens"
    client_secret = secrets.token_urlsafe(48)
    secret_file.write_text(client_secret, encoding="ascii")
    async with (
        FakeAuthorizationServer(
            client_secret=client_secret, lifetime=LIFETIME, tokens_per_hour=None, tokens_per_day=None
        ) as auth,
        FakeSwitchAPI(introspect=auth.introspect) as api,
    ):
        credential = {
            "token_url": auth.token_url,
            "client_id": auth.client_id,
            "client_secret": {"file": str(secret_file)},
            "audience": SWITCH_AUDIENCE,
        }
        settings = {
            "credentials": {"switch": credential},
            "routes": [{"name": "api", "listen": "127.0.0.1:0", "upstream": api.url, "credential": "switch"}],
            "admin": {"listen": "127.0.0.1:0"},
            "log": {"access": "errors"},
            "token_store": {"directory": str(store)},
        }
        configuration.write_text(json.dumps(settings), encoding="utf-8")
        members = [Member(number, folder, configuration) for number in range(PROCESSES)]
        began_at = wall_time()
        try:
            for member in members:
                await member.start(rate=rate / PROCESSES, clients=clients)
            soak = SharedSoak(members, auth, store, rate=rate / PROCESSES, clients=clients)
            await soak.run(seconds)
        finally:
            for member in members:
                await member.end()
        return verdict(soak, members, auth, seconds=wall_time() - began_at)


def main(arguments: Sequence[str]) -> int:
    """Run with these arguments; return the exit code, 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m soak --shared", description=__doc__.partition("\n\n")[0].strip())
    parser.add_argument("--seconds", type=float, default=60, help="duration (default: 60)")
    parser.add_argument("--rate", type=float, default=100, help="requests per second, of all together (default: 100)")
    parser.add_argument("--clients", type=int, default=4, help="number of clients of each (default: 4)")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="switch-proxy-soak-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        broken = runner.run(soak_for(options.seconds, rate=options.rate, clients=options.clients, folder=Path(folder)))
    for finding in broken:
        print(f"BROKEN: {finding}")
    print("broken promises" if broken else "every promise was kept")
    return 1 if broken else 0
