"""
The route of a request: by the path's first segments and the host.

The longest path wins; of two routes with the same path, the one that names the host. A path that servers could read as
another route's is refused, so that no route's rules are passed by in another spelling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from switch_proxy.core.errors import RequestError
from switch_proxy.core.policy.paths import is_read_alike, literal_segments, path_of, resolved_segments

if TYPE_CHECKING:
    from collections.abc import Sequence

Route = TypeVar("Route")


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteMatch(Generic[Route]):
    """Which requests a route is for: `segments` in canonical form, none for every path; `host` None for every host."""

    route: Route
    segments: tuple[bytes, ...] = ()
    host: bytes | None = None


class RouteTable(Generic[Route]):
    """The routes of one listener."""

    def __init__(self, matches: Sequence[RouteMatch[Route]]) -> None:
        """Take the routes, of which no two may have the same path and host."""
        self._matches = sorted(matches, key=lambda match: (-len(match.segments), match.host is None))
        self._is_by_path = any(match.segments for match in matches)

    def select(self, target: bytes, *, host: bytes | None) -> Route | None:
        """
        Return the route for a request target, None if there is none.

        `host`: the Host of the request in lower case, without port and without a dot at its end; None if it has none.
        Raises RequestError (400) for a path that servers could take for another route's.
        """
        if not self._is_by_path:
            return self._find((), host)
        path = path_of(target) if target.startswith(b"/") else b"/"
        route = self._find(literal_segments(path), host)
        if not is_read_alike(path) and self._find(resolved_segments(path), host) is not route:
            raise RequestError(
                400, "the path could be taken for another route's: it begins with encoded, empty or '.' segments"
            )
        return route

    def _find(self, segments: tuple[bytes, ...], host: bytes | None) -> Route | None:
        for match in self._matches:
            if segments[: len(match.segments)] == match.segments and match.host in {None, host}:
                return match.route
        return None
