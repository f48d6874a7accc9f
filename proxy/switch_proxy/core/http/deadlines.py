"""
The time limits on an exchange that has an upstream connection: which of them has passed, and whose fault that is.

    the exchange                        waits for                  limit
    has sent the whole request          the response's head        response_head
    has asked to continue (100)         the response's head        response_head
    is sending the request's body       the client, the upstream   idle
    is passing the response on          the upstream, the client   idle
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from switch_proxy.core.http.problems import Problem

if TYPE_CHECKING:
    from switch_proxy.core.config.models import TimeoutSettings


def find_overdue_request(
    still_for: float, *, limits: TimeoutSettings, waits_for_response: bool, upstream_is_full: bool
) -> tuple[Problem, str] | None:
    """
    Judge an exchange whose response has not begun; return the problem and its detail, None if there is time left.

    `still_for`: seconds since the request moved; part of a head or an interim response is no movement. `waits_for_response`: it is the upstream's turn. `upstream_is_full`: it
    takes no bytes of the body.
    """
    if waits_for_response:
        if still_for > limits.response_head:
            return Problem.UPSTREAM_TIMEOUT, f"the upstream sent no response within {limits.response_head:g} seconds"
    elif still_for > limits.idle:
        if upstream_is_full:
            return Problem.UPSTREAM_STALLED, f"the upstream took no byte for {limits.idle:g} seconds"
        return Problem.REQUEST_TIMEOUT, f"no byte of the request's body came for {limits.idle:g} seconds"
    return None


def find_overdue_response(
    still_for: float, *, limits: TimeoutSettings, client_is_full: bool
) -> tuple[Problem, str] | None:
    """Judge an exchange whose response is passed on, as above; `client_is_full`: the client does not read it."""
    if still_for > limits.idle:
        if client_is_full:
            return Problem.CLIENT_STALLED, f"the client read no byte of the response for {limits.idle:g} seconds"
        return Problem.UPSTREAM_TIMEOUT, f"no byte of the response's body came for {limits.idle:g} seconds"
    return None
