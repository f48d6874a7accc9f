"""
The composition root: the only module that knows the others. It builds, starts and stops the parts.

Start, in this order:
 1. The routes' TLS files are read. If they cannot be used, the start fails here; if they hang, it goes on without them.
 2. Every listener is bound, including the admin's. If a port is taken, the start fails here, before a token is requested
    (and paid for). An app that connects early waits instead of being refused.
 3. The token tasks begin, each with its first fetch.
 4. The admin listener responds; what it needs is imported while the first fetches are in flight.

Stop, in this order; no step is ever reversed:
 1. The proxy is no longer ready.
 2. The drain delay passes. New requests are still served, and each response announces that the connection closes.
 3. The listeners stop accepting connections.
 4. Requests in flight finish within the grace period; the rest are cut.
 5. The token tasks end.
 6. The connections to upstreams and token endpoints are closed.
 7. The admin listener closes last: until then it reports why the proxy is not ready.
"""

from __future__ import annotations

import asyncio
import os
import platform
import random
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from switch_proxy import __version__
from switch_proxy.admin.server import AdminServer
from switch_proxy.clock import SystemClock
from switch_proxy.core.addresses import Address
from switch_proxy.core.config.listeners import effective_listeners
from switch_proxy.core.config.models import ADMIN_LISTENER
from switch_proxy.core.descriptors import share_descriptors
from switch_proxy.core.egress import find_egress_proxy
from switch_proxy.core.events import ListenerStarted, ProxyDraining, ProxyStarted, ProxyStopped, RequestsCut
from switch_proxy.core.health import HealthSnapshot, ListenerHealth, judge_readiness
from switch_proxy.core.policy.browsers import BrowserGuard
from switch_proxy.descriptor_watch import DescriptorWatch, find_descriptor_limit
from switch_proxy.http1.listener import Listener
from switch_proxy.http1.route import Route, prepare_tls
from switch_proxy.http1.tls_stream import TlsBuffers
from switch_proxy.http1.upstream_budget import UpstreamBudget
from switch_proxy.logs.log import Log
from switch_proxy.readiness import ReadinessWatch
from switch_proxy.record_batcher import ExchangeJournal
from switch_proxy.resolver import Resolver
from switch_proxy.telemetry import Telemetry, TelemetrySnapshot
from switch_proxy.tokens.client import TokenClient
from switch_proxy.tokens.manager import TokenManager
from switch_proxy.tokens.sources import credentials_from
from switch_proxy.tokens.stores import SharedTokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from switch_proxy.clock import Clock
    from switch_proxy.core.config.listeners import ListenerModel
    from switch_proxy.core.config.models import RateLimitSettings, RouteSettings, Settings
    from switch_proxy.core.egress import EgressProxy
    from switch_proxy.core.events import CredentialEvent, RouteEvent
    from switch_proxy.core.health import Verdict
    from switch_proxy.core.secret import Secret
    from switch_proxy.http1.pacer import Pacer


