"""What the configuration says of a route's requests, compiled: which it matches, and what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from switch_proxy.core.http.problems import Problem, Reject
from switch_proxy.core.path_pattern import EVERY_PATH
from switch_proxy.core.policy.admission import Admission
from switch_proxy.core.policy.allow_rules import AllowRule, AllowRules
from switch_proxy.core.policy.route_table import RouteMatch

if TYPE_CHECKING:
    from switch_proxy.core.config.listeners import ListenerModel, RouteModel
    from switch_proxy.core.http.request import RequestHead
    from switch_proxy.core.policy.admission import Policy

Route = TypeVar("Route")


def match_of(model: RouteModel, route: Route) -> RouteMatch[Route]:
    """Return the entry of a route in its listener's table."""
    return RouteMatch(
        route=route,
        segments=tuple(segment.encode("ascii") for segment in model.match_segments),
        host=None if model.match_host is None else model.match_host.encode("ascii"),
    )


def reject_unknown(listener: ListenerModel) -> Reject:
    """Return the refusal of a request that is for none of a listener's routes."""
    routes = ", ".join(_describe(route) for route in listener.routes)
    return Reject(
        problem=Problem.ROUTE_UNKNOWN,
        detail=f"no route is for this path and host; the routes here are {routes}",
    )


def _describe(model: RouteModel) -> str:
    path = "/" + "".join(f"{segment}/" for segment in model.match_segments)
    host = "" if model.match_host is None else f" on {model.match_host}"
    return f"{model.name} ({path}{host})"


def rules_of(model: RouteModel) -> AllowRules | None:
    """Return what a route allows, None if it has no rules."""
    allow = model.settings.allow
    if allow is None:
        return None
    rules = [AllowRule(methods=rule.methods, paths=rule.paths or (EVERY_PATH,)) for rule in allow]
    return AllowRules(rules, owner=f"route '{model.name}'")


def rate_rules_of(model: RouteModel) -> AllowRules:
    """Return which requests of a route its rate limits are for."""
    rules = [AllowRule(methods=rule.methods, paths=rule.paths or (EVERY_PATH,)) for rule in model.settings.rate_limits]
    return AllowRules(rules, owner=f"route '{model.name}'")


def admission_of(model: RouteModel) -> Admission:
    """Return what decides about the requests of a route."""
    return Admission(
        base_path=model.settings.upstream.base_path.encode("ascii").rstrip(b"/"),
        stripped_segments=len(model.match_segments) if model.strip_prefix else 0,
        policy=_policy(model),
    )


def _policy(model: RouteModel) -> Policy | None:
    """Return what judges each request of a route, None if nothing does."""
    rules, name = rules_of(model), model.settings.via
    if name is None:
        return None if rules is None else lambda head, target, _: rules.judge(head, target)
    own = name.lower().encode("ascii")

    def judge(head: RequestHead, target: bytes, _: float) -> Reject | None:
        if head.meaning.via and _names(head.meaning.via, own):
            return Reject(
                problem=Problem.LOOP,
                detail=f"its Via has {name}, the name of route '{model.name}' (via): it goes in a circle, or two proxies on its "
                "way have the same name",
            )
        return None if rules is None else rules.judge(head, target)

    return judge


def _names(via: bytes, own: bytes) -> bool:
    """Say whether a value of Via, in lower case, has a proxy of this name (RFC 9110 §7.6.3)."""
    return any(own in member.split()[1:2] for member in via.split(b","))
