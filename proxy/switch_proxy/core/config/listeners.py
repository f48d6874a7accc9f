"""
The listeners of a configuration, each with its routes; the data plane is built from them.

A route with `listen` is a listener with that one route. The listeners of `listeners` follow, with the routes that name them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from switch_proxy.core.config.models import ListenerLimitSettings, ListenerTimeoutSettings

if TYPE_CHECKING:
    from switch_proxy.core.addresses import Address
    from switch_proxy.core.config.models import ListenerSettings, RouteSettings, Settings

_PROXY_NAME = "switch-proxy"
"""The proxy's name in Proxy-Status if no route says one, or several say different ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteModel:
    """
    A route, with the requests that it matches.

    `match_segments` are in the canonical form of core/path_prefix.py, empty for every path; `match_host` is in lower case,
    without port, brackets and a dot at its end, None for every host. The limits of `settings` are complete: those on the
    head of a response are the listener's.
    """

    settings: RouteSettings
    match_segments: tuple[str, ...]
    match_host: str | None
    strip_prefix: bool

    @property
    def name(self) -> str:
        """Return the name of the route."""
        return self.settings.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerModel:
    """One listener: its address, the client's side of its exchanges, and its routes in the order of the configuration."""

    name: str
    listen: Address
    timeouts: ListenerTimeoutSettings
    limits: ListenerLimitSettings
    upgrades: tuple[str, ...]
    own_hosts: frozenset[str]
    """The hosts that a request over loopback may name, beside those of loopback; `*` among them for any."""
    allowed_origins: tuple[str, ...]
    owner: str
    """Whose keys these are, for messages."""
    proxy_name: str
    routes: tuple[RouteModel, ...]


def effective_listeners(settings: Settings) -> tuple[ListenerModel, ...]:
    """Return every listener of a configuration, in its order: first those of single routes, then the shared ones."""
    own = (own_listener(route, route.listen) for route in settings.routes if route.listen is not None)
    shared = (
        _shared_listener(name, listener, [route for route in settings.routes if route.listener == name])
        for name, listener in settings.listeners.items()
    )
    return (*own, *shared)


def own_listener(route: RouteSettings, listen: Address) -> ListenerModel:
    """Return the listener of a route that has an address of its own."""
    timeouts, limits = route.timeouts, route.limits
    return ListenerModel(
        name=route.name,
        listen=listen,
        timeouts=ListenerTimeoutSettings(
            idle=timeouts.idle, request_head=timeouts.request_head, keep_alive=timeouts.keep_alive
        ),
        limits=ListenerLimitSettings(
            client_connections=limits.client_connections,
            request_line=limits.request_line,
            head=limits.head,
            field_lines=limits.field_lines,
            request_buffers=limits.request_buffers,
        ),
        upgrades=route.upgrades,
        own_hosts=_own_hosts(route.allowed_hosts, [route]),
        allowed_origins=route.allowed_origins,
        owner=f"route '{route.name}'",
        proxy_name=_proxy_name([route]),
        routes=(_route_model(route),),
    )


def _shared_listener(name: str, listener: ListenerSettings, routes: list[RouteSettings]) -> ListenerModel:
    limits = listener.limits
    return ListenerModel(
        name=name,
        listen=listener.listen,
        timeouts=listener.timeouts,
        limits=limits,
        upgrades=listener.upgrades,
        own_hosts=_own_hosts(listener.allowed_hosts, routes),
        allowed_origins=listener.allowed_origins,
        owner=f"listener '{name}'",
        proxy_name=_proxy_name(routes),
        routes=tuple(
            _route_model(
                replace(
                    route,
                    limits=replace(
                        route.limits,
                        request_line=limits.request_line,
                        head=limits.head,
                        field_lines=limits.field_lines,
                    ),
                )
            )
            for route in routes
        ),
    )


def _route_model(route: RouteSettings) -> RouteModel:
    path = route.match.path
    return RouteModel(
        settings=route,
        match_segments=() if path is None else path.segments,
        match_host=route.match.host,
        strip_prefix=route.strip_prefix,
    )


def _own_hosts(allowed: tuple[str, ...], routes: list[RouteSettings]) -> frozenset[str]:
    """Return the names of a listener: those it is given, those its routes match, and those of the APIs that it stands for."""
    matched = (route.match.host for route in routes if route.match.host is not None)
    return frozenset((*allowed, *matched, *(route.upstream.server_name for route in routes)))


def _proxy_name(routes: list[RouteSettings]) -> str:
    names = {route.via or _PROXY_NAME for route in routes}
    return names.pop() if len(names) == 1 else _PROXY_NAME
