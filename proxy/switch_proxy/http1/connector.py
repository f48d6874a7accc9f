"""How a connection to the upstream is opened: names resolved anew, addresses raced, the egress proxy's tunnel, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING, Final

from switch_proxy.core.descriptors import RAN_OUT, has_run_out
from switch_proxy.core.errors import TlsFilesError, TlsFilesHangError, UpstreamConnectError
from switch_proxy.core.events import TlsBroken, TlsReloaded, TlsRestored
from switch_proxy.core.http.other_protocols import find_other_protocol_of_upstream
from switch_proxy.core.http.problems import Problem
from switch_proxy.core.http.response import ResponseParser
from switch_proxy.http1.connect_proxy import open_tunnel
from switch_proxy.http1.tls_stream import TlsBuffers, TlsStream
from switch_proxy.http1.upstream_codec import UpstreamCodec
from switch_proxy.http1.upstream_connection import UpstreamConnection
from switch_proxy.resolver import Resolver
from switch_proxy.tls import TlsFiles, protocol_hint, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from switch_proxy.clock import Clock
    from switch_proxy.core.config.models import RouteSettings
    from switch_proxy.core.egress import EgressProxy
    from switch_proxy.core.events import RouteEvent
    from switch_proxy.resolver import AddressInfo

_SESSION_USED_FOR: Final = 600.0
"""
Seconds that a session is offered before a newer one is read. Not read from each connection: reading leaks some 6 KB on CPython
before 3.12.8 and 3.13.1 (python/cpython#116810). Servers accept a ticket for an hour or more.
"""

_SESSION_RETRIED_AFTER: Final = 60.0
"""Seconds before a session is read again after one that there was not, or that the upstream did not accept."""

_START_PATIENCE: Final = 2.0
"""Seconds that the start waits for TLS files: they are read in some 20 ms. Then the proxy starts without them."""

_HAPPY_EYEBALLS_DELAY: Final = 0.25
"""Seconds before the next address is tried beside the first (RFC 8305 §5 recommends 250 ms)."""


class _RanOutError(Exception):
    """There is no file descriptor left for a connection."""


class ResumingContext(ssl.SSLContext):
    """A TLS context, and the last session of its one upstream: to offer it again spares a full handshake."""

    session: ssl.SSLSession | None = None
    read_at: float | None = None
    """When a connection was last asked for its session, by the listener's clock; None if none was."""


class Connector:
    """Opens connections to one route's upstream. Every failure is an UpstreamConnectError that says what to look at."""

    def __init__(
        self,
        *,
        route: RouteSettings,
        egress_proxy: EgressProxy | None,
        now: Callable[[], float],
        response_parser: ResponseParser | None = None,
        resolver: Resolver | None = None,
        on_exhausted: Callable[[], None] = lambda: None,
        tls_buffers: TlsBuffers | None = None,
    ) -> None:
        """
        Take the route's settings and parts; nothing is read or opened yet.

        `resolver` is the route's own. `on_exhausted` is called if there is no file descriptor left for a connection.
        `tls_buffers` are those of all routes.
        """
        self._route = route
        self._egress_proxy = egress_proxy
        self._now = now
        self._on_exhausted = on_exhausted
        self._resolver = resolver or Resolver(used_by=f"route {route.name!r}", now=now)
        self._tls_buffers = tls_buffers or TlsBuffers()
        self._response_parser = response_parser or ResponseParser(max_field_lines=route.limits.field_lines)
        upstream = route.upstream
        self._place = f"{upstream.host}:{upstream.port}"
        self._server_name = (route.tls.server_name or upstream.server_name).removesuffix(".")
        self._tls: ResumingContext | None = None
        self._tls_files: TlsFiles[ResumingContext] | None = None
        if upstream.scheme == "https":
            self._tls_files = TlsFiles(
                route.tls,
                owner=f"route {route.name!r}",
                new_context=partial(ResumingContext, ssl.PROTOCOL_TLS_CLIENT),
                now=now,
            )
        self.tls_error: str | None = None
        """Why the TLS files cannot be used now; the last good ones, if there are any, stay in use."""

    async def prepare_tls(self) -> None:
        """
        Read the TLS files for the first time. Raises TlsFilesError if they cannot be used.

        Returns if they hang: the other routes need not wait, and `open` and `follow_tls_files` go on.
        """
        if self._tls_files is not None and self._tls is None:
            with contextlib.suppress(TlsFilesHangError):
                await self._tls_files.read(within=_START_PATIENCE)
            self._tls = self._tls_files.context

    @property
    def has_tls(self) -> bool:
        """Return whether connections can be opened as far as TLS is concerned: its files were read once, or there is none."""
        return self._tls_files is None or self._tls is not None

    async def follow_tls_files(
        self, *, clock: Clock, on_changed: Callable[[], None], observe: Callable[[RouteEvent], None]
    ) -> None:
        """
        Use changed TLS files for new connections, until cancelled; return once they are read if the route names none.

        `on_changed` is to drop the connections of the files before. Sessions go with the context that they belong to.
        """
        files = self._tls_files
        if files is None or (self.has_tls and not files.are_named):
            return
        watched = files.watch(clock)
        await watched.load()
        while True:
            known, self.tls_error = self.tls_error, watched.state.error
            if files.context is not self._tls:
                self._tls = files.context
                on_changed()
                observe(TlsReloaded(route=self._route.name, source=watched.source))
            elif self.tls_error is not None and self.tls_error != known:
                observe(
                    TlsBroken(
                        route=self._route.name,
                        source=watched.source,
                        error=self.tls_error,
                        has_last_good=self.has_tls,
                    )
                )
            elif self.tls_error is None and known is not None:
                observe(TlsRestored(route=self._route.name, source=watched.source))
            if self.has_tls and not files.are_named:
                return
            await watched.wait_for_change()

    async def _find_context(self) -> ResumingContext | None:
        """Return the context of TLS, None if the upstream is plain. Raises UpstreamConnectError if its files still hang."""
        if self._tls_files is not None and self._tls is None:
            try:
                await self._tls_files.read(within=self._route.timeouts.connect)
            except TlsFilesError as error:
                raise UpstreamConnectError(Problem.UPSTREAM_TLS, str(error)) from None
            # For this connection; `follow_tls_files` takes it into use, and tells so.
            return self._tls_files.context
        return self._tls

    async def open(self) -> UpstreamConnection:
        """Open one connection. Raises UpstreamConnectError."""
        timeouts = self._route.timeouts
        context = await self._find_context()
        deadline = asyncio.get_running_loop().time() + timeouts.connect
        addresses = await self._resolve(deadline)
        try:
            async with asyncio.timeout_at(deadline):
                connected = await self._connect(addresses)
        except _RanOutError:
            raise self._ran_out() from None
        except TimeoutError:
            within = f"within {timeouts.connect:g} seconds"
            if self._egress_proxy is not None:
                raise UpstreamConnectError(
                    Problem.UPSTREAM_CONNECT_TIMEOUT,
                    f"the egress proxy {self._egress_proxy} opened no tunnel to {self._place} {within}",
                ) from None
            raise UpstreamConnectError(
                Problem.UPSTREAM_CONNECT_TIMEOUT, f"{self._place} did not accept a connection {within}"
            ) from None
        loop = asyncio.get_running_loop()
        connection = UpstreamConnection(codec=self._new_codec(), now=self._now())
        try:
            if context is None:
                await loop.create_connection(lambda: connection, sock=connected)
            else:
                await self._start_tls(connection, connected, context)
        except BaseException:
            _let_go(connected, loop)
            raise
        if connection.transport.is_closing():
            _let_go(connected, loop)
        if connection.is_closed:
            if isinstance(connection.error, ssl.SSLError):
                raise UpstreamConnectError(
                    Problem.UPSTREAM_TLS, f"{self._place} ended the TLS session: {describe_tls_error(connection.error)}"
                )
            if connection.unasked:
                other_protocol = find_other_protocol_of_upstream(connection.unasked)
                raise UpstreamConnectError(
                    Problem.UPSTREAM_MALFORMED,
                    "the upstream sent a response before there was a request"
                    if other_protocol is None
                    else other_protocol.detail,
                )
            raise UpstreamConnectError(
                Problem.UPSTREAM_CLOSED, f"{self._place} accepted the connection and closed it at once"
            )
        return connection

    async def _resolve(self, deadline: float) -> list[AddressInfo]:
        """Return the addresses to connect to, by this moment of the event loop's. Raises UpstreamConnectError."""
        egress_proxy = self._egress_proxy
        target = self._route.upstream if egress_proxy is None else egress_proxy
        try:
            # Resolved anew for each connection, so that an upstream that moves is followed.
            async with asyncio.timeout_at(deadline):
                return await self._resolver.resolve(target.host, target.port)
        except TimeoutError:
            limit = self._route.timeouts.connect
            detail = f"the name {target.host} was not resolved within {limit:g} seconds: DNS does not respond"
        except OSError as error:
            if has_run_out(error):
                raise self._ran_out() from None
            detail = f"the name {target.host} cannot be resolved: {reason_of(error)}"
        if egress_proxy is not None:
            raise UpstreamConnectError(Problem.EGRESS_PROXY, f"the egress proxy: {detail}")
        raise UpstreamConnectError(Problem.UPSTREAM_NAME_UNKNOWN, detail)

    def _ran_out(self) -> UpstreamConnectError:
        self._on_exhausted()
        return UpstreamConnectError(
            Problem.DESCRIPTORS_EXHAUSTED, f"{RAN_OUT}; no connection to {self._place} could be opened"
        )

    async def _connect(self, addresses: list[AddressInfo]) -> socket.socket:
        upstream, egress_proxy = self._route.upstream, self._egress_proxy
        if egress_proxy is None:
            return await _connect_to(addresses, f"{upstream.host}:{upstream.port}")
        try:
            connected = await _connect_to(addresses, f"{egress_proxy.host}:{egress_proxy.port}")
        except UpstreamConnectError as error:
            raise UpstreamConnectError(Problem.EGRESS_PROXY, f"the egress proxy: {error.detail}") from None
        try:
            host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
            await open_tunnel(connected, egress_proxy=egress_proxy, authority=f"{host}:{upstream.port}")
        except BaseException:
            connected.close()
            raise
        return connected

    async def _start_tls(
        self, connection: UpstreamConnection, connected: socket.socket, context: ResumingContext
    ) -> None:
        timeout = self._route.timeouts.tls_handshake
        loop = asyncio.get_running_loop()
        stream = TlsStream(
            connection,
            wrap=partial(context.wrap_bio, server_hostname=self._server_name, session=context.session),
            buffers=self._tls_buffers,
            established=loop.create_future(),
        )
        try:
            await loop.create_connection(lambda: stream, sock=connected)
            try:
                async with asyncio.timeout(timeout):
                    await stream.established
            except BaseException:
                stream.abort()
                raise
        except ssl.SSLCertVerificationError as error:
            fault = None if self._tls_files is None else self._tls_files.trust_fault
            raise UpstreamConnectError(
                Problem.UPSTREAM_CERTIFICATE,
                f"the certificate of {self._place} was not accepted for {self._server_name}: {error.verify_message}"
                + (f"; {fault}" if fault else ""),
            ) from None
        except ssl.SSLError as error:
            raise UpstreamConnectError(
                Problem.UPSTREAM_TLS, f"no TLS session with {self._place}: {describe_tls_error(error)}"
            ) from None
        except TimeoutError:
            raise UpstreamConnectError(
                Problem.UPSTREAM_CONNECT_TIMEOUT,
                f"{self._place} did not finish the TLS handshake within {timeout:g} seconds",
            ) from None
        except EOFError:
            raise UpstreamConnectError(
                Problem.UPSTREAM_TLS, f"{self._place} closed the connection during the TLS handshake"
            ) from None
        except OSError as error:
            raise UpstreamConnectError(
                Problem.UPSTREAM_TLS,
                f"{self._place} broke the connection during the TLS handshake: {reason_of(error)}",
            ) from None

    def _new_codec(self) -> UpstreamCodec:
        return UpstreamCodec(parser=self._response_parser, max_head=self._route.limits.head)

    def remember_session(self, connection: UpstreamConnection) -> None:
        """Keep a connection's TLS session for the next handshake (RFC 8446 §2.2); tickets come after the first bytes."""
        context = self._tls
        if context is None:
            return
        tls_object = connection.transport.get_extra_info("ssl_object")
        # A session belongs to the context, and so to the TLS files, that it was made with.
        if tls_object is None or tls_object.context is not context:
            return
        now = self._now()
        if context.read_at is not None:
            is_in_use = context.session is not None and tls_object.session_reused
            if now - context.read_at < (_SESSION_USED_FOR if is_in_use else _SESSION_RETRIED_AFTER):
                return
        context.read_at = now
        session = tls_object.session
        if session is not None and session.has_ticket:
            context.session = session


async def _connect_to(addresses: list[AddressInfo], place: str) -> socket.socket:
    """Connect to the first of the addresses that accepts; `place` is for errors. Raises UpstreamConnectError, _RanOutError."""
    # Imported here: the first connection is opened after start-up.
    from aiohappyeyeballs import start_connection  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    try:
        connected = await start_connection(
            addresses, happy_eyeballs_delay=_HAPPY_EYEBALLS_DELAY, interleave=1, loop=loop
        )
    except ConnectionRefusedError:
        raise UpstreamConnectError(
            Problem.UPSTREAM_REFUSED, f"{place} refused the connection; is it running and is the port right?"
        ) from None
    except OSError as error:
        if has_run_out(error):
            raise _RanOutError from None
        raise UpstreamConnectError(
            Problem.UPSTREAM_UNREACHABLE, f"{place} cannot be reached: {reason_of(error)}"
        ) from None
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def describe_tls_error(error: ssl.SSLError) -> str:
    """Return what OpenSSL says of an error, and what to do if it is about our certificate."""
    reason = error.reason or "the handshake failed"
    hint = protocol_hint(error)
    if hint:
        return reason + hint
    if "CERTIFICATE" in reason or "UNKNOWN_CA" in reason:
        return f"{reason}; is tls.client_certificate_file right?"
    return reason


def _let_go(connected: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
    """
    Forget a socket that was given to the event loop, when its transport has closed or could not be made.

    asyncio's own loops close it through this very object. uvloop closes the descriptor and leaves the object to believe
    that it still owns it, so that it would later close that number once more: by then, somebody else's.
    """
    if isinstance(loop, asyncio.BaseEventLoop):
        connected.close()
    else:
        connected.detach()
