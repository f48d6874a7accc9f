"""A response that is held back until it is known whether the request is sent once more, with another token."""

from __future__ import annotations


class ResponseBuffer:
    """What a client would have been sent, in order; whoever holds it back bounds it by its size."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0
        """Bytes that are held."""

    def hold(self, data: bytes) -> None:
        """Keep bytes."""
        self._pieces.append(data)
        self.size += len(data)

    def release(self) -> bytes:
        """Return all that is held, and hold nothing any more."""
        held = b"".join(self._pieces)
        self._pieces.clear()
        self.size = 0
        return held
