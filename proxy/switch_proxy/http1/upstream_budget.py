"""How many connections to all upstreams may be open together: past it, those that are idle make room for new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from switch_proxy.http1.pool import Pool


class UpstreamBudget:
    """
    The bound on the connections of all routes' pools.

    It is as large as the number of clients that there may be, each of which uses one at a time. So there is always an idle one
    to close when it is reached.
    """

    __slots__ = ("_most", "_pools")

    def __init__(self, most: int) -> None:
        self._most = most
        self._pools: list[Pool] = []

    def join(self, pool: Pool) -> None:
        """Count the connections of this pool too."""
        self._pools.append(pool)

    def make_room(self) -> None:
        """Close the connection that has been idle for longest, of any route, if one more than there may be is to be opened."""
        if sum(pool.total for pool in self._pools) <= self._most:
            return
        oldest = min(
            (each for pool in self._pools if (each := pool.oldest_idle) is not None),
            key=lambda connection: connection.idle_until,
            default=None,
        )
        if oldest is not None:
            oldest.close()

    def __repr__(self) -> str:
        return f"<UpstreamBudget {sum(pool.total for pool in self._pools)} of {self._most}>"
