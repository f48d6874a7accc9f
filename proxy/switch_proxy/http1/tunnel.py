"""What an exchange becomes after 101 Switching Protocols: bytes in both directions, as they come (RFC 9110 §7.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from switch_proxy.http1.peers import Client
    from switch_proxy.http1.upstream_connection import UpstreamConnection


class Tunnel:
    """Two byte streams that stop each other when one is full, and end together."""

    __slots__ = (
        "_client",
        "_client_ended",
        "_idle_timeout",
        "_is_over",
        "_moved_at",
        "_now",
        "_on_closed",
        "_upstream",
        "_upstream_ended",
        "bytes_down",
        "bytes_up",
        "route_name",
    )

    def __init__(
        self,
        *,
        client: Client,
        upstream: UpstreamConnection,
        idle_timeout: float,
        now: Callable[[], float],
        route_name: str,
        on_closed: Callable[[Tunnel], None],
    ) -> None:
        self._now = now
        self.route_name = route_name
        self._client = client
        self._upstream = upstream
        self._idle_timeout = idle_timeout
        self._moved_at = self._now()
        self._client_ended = False
        self._upstream_ended = False
        self._is_over = False
        self.bytes_up = 0
        self.bytes_down = 0
        self._on_closed = on_closed

    def on_client_data(self, data: bytes) -> None:
        """Pass bytes to the upstream."""
        self._moved_at = self._now()
        self.bytes_up += len(data)
        self._upstream.transport.write(data)

    def on_upstream_data(self, data: bytes) -> None:
        """Pass bytes to the client."""
        self._moved_at = self._now()
        self.bytes_down += len(data)
        self._client.write(data)

    def on_client_eof(self) -> bool:
        """Pass the client's end on; return whether its connection is still needed for the other direction."""
        self._client_ended = True
        if self._upstream_ended or not self._upstream.transport.can_write_eof():
            # TLS 1.2 has no half-closed state to pass on.
            self._close(flush=True)
            return False
        self._upstream.transport.write_eof()
        return True

    def on_upstream_eof(self) -> None:
        """Pass the upstream's end on."""
        self._upstream_ended = True
        if self._client_ended or not self._upstream.transport.can_write_eof():
            self._close(flush=True)
        else:
            self._client.write_eof()

    def on_client_lost(self) -> None:
        """End: the client is gone."""
        self._close()

    def on_upstream_lost(self, error: Exception | None) -> None:
        """End: the upstream is gone."""
        self._close()

    def on_client_full(self) -> None:
        """Stop reading from the upstream."""
        self._upstream.transport.pause_reading()

    def on_client_drained(self) -> None:
        """Read from the upstream again."""
        self._upstream.transport.resume_reading()

    def on_upstream_full(self) -> None:
        """Stop reading from the client."""
        self._client.pause_reading()

    def on_upstream_drained(self) -> None:
        """Read from the client again."""
        self._client.resume_reading()

    def check_time(self, now: float) -> None:
        """End a tunnel in which nothing has moved for too long; `now` by the same clock, in seconds."""
        if now - self._moved_at > self._idle_timeout:
            self._close()

    def end_at_once(self) -> None:
        """End because the proxy stops."""
        self._close()

    def _close(self, *, flush: bool = False) -> None:
        if self._is_over:
            return
        self._is_over = True
        # Bytes of a side that has ended in order are still worth sending; those of one that has gone are not.
        self._upstream.close(flush=flush)
        self._on_closed(self)
