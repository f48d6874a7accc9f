"""What happens to a route, as values: for the log. The name of an event is the log's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsReloaded:
    """The route's TLS files have changed; new connections use them."""

    name: ClassVar[str] = "tls.reloaded"
    route: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsBroken:
    """The route's TLS files can no longer be used; the last good ones stay in use."""

    name: ClassVar[str] = "tls.broken"
    route: str
    source: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsRestored:
    """The route's TLS files can be used again, and are those that were in use all the time."""

    name: ClassVar[str] = "tls.restored"
    route: str
    source: str


RouteEvent: TypeAlias = TlsReloaded | TlsBroken | TlsRestored
