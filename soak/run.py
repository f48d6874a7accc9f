"""
The soak's disturbances, one after the other, and its verdict.

Tokens live two seconds, so that one is replaced every 1.5 seconds. In turn:

    steady       no disturbance; no request may fail
    long outage  the token endpoint fails for longer than a token lives. 503 with Retry-After is excused from the end of
                 the last token until one backoff step after the end of the outage. Retries are backed off
    rotation     the old secret stops working, and the new one is in the file. Tokens of twelve seconds bridge the five
                 seconds until the proxy reads it: no request may fail
    short outage the token endpoint fails once, when a token of twelve seconds is to be replaced: no request may fail
    revocation   all tokens are revoked, at most once a minute because the proxy replaces no more: no request may fail

With --bad-peers, clients, an upstream and whoever meets the admin listener misbehave all the time (soak/bad_peers.py): what they
do may cost no good client a request, and no memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop

from soak.bad_peers import CLIENTS, BadPeers, bad_upstream
from soak.load import Load
from soak.promises import (
    LONGEST_FIRST_WAIT,
    MOST_GROWTH,
    SERVED,
    SLACK,
    Excuse,
    failures_of_promise,
    growth,
    longest_wait_after,
    most_token_calls,
    told,
    usable_until,
)
from soak.watched import WatchedProxy, watched_proxy
from switch_proxy.demo.auth_server import SWITCH_AUDIENCE, FakeAuthorizationServer
from switch_proxy.demo.fake_server import wall_time
from switch_proxy.demo.faults import Reset, Status
from switch_proxy.demo.switch_api import FakeSwitchAPI

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from switch_proxy.demo.faults import Fault

SHORT_LIFETIME: Final = 2.0
LONG_LIFETIME: Final = 12.0
"""Seconds. The longer one bridges the time until a changed file is read, and a failed refresh with its longest retry."""

_STEADY: Final = 5.0
_OUTAGE: Final = 3.0
"""Seconds: longer than a short token lives."""

_MOST_TRIES: Final = 8
"""Tries in an outage of three seconds. With waits drawn from 1, 2, 4 … s, more happen once in millions of outages."""

_FILE_SEEN: Final = 5.0
"""Seconds after which a changed file is read."""

_REVOCATION_INTERVAL: Final = 60.0
"""Seconds in which a 401 of the API may force one token request."""

_SAMPLE: Final = 0.5
"""Seconds between two samples of the process."""

_LOOK: Final = 0.01
"""Seconds between two checks of the authorization server's records."""


class BrokenPromiseError(Exception):
    """The proxy broke a promise; the text says which."""


@dataclass(slots=True, kw_only=True)
class Record:
    """The records for the verdict."""

    excuses: list[Excuse] = field(default_factory=list)
    extra_calls: int = 0
    memory: list[float] = field(default_factory=list)
    descriptors: list[float] = field(default_factory=list)
    disturbances: dict[str, int] = field(default_factory=dict)


