"""What all client connections of one listener share: limits, parser, routes, date, request ids and observer."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import TYPE_CHECKING, Final, cast

from switch_proxy.core.errors import RequestError
from switch_proxy.core.exchange_record import NO_ROUTE, ExchangeRecord
from switch_proxy.core.http.problems import Identity, Problem, Reject
from switch_proxy.core.http.request import RequestParser
from switch_proxy.core.http.target import check_form
from switch_proxy.core.policy.admission import Respond, judge_method, reject_malformed
from switch_proxy.core.policy.browsers import ANY, BrowserGuard
from switch_proxy.core.policy.route_policy import match_of, reject_unknown
from switch_proxy.core.policy.route_table import RouteTable
from switch_proxy.http1.request_budget import RequestBudget
from switch_proxy.http1.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switch_proxy.clock import Clock
    from switch_proxy.core.config.listeners import ListenerModel, RouteModel
    from switch_proxy.core.http.request import RequestHead
    from switch_proxy.http1.peers import ExchangeObserver
    from switch_proxy.http1.route import Route


@dataclass(frozen=True, slots=True)
class Unrouted:
    """A request's route before it is found."""

    identity: Identity


_KEEP_ALIVE_WHEN_FULL: Final = 5.0
"""Seconds that an idle client's connection is kept while others wait for one; the default of Node and of Apache."""


class ListenerContext:
    """The client's side of every exchange of a listener."""

    __slots__ = (
        "_date",
        "_date_second",
        "_refusal_of_unknown",
        "_request_id_prefix",
        "_requests",
        "_table",
        "announces_close",
        "budget",
        "clock",
        "is_full",
        "limits",
        "now",
        "observer",
        "only_route",
        "request_parser",
        "routes",
        "stopped_accepting",
        "timeouts",
        "turns",
        "unrouted",
        "wall",
    )

    def __init__(
        self, model: ListenerModel, *, routes: Sequence[Route], observer: ExchangeObserver, clock: Clock
    ) -> None:
        self.limits = model.limits
        self.timeouts = model.timeouts
        self.routes = tuple(routes)
        self.observer = observer
        self.clock = clock
        self.now = clock.now
        self.wall = clock.wall
        self.request_parser = RequestParser(
            max_request_line=model.limits.request_line,
            max_field_lines=model.limits.field_lines,
            upgrades=model.upgrades,
            guard=BrowserGuard(hosts=model.own_hosts, origins=model.allowed_origins, owner=model.owner),
            own_hosts=model.own_hosts - {ANY},
        )
        self.announces_close = False
        """Whether every response tells its client to close: the proxy is about to stop."""
        self.stopped_accepting = False
        """Whether no new request is begun on a connection that is idle."""
        self.is_full = False
        """Whether there are as many clients as there may be, and further ones wait."""
        self._table = RouteTable([match_of(route.model, route) for route in self.routes])
        self.only_route = self.routes[0] if len(self.routes) == 1 and _matches_all(self.routes[0].model) else None
        """The route of every request, if there is one that is for all of them."""
        identity = Identity(name=NO_ROUTE, proxy_name=model.proxy_name, next_hop="")
        if self.only_route is not None:
            identity = replace(self.only_route.identity, next_hop="")
        self.unrouted = cast("Route", Unrouted(identity))
        """What stands for the route of a request that has none yet: it has an identity, and nothing is asked of it."""
        self._refusal_of_unknown = reject_unknown(model)
        self.budget = RequestBudget(limit=model.limits.request_buffers)
        """The bytes of requests that are held for all clients."""
        self.turns = Turns()
        """Where connections wait that were much work, so that others are served in between."""
        self._request_id_prefix = os.urandom(6).hex().encode("ascii")
        self._requests = 0
        self._date_second = 0
        self._date = b""

    @property
    def keep_alive(self) -> float:
        """Return how long a client's connection may be idle between two requests, in seconds: not long while others wait."""
        return min(self.timeouts.keep_alive, _KEEP_ALIVE_WHEN_FULL) if self.is_full else self.timeouts.keep_alive

    def find_route(self, head: RequestHead) -> Route | Reject | Respond:
        """Return the route for a request, or what becomes of one that has none."""
        # What is refused or answered here whatever its target needs no route.
        decision = judge_method(head)
        if decision is not None:
            return decision
        try:
            check_form(head.target, method=head.method)
            route = self._table.select(head.target, host=head.meaning.host)
        except RequestError as error:
            return reject_malformed(error)
        if route is None:
            return self._refusal_of_unknown
        return route

    def new_request_id(self) -> bytes:
        """Return an id no other request has: random for the process, counted within it."""
        self._requests += 1
        return b"%s-%x" % (self._request_id_prefix, self._requests)

    def observe_refusal(self, problem: Problem, status: int, request_id: bytes, detail: str) -> None:
        """Report bytes that never became a request, and how they were refused."""
        self.observer.exchange_finished(
            ExchangeRecord(
                route=self.unrouted.identity.name,
                method=b"-",
                target=b"-",
                request_id=request_id,
                status=status,
                request_body_bytes=0,
                response_body_bytes=0,
                duration=0.0,
                upstream_duration=None,
                failure=problem.value.name,
                started_at_wall=self.clock.wall(),
                detail=detail,
            )
        )

    def date(self) -> bytes:
        """Return the value of Date for now (RFC 9110 §6.6.1), rendered once a second."""
        second = int(self.clock.wall())
        if second != self._date_second:
            self._date_second = second
            self._date = formatdate(second, usegmt=True).encode("ascii")
        return self._date


def _matches_all(model: RouteModel) -> bool:
    return not model.match_segments and model.match_host is None
