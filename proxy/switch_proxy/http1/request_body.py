"""The body of a request on its way to the upstream: what waits to be sent, and what is kept so as to send it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class RequestBody:
    """
    The body of one request, as it comes; there is none for a request without body.

    What waits is bounded by one read from the client, because reading is paused while it waits; what is kept by `limit`
    (bytes).
    """

    __slots__ = ("_limit", "_waiting", "is_delayed", "is_sent", "kept", "size")

    def __init__(self, pieces: Sequence[bytes] = (), *, limit: int) -> None:
        """Begin with what came with the head."""
        self._limit = limit
        self._waiting = list(pieces)
        size = 0
        for piece in pieces:
            size += len(piece)
        self.size = size
        """Bytes that have come."""
        self.kept = b"".join(pieces) if size <= limit else None
        """All of the body so far, so that it can be sent again; None once it is longer than the limit."""
        self.is_delayed = False
        """Whether it must not be sent until what has come from the upstream is read."""
        self.is_sent = False
        """Whether all of it has gone to the upstream, its end included."""

    def take(self, pieces: Sequence[bytes]) -> None:
        """Take pieces as they have come from the client."""
        self._waiting += pieces
        for piece in pieces:
            self.size += len(piece)
        if self.kept is not None:
            self.kept = self.kept + b"".join(pieces) if self.size <= self._limit else None

    def take_waiting(self) -> list[bytes]:
        """Return what waits to be sent; nothing waits any more."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def restart(self) -> None:
        """Have all that is kept wait to be sent again."""
        self.is_delayed = self.is_sent = False
        self._waiting = [self.kept] if self.kept else []