class Soak:
    """One run: the fakes, the proxy, the load and the record."""

    def __init__(
        self, *, auth: FakeAuthorizationServer, api: FakeSwitchAPI, proxy: WatchedProxy, load: Load, secret_file: Path
    ) -> None:
        self._auth = auth
        self._api = api
        self._proxy = proxy
        self._load = load
        self._secret_file = secret_file
        self._revoked_at = -_REVOCATION_INTERVAL
        self.record = Record()

    async def run(self, seconds: float) -> None:
        """Disturb the proxy until the time is over, and sample its process."""
        disturbances: Sequence[tuple[str, float, Callable[[], Awaitable[None]]]] = (
            ("steady", _STEADY, self._steady),
            ("revocation", SHORT_LIFETIME, self._revoke),
            ("long outage: 503", 2 * _OUTAGE, lambda: self._long_outage(Status(code=503))),
            ("steady", _STEADY, self._steady),
            ("rotation", SHORT_LIFETIME + _FILE_SEEN, self._rotate),
            ("long outage: resets", 2 * _OUTAGE, lambda: self._long_outage(Reset())),
            ("short outage", LONG_LIFETIME + SHORT_LIFETIME, self._short_outage),
        )
        end_at = wall_time() + seconds
        sampling = asyncio.get_running_loop().create_task(self._sample())
        try:
            while wall_time() < end_at:
                for name, takes, disturb in disturbances:
                    if wall_time() + takes > end_at or (name == "revocation" and not self._may_revoke):
                        continue
                    self._say(name)
                    await disturb()
                await asyncio.sleep(min(1.0, max(0.0, end_at - wall_time())))
        finally:
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)

    def _say(self, name: str) -> None:
        self.record.disturbances[name] = self.record.disturbances.get(name, 0) + 1
        print(f"{len(self._load.outcomes):8} requests  {len(self._auth.issued):5} tokens  {name}", flush=True)

    async def _sample(self) -> None:
        while True:
            self.record.memory.append(self._proxy.memory)
            self.record.descriptors.append(self._proxy.descriptors)
            self._api.requests.clear()  # only the latest are needed, and the list would grow forever
            await asyncio.sleep(_SAMPLE)

    async def _until(self, predicate: Callable[[], object], *, within: float, what: str) -> None:
        """Wait. Raises BrokenPromiseError after `within` seconds, or if the proxy has ended."""
        give_up_at = wall_time() + within + SLACK
        while not predicate():
            if not self._proxy.is_running:
                raise BrokenPromiseError("the proxy has ended")
            if wall_time() > give_up_at:
                raise BrokenPromiseError(f"{what} did not arrive within {within:g} s")
            await asyncio.sleep(_LOOK)

    async def _next_token(self, *, within: float, what: str) -> None:
        count = len(self._auth.issued)
        await self._until(lambda: len(self._auth.issued) > count, within=within, what=what)

    # --- the disturbances ------------------------------------------------------------------------------------------

    async def _steady(self) -> None:
        await asyncio.sleep(_STEADY)

    @property
    def _may_revoke(self) -> bool:
        return wall_time() - self._revoked_at > _REVOCATION_INTERVAL + SLACK

    async def _revoke(self) -> None:
        self._revoked_at = wall_time()
        self.record.extra_calls += 1
        self._auth.revoke_all()
        await self._next_token(within=SLACK, what="a token to replace the revoked ones")

    async def _long_outage(self, fault: Fault) -> None:
        asked = len(self._auth.requests)
        begin = wall_time()
        with self._auth.faults.during(fault):
            await asyncio.sleep(_OUTAGE)
            failures = len(self._auth.requests) - asked
        end = wall_time()
        last = self._auth.issued[-1]
        step = longest_wait_after(failures)
        self.record.extra_calls += failures
        if failures > _MOST_TRIES:
            raise BrokenPromiseError(f"{failures} token requests in an outage of {_OUTAGE:g} s")
        await self._next_token(
            within=max(step, SHORT_LIFETIME), what="a token after an outage, one backoff step later,"
        )
        self.record.excuses.append(
            Excuse(
                begin=max(begin, usable_until(last.issued_at, SHORT_LIFETIME) - SLACK),
                end=min(end + step, self._auth.issued[-1].issued_at) + SLACK,
                why=f"an outage with {failures} tries",
            )
        )

    async def _rotate(self) -> None:
        self._auth.lifetime = LONG_LIFETIME
        await self._next_token(within=SHORT_LIFETIME, what="a token")
        self._auth.lifetime = SHORT_LIFETIME
        _replace(self._secret_file, self._auth.rotate_secret())
        self.record.extra_calls += 1
        await self._next_token(within=_FILE_SEEN, what="a token for the new secret")

    async def _short_outage(self) -> None:
        self._auth.lifetime = LONG_LIFETIME
        await self._next_token(within=SHORT_LIFETIME, what="a token")
        self._auth.lifetime = SHORT_LIFETIME
        self._auth.faults.add(Status(code=503))
        self.record.extra_calls += 1
        await self._until(
            lambda: self._auth.faults.is_empty, within=LONG_LIFETIME, what="the refresh that meets an outage"
        )
        await self._next_token(within=LONGEST_FIRST_WAIT, what="the second try, after the first backoff step,")


def _replace(file: Path, secret: str) -> None:
    """Replace a secret's file with a rename, which is atomic."""
    new = file.with_suffix(".new")
    new.write_text(secret, encoding="ascii")
    new.rename(file)


# --- the verdict ---------------------------------------------------------------------------------------------------


def verdict(
    soak: Soak, *, load: Load, auth: FakeAuthorizationServer, errors: Sequence[object], most_descriptors: int
) -> list[str]:
    """Return the broken promises, one sentence each, and print the numbers."""
    record, outcomes = soak.record, load.outcomes
    broken = failures_of_promise(outcomes, record.excuses)
    lived = [(token.issued_at, token.expires_at - token.issued_at) for token in auth.issued]
    most = most_token_calls(lived, until=wall_time(), extra=record.extra_calls)
    grown = growth(record.memory)
    excused = sum(outcome.status not in SERVED for outcome in outcomes) - len(broken)
    print(f"requests     {told(outcomes)}; excused {excused}")
    slowest = max(
        (outcome.ended_at - outcome.began_at for outcome in outcomes if outcome.status in SERVED), default=0.0
    )
    print(f"slowest      {slowest * 1000:.0f} ms, of those that were served")
    print(f"disturbances {', '.join(f'{count} × {name}' for name, count in record.disturbances.items())}")
    print(f"token calls  {len(auth.requests)}, at most {most} allowed")
    print(f"memory       {record.memory[-1] / 2**20:.1f} MiB, grown by {grown / 2**20:+.2f} MiB")
    print(f"descriptors  {record.descriptors[-1]:.0f}, grown by {growth(record.descriptors):+.0f}")
    findings = []
    if not outcomes:
        findings.append("no request was made")
    if broken:
        first = broken[0]
        when = f"{first.began_at - outcomes[0].began_at:.2f} s after the first"
        findings.append(f"{len(broken)} requests failed without an excuse ({told(broken)}), the first {when}")
    if len(auth.requests) > most:
        findings.append(f"{len(auth.requests)} token requests; at most {most} are allowed")
    if grown > MOST_GROWTH:
        findings.append(f"memory has grown by {grown / 2**20:.1f} MiB")
    if growth(record.descriptors) > most_descriptors:
        findings.append("file descriptors are left open")
    findings.extend(f"the log has {error}" for error in errors)
    return findings


