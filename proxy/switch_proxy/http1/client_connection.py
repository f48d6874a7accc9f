"""
One client connection: finds the requests in what arrives and has them served one after the other, in order.

What a request becomes is the exchange's affair. Here are the limits on heads, the requests that wait behind the one
being served (RFC 9112 §9.3.2), the end of the client's side, and the ways to close.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Final, cast

from switch_proxy.core.addresses import is_loopback_host
from switch_proxy.core.errors import RequestError
from switch_proxy.core.http.problems import Problem, render_problem
from switch_proxy.http1.client_codec import ClientCodec
from switch_proxy.http1.exchange import Exchange
from switch_proxy.http1.peer_liveness import has_hung_up, has_peer_closed
from switch_proxy.http1.request_budget import UNCOUNTED

if TYPE_CHECKING:
    from collections.abc import Callable

    from switch_proxy.http1.listener_context import ListenerContext
    from switch_proxy.http1.peers import ClientUser, TunnelSide

_LINGER: Final = 2.0
"""Seconds to go on reading after a last response, so that the client can read it before the connection resets; nginx
waits 5 s (`lingering_timeout`), which on localhost is more than is needed."""

_LINGER_BYTES: Final = 16 * 1024 * 1024
"""Bytes that a lingering connection still swallows."""

_PIPELINE_BYTES: Final = 65536
"""Bytes of further requests that are read while one is served; then the client waits."""

_REQUESTS_PER_TURN: Final = 8
"""Requests that are answered at once, one after the other, before the client waits for its next turn: a millisecond's work."""

_ASKED: Final = 1
"""Reading is paused because an exchange or a tunnel asked for it, or because enough requests wait."""

_PUT_OFF: Final = 2
"""Reading is paused until the connection has had its next turn."""

_BUDGET: Final = 4
"""Reading is paused because the listener holds too many bytes of requests, some of them for this client."""

_NO_HEAD: Final = (b"", b"\r")
"""What may wait to be read without being part of a head: an empty line before a request line (RFC 9112 §2.2)."""

_MISDIRECTED: Final = 421

