"""What of a route's configuration judges its requests."""

from __future__ import annotations

from typing import Any

import pytest

from switch_proxy.core.config.listeners import RouteModel, own_listener
from switch_proxy.core.config.models import Address, AllowSettings, Origin, RateLimitSettings, RouteSettings
from switch_proxy.core.http.problems import Problem, Reject
from switch_proxy.core.http.request import RequestParser
from switch_proxy.core.path_pattern import parse_path_pattern
from switch_proxy.core.policy.route_policy import admission_of, rate_rules_of
from switch_proxy.core.rate import parse_rate

ADDRESS = Address(host="127.0.0.1", port=1)
ALLOW = (AllowSettings(paths=(parse_path_pattern("/a"),)),)


def model_of(**settings: Any) -> RouteModel:
    upstream = Origin(scheme="https", host="a.example", port=443, base_path="/v1")
    route = RouteSettings(name="api", listen=ADDRESS, upstream=upstream, credential="a", **settings)
    (model,) = own_listener(route, ADDRESS).routes
    return model


def decide(target: bytes, *lines: bytes, **settings: Any) -> object:
    """Return the decision, of a refusal its problem."""
    parser = RequestParser(max_request_line=999, max_field_lines=9)
    head = parser.parse(b"\r\n".join([b"GET " + target + b" HTTP/1.1", b"Host: x", *lines]))
    decision = admission_of(model_of(**settings)).decide(head, 0.0)
    return decision.problem if isinstance(decision, Reject) else decision


@pytest.mark.parametrize(
    ("settings", "target", "line", "expected"),
    [
        ({}, b"/b", b"Via: 1.1 edge", b"/v1/b"),
        ({"via": "edge"}, b"/b", b"A: b", b"/v1/b"),
        ({"via": "edge"}, b"/b", b"Via: 1.1 other, 1.0 Edge (a)", Problem.LOOP),
        ({"via": "edge"}, b"/b", b"Via: 1.1 edges, edge, ,1.1", b"/v1/b"),
        ({"via": "edge", "allow": ALLOW}, b"/a", b"Via: 1.1 other", b"/v1/a"),
        ({"via": "edge", "allow": ALLOW}, b"/b", b"Via: 1.1 other", Problem.REQUEST_NOT_ALLOWED),
        ({"allow": ALLOW}, b"/a", b"A: b", b"/v1/a"),
        ({"allow": ALLOW}, b"/b", b"A: b", Problem.REQUEST_NOT_ALLOWED),
    ],
)
def test_circles_and_what_no_rule_is_for_are_refused(
    settings: dict[str, Any], target: bytes, line: bytes, expected: object
) -> None:
    assert decide(target, line, **settings) == expected


def test_a_rate_limit_is_for_its_methods_and_paths() -> None:
    rates = (parse_rate("5/s"),)
    limits = (
        RateLimitSettings(methods=("POST",), paths=(parse_path_pattern("/a"),), limits=rates),
        RateLimitSettings(limits=rates),
    )
    rules = rate_rules_of(model_of(rate_limits=limits))
    assert [rules.find_all(method, b"/a") for method in (b"POST", b"GET")] == [[0, 1], [1]]
