"""
The request target (RFC 9112 §3.2): which one is accepted, and what it becomes at the upstream.

Path and query pass byte for byte; the upstream's own base path is put before them. A whole URL is taken if it names this
listener, and then for its path alone. So no form of target can reach another host, and none can climb out of the base path.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from switch_proxy.core.addresses import is_loopback_host
from switch_proxy.core.errors import RequestError
from switch_proxy.core.http.grammar import ABSOLUTE_TARGET, HOST

if TYPE_CHECKING:
    from collections.abc import Collection

_PORT_DIGITS: Final = 6
"""As many digits of a port are looked at: with one more than ports have, it is nobody's."""

_SEPARATORS: Final = re.compile(rb"/|\\|%2[fF]|%5[cC]")
"""What some server behind the upstream's front may take for a path separator."""


def read_absolute_form(
    target: bytes, *, method: bytes, own_hosts: Collection[bytes], own_port: int | None
) -> tuple[bytes, bytes] | None:
    """
    Return what a whole URL means to the server that it names: the target in origin-form, or `*`, and the host.

    Returns None for a target in another form. `own_hosts`: in lower case; those of loopback are this listener's whether among them
    or not, if no port or `own_port` is with them. Raises RequestError: 421 for another server's URL, 400 for one without a host.
    """
    match = ABSOLUTE_TARGET.fullmatch(target)
    if match is None:
        return None
    scheme, authority, rest = match.groups()
    place = HOST.fullmatch(authority)
    if place is None or not place[1]:
        raise RequestError(
            400, "the request target is a URL without a host, or with more than host and port (RFC 9110 §4.2)"
        )
    host: bytes = place[1].strip(b"[]").removesuffix(b".").lower()
    port: bytes = authority[place.end(1) + 1 :]
    if is_loopback_host(host.decode("ascii", "replace")):
        is_own = not port or own_port in {None, int(port[:_PORT_DIGITS])}
    else:
        is_own = host in own_hosts
    if scheme.lower() != b"http" or not is_own:
        raise RequestError(
            421,
            "the request target is a whole URL that names another server; this is no general proxy and reaches its upstreams only: "
            "do not name this address in HTTP_PROXY, or add the host to allowed_hosts if it is meant for this proxy",
        )
    if not rest and method == b"OPTIONS":
        # RFC 9112 §3.2.4.
        return b"*", host
    return (rest if rest.startswith(b"/") else b"/" + rest), host


def upstream_target(target: bytes, *, method: bytes, base_path: bytes) -> bytes:
    """
    Return the target to send upstream. `base_path` is without a slash at its end.

    Raises RequestError (400) for absolute-form, authority-form, `*` without OPTIONS, and a path that leaves the base.
    """
    if target.startswith(b"/"):
        if not base_path:
            return target
        if b".." in target or b"%2" in target:
            _refuse_escape(target)
        return base_path + target
    check_form(target, method=method)
    return target


def check_form(target: bytes, *, method: bytes) -> None:
    """Raise RequestError (400) unless the target is a path, or `*` of OPTIONS (RFC 9112 §3.2)."""
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return
    if b"://" in target:
        raise RequestError(
            400,
            "the request target is a whole URL; this is no general proxy: send only the path, as to an origin server, "
            "and do not name this address in HTTP_PROXY",
        )
    raise RequestError(400, "the request target does not begin with a slash (RFC 9112 §3.2.1)")


def _refuse_escape(target: bytes) -> None:
    path = target.partition(b"?")[0].lower().replace(b"%2e", b".").replace(b"%3b", b";")
    depth = 0
    for segment in path.split(b"/")[1:]:
        climbs = sum(piece.partition(b";")[0] == b".." for piece in _SEPARATORS.split(segment))
        if climbs:
            depth -= climbs
        elif any(piece not in (b"", b".") for piece in _SEPARATORS.split(segment.partition(b";")[0])):
            depth += 1
        if depth < 0:
            raise RequestError(400, "the path climbs out of the upstream's base path with '..' segments")