class Application:
    """One proxy."""

    def __init__(
        self,
        settings: Settings,
        *,
        log: Log,
        environ: Mapping[str, str],
        clock: Clock,
        descriptors: DescriptorWatch | None = None,
    ) -> None:
        """
        Build the parts, within a running loop; nothing is opened or started yet.

        `descriptors` is told when the process runs out of file descriptors.
        """
        self._settings = settings
        self._log = log
        self._clock = clock
        self._started_at = clock.wall()
        self._draining_since: float | None = None
        self._bound: dict[str, tuple[str, int]] = {}
        self._owner: asyncio.Task[None] | None = None
        self._build = _describe_build()
        self._readiness = ReadinessWatch(snapshot=self.snapshot_health, clock=clock, observe=log.write)
        self._token_clients: list[TokenClient] = []
        self._shared_tokens: SharedTokens | None = None
        store = settings.token_store_in_use
        if store is not None:
            self._shared_tokens = SharedTokens(store, environ=environ, clock=clock, mask=log.redactor.learn)
        self._managers = {name: self._manage(name, settings, environ) for name in settings.credentials}
        self._telemetry = Telemetry(
            state=self._state, routes=[route.name for route in settings.routes], build=self._build
        )
        self._journal = ExchangeJournal(self._telemetry.count, log.log_exchanges)
        self._routes: list[Route] = []
        self._descriptors = descriptors or DescriptorWatch(now=clock.now, observe=log.write)
        models = effective_listeners(settings)
        shares = share_descriptors(
            find_descriptor_limit(),
            wanted=[model.limits.client_connections for model in models],
            credentials=len(settings.credentials),
            routes=len(settings.routes),
        )
        self._budget = UpstreamBudget(shares.upstreams)
        self._pacers: dict[tuple[str, RateLimitSettings], Pacer] = {}
        # Listeners are bound one after the other, at the start alone: one resolver is enough for them.
        self._listeners_resolver = self._resolver("the listeners")
        self._tls_buffers = TlsBuffers()
        self._listeners = {
            model.name: self._listen(model, environ, most_clients=share)
            for model, share in zip(models, shares.clients, strict=True)
        }
        self._admin: AdminServer | None = None
        if settings.admin.listen is not None:
            self._admin = AdminServer(
                listen=settings.admin.listen,
                health=self.snapshot_health,
                metrics=self._telemetry.render,
                observe=log.write,
                refresh=self.refresh_credentials,
                resolver=self._listeners_resolver,
                guard=BrowserGuard(
                    hosts=settings.admin.allowed_hosts, origins=settings.admin.allowed_origins, owner=ADMIN_LISTENER
                ),
            )

    def _listen(self, listener: ListenerModel, environ: Mapping[str, str], *, most_clients: int) -> Listener:
        routes = [
            Route(
                route,
                tokens=self._managers[route.settings.credential],
                clock=self._clock,
                egress_proxy=self._find_egress_proxy(route.settings, environ),
                resolver=self._resolver(f"route {route.settings.name}"),
                budget=self._budget,
                on_exhausted=self._descriptors.note_exhaustion,
                pacers=self._pacers,
                tls_buffers=self._tls_buffers,
            )
            for route in listener.routes
        ]
        self._routes += routes
        return Listener(
            listener,
            routes=routes,
            observer=self._journal,
            clock=self._clock,
            resolver=self._listeners_resolver,
            most_clients=most_clients,
            on_full=partial(self._descriptors.note_full, listener.name, most_clients),
        )

    def _resolver(self, used_by: str) -> Resolver:
        return Resolver(used_by=used_by, now=self._clock.now, observe=self._log.write)

    def _manage(self, name: str, settings: Settings, environ: Mapping[str, str]) -> TokenManager:
        credential = settings.credentials[name]

        def mask(kind: str, secret: Secret) -> None:
            self._log.redactor.learn(f"{kind} of credential {name}", secret)

        client = TokenClient(
            settings=credential,
            clock=self._clock,
            mask=mask,
            environ=environ,
            known_secrets=self._log.redactor.known_values,
            resolver=self._resolver(f"credential {name}"),
        )
        self._token_clients.append(client)
        sharing = None
        if self._shared_tokens is not None:
            sharing = self._shared_tokens.of(name, credential, mask=mask, observe=self.on_event)
        return TokenManager(
            name=name,
            settings=credential,
            fetcher=client,
            credential_source=credentials_from(credential, environ=environ, clock=self._clock, mask=mask),
            clock=self._clock,
            # A generator of its own: a seed that a test sets neither affects it nor is affected by it.
            random=random.Random().random,  # noqa: S311 - spreads load, hides nothing
            observer=self,
            sharing=sharing,
        )

    def _find_egress_proxy(self, route: RouteSettings, environ: Mapping[str, str]) -> EgressProxy | None:
        found = find_egress_proxy(
            scheme=route.upstream.scheme, host=route.upstream.host, port=route.upstream.port, environ=environ
        )
        if found is not None and found.authorization is not None:
            self._log.redactor.learn(f"egress proxy of route {route.name}", found.authorization)
        return found

    def __repr__(self) -> str:
        state = (
            "draining" if self._draining_since is not None else "ready" if self.judge_readiness().is_ok else "not ready"
        )
        return f"<Application {state} {', '.join(map(repr, self._managers.values()))}>"

    @property
    def addresses(self) -> Mapping[str, tuple[str, int]]:
        """Return host and port of every listener that is bound, by its name (its route's, if it has an address of its own), and the admin's."""
        return self._bound

    async def start(self) -> None:
        """Start, in the order above. Raises ListenError, with nothing left open."""
        try:
            await prepare_tls(self._routes)
            for name, listener in self._listeners.items():
                await listener.start()
                self._note_bound(name, listener.address)
            if self._admin is not None:
                await self._admin.bind()
                self._note_bound(ADMIN_LISTENER, self._admin.address)
            self._owner = asyncio.get_running_loop().create_task(self._own_tasks(), name="owner of all tasks")
            # Let the first fetches begin before an import blocks the loop.
            await asyncio.sleep(0)
            if self._admin is not None:
                await self._admin.serve()
        except BaseException:
            await self._close()
            raise
        self._log.write(ProxyStarted(**self._build))

    async def _own_tasks(self) -> None:
        """Own every task that lives as long as the proxy; if one fails, all end, and this one with them."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._readiness.run(), name="readiness")
            for name, manager in self._managers.items():
                tasks.create_task(_run_for_good(manager), name=f"credential {name}")
            for route in self._routes:
                tasks.create_task(route.follow_tls_files(self._on_route_event), name=f"TLS files of route {route.name}")

    async def failure(self) -> BaseException:
        """Wait until one of these tasks has failed, and return its exception."""
        if self._owner is None:
            raise RuntimeError("the application has not been started")
        await asyncio.wait([self._owner])
        return self._owner.exception() or RuntimeError("the tasks have ended")

    def refresh_credentials(self) -> None:
        """Read the secrets again, and try refused credentials at once: an operator says that something was mended."""
        for manager in self._managers.values():
            manager.refresh()

    async def stop(self) -> None:
        """Stop, in the order above."""
        shutdown = self._settings.shutdown
        self._draining_since = self._clock.wall()
        self._log.write(ProxyDraining(drain_delay=shutdown.drain_delay, grace_period=shutdown.grace_period))
        for listener in self._listeners.values():
            listener.announce_end()
        await self._clock.sleep_until(self._clock.now() + shutdown.drain_delay)
        for name, listener in self._listeners.items():
            listener.stop_accepting()
            del self._bound[name]
        cut = await asyncio.gather(*(listener.drain(shutdown.grace_period) for listener in self._listeners.values()))
        if any(cut):
            self._log.write(RequestsCut(count=sum(cut), grace_period=shutdown.grace_period))
        await self._close()
        self._log.write(ProxyStopped())

    async def _close(self) -> None:
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.wait([self._owner])
        for listener in self._listeners.values():
            await listener.close()
        for client in self._token_clients:
            await client.close()
        if self._shared_tokens is not None:
            await self._shared_tokens.close()
        self._journal.close()
        if self._admin is not None:
            await self._admin.close()
        self._bound.clear()

    # For the log, probes and scrapers.

    def _note_bound(self, name: str, address: tuple[str, int]) -> None:
        self._bound[name] = address
        self._log.write(ListenerStarted(listener=name, address=self._written_address(name) or ""))

    def _written_address(self, name: str) -> str | None:
        if name not in self._bound:
            return None
        host, port = self._bound[name]
        return str(Address(host=host, port=port))

    def on_event(self, event: CredentialEvent) -> None:
        """Log an event of a credential, and judge readiness again."""
        self._log.write(event)
        self._readiness.look_again()

    def _on_route_event(self, event: RouteEvent) -> None:
        self._log.write(event)
        self._readiness.look_again()

    def judge_readiness(self) -> Verdict:
        """Return whether the proxy is ready, with the reasons, as /readyz reports it."""
        return judge_readiness(self.snapshot_health())

    def snapshot_health(self) -> HealthSnapshot:
        """Return the state from which readiness is judged; it changes nothing."""
        return HealthSnapshot(
            now=self._clock.now(),
            wall=self._clock.wall(),
            credentials=tuple(manager.status() for manager in self._managers.values()),
            listeners=tuple(
                ListenerHealth(
                    name=name,
                    address=self._written_address(name),
                    tls_error=listener.tls_error,
                    has_tls=listener.has_tls,
                )
                for name, listener in self._listeners.items()
            ),
            started_at=self._started_at,
            draining_since=self._draining_since,
        )

    def _state(self) -> TelemetrySnapshot:
        self._journal.flush()
        return TelemetrySnapshot(
            health=self.snapshot_health(),
            listeners=[listener.snapshot() for listener in self._listeners.values()],
            log_lines_dropped=self._log.lines_dropped,
        )


def _describe_build() -> dict[str, str]:
    """Return the versions that run, and whether the event loop is uvloop's or asyncio's."""
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    return {"version": __version__, "python": platform.python_version(), "loop": loop}


async def _run_for_good(manager: TokenManager) -> None:
    await manager.run()
    raise RuntimeError("the token task has ended unexpectedly")


@asynccontextmanager
async def running(
    settings: Settings, *, environ: Mapping[str, str] | None = None, clock: Clock | None = None
) -> AsyncIterator[Application]:
    """
    Run a proxy for as long as the context lasts, with its log on standard output.

    Raises ListenError, TlsFilesError. It may not be ready yet: requests wait for the first token.
    """
    clock = clock or SystemClock()
    environ = os.environ if environ is None else environ
    log = Log(settings.log, environ=environ, wall=clock.wall)
    try:
        application = Application(settings, log=log, environ=environ, clock=clock)
        await application.start()
        try:
            yield application
        finally:
            await application.stop()
    finally:
        # In a thread: it may wait for the reader of standard output.
        await asyncio.to_thread(log.close)
