"""
A listener's inside without a listener: client connections and upstream connections on transports in memory.

The transports behave as uvloop's do, down to the RuntimeError for a write behind the end. The upstream reads with
`wire.py`, so every byte that the proxy sends it is held against a strict reader, and answers from a script.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from fuzz import wire
from switch_proxy.core.config.listeners import own_listener
from switch_proxy.core.config.models import Address, Origin, RouteSettings
from switch_proxy.core.errors import UpstreamConnectError
from switch_proxy.core.http.problems import Problem
from switch_proxy.core.http.response import ResponseParser
from switch_proxy.core.secret import Secret
from switch_proxy.core.tokens import TokenGrant, issue
from switch_proxy.http1.client_connection import ClientConnection
from switch_proxy.http1.listener_context import ListenerContext
from switch_proxy.http1.route import Route
from switch_proxy.http1.upstream_codec import UpstreamCodec
from switch_proxy.http1.upstream_connection import UpstreamConnection

if TYPE_CHECKING:
    from switch_proxy.core.exchange_record import ExchangeRecord
    from switch_proxy.core.tokens import AccessToken
    from switch_proxy.http1.connector import Connector

BASE_PATH: Final = "/base"
UPSTREAM: Final = b"localhost:8443"
TOKEN: Final = "fuzz-access-token"
_TOKEN: Final = issue(
    TokenGrant(value=Secret(TOKEN), lifetime=3600.0, scope=None), generation=1, sent_at=0.0, jitter=0.5
)
_MOST_TURNS: Final = 50_000
"""Rounds after which a world that still moves is taken to move for ever."""


class MemoryTransport(asyncio.Transport):
    """Keeps what is written; closes as uvloop's TCP transport does."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._protocol: asyncio.Protocol | asyncio.BufferedProtocol = protocol
        self.written = bytearray()
        self.has_written_eof = False
        self.is_paused = False
        self.was_aborted = False
        self.is_lost = False
        self._is_closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes."""
        if self.is_lost:
            raise RuntimeError("unable to perform operation on a transport that is closed")
        if self.has_written_eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not self._is_closing:
            self.written += data

    def write_eof(self) -> None:
        """End this side."""
        if self.is_lost:
            raise RuntimeError("unable to perform operation on a transport that is closed")
        self.has_written_eof = True

    def can_write_eof(self) -> bool:
        """Say yes, as TCP does."""
        return True

    def get_write_buffer_size(self) -> int:
        """Return nothing: the other side reads at once."""
        return 0

    def is_closing(self) -> bool:
        """Say whether it is closed or about to be."""
        return self._is_closing

    def is_reading(self) -> bool:
        """Say whether bytes are taken."""
        return not self.is_paused

    def pause_reading(self) -> None:
        """Stop."""
        self.is_paused = True

    def resume_reading(self) -> None:
        """Go on."""
        self.is_paused = False

    def close(self) -> None:
        """Close in order."""
        self._close(None)

    def abort(self) -> None:
        """Close at once."""
        self.was_aborted = True
        self._close(None)

    def lose(self, error: Exception | None) -> None:
        """Let the other side break the connection."""
        self._close(error)

    def _close(self, error: Exception | None) -> None:
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self._tell, error)

    def _tell(self, error: Exception | None) -> None:
        self.is_lost = True
        self._protocol.connection_lost(error)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have another protocol told of what happens from now on."""
        self._protocol = cast("asyncio.Protocol | asyncio.BufferedProtocol", protocol)

    # What the other side does.

    def receive(self, data: bytes) -> None:
        """Hand over bytes that have arrived."""
        while data and not self._is_closing:
            if isinstance(self._protocol, asyncio.Protocol):
                self._protocol.data_received(data)
                return
            with memoryview(self._protocol.get_buffer(len(data))) as buffer:
                size = min(len(data), len(buffer))
                buffer[:size] = data[:size]
            self._protocol.buffer_updated(size)
            data = data[size:]

    def receive_eof(self) -> None:
        """Tell of the other side's end."""
        if not self._is_closing and not self._protocol.eof_received():
            self.close()


@dataclass(slots=True, kw_only=True)
class Reply:
    """What the upstream does about one request: sends `pieces`, then keeps the connection, ends or breaks it."""

    pieces: list[bytes]
    ending: str = "keep"
    is_early: bool = False
    """Whether it answers as soon as it has the head."""
    is_too_long: bool = False
    """Whether the last piece has bytes behind the response in it."""


@dataclass(slots=True, kw_only=True)
class _Channel:
    """The upstream's end of one connection."""

    connection: UpstreamConnection
    transport: MemoryTransport
    answered: int = 0
    read: list[wire.Message] = field(default_factory=list)
    read_bytes: int = 0
    under_way: deque[bytes] = field(default_factory=deque)
    ending: str = "keep"
    spoilt_after: int | None = None
    """How many requests it had had when bytes came on it that no request had asked for."""

    def requests(self) -> list[wire.Message]:
        """Return the requests that have arrived here, the last of which may not be whole."""
        if len(self.transport.written) != self.read_bytes:
            self.read_bytes = len(self.transport.written)
            self.read = wire.read_requests(bytes(self.transport.written))
        return self.read


class _Clock:
    """A clock that stands still."""

    def now(self) -> float:
        """Return the moment of all tests."""
        return 1.0

    def wall(self) -> float:
        """Return Unix time."""
        return 1_700_000_000.0

    async def sleep_until(self, at: float) -> None:
        """Wait for ever."""
        await asyncio.get_running_loop().create_future()


