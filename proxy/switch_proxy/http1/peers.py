"""
What the parts of the data plane are to each other: the protocols through which they talk.

    client connection ── Exchange, then Tunnel     each is a ClientUser of the client connection…
                              │                    …and an UpstreamUser of the upstream connection
                      upstream connection

A part imports this module in place of the parts beside it, so that no two modules need each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio

    from switch_proxy.core.exchange_record import ExchangeRecord
    from switch_proxy.core.tokens import AccessToken
    from switch_proxy.http1.client_codec import ClientCodec


class Client(Protocol):
    """The client connection, as an exchange or a tunnel uses it."""

    codec: ClientCodec
    transport: asyncio.Transport

    @property
    def is_write_paused(self) -> bool:
        """Say whether the client takes no bytes for now."""

    @property
    def is_on_loopback(self) -> bool:
        """Say whether the connection came in over a loopback address, as one of a browser on this machine would."""

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""

    def write_eof(self) -> None:
        """Say that no more bytes will be sent to the client."""

    def pause_reading(self) -> None:
        """Stop taking bytes from the client."""

    def resume_reading(self) -> None:
        """Take bytes from the client again."""

    def account(self) -> None:
        """Count the bytes of requests that are held for the client; take no more while the listener holds too many."""

    def put_off(self) -> None:
        """Take no bytes from the client until others have been served."""

    def has_write_buffer_changed(self) -> bool:
        """Say whether the bytes that wait to be sent are more or fewer than at the last look: a slow reader does read."""

    def begin_tunnel(self, tunnel: TunnelSide) -> None:
        """Hand the connection over to a tunnel, for good."""

    def exchange_ended(self, now: float, *, is_reusable: bool) -> None:
        """Go on to the next request, or close in order; `now` by the context's clock, in seconds."""

    def break_off(self, *, hard: bool) -> None:
        """Close in the middle of a message; `hard` resets the connection, if a plain end would look complete."""


class Continued(Protocol):
    """What does its work in shares, so that others are served in between."""

    def go_on(self) -> None:
        """Do the next share."""

    def abort(self) -> None:
        """Give up, because the last share failed unexpectedly."""


class ClientUser(Protocol):
    """Who a client connection works for at the moment: an exchange or a tunnel."""

    @property
    def route_name(self) -> str:
        """Return the name of the route that it is for, NO_ROUTE as long as that is not known."""

    def on_client_full(self) -> None:
        """Learn that the client takes no more bytes for now."""

    def on_client_drained(self) -> None:
        """Learn that the client takes bytes again."""

    def on_client_lost(self) -> None:
        """Learn that the client is gone."""

    def check_time(self, now: float) -> None:
        """End what has stood still for too long; `now` by the context's clock, in seconds."""

    def end_at_once(self) -> None:
        """End because the proxy stops."""


class TunnelSide(ClientUser, Protocol):
    """A tunnel, as the client connection uses it."""

    def on_client_data(self, data: bytes) -> None:
        """Pass bytes to the upstream."""

    def on_client_eof(self) -> bool:
        """Pass the client's end on; return whether its connection is still needed for the other direction."""


class UpstreamTransport(Protocol):
    """What carries the bytes of an upstream connection: a transport of the event loop, or a TlsStream upon one."""

    def write(self, data: bytes, /) -> None:
        """Send, or keep for later; nothing once the connection ends."""

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""

    def pause_reading(self) -> None:
        """Read no more for now: neither bytes nor their end is told."""

    def resume_reading(self) -> None:
        """Read on."""

    def can_write_eof(self) -> bool:
        """Say whether this side may end before the other."""

    def write_eof(self) -> None:
        """End this side, after what has been written."""

    def is_closing(self) -> bool:
        """Say whether the connection ends, or has ended."""

    def close(self) -> None:
        """End in order, after what has been written."""

    def abort(self) -> None:
        """End at once."""

    def get_extra_info(self, name: str, /) -> Any:
        """Return what is beneath: `socket`, `ssl_object`; None if there is no such thing."""


class UpstreamUser(Protocol):
    """Who an upstream connection works for at the moment: an exchange or a tunnel."""

    def on_upstream_data(self, data: bytes) -> None:
        """Take bytes from the upstream."""

    def on_upstream_eof(self) -> None:
        """Learn that the upstream has ended its side in order."""

    def on_upstream_lost(self, error: Exception | None) -> None:
        """Learn that the connection is gone, without an orderly end if `on_upstream_eof` did not come before."""

    def on_upstream_full(self) -> None:
        """Learn that the upstream takes no more bytes for now."""

    def on_upstream_drained(self) -> None:
        """Learn that the upstream takes bytes again."""


class TokenProvider(Protocol):
    """Where the data plane gets its tokens from; it never fetches one itself."""

    def peek(self) -> AccessToken | None:
        """Return the token that is usable now, or None; no I/O."""

    async def acquire(self, timeout: float, *, newer_than: int = 0) -> AccessToken:  # noqa: ASYNC109 - told in the error
        """
        Wait at most `timeout` seconds for the fetch in flight, of a token of a generation after `newer_than`.

        Raises TokenUnavailableError: at once if no such fetch is under way.
        """

    def reject(self, generation: int) -> None:
        """Say that the upstream refused the token of this generation with 401."""


class ExchangeObserver(Protocol):
    """Who is told of each finished exchange: called on the hot path, so it must be quick and must not raise."""

    def exchange_finished(self, record: ExchangeRecord) -> None:
        """Take note of one finished exchange."""
