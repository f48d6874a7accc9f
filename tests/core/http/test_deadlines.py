"""Which time limit of an exchange has passed, and whose fault that is."""

from __future__ import annotations

import pytest

from switch_proxy.core.config.models import TimeoutSettings
from switch_proxy.core.http.deadlines import find_overdue_request, find_overdue_response
from switch_proxy.core.http.problems import Problem

LIMITS = TimeoutSettings(response_head=10.0, idle=30.0)


@pytest.mark.parametrize(
    ("still_for", "waits_for_response", "upstream_is_full", "problem"),
    [
        pytest.param(10.0, True, False, None, id="just in time"),
        pytest.param(10.1, True, False, Problem.UPSTREAM_TIMEOUT, id="no response"),
        pytest.param(10.1, False, False, None, id="the body has another limit"),
        pytest.param(30.0, False, False, None, id="a body just in time"),
        pytest.param(30.1, False, False, Problem.REQUEST_TIMEOUT, id="the client stands still"),
        pytest.param(30.1, False, True, Problem.UPSTREAM_STALLED, id="the upstream takes nothing"),
    ],
)
def test_a_request_that_stands_still_is_somebodys_fault(
    still_for: float, *, waits_for_response: bool, upstream_is_full: bool, problem: Problem | None
) -> None:
    overdue = find_overdue_request(
        still_for, limits=LIMITS, waits_for_response=waits_for_response, upstream_is_full=upstream_is_full
    )
    assert (overdue and overdue[0]) == problem


@pytest.mark.parametrize(
    ("still_for", "client_is_full", "problem"),
    [
        (30.0, False, None),
        (30.0, True, None),
        (30.1, False, Problem.UPSTREAM_TIMEOUT),
        (30.1, True, Problem.CLIENT_STALLED),
    ],
)
def test_a_response_that_stands_still_is_somebodys_fault(
    still_for: float, *, client_is_full: bool, problem: Problem | None
) -> None:
    overdue = find_overdue_response(still_for, limits=LIMITS, client_is_full=client_is_full)
    assert (overdue and overdue[0]) is problem
