"""What would become of a request on each listener, in lines for people: `switch-proxy check --request`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from switch_proxy.core.errors import RequestError
from switch_proxy.core.http.problems import Reject
from switch_proxy.core.http.request import RequestHead, RequestParser
from switch_proxy.core.http.target import check_form
from switch_proxy.core.policy.admission import Forward, Respond, Wait, judge_method, reject_malformed
from switch_proxy.core.policy.paths import canonical_path, find_ambiguity, path_of, without_segments
from switch_proxy.core.policy.route_policy import admission_of, match_of, reject_unknown, rules_of
from switch_proxy.core.policy.route_table import RouteTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from switch_proxy.core.config.listeners import ListenerModel, RouteModel

_WIDTH: Final = 18
"""Columns of the labels on the left, as in core/config/summary.py."""

_AN_HOUR_AGO: Final = -3600.0
"""The time of the request, before which none has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The outcome: whether a listener forwards the request, and lines about each."""

    is_forwarded: bool
    lines: tuple[str, ...]


def try_request(listeners: Sequence[ListenerModel], text: str) -> Trial:
    """
    Return what would become of a request such as `GET /api/x`, or `GET http://host/api/x` for one to that host.

    Nothing is sent. Headers and body are not known, so what is decided by them is left out.
    """
    outcomes = [_on_listener(listener, text) for listener in listeners]
    lines = tuple(line for _, lines in outcomes for line in lines)
    return Trial(is_forwarded=any(is_forwarded for is_forwarded, _ in outcomes), lines=(f"request {text}", *lines))


def _on_listener(listener: ListenerModel, text: str) -> tuple[bool, list[str]]:
    lines = [_line("on", f"{listener.owner}, {listener.listen}")]
    method, _, url = text.strip().partition(" ")
    host, target = _split(url.strip())
    parser = RequestParser(
        max_request_line=listener.limits.request_line, max_field_lines=listener.limits.field_lines, upgrades=()
    )
    try:
        head = parser.parse(f"{method} {target} HTTP/1.1\r\nHost: {host}".encode())
        found = _find_route(listener, head)
    except RequestError as error:
        found = reject_malformed(error)
    if isinstance(found, Reject | Respond):
        return False, [*lines, _describe(found)]
    lines.append(_line("route", found.name))
    decision = admission_of(found).decide(head, _AN_HOUR_AGO)
    lines += _describe_rules(found, head)
    if not isinstance(decision, Forward):
        return False, [*lines, _describe(decision)]
    upstream = found.settings.upstream
    place = f"{upstream.scheme}://{upstream.host_header}{decision.decode('utf-8', 'replace')}"
    return True, [*lines, _line("forwarded to", f"{method} {place}")]


def _split(url: str) -> tuple[str, str]:
    """Return host and target; without a host it is localhost."""
    scheme, separator, rest = url.partition("://")
    if not separator or "/" in scheme:
        return "localhost", url
    host, slash, path = rest.partition("/")
    return host, slash + path or "/"


def _find_route(listener: ListenerModel, head: RequestHead) -> RouteModel | Reject | Respond:
    decision = judge_method(head)
    if decision is not None:
        return decision
    check_form(head.target, method=head.method)
    table = RouteTable([match_of(route, route) for route in listener.routes])
    return table.select(head.target, host=head.meaning.host) or reject_unknown(listener)


def _describe_rules(route: RouteModel, head: RequestHead) -> Iterator[str]:
    rules = rules_of(route)
    if rules is None:
        yield _line("rule", "the route has none: everything is allowed")
        return
    count = len(route.match_segments) if route.strip_prefix else 0
    target = without_segments(head.target, count) if count else head.target
    if find_ambiguity(path_of(target)) is not None:
        return
    yield _line("path is read as", canonical_path(path_of(target)).decode("ascii"))
    rule = rules.find(head.method, target)
    if rule is not None:
        yield _line("rule", str(rule))


def _describe(decision: Reject | Respond | Wait) -> str:
    # Without header lines nothing is answered here, and the first request at all has no turn to wait for.
    refusal = cast("Reject", decision)
    status = refusal.status or refusal.problem.value.status
    return _line("refused", f"{status} {refusal.problem.value.name}: {refusal.detail}")


def _line(label: str, text: str) -> str:
    return f"  {label:<{_WIDTH}}{text}"
