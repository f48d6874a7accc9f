"""A listening socket and its client connections: binds, accepts, watches the time, drains."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Final

from switch_proxy.core.route_snapshot import ListenerSnapshot
from switch_proxy.http1.client_connection import ClientConnection
from switch_proxy.http1.listener_context import ListenerContext
from switch_proxy.http1.route import prepare_tls
from switch_proxy.listening_sockets import bind
from switch_proxy.resolver import Resolver

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from switch_proxy.clock import Clock
    from switch_proxy.core.config.listeners import ListenerModel
    from switch_proxy.http1.peers import ExchangeObserver
    from switch_proxy.http1.route import Route

_LONGEST_TICK: Final = 0.25
"""
Seconds between two looks at what has stood still. One look at all connections instead of a timer for each keeps
timers off the hot path; a time limit is kept to within one tick.
"""

_BACKLOG: Final = 1024
"""Connections that the kernel holds until they are accepted: room for the burst of an app that starts its pool."""

_ACCEPTED_AT_ONCE: Final = 1
"""
Connections that asyncio's own loop accepts, above one, before anything else happens, so that the bound on clients is kept.
uvloop accepts one in any case.
"""


class Listener:
    """A listening socket, and the connections that clients have opened to it."""

    def __init__(
        self,
        model: ListenerModel,
        *,
        routes: Sequence[Route],
        observer: ExchangeObserver,
        clock: Clock,
        resolver: Resolver | None = None,
        most_clients: int = 1_000_000,
        on_full: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Prepare to serve the routes; nothing is bound yet.

        `resolver` is for the name of the address, if it is one. At most `most_clients` connections are open at the same time;
        `on_full` is called when there are so many.
        """
        self._model = model
        self._most_clients = most_clients
        self._on_full = on_full
        self._resolver = resolver or Resolver(used_by="the listeners", now=clock.now)
        self._context = ListenerContext(model, routes=routes, observer=observer, clock=clock)
        self._clients: set[ClientConnection] = set()
        self._context.budget.on_changed = self._budget_changed
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._resuming: asyncio.Task[None] | None = None
        self._tick_handle: asyncio.TimerHandle | None = None
        self._drained: asyncio.Event | None = None
        shortest = min(
            model.timeouts.idle,
            model.timeouts.request_head,
            model.timeouts.keep_alive,
            *(limit for route in routes for limit in (route.timeouts.response_head, route.timeouts.idle)),
        )
        self._tick = min(_LONGEST_TICK, shortest / 4)

    def __repr__(self) -> str:
        return f"<Listener {self._model.name} clients={len(self._clients)} {list(self._context.routes)!r}>"

    async def start(self) -> None:
        """Bind and accept. Raises ListenError, TlsFilesError."""
        await prepare_tls(self._context.routes)
        self._sockets = await bind(
            self._model.listen, backlog=_BACKLOG, described=self._described, resolver=self._resolver
        )
        await self._accept()
        loop = asyncio.get_running_loop()
        self._context.request_parser.own_port = self.address[1]
        self._tick_handle = loop.call_later(self._tick, self._look_at_the_clock)

    async def _accept(self) -> None:
        """Accept connections, on duplicates of the sockets: those go on to listen while none is accepted."""
        loop = asyncio.get_running_loop()
        for bound in self._sockets:
            server = await loop.create_server(self._new_client, sock=bound.dup(), backlog=_ACCEPTED_AT_ONCE)
            if self._context.is_full:
                server.close()
                return
            self._servers.append(server)
            # The event loop has made its number the kernel's backlog too.
            bound.listen(_BACKLOG)

    def _new_client(self) -> ClientConnection:
        return ClientConnection(
            self._context, clients=self._clients, on_opened=self._client_opened, on_closed=self._client_closed
        )

    def _client_opened(self) -> None:
        if len(self._clients) >= self._most_clients and not self._context.is_full:
            # The kernel keeps who connects now, until one of these is closed.
            self._context.is_full = True
            self._stop_servers()
            self._on_full()

    def _stop_servers(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()

    @property
    def _described(self) -> str:
        # A route with an address of its own is a listener by its name.
        return f"{'route' if self._context.only_route else 'listener'} {self._model.name!r}"

    @property
    def address(self) -> tuple[str, int]:
        """Return host and port as bound; the port is the system's choice if the configuration says 0."""
        if not self._sockets:
            raise RuntimeError("the listener has not been started or has stopped accepting")
        host, port = self._sockets[0].getsockname()[:2]
        return str(host), int(port)

    def _client_closed(self) -> None:
        if self._context.is_full and len(self._clients) < self._most_clients and self._sockets:
            self._context.is_full = False
            self._resuming = asyncio.get_running_loop().create_task(self._accept())
        if self._drained is not None and not self._clients:
            self._drained.set()

    def _budget_changed(self) -> None:
        for client in list(self._clients):
            client.budget_changed()

    def _look_at_the_clock(self) -> None:
        # First, because the time limits must go on even if one look fails.
        self._tick_handle = asyncio.get_running_loop().call_later(self._tick, self._look_at_the_clock)
        self.check_time()

    def check_time(self) -> None:
        """End what has stood still for longer than it may."""
        now = self._context.now()
        for client in list(self._clients):
            try:
                client.check_time(now)
            except Exception as error:  # noqa: BLE001 - whatever it is, the others have their time limits
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "the time limits of a client connection failed unexpectedly", "exception": error}
                )
                client.abort()
        for route in self._context.routes:
            route.pool.expire(now)

    def announce_end(self) -> None:
        """
        Have each response from now on tell its client to close, and serve on.

        A client that is told takes its next request elsewhere; one whose connection is closed under it may be just about
        to send (RFC 9112 §9.5).
        """
        self._context.announces_close = True

    def stop_accepting(self) -> None:
        """Close the listening socket and idle clients; busy ones are told to close with their response."""
        self.announce_end()
        self._context.stopped_accepting = True
        if self._resuming is not None:
            self._resuming.cancel()
        self._stop_servers()
        for bound in self._sockets:
            bound.close()
        self._sockets.clear()
        for client in list(self._clients):
            client.close_when_idle()

    async def drain(self, timeout: float) -> int:  # noqa: ASYNC109 - not an error when it passes
        """Wait at most `timeout` seconds for the exchanges under way; cut the rest and return how many those were."""
        if self._clients:
            self._drained = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._drained.wait()
        busy = [client for client in self._clients if client.is_busy]
        for client in list(self._clients):
            client.end_at_once()
        return len(busy)

    async def close(self) -> None:
        """Let go of everything."""
        self.stop_accepting()
        if self._tick_handle is not None:
            self._tick_handle.cancel()
            self._tick_handle = None
        for client in list(self._clients):
            client.end_at_once()
        # One turn of the loop lets the last responses be handed to the kernel.
        await asyncio.sleep(0)
        for client in list(self._clients):
            client.abort()
        for route in self._context.routes:
            route.pool.close_idle()

    @property
    def tls_error(self) -> str | None:
        """Return why the TLS files of a route cannot be used now; None if all can."""
        errors = (route.connector.tls_error for route in self._context.routes)
        return next((error for error in errors if error is not None), None)

    @property
    def has_tls(self) -> bool:
        """Return whether the TLS files of each route have been read."""
        return all(route.connector.has_tls for route in self._context.routes)

    def snapshot(self) -> ListenerSnapshot:
        """Return what the listener and its routes are doing now."""
        busy = Counter(client.busy_route for client in self._clients)
        return ListenerSnapshot(
            name=self._model.name,
            client_connections=len(self._clients),
            routes=tuple(route.snapshot(requests_in_flight=busy[route.name]) for route in self._context.routes),
        )
