"""
The request target (RFC 9112 §3.2): which one is accepted, and what it becomes at the upstream.

Path and query pass byte for byte; the upstream's own base path is put before them. No form of target can name another
host, and none can climb out of the base path.
"""

from __future__ import annotations

import re
from typing import Final

from switch_proxy.core.errors import RequestError

_SEPARATORS: Final = re.compile(rb"/|\\|%2[fF]|%5[cC]")
"""What some server behind the upstream's front may take for a path separator."""


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
