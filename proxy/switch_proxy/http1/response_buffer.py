"""An answer that is held back until it is known whether the request is sent once more, with another token."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from switch_proxy.http1.exchange import Client
    from switch_proxy.http1.tunnel import Tunnel


class HeldAnswer:
    """
    Stands in for the client while a 401 arrives: keeps what the client would have been sent.

    `on_overflow` is told once more than `limit` bytes are held: whoever holds them must let go of them then.
    """

    __slots__ = ("_limit", "_on_overflow", "_pieces", "_size", "client")

    def __init__(self, client: Client, *, limit: int, on_overflow: Callable[[], None]) -> None:
        self.client = client
        self._limit = limit
        self._on_overflow = on_overflow
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def is_write_paused(self) -> bool:
        """Say whether the client takes no bytes for now."""
        return self.client.is_write_paused

    def write(self, data: bytes) -> None:
        """Keep bytes."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size > self._limit:
            self._on_overflow()

    def deliver(self) -> None:
        """Send the client what was kept."""
        self.client.write(b"".join(self._pieces))
        self._pieces.clear()

    def write_eof(self) -> None:
        """Pass on."""
        self.client.write_eof()

    def pause_reading(self) -> None:
        """Pass on."""
        self.client.pause_reading()

    def resume_reading(self) -> None:
        """Pass on."""
        self.client.resume_reading()

    def write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent to the client."""
        return self.client.write_buffer_size()

    def begin_tunnel(self, tunnel: Tunnel) -> None:
        """Pass on."""
        self.client.begin_tunnel(tunnel)

    def exchange_ended(self, *, is_reusable: bool) -> None:
        """Pass on."""
        self.client.exchange_ended(is_reusable=is_reusable)

    def break_off(self, *, hard: bool) -> None:
        """Pass on."""
        self.client.break_off(hard=hard)
