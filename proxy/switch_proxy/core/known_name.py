"""
What is known of a host name: the addresses that were found last, and whether they may be used while no new ones are found.

RFC 8767 describes this for name servers. The addresses of a name that was resolved a short while ago are better than none
while DNS fails; a name that DNS says does not exist has none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Final, TypeAlias

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
"""As the system's sockets take it: address and port, for IPv6 also flow and scope."""

USED_FOR: Final = 600.0
"""
Seconds for which addresses are used after they were found, if no newer ones can be. A failing name server is mended or
restarted in that time. Much later, an address may belong to somebody else.
"""

PATIENCE: Final = 1.8
"""Seconds to wait for DNS before addresses found earlier are used (RFC 8767 §5 recommends 1.8 s)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownName:
    """A name's last good addresses, found at `found_at`, and why there are no newer ones (`error`), None if there are."""

    addresses: tuple[SocketAddress, ...] = ()
    found_at: float = -inf
    error: str | None = None

    def usable(self, now: float) -> tuple[SocketAddress, ...]:
        """Return the addresses that may be used although no newer ones can be found; empty if there are none."""
        return self.addresses if now < self.found_at + USED_FOR else ()

    def found(self, addresses: tuple[SocketAddress, ...], now: float) -> KnownName:
        """Return what is known after a look-up that found these addresses."""
        return KnownName(addresses=addresses, found_at=now)

    def failed(self, error: str) -> KnownName:
        """Return what is known after a look-up that failed, or has hung for longer than anybody waits."""
        return replace(self, error=error)

    def denied(self, error: str) -> KnownName:
        """Return what is known after DNS has said that there is no such name."""
        return KnownName(error=error)
