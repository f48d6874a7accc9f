"""The body of a request on its way to the upstream: what waits to be sent, and what is kept so as to send it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_MANY_PIECES: Final = 64
"""Pieces that are kept before they become one: each costs more than its bytes."""


class RequestBody:
    """
    The body of one request, as it comes; there is none for a request without body.

    What waits is bounded by one read from the client, because reading is paused while it waits; what is kept by `limit`
    (bytes).
    """

    __slots__ = ("_kept", "_limit", "_waiting", "is_delayed", "is_sent", "size")

    def __init__(self, pieces: Sequence[bytes] = (), *, limit: int) -> None:
        """Begin with what came with the head."""
        self._limit = limit
        if len(pieces) > 1:
            pieces = (b"".join(pieces),)
        size = len(pieces[0]) if pieces else 0
        self.size = size
        """Bytes that have come."""
        self._waiting = list(pieces)
        self._kept = list(pieces) if size <= limit else None
        """All of the body so far, so that it can be sent again; None once it is longer than the limit."""
        self.is_delayed = False
        """Whether it must not be sent until what has come from the upstream is read."""
        self.is_sent = False
        """Whether all of it has gone to the upstream, its end included."""

    @property
    def kept(self) -> bytes | None:
        """Return all of the body so far, None if it is not kept."""
        return None if self._kept is None else b"".join(self._kept)

    @property
    def is_kept(self) -> bool:
        """Say whether all of the body so far can be sent again."""
        return self._kept is not None

    @property
    def held(self) -> int:
        """Return how many bytes are held: kept, or waiting."""
        return self.size if self._kept is not None else sum(map(len, self._waiting))

    def take(self, pieces: Sequence[bytes]) -> None:
        """Take pieces as they have come from the client."""
        if len(pieces) > 1:
            pieces = (b"".join(pieces),)
        for piece in pieces:
            self.size += len(piece)
        self._waiting += pieces
        kept = self._kept
        if kept is not None:
            if self.size > self._limit:
                self._kept = None
            else:
                kept += pieces
                if len(kept) > _MANY_PIECES:
                    self._kept = [b"".join(kept)]

    def take_waiting(self) -> list[bytes]:
        """Return what waits to be sent; nothing waits any more."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def spare(self) -> None:
        """Keep the body no longer, if all that has come of it is sent: memory is short."""
        if not self._waiting and self.size:
            self._kept = None

    def restart(self) -> None:
        """Have all that is kept wait to be sent again."""
        self.is_delayed = self.is_sent = False
        kept = self.kept
        self._waiting = [kept] if kept else []
