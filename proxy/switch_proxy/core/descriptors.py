"""
How the process's file descriptors are shared out, so that clients cannot take those that the proxy itself needs.

Of RLIMIT_NOFILE, some are kept for the proxy: its log and loop, and for each credential and route a token request, look-ups of
names, files. An eighth, at most 64, is kept for the admin listener, which does not bound its connections. Clients and upstreams get half each of the rest, because each
request needs one of both.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_ADMIN_CONNECTIONS: Final = 64
"""Probes and scrapers are few; each is served in milliseconds."""

_ADMIN_SHARE: Final = 8

_OF_PROCESS: Final = 24
"""Standard streams, the log, the event loop, listening sockets; some 15 are open in an idle proxy."""

_OF_CREDENTIAL: Final = 4
"""A token request, while its name is looked up in two families, and a file is read."""

_OF_ROUTE: Final = 2
"""A look-up of its name, or a file of TLS."""

_UNLIMITED: Final = 1024 * 1024
"""What containers usually get."""

RAN_OUT: Final = "the proxy has run out of file descriptors (RLIMIT_NOFILE)"
"""A sentence for people, in place of the system's "Too many open files", which does not say whose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DescriptorShares:
    """How many connections may be open: of clients, for each listener, of admin, and to all upstreams together."""

    clients: tuple[int, ...]
    admin: int
    upstreams: int


def share_descriptors(
    limit: int | None, *, wanted: Sequence[int | None], credentials: int, routes: int
) -> DescriptorShares:
    """
    Return the shares of a limit; None is no limit.

    `wanted` is what the configuration says for each listener, None for an equal part of what is left. If the listeners want
    more than there is, each gets less in proportion. Each share is at least one.
    """
    admin = MOST_ADMIN_CONNECTIONS if limit is None else max(1, min(MOST_ADMIN_CONNECTIONS, limit // _ADMIN_SHARE))
    if limit is None:
        limit = _UNLIMITED
    kept = min(_OF_PROCESS + _OF_CREDENTIAL * credentials + _OF_ROUTE * routes, limit // 2)
    total = max(1, (limit - kept - admin) // 2)
    fixed = sum(each for each in wanted if each is not None)
    free = sum(each is None for each in wanted)
    # A listener without a number of its own gets something even if the others want everything.
    equal = max(total - fixed, total // max(1, len(wanted))) // free if free else 0
    sums = fixed + equal * free
    scale = min(1.0, total / sums) if sums else 1.0
    clients = tuple(max(1, int((equal if each is None else each) * scale)) for each in wanted)
    return DescriptorShares(clients=clients, admin=admin, upstreams=total)


def has_run_out(error: BaseException) -> bool:
    """Return whether an error says that this process, or the whole system, has no file descriptor left."""
    return isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}
