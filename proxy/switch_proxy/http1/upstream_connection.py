"""One connection to the upstream: hands what arrives to the exchange it works for, and knows whether it is reusable."""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from switch_proxy.http1.peers import UpstreamTransport, UpstreamUser
    from switch_proxy.http1.upstream_codec import UpstreamCodec


_LAST_WORDS: Final = 1.0
"""Seconds in which an upstream must take the last bytes of a connection; no exchange waits for them any more."""


class UpstreamConnection(asyncio.Protocol):
    """
    A connection in the pool's care.

    `on_closed` is told once, when it is gone; `error` then says why, if it did not end in order. `user` is None while
    it is idle. `idle_until` (by the listener's clock, in seconds) is when the pool gives it up.
    """

    __slots__ = (
        "codec",
        "created_at",
        "error",
        "idle_until",
        "is_closed",
        "is_put_off",
        "is_write_paused",
        "on_closed",
        "request_count",
        "transport",
        "unasked",
        "user",
    )

    def __init__(self, *, codec: UpstreamCodec, now: float) -> None:
        self.codec = codec
        self.on_closed: Callable[[UpstreamConnection], None] | None = None
        self.created_at = now
        self.idle_until = now
        self.error: Exception | None = None
        self.transport = cast("UpstreamTransport", None)
        self.user: UpstreamUser | None = None
        self.request_count = 0
        self.is_closed = False
        self.is_write_paused = False
        self.is_put_off = False
        """Whether it is not read until its user has passed on what has come, a share in each turn."""
        self.unasked = b""
        """The bytes that it was closed for: no request had asked for them."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: the connection stands, TLS included."""
        self.transport = cast("UpstreamTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand the bytes on; bytes that no request asked for make the connection worthless (RFC 9112 §9.2)."""
        user = self.user
        if user is None:
            self.unasked = data
            self.close()
        else:
            user.on_upstream_data(data)

    def eof_received(self) -> bool:
        """Pass the orderly end on; the transport then closes itself, unless a tunnel still writes."""
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

    def has_unread_input(self) -> bool:
        """Tell whether the upstream has sent something, or has ended, that the event loop has not read yet."""
        raw_socket = self.transport.get_extra_info("socket")
        if raw_socket is None or raw_socket.fileno() < 0:
            return False
        poller = select.poll()
        poller.register(raw_socket, select.POLLIN)
        return bool(poller.poll(0))

    def close(self, *, flush: bool = False) -> None:
        """
        Close for good: at once if something is under way, in order (RFC 8446 §6.1: with close_notify) if nothing is.

        `flush` first sends what is not yet sent, a tunnel's last words, as far as that takes no time.
        """
        if self.is_closed:
            return
        self.is_closed = True
        if flush or self.user is None:
            self.transport.close()
            asyncio.get_running_loop().call_later(_LAST_WORDS, self.transport.abort)
        else:
            self.transport.abort()
        self.user = None
        if self.on_closed is not None:
            self.on_closed(self)
