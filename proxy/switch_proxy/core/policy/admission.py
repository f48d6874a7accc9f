"""
What becomes of a request, decided once, before a token and a connection are acquired: the one place to refuse it.

    Forward   to this target
    Reject    with this problem
    Respond   by the proxy itself, as the final recipient
    Wait      until this moment, then decide again
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from switch_proxy.core.errors import RequestError
from switch_proxy.core.http.problems import Problem, Reject
from switch_proxy.core.http.request import RequestHead
from switch_proxy.core.http.target import upstream_target
from switch_proxy.core.policy.paths import without_segments

Forward = bytes
"""Send the request to the upstream, with this target. No object of its own, because that would cost each request."""


@dataclass(frozen=True, slots=True)
class Respond:
    """Respond with 200 and these header lines, each with its CRLF, and no content."""

    lines: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """Decide again at this moment, by the clock that `now` is of, in seconds."""

    until: float


Decision = Forward | Reject | Respond | Wait

Policy = Callable[[RequestHead, bytes, float], Reject | Wait | None]

_LOCAL_METHODS: Final = frozenset({b"CONNECT", b"TRACE", b"TRACK", b"OPTIONS"})
"""Methods that may be refused or answered here; the others need not be looked at twice."""

_SHOWING_METHODS: Final = frozenset({b"TRACE", b"TRACK"})
"""TRACK is what older servers of Microsoft's call TRACE."""


class Admission:
    """
    Decides about the requests of one route.

    `base_path`: put before every target, without a slash at its end. `stripped_segments`: how many segments are taken off
    the path before. `policy`: asked about what would be forwarded, with the target below the upstream; returns None if that
    is right.
    """

    __slots__ = ("_base_path", "_changes_targets", "_policy", "_stripped_segments")

    def __init__(
        self,
        *,
        base_path: bytes = b"",
        stripped_segments: int = 0,
        policy: Policy | None = None,
    ) -> None:
        self._base_path = base_path
        self._stripped_segments = stripped_segments
        self._policy = policy
        self._changes_targets = bool(base_path or stripped_segments)

    def decide(self, head: RequestHead, now: float) -> Decision:
        """Decide what becomes of a request; `now` by the caller's clock, in seconds."""
        method, target = head.method, head.target
        if method in _LOCAL_METHODS and (decision := judge_method(head)) is not None:
            return decision
        if self._changes_targets or not target.startswith(b"/"):
            try:
                target = self._upstream_target(method, target)
            except RequestError as error:
                return reject_malformed(error)
        if self._policy is not None:
            below = target[len(self._base_path) :] if target.startswith(b"/") else target
            if (refusal := self._policy(head, below, now)) is not None:
                return refusal
        return target

    def _upstream_target(self, method: bytes, target: bytes) -> bytes:
        if self._stripped_segments and target.startswith(b"/"):
            target = without_segments(target, self._stripped_segments)
        return upstream_target(target, method=method, base_path=self._base_path)


def judge_method(head: RequestHead) -> Reject | Respond | None:
    """Decide about a request that is not for an upstream, whatever its target; None for all others."""
    if head.method == b"CONNECT":
        # What follows would be the tunnel's bytes, not a request.
        return Reject(
            problem=Problem.METHOD_NOT_ALLOWED,
            detail="CONNECT asks for a tunnel, and this proxy forwards requests only",
            ends_connection=True,
        )
    if head.method in _SHOWING_METHODS:
        # The response would hold the head of the request, with the token in it (RFC 9110 §9.3.8).
        return Reject(
            problem=Problem.METHOD_NOT_ALLOWED,
            detail=f"{head.method.decode('ascii')} is refused: its response would show the access token",
        )
    if head.method == b"OPTIONS" and head.meaning.max_forwards == 0:
        # RFC 9110 §7.6.2.
        return Respond(b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\nContent-Length: 0\r\n")
    return None


def reject_malformed(error: RequestError) -> Reject:
    """Return the refusal of a request that breaks the rules; nothing after it can be trusted (RFC 9112 §11.2)."""
    return Reject(problem=Problem.REQUEST_MALFORMED, detail=error.detail, status=error.status, ends_connection=True)