async def soak_for(
    seconds: float, *, rate: float, clients: int, folder: Path, has_bad_peers: bool = False
) -> list[str]:
    """Run a soak and return the promises that were broken."""
    secret_file, configuration, log = folder / "client_secret", folder / "config.yaml", folder / "log"
    client_secret = secrets.token_urlsafe(48)
    _replace(secret_file, client_secret)
    async with (
        FakeAuthorizationServer(
            client_secret=client_secret, lifetime=SHORT_LIFETIME, tokens_per_hour=None, tokens_per_day=None
        ) as auth,
        FakeSwitchAPI(introspect=auth.introspect) as api,
        bad_upstream() as bad,
    ):
        configuration.write_text(_configuration(auth, api, bad, secret_file), encoding="utf-8")
        async with watched_proxy(configuration, log) as proxy:
            load = Load(await proxy.url("api"), clients=clients, rate=rate, now=wall_time)
            soak = Soak(auth=auth, api=api, proxy=proxy, load=load, secret_file=secret_file)
            listeners = await proxy.url("api"), await proxy.url("admin")
            bad_peers = BadPeers(listeners=listeners, bad_route=await proxy.url("bad"))
            broken = []
            loop = asyncio.get_running_loop()
            running = [loop.create_task(load.run())]
            if has_bad_peers:
                running.append(loop.create_task(bad_peers.run()))
            try:
                await soak.run(seconds)
            except BrokenPromiseError as error:
                broken.append(str(error))
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)
            if has_bad_peers:
                print(f"bad peers    {bad_peers.acts} times")
            errors = [event for name in ("loop.error_caught", "task.died") for event in proxy.events(name)]
            # Each client has a connection on either side: the load's own, however many there are at a moment.
            others = (2 + 2) * CLIENTS if has_bad_peers else 0
            most = 2 * clients + others
            return broken + verdict(soak, load=load, auth=auth, errors=errors, most_descriptors=most)


def _configuration(auth: FakeAuthorizationServer, api: FakeSwitchAPI, bad: str, secret_file: Path) -> str:
    # JSON is YAML. The access log would be most of the output, and is measured elsewhere.
    return json.dumps(
        {
            "credentials": {
                "switch": {
                    "token_url": auth.token_url,
                    "client_id": auth.client_id,
                    "client_secret": {"file": str(secret_file)},
                    "audience": SWITCH_AUDIENCE,
                }
            },
            "routes": [
                {"name": "api", "listen": "127.0.0.1:0", "upstream": api.url, "credential": "switch"},
                {
                    "name": "bad",
                    "listen": "127.0.0.1:0",
                    "upstream": bad,
                    "credential": "switch",
                    "timeouts": {"response_head": "2s", "idle": "2s"},
                },
            ],
            "admin": {"listen": "127.0.0.1:0"},
            # Failures of the bad peers get a line each all the same.
            "log": {"access": "off"},
        }
    )


def main(arguments: Sequence[str]) -> int:
    """Run with these arguments; return the exit code, 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__.partition("\n\n")[0].strip())
    parser.add_argument("--seconds", type=float, default=60, help="duration (default: 60)")
    parser.add_argument("--rate", type=float, default=200, help="requests per second (default: 200)")
    parser.add_argument("--clients", type=int, default=16, help="number of clients (default: 16)")
    parser.add_argument(
        "--bad-peers", action="store_true", help="clients, an upstream and the admin listener's peers misbehave too"
    )
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="switch-proxy-soak-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        running = soak_for(
            options.seconds,
            rate=options.rate,
            clients=options.clients,
            folder=Path(folder),
            has_bad_peers=options.bad_peers,
        )
        broken = runner.run(running)
    for finding in broken:
        print(f"BROKEN: {finding}")
    print("broken promises" if broken else "every promise was kept")
    return 1 if broken else 0