class MemoryWorld:
    """One client connection and the upstream behind it; also the tokens, the observer and the connector in between."""

    def __init__(self, replies: list[Reply], *, has_token: bool = True, refuses: bool = False) -> None:
        self._replies = deque(replies)
        self._has_token = has_token
        self._refuses = refuses
        self.records: list[ExchangeRecord] = []
        self.channels: list[_Channel] = []
        self.closed_clients = 0
        self._response_parser = ResponseParser(max_field_lines=100)
        route = RouteSettings(
            name="fuzz",
            listen=Address(host="127.0.0.1", port=0),
            upstream=Origin(scheme="http", host="localhost", port=8443, base_path=BASE_PATH),
            credential="fuzz",
        )
        model, clock = own_listener(route, Address(host="127.0.0.1", port=0)), _Clock()
        (self.route,) = (
            Route(each, tokens=self, connector=cast("Connector", self), clock=clock) for each in model.routes
        )
        self.context = ListenerContext(model, routes=[self.route], observer=self, clock=clock)
        self.clients: set[ClientConnection] = set()
        self.context.budget.on_changed = self._budget_changed
        self.client = ClientConnection(
            self.context, clients=self.clients, on_opened=lambda: None, on_closed=self._client_closed
        )
        self.client_transport = MemoryTransport(self.client)
        self.client.connection_made(self.client_transport)

    def _budget_changed(self) -> None:
        for client in list(self.clients):
            client.budget_changed()

    def _client_closed(self) -> None:
        self.closed_clients += 1

    # The token provider.

    def peek(self) -> AccessToken | None:
        """Return the token, in worlds where it is at hand."""
        return _TOKEN if self._has_token else None

    async def acquire(self, timeout: float, *, newer_than: int = 0) -> AccessToken:  # noqa: ASYNC109 - the protocol's
        """Return the token a moment later."""
        await asyncio.sleep(0)
        return _TOKEN

    def reject(self, generation: int) -> None:
        """Take no note."""

    # The observer.

    def exchange_finished(self, record: ExchangeRecord) -> None:
        """Keep the record."""
        self.records.append(record)

    # The connector.

    async def open(self) -> UpstreamConnection:
        """Open a connection, a moment later. Raises UpstreamConnectError in worlds that refuse."""
        await asyncio.sleep(0)
        if self._refuses:
            raise UpstreamConnectError(Problem.UPSTREAM_REFUSED, "localhost refused the connection")
        connection = UpstreamConnection(
            codec=UpstreamCodec(parser=self._response_parser, max_head=65536), now=self.context.now()
        )
        transport = MemoryTransport(connection)
        connection.connection_made(transport)
        self.channels.append(_Channel(connection=connection, transport=transport))
        return connection

    def remember_session(self, connection: UpstreamConnection) -> None:
        """Take no note: there is no TLS."""

    # What happens.

    async def settle(self) -> None:
        """Let the proxy and the upstream go on until nothing moves any more. Raises AssertionError if it never does."""
        still = 0
        for _ in range(_MOST_TURNS):
            await asyncio.sleep(0)
            still = 0 if self._upstream_moves() or self.context.turns.waiting else still + 1
            if still > 6:
                return
        raise AssertionError("the world does not come to rest")

    async def step(self) -> None:
        """Let the proxy and the upstream take one turn."""
        await asyncio.sleep(0)
        self._upstream_moves()

    def _upstream_moves(self) -> bool:
        for channel in self.channels:
            if channel.transport.is_closing():
                continue
            if channel.under_way:
                if not channel.transport.is_paused:
                    channel.transport.receive(channel.under_way.popleft())
                    return True
                continue
            if channel.ending != "keep":
                ending, channel.ending = channel.ending, "keep"
                if ending == "end":
                    channel.transport.receive_eof()
                else:
                    channel.transport.lose(ConnectionResetError("reset by peer"))
                return True
            if self._replies and self._wants_reply(channel):
                reply = self._replies.popleft()
                channel.answered += 1
                channel.under_way.extend(reply.pieces)
                channel.ending = reply.ending
                if reply.is_too_long and channel.spoilt_after is None:
                    channel.spoilt_after = channel.answered
                return True
        return False

    def _wants_reply(self, channel: _Channel) -> bool:
        unanswered = channel.requests()[channel.answered :]
        return bool(unanswered) and (unanswered[0].is_whole or self._replies[0].is_early)

    async def send(self, piece: bytes) -> bool:
        """Send bytes as the client once the proxy reads; return False where it never will."""
        if self.client_transport.is_paused:
            await self.settle()
        if self.client_transport.is_closing() or self.client_transport.is_paused:
            return False
        self.client_transport.receive(piece)
        return True

    async def end(self) -> None:
        """End the client's side, then break what still hangs, until everything is over."""
        await self.settle()
        if not self.client_transport.is_paused:
            self.client_transport.receive_eof()
        await self.settle()
        for channel in self.channels:
            if channel.connection.user is not None and not channel.transport.is_closing():
                channel.transport.receive_eof()
                await self.settle()
                channel.transport.lose(None)
        await self.settle()
        self.client_transport.lose(None)
        await self.settle()

    def requests(self) -> list[wire.Message]:
        """Return all requests that reached the upstream, connection by connection."""
        return [message for channel in self.channels for message in channel.requests()]

    def responses(self) -> list[wire.Message]:
        """Return all responses that reached the client."""
        methods = [record.method for record in self.records]
        return wire.read_responses(bytes(self.client_transport.written), methods)


def run(scenario: Any) -> None:
    """Run a coroutine in a loop of its own; what went to the loop's exception handler is an error."""
    unexpected: list[dict[str, Any]] = []
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: unexpected.append(context))
    try:
        loop.run_until_complete(scenario)
    finally:
        loop.close()
    for context in unexpected:
        error = context.get("exception")
        if isinstance(error, Exception):
            raise error
        raise AssertionError(context["message"])
