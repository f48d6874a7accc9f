"""A running listener between raw clients and a raw upstream, and the check that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from switch_proxy.clock import SystemClock
from switch_proxy.core.config.listeners import own_listener
from switch_proxy.core.config.models import Address, Origin, RouteSettings
from switch_proxy.core.errors import TokenUnavailableError
from switch_proxy.http1.listener import Listener
from switch_proxy.http1.route import Route
from tests.shell.http1.raw_client import RawClient, connect
from tests.shell.http1.raw_peer import WITHIN
from tests.shell.http1.raw_upstream import RawUpstream, UpstreamSide

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from switch_proxy.core.egress import EgressProxy
    from switch_proxy.core.exchange_record import ExchangeRecord
    from switch_proxy.core.tokens import AccessToken
    from switch_proxy.http1.upstream_budget import UpstreamBudget
    from switch_proxy.resolver import Resolver
    from tests.shell.http1.messages import Head

WALL: Final = 1762185104.667
"""Unix time of the tests: 2025-11-03T15:51:44.667Z."""
DATE: Final = b"Mon, 03 Nov 2025 15:51:44 GMT"


class SkippingClock:
    """A clock whose date stands still and whose durations are real, but for the time that a test skips."""

    def __init__(self) -> None:
        self._skipped = 0.0
        self._system = SystemClock()
        self._has_skipped = asyncio.Event()
        self.sleepers = 0

    def skip(self, seconds: float) -> None:
        """Let this much time have passed."""
        self._skipped += seconds
        self._has_skipped.set()
        self._has_skipped = asyncio.Event()
        self.sleepers = 0

    def now(self) -> float:
        return self._system.now() + self._skipped

    def wall(self) -> float:
        return WALL

    async def sleep_until(self, at: float) -> None:
        """Return once a test has skipped to `at`."""
        while self.now() < at:
            skipped = self._has_skipped
            self.sleepers += 1
            try:
                await skipped.wait()
            finally:
                if skipped is self._has_skipped:
                    # Cancelled; a skip counts anew.
                    self.sleepers -= 1


class StaticTokens:
    """A provider with the token it is given; without one, callers wait until one is given or their time is up."""

    def __init__(self, token: AccessToken | None) -> None:
        self._token = token
        self._given = asyncio.Event()
        self.waiting = 0
        self.rejected: list[int] = []
        self.has_newer = False
        """Whether one newer than the newest is being fetched, and so worth waiting for."""
        self.failure: Exception | None = None
        """What `acquire` raises that no provider should."""

    def give(self, token: AccessToken | None) -> None:
        """Replace the token and wake whoever waits for one."""
        self._token = token
        if token is not None:
            self._given.set()

    def peek(self) -> AccessToken | None:
        return self._token

    async def acquire(self, timeout: float, *, newer_than: int = 0) -> AccessToken:  # noqa: ASYNC109 - the protocol's
        if self.failure is not None:
            raise self.failure
        self.waiting += 1
        try:
            async with asyncio.timeout(timeout if self.has_newer or not newer_than else 0):
                while self._token is None or self._token.generation <= newer_than:
                    self._given.clear()
                    await self._given.wait()
        except TimeoutError:
            raise TokenUnavailableError(
                credential="switch", reason="the authorization server cannot be reached", retry_after=7.2
            ) from None
        finally:
            self.waiting -= 1
        return self._token

    def reject(self, generation: int) -> None:
        self.rejected.append(generation)


@dataclass(slots=True)
class Records:
    """What the listener reported, in order; no exchange may be reported twice."""

    all: list[ExchangeRecord] = field(default_factory=list)

    def exchange_finished(self, record: ExchangeRecord) -> None:
        assert all(record.request_id != earlier.request_id for earlier in self.all), "an exchange is reported twice"
        self.all.append(record)


@dataclass(slots=True)
class World:
    """The proxy's listener and everything around it."""

    upstream: RawUpstream
    listener: Listener
    route: Route
    tokens: StaticTokens
    records: Records
    clock: SkippingClock
    unexpected: list[dict[str, Any]]
    """What went to the loop's exception handler; must be empty in the end."""
    clients: list[RawClient] = field(default_factory=list)

    async def client(self) -> RawClient:
        """Connect a client."""
        client = await connect(self.listener.address)
        self.clients.append(client)
        return client

    async def narrow_client(self) -> RawClient:
        """Connect a client to which the kernel takes hardly more than it reads: the rest stays with the proxy."""
        known = set(self.listener._clients)
        client = await connect(self.listener.address, receive_buffer=4096)
        self.clients.append(client)
        await self.until(lambda now: now.client_connections > len(known))
        (connection,) = set(self.listener._clients) - known
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return client

    async def begin(self, request: bytes) -> tuple[RawClient, UpstreamSide, Head]:
        """Send a request on a fresh connection; return both ends and the head that the upstream got."""
        client = await self.client()
        await client.send(request)
        server = await self.upstream.accept()
        return client, server, await server.receive_head()

    def pass_time(self, seconds: float) -> None:
        """Let the listener find that this much time has passed."""
        self.clock.skip(seconds)
        self.listener.check_time()

    def snapshot(self) -> SimpleNamespace:
        """Return what the listener and its one route are doing, the attributes of both snapshots in one."""
        now = self.listener.snapshot()
        (route,) = now.routes
        return SimpleNamespace(**{**asdict(route), "client_connections": now.client_connections})

    async def until(self, predicate: Callable[[SimpleNamespace], bool]) -> None:
        """Wait until the snapshot is as it should be."""
        await until(lambda: predicate(self.snapshot()), lambda: str(self.snapshot()))

    async def record(self) -> ExchangeRecord:
        """Return the one record there is, as soon as it is there."""
        await until(lambda: bool(self.records.all), lambda: "no exchange was reported")
        assert len(self.records.all) == 1
        return self.records.all[0]

    def connections_of_the_proxy(self) -> int:
        """Return how many TCP sockets are neither a client's nor the upstream's; the listening one is among them."""
        ours = {os.fstat(each.socket.fileno()).st_ino for each in self.clients if each.socket.fileno() >= 0}
        return len(open_connections() - ours - self.upstream.sockets())

    @property
    def host(self) -> bytes:
        """Return what the upstream must see as Host."""
        return b"%s:%d" % (self.upstream.host.encode(), self.upstream.port)


