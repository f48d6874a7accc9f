"""One connection to the upstream: hands what arrives to the exchange it works for, and knows whether it is reusable."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable


_LAST_WORDS: Final = 1.0
"""Seconds in which an upstream must take the last bytes of a tunnel; nobody waits for them any more."""


class UpstreamUser(Protocol):
    """Who an upstream connection works for at the moment: an exchange or a tunnel."""

    def on_upstream_data(self, data: bytes) -> None:
        """Take bytes from the upstream."""

    def on_upstream_eof(self) -> None:
        """Learn that the upstream has ended its side in order."""

    def on_upstream_lost(self, error: Exception | None) -> None:
        """Learn that the connection is gone, without an orderly end where `on_upstream_eof` did not come before."""

    def on_upstream_full(self) -> None:
        """Learn that the upstream takes no more bytes for now."""

    def on_upstream_drained(self) -> None:
        """Learn that the upstream takes bytes again."""


class UpstreamConnection(asyncio.Protocol):
    """
    A connection in the pool's care.

    `on_closed` is told once, when it is gone; `error` then says why, where it did not end in order. `user` is None while
    it is idle. `idle_until` (by the listener's clock, in seconds) is when the pool gives it up.
    """

    __slots__ = (
        "created_at",
        "error",
        "has_seen_eof",
        "idle_until",
        "is_closed",
        "is_write_paused",
        "on_closed",
        "request_count",
        "transport",
        "user",
    )

    def __init__(self, *, now: float) -> None:
        self.on_closed: Callable[[UpstreamConnection], None] | None = None
        self.created_at = now
        self.idle_until = now
        self.error: Exception | None = None
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.user: UpstreamUser | None = None
        self.request_count = 0
        self.is_closed = False
        self.has_seen_eof = False
        self.is_write_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: the connection stands, TLS included."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand the bytes on; bytes that nobody asked for make the connection worthless (RFC 9112 §9.2)."""
        user = self.user
        if user is None:
            self.close()
        else:
            user.on_upstream_data(data)

    def eof_received(self) -> bool:
        """Note the orderly end; the transport then closes itself, unless a tunnel still writes."""
        self.has_seen_eof = True
        user = self.user
        if user is None:
            self.close()
            return False
        user.on_upstream_eof()
        return self.user is not None and not self.is_closed

    def connection_lost(self, exc: Exception | None) -> None:
        """End: tell the user, if there is one, and the pool."""
        was_closed = self.is_closed
        self.is_closed = True
        self.error = exc
        user, self.user = self.user, None
        if user is not None:
            user.on_upstream_lost(exc)
        if not was_closed and self.on_closed is not None:
            self.on_closed(self)

    def pause_writing(self) -> None:
        """Learn that the write buffer is full."""
        self.is_write_paused = True
        if self.user is not None:
            self.user.on_upstream_full()

    def resume_writing(self) -> None:
        """Learn that the write buffer has drained."""
        self.is_write_paused = False
        if self.user is not None:
            self.user.on_upstream_drained()

    def close(self, *, flush: bool = False) -> None:
        """Close for good; `flush` first sends what is not yet sent, a tunnel's last words, as far as that takes no time."""
        if self.is_closed:
            return
        self.is_closed = True
        self.user = None
        if flush:
            self.transport.close()
            asyncio.get_running_loop().call_later(_LAST_WORDS, self.transport.abort)
        else:
            self.transport.abort()
        if self.on_closed is not None:
            self.on_closed(self)