_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: close with a reset."""


class ClientConnection(asyncio.Protocol):
    """A connection that a client opened."""

    __slots__ = (
        "_buffer_size_seen",
        "_clients",
        "_context",
        "_exchange",
        "_has_client_ended",
        "_has_had_requests",
        "_held",
        "_is_closing",
        "_is_put_off",
        "_is_working",
        "_linger_bytes",
        "_linger_until",
        "_on_closed",
        "_on_opened",
        "_pauses",
        "_reads_little",
        "_tunnel",
        "_waiting_since",
        "codec",
        "is_write_paused",
        "transport",
    )

    def __init__(
        self,
        context: ListenerContext,
        *,
        clients: set[ClientConnection],
        on_opened: Callable[[], None],
        on_closed: Callable[[], None],
    ) -> None:
        self._context = context
        self._clients = clients
        self._on_opened = on_opened
        self._on_closed = on_closed
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._exchange: Exchange | None = None
        self._tunnel: TunnelSide | None = None
        self.codec = ClientCodec(parser=context.request_parser, limits=context.limits)
        self._waiting_since = 0.0
        """By the context's clock, in seconds: since when a head is awaited."""
        self._is_working = False
        """Whether requests are being begun, or will be when its turn comes."""
        self._is_closing = False
        self._has_client_ended = False
        self._has_had_requests = False
        self._is_put_off = False
        """Whether it waits for its next turn."""
        self._pauses = 0
        """Why reading is paused, one bit for each reason."""
        self._held = 0
        """Bytes of requests that are counted in the listener's budget."""
        self._reads_little = False
        self._linger_until: float | None = None
        self._linger_bytes = 0
        self._buffer_size_seen = 0
        self.is_write_paused = False

    @property
    def is_busy(self) -> bool:
        """Say whether an exchange or a tunnel is under way, or a response not yet sent."""
        return self._exchange is not None or self._tunnel is not None or self._is_put_off

    # Events from the socket.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        self._waiting_since = self._context.now()
        self._clients.add(self)
        if self._context.budget.is_used_up:
            self.budget_changed()
        self._on_opened()

    def data_received(self, data: bytes) -> None:
        """Give the exchange under way what is its request's body; look for requests in the rest."""
        codec = self.codec
        exchange = self._exchange
        if exchange is None:
            if self._tunnel is not None:
                self._tunnel.on_client_data(data)
                return
            if self._is_closing:
                self._linger_on(data)
                return
            before = codec.unread
            if before:
                codec.append(data)
            else:
                codec.unread = data
            self._process_buffer()
            if self._exchange is None and before in _NO_HEAD and codec.unread not in _NO_HEAD:
                # The time for a head begins with its first byte; empty lines before it are none.
                self._waiting_since = self._context.now()
        else:
            if codec.unread:
                codec.append(data)
            else:
                codec.unread = data
            if not codec.is_request_complete:
                self._read_body(exchange)
        if codec.unread:
            self._stop_pipelining()
            self.account()

    def _read_body(self, exchange: Exchange) -> None:
        """Give the exchange what has come of its request's body; if that was much work, others are served before the rest."""
        codec = self.codec
        try:
            pieces = codec.read_body()
        except RequestError as error:
            exchange.refuse(error)
            return
        if codec.is_costly:
            codec.is_costly = False
            self.put_off()
        exchange.on_client_body(pieces)
        self.account()

    def _stop_pipelining(self) -> None:
        """Read no further requests if many wait already, for their turn or for the client to read its responses."""
        codec = self.codec
        if (
            codec.unread_size > _PIPELINE_BYTES
            and codec.is_request_complete
            and (self._exchange is not None or self.is_write_paused)
        ):
            self.pause_reading()

    # Work that is put off.

    def put_off(self) -> None:
        """Read nothing more until others have been served."""
        if not self._is_put_off and not self._is_closing:
            self._is_put_off = self._is_working = True
            self._pause(_PUT_OFF)
            self._context.turns.put_off(self)

    def go_on(self) -> None:
        """Read the next share of what was put off, and from the client again when nothing is left of it."""
        self._is_put_off = self._is_working = False
        if self._is_closing:
            return
        exchange = self._exchange
        if exchange is None:
            self._process_buffer()
        elif self.codec.unread and not self.codec.is_request_complete:
            if self._pauses & _ASKED:
                # Put off again when the exchange can take more.
                return
            self._read_body(exchange)
        if self._held:
            self.account()
        if not self._is_put_off:
            self._resume(_PUT_OFF)
            if self._context.stopped_accepting and not self.codec.unread:
                self.close_when_idle()

    # Bytes that are held.

    def account(self) -> None:
        """Count the bytes of requests that are held for the client; read no more while the listener holds too many."""
        budget = self._context.budget
        exchange = self._exchange
        if exchange is not None and budget.is_used_up:
            exchange.spare_memory()
        held = len(self.codec.unread)
        if exchange is not None:
            held += exchange.held_bytes
        if held <= UNCOUNTED:
            held = 0
        if held != self._held:
            change, self._held = held - self._held, held
            budget.change(change)
        if held and budget.is_used_up:
            self._pause(_BUDGET)
        elif self._pauses & _BUDGET:
            # The time for a head that was not read begins anew.
            self._waiting_since = self._context.now()
            self._resume(_BUDGET)

    def budget_changed(self) -> None:
        """Read as the listener's budget now allows."""
        is_used_up = self._context.budget.is_used_up
        if is_used_up != self._reads_little and not self.transport.is_closing():
            self._reads_little = is_used_up
            self.transport.set_protocol(self._context.budget.small_reads(self) if is_used_up else self)
        self.account()

    def eof_received(self) -> bool:
        """Learn that the client sends no more; requests that have come in full are still served (RFC 9112 §9.6)."""
        self._has_client_ended = True
        if self._tunnel is not None:
            return self._tunnel.on_client_eof()
        exchange = self._exchange
        if exchange is None or self._is_closing:
            # Requests that wait until the client has read the responses before them are still served.
            return not self._is_closing and (self.is_write_paused or self._is_put_off)
        if not self.codec.is_request_complete or has_peer_closed(self.transport):
            exchange.on_client_lost()
            return False
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """End, and with it whatever was under way for this client."""
        self._is_closing = True
        exchange, self._exchange = self._exchange, None
        tunnel, self._tunnel = self._tunnel, None
        if exchange is not None:
            exchange.on_client_lost()
        if tunnel is not None:
            tunnel.on_client_lost()
        self._clients.discard(self)
        self.codec.take_unread()
        if self._held:
            self.account()
        self._on_closed()

    def pause_writing(self) -> None:
        """Learn that the write buffer is full."""
        self.is_write_paused = True
        user = self._user()
        if user is not None:
            user.on_client_full()

    def resume_writing(self) -> None:
        """Learn that the write buffer has drained."""
        self.is_write_paused = False
        user = self._user()
        if user is not None:
            user.on_client_drained()
        elif self.codec.unread or self._has_client_ended:
            self._process_buffer()
            if self._exchange is None:
                self.resume_reading()

    @property
    def busy_route(self) -> str | None:
        """Return the name of the route that an exchange or a tunnel under way is for, None if there is none."""
        user = self._user()
        return None if user is None else user.route_name

    def _user(self) -> ClientUser | None:
        return self._exchange or self._tunnel

    # Requests, one after the other.

    def _process_buffer(self) -> None:
        """Begin the next exchange, as long as the one before is over when the call returns."""
        if self._is_working:
            # An exchange ended within `start` below, and the loop there goes on; or its turn is still to come.
            return
        self._is_working = True
        codec = self.codec
        answered = 0
        try:
            while codec.unread and self._exchange is None and not self._is_closing and not self.is_write_paused:
                head = codec.read_head()
                if head is None:
                    break
                self._has_had_requests = True
                exchange = self._exchange = Exchange(self._context, self, head, self._context.now())
                exchange.start()
                if self._exchange is not exchange:
                    answered += 1
                    if answered == _REQUESTS_PER_TURN:
                        self.put_off()
                        break
        except RequestError as error:
            self._refuse(error)
        finally:
            self._is_working = self._is_put_off
        if self._held:
            self.account()
        if self._has_client_ended and not (self.is_busy or self._is_closing or self.is_write_paused):
            self._close()

    def _refuse(self, error: RequestError) -> None:
        """Refuse bytes that are no request; nothing after them can be trusted (RFC 9112 §11.2)."""
        problem = Problem.HOST_NOT_ALLOWED if error.status == _MISDIRECTED else Problem.REQUEST_MALFORMED
        self._respond_without_exchange(problem, error.detail, status=error.status)

    def _respond_without_exchange(self, problem: Problem, detail: str, *, status: int | None = None) -> None:
        context = self._context
        request_id = context.new_request_id()
        response = render_problem(
            problem,
            detail=detail,
            proxy_name=context.unrouted.identity.proxy_name,
            next_hop="",
            request_id=request_id.decode("ascii"),
            date=context.date(),
            status=status,
            is_head=self.codec.is_at_head_request,
            closes=True,
        )
        context.observe_refusal(problem, status or problem.value.status, request_id, detail)
        self.transport.write(response)
        self._linger()

    # What exchanges and tunnels ask of it.

    @property
    def is_on_loopback(self) -> bool:
        """Say whether the connection came in over a loopback address, as one of a browser on this machine would."""
        address = self.transport.get_extra_info("sockname")
        return isinstance(address, tuple) and is_loopback_host(address[0])

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""
        if not self._is_closing:
            self.transport.write(data)

    def write_eof(self) -> None:
        """Say that no more bytes will be sent to the client."""
        if not self._is_closing:
            self.transport.write_eof()

    def pause_reading(self) -> None:
        """Stop taking bytes from the client."""
        self._pause(_ASKED)

    def resume_reading(self) -> None:
        """Take bytes from the client again, those first whose turn had come meanwhile."""
        self._resume(_ASKED)
        if self._pauses & _PUT_OFF:
            self.put_off()

    def _pause(self, reason: int) -> None:
        if not self._is_closing:
            if not self._pauses:
                self.transport.pause_reading()
            self._pauses |= reason

    def _resume(self, reason: int) -> None:
        if self._pauses & reason and not self._is_closing:
            self._pauses &= ~reason
            if not self._pauses:
                self.transport.resume_reading()

    def has_write_buffer_changed(self) -> bool:
        """Say whether the bytes that wait to be sent are more or fewer than at the last look: a slow reader does read."""
        seen, self._buffer_size_seen = self._buffer_size_seen, self.transport.get_write_buffer_size()
        return seen != self._buffer_size_seen

    def begin_tunnel(self, tunnel: TunnelSide) -> None:
        """Hand the connection over to a tunnel, for good; what came early is the tunnel's."""
        self._exchange = None
        self._tunnel = tunnel
        early = self.codec.take_unread()
        if self._held:
            self.account()
        self.resume_reading()
        if early:
            tunnel.on_client_data(early)
        if self._has_client_ended:
            tunnel.on_client_eof()

    def exchange_ended(self, now: float, *, is_reusable: bool) -> None:
        """Go on to the next request, or close in order; `now` by the context's clock, in seconds."""
        self._exchange = None
        self._tunnel = None
        if self._held:
            self.account()
        if self._is_closing:
            return
        unread = self.codec.unread
        if not is_reusable or (self._context.stopped_accepting and not unread):
            is_read_up = self.codec.is_request_complete and not unread
            if self._has_client_ended or (is_read_up and not self._pauses):
                self._close()
            else:
                self._linger()
            return
        self._waiting_since = now
        if self._pauses:
            self.resume_reading()
        if (unread and not self.is_write_paused) or self._has_client_ended:
            self._process_buffer()

    def break_off(self, *, hard: bool) -> None:
        """Close in the middle of a message; `hard` resets the connection, if a plain end would look complete."""
        self._exchange = None
        self.codec.take_unread()
        if self._held:
            self.account()
        if self._is_closing:
            return
        self._is_closing = True
        if hard:
            self._reset()
        else:
            self.transport.close()

    # The ways to close.

    def _close(self) -> None:
        """Close once all is sent."""
        self._is_closing = True
        self.codec.take_unread()
        if self._held:
            self.account()
        self.transport.close()

    def _reset(self) -> None:
        raw_socket = self.transport.get_extra_info("socket")
        if raw_socket is not None:
            raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def _linger(self) -> None:
        """
        End our side and swallow what still comes, for a while.

        Closing with unread bytes in the socket would reset the connection, and the client might lose the response that
        says what was wrong (RFC 9112 §9.6).
        """
        if self._is_closing:
            return
        self._is_closing = True
        self.codec.take_unread()
        if self._held:
            self.account()
        self._linger_until = self._context.now() + _LINGER
        self._waiting_since = self._context.now()
        if self._pauses:
            self._pauses = 0
            self.transport.resume_reading()
        self.transport.write_eof()

    def _linger_on(self, data: bytes) -> None:
        self._linger_bytes += len(data)
        if self._linger_until is not None and self._linger_bytes > _LINGER_BYTES:
            self.transport.abort()

    def close_when_idle(self) -> None:
        """Close now if nothing is under way; an exchange under way closes the connection when it ends."""
        if not self.is_busy and not self._is_closing:
            self._close()

    def end_at_once(self) -> None:
        """End what is under way, for the proxy stops."""
        user = self._user()
        if user is not None:
            user.end_at_once()
        if not self.transport.is_closing():
            self.transport.close()

    def abort(self) -> None:
        """Close without another word."""
        self.transport.abort()

    def check_time(self, now: float) -> None:
        """End what has stood still for longer than it may; `now` by the context's clock, in seconds."""
        if self._pauses & _BUDGET and has_hung_up(self.transport):
            self.abort()
            return
        user = self._user()
        if user is not None:
            user.check_time(now)
            return
        if self._is_closing or self.is_write_paused:
            self._check_last_bytes(now)
            return
        timeouts = self._context.timeouts
        waited = now - self._waiting_since
        if self.codec.unread:
            if waited > timeouts.request_head and self._pauses & _BUDGET:
                self._respond_without_exchange(
                    Problem.REQUEST_BUFFERS_FULL,
                    "the listener holds as many bytes of requests as limits.request_buffers allows, and so has not read the "
                    f"request's head within {timeouts.request_head:g} seconds",
                )
            elif waited > timeouts.request_head:
                self._respond_without_exchange(
                    Problem.REQUEST_TIMEOUT,
                    f"the request's head did not arrive within {timeouts.request_head:g} seconds",
                )
        elif waited > self._context.keep_alive if self._has_had_requests else waited > timeouts.request_head:
            self._close()

    def _check_last_bytes(self, now: float) -> None:
        """End a connection whose client does not read its last response, or has had the time to after it was sent."""
        if self.has_write_buffer_changed():
            # A slow reader is not a stalled one: what counts is whether the buffer shrinks.
            self._waiting_since = now
            if self._linger_until is not None:
                self._linger_until = now + _LINGER
        elif self._linger_until is not None and not self._buffer_size_seen:
            if now > self._linger_until:
                self.transport.abort()
        elif now - self._waiting_since > self._context.timeouts.idle:
            self.transport.abort()