async def until(predicate: Callable[[], bool], describe: Callable[[], str]) -> None:
    """Wait until `predicate` is true."""
    deadline = asyncio.get_running_loop().time() + WITHIN
    pause = 0.0
    while not predicate():
        assert asyncio.get_running_loop().time() < deadline, f"waited in vain; at last: {describe()}"
        await asyncio.sleep(pause)
        pause = min(0.005, pause + 0.0005)


def open_connections() -> set[int]:
    """Return the TCP sockets that this process holds, by inode; the loop's own socket pairs are none."""
    inodes = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        # The descriptor that lists the folder is gone by now.
        with suppress(OSError):
            status = os.fstat(int(descriptor.name))
            if stat.S_ISSOCK(status.st_mode):
                with socket.socket(fileno=os.dup(int(descriptor.name))) as duplicate:
                    if duplicate.family in {socket.AF_INET, socket.AF_INET6}:
                        inodes.add(status.st_ino)
    return inodes


def other_tasks() -> set[asyncio.Task[Any]]:
    """Return the loop's tasks but the one that asks."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


@asynccontextmanager
async def running_world(
    *,
    token: AccessToken | None,
    upstream: RawUpstream | None = None,
    host: str | None = None,
    port: int | None = None,
    base_path: str = "",
    listen: str = "127.0.0.1",
    origin: Origin | None = None,
    egress_proxy: EgressProxy | None = None,
    resolver: Resolver | None = None,
    allowed_hosts: tuple[str, ...] = ("*",),
    budget: UpstreamBudget | None = None,
    most_clients: int = 1000,
    **settings: Any,
) -> AsyncIterator[World]:
    """
    Run a listener with `settings` of its route; at the end, check that nothing is left of it.

    Any host is allowed by default, so that requests may be written with a short one.

    The end condition: no connection, no request in flight or waiting, no task and no socket more than at the
    beginning, and nothing that went to the loop's exception handler.
    """
    loop = asyncio.get_running_loop()
    unexpected: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: unexpected.append(context))
    connections_before, tasks_before = open_connections(), other_tasks()
    upstream = upstream or RawUpstream()
    scheme = "http" if upstream.tls is None else "https"
    route = RouteSettings(
        name="switch-api",
        listen=Address(host=listen, port=0),
        upstream=origin
        or Origin(scheme=scheme, host=host or upstream.host, port=port or upstream.port, base_path=base_path),
        credential="switch",
        allowed_hosts=allowed_hosts,
        **settings,
    )
    tokens, records, clock = StaticTokens(token), Records(), SkippingClock()
    model = own_listener(route, Address(host=listen, port=0))
    routes = [
        Route(each, tokens=tokens, clock=clock, egress_proxy=egress_proxy, resolver=resolver, budget=budget)
        for each in model.routes
    ]
    listener = Listener(model, routes=routes, observer=records, clock=clock, most_clients=most_clients)
    await listener.start()
    world = World(upstream, listener, routes[0], tokens, records, clock, unexpected)
    try:
        yield world
    finally:
        for client in world.clients:
            client.socket.close()
        upstream.close()
    try:
        await world.until(
            lambda now: (
                (
                    now.client_connections,
                    now.requests_in_flight,
                    now.upstream_busy,
                    now.upstream_idle,
                    now.waiting_for_upstream,
                )
                == (0, 0, 0, 0, 0)
            )
        )
    finally:
        await listener.close()
    await until(lambda: other_tasks() <= tasks_before, lambda: f"tasks left: {other_tasks() - tasks_before}")
    await until(
        lambda: open_connections() <= connections_before,
        lambda: f"connections left: {open_connections() - connections_before}",
    )
    assert unexpected == [], f"the loop was told of {unexpected}"
