"""
Where a response sends the client next, led back through the proxy: Location and Content-Location (RFC 9110 §10.2.2, §8.7).

A URL of the upstream's own origin would lead the app past the proxy, without a token. It becomes a path, which the client
resolves against the address that it knows the proxy by. What is elsewhere, or outside of the base path, stays as it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from switch_proxy.core.addresses import Origin

_LOCATIONS: Final = frozenset({b"location", b"content-location"})
_URL: Final = re.compile(
    rb"(?:(?P<scheme>https?):)?//(?P<host>\[[^\]/?#@]*\]|[^:/?#@\\]*)(?::(?P<port>[0-9]{0,9}))?(?P<rest>[/?#].*)?",
    re.IGNORECASE | re.DOTALL,
)
_DEFAULT_PORTS: Final = {b"http": 80, b"https": 443}


class LocationRewriter:
    """Rewrites for one route: `prefix` is what it takes off the path of a request, empty or `/a/b`."""

    __slots__ = ("_base_path", "_host", "_port", "_prefix", "_scheme")

    def __init__(self, upstream: Origin, *, prefix: str) -> None:
        self._scheme = upstream.scheme.encode("ascii")
        self._host = upstream.server_name.encode("ascii")
        self._port = upstream.port
        self._base_path = upstream.base_path.encode("ascii").rstrip(b"/")
        self._prefix = prefix.encode("ascii")

    def apply(self, lines: bytes) -> bytes:
        """Return lines, each with its CRLF, with the locations in them rewritten."""
        return b"".join(self._rewrite_line(line) + b"\r\n" for line in lines.split(b"\r\n")[:-1])

    def _rewrite_line(self, line: bytes) -> bytes:
        name, _, value = line.partition(b":")
        return name + b": " + self.rewrite(value.strip(b" \t")) if name.lower() in _LOCATIONS else line

    def rewrite(self, location: bytes) -> bytes:
        """Return the location that the client is to use."""
        match = _URL.fullmatch(location)
        if match is not None and self._is_upstream(match):
            below = self._below_base(match["rest"] or b"/")
        elif location.startswith(b"/") and not location.startswith(b"//"):
            below = self._below_base(location)
        else:
            below = None
        return location if below is None else self._prefix + below

    def _is_upstream(self, match: re.Match[bytes]) -> bool:
        scheme = (match["scheme"] or self._scheme).lower()
        host = match["host"].lower().strip(b"[]").removesuffix(b".")
        port = int(match["port"]) if match["port"] else _DEFAULT_PORTS[scheme]
        return (scheme, host, port) == (self._scheme, self._host, self._port)

    def _below_base(self, target: bytes) -> bytes | None:
        """Return a path with query and fragment without the base path, None if it is outside of that."""
        target = target if target.startswith(b"/") else b"/" + target
        if not target.startswith(self._base_path):
            return None
        below = target[len(self._base_path) :]
        if not below or below[:1] in (b"?", b"#"):
            below = b"/" + below
        # "//" at the start would name a host.
        return below if below.startswith(b"/") and not below.startswith(b"//") else None
