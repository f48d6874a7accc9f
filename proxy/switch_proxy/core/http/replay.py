"""Which requests may be sent a second time when the first try's outcome is not known (RFC 9110 §9.2.2)."""

from __future__ import annotations

from typing import Final

IDEMPOTENT_METHODS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})


def may_repeat(*, method: bytes, body_is_whole: bool) -> bool:
    """
    Say whether a request may go out again on a fresh connection, after one on which nothing came back.

    POST and PATCH may not: the upstream may have acted on them. `body_is_whole`: all of the body is still at hand.
    """
    return body_is_whole and method in IDEMPOTENT_METHODS
