"""What becomes of a request, decided before anything is sent."""

from __future__ import annotations

import pytest

from switch_proxy.core.http.problems import Problem, Reject
from switch_proxy.core.http.request import RequestHead, RequestParser
from switch_proxy.core.policy.admission import Admission, Respond, Wait

ADMISSION = Admission(base_path=b"/api", stripped_segments=1)


def head(line: bytes, *lines: bytes) -> RequestHead:
    parser = RequestParser(max_request_line=8192, max_field_lines=100)
    return parser.parse(b"\r\n".join([line + b" HTTP/1.1", b"Host: x", *lines]))


@pytest.mark.parametrize(
    ("admission", "line", "target"),
    [
        (Admission(), b"GET /a/../b?c", b"/a/../b?c"),
        (Admission(base_path=b"/api"), b"GET /a?b", b"/api/a?b"),
        (Admission(stripped_segments=1), b"GET /switch/a?b", b"/a?b"),
        (Admission(stripped_segments=1), b"GET /switch", b"/"),
        (ADMISSION, b"POST /switch/a/../b", b"/api/a/../b"),
        (ADMISSION, b"OPTIONS *", b"*"),
        (ADMISSION, b"OPTIONS /switch/", b"/api/"),
    ],
)
def test_a_request_is_forwarded_to_its_target_at_the_upstream(admission: Admission, line: bytes, target: bytes) -> None:
    assert admission.decide(head(line), 0.0) == target


@pytest.mark.parametrize("line", [b"GET /switch/../../a", b"GET *", b"GET a"])
def test_a_target_that_breaks_the_rules_is_refused_and_ends_the_connection(line: bytes) -> None:
    decision = ADMISSION.decide(head(line), 0.0)
    assert isinstance(decision, Reject)
    assert (decision.problem, decision.status, decision.ends_connection) == (Problem.REQUEST_MALFORMED, 400, True)


@pytest.mark.parametrize(
    ("line", "ends"), [(b"CONNECT a:443", True), (b"CONNECT /", True), (b"TRACE /", False), (b"TRACK /", False)]
)
def test_methods_that_are_not_forwarded_are_refused_whatever_their_target(line: bytes, *, ends: bool) -> None:
    """RFC 9110 §9.3.6, §9.3.8: behind CONNECT would come a tunnel's bytes; behind TRACE comes the next request."""
    decision = ADMISSION.decide(head(line), 0.0)
    assert isinstance(decision, Reject)
    assert (decision.problem, decision.ends_connection) == (Problem.METHOD_NOT_ALLOWED, ends)


@pytest.mark.parametrize(("forwards", "is_local"), [(b"0", True), (b"1", False), (b"many", False)])
def test_options_whose_forwards_are_used_up_is_answered_here(forwards: bytes, *, is_local: bool) -> None:
    """RFC 9110 §7.6.2."""
    decision = ADMISSION.decide(head(b"OPTIONS /a", b"Max-Forwards: " + forwards), 0.0)
    assert isinstance(decision, Respond) is is_local


def test_a_policy_has_the_last_word_on_what_would_be_forwarded() -> None:
    asked: list[tuple[bytes, float]] = []

    def policy(request: RequestHead, target: bytes, now: float) -> Wait | Reject | None:
        asked.append((target, now))
        return Wait(until=now + 5) if request.target == b"/later" else None

    admission = Admission(policy=policy)
    assert admission.decide(head(b"GET /later"), 10.0) == Wait(until=15.0)
    assert admission.decide(head(b"GET /now"), 10.0) == b"/now"
    # What is refused anyway is not asked about: it would cost the policy's budget.
    admission.decide(head(b"TRACE /later"), 10.0)
    admission.decide(head(b"GET a"), 10.0)
    assert asked == [(b"/later", 10.0), (b"/now", 10.0)]
