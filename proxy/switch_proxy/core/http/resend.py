"""
When a request is sent a second time: with a newer token after a 401 about the token, or on a new connection.

Each happens at most once for a request, and only while all of its body is at hand. Everything else is the app's to decide.
"""

from __future__ import annotations

from typing import Final

IDEMPOTENT_METHODS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"QUERY", b"PUT", b"DELETE"})
"""RFC 9110 §9.2.2, without TRACE, which is refused; QUERY is safe by its own specification, though it has a body."""


def may_use_new_connection(
    *, method: bytes, body_is_whole: bool, was_used_before: bool, has_received: bool, has_done_so: bool
) -> bool:
    """
    Say whether a request whose connection broke may go out again on a new one (RFC 9112 §9.3.1, §9.5).

    It may if the connection was likely closed before the request reached the upstream: it `was_used_before`, and nothing
    `has_received` in return. POST and PATCH may not: the upstream may have acted on them. `body_is_whole`: all of the
    body is at hand.
    """
    is_likely_stale = was_used_before and not has_received
    return is_likely_stale and not has_done_so and body_is_whole and method in IDEMPOTENT_METHODS


def may_use_newer_token(*, body_is_whole: bool, is_body_sent: bool) -> bool:
    """Say whether a request that was refused with 401 because of its token may go out again: it was not acted on."""
    return body_is_whole and is_body_sent
