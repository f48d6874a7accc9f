"""Listeners that several routes share: what is refused, and what the data plane is built from."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from switch_proxy.core.addresses import Address
from switch_proxy.core.config.listeners import ListenerModel, effective_listeners
from switch_proxy.core.config.summary import summarize
from switch_proxy.core.config.validation import read_settings
from switch_proxy.core.errors import ConfigurationError
from switch_proxy.core.schema.problem import render_path
from tests.core.configurations import configurations


def _data(*routes: dict[str, Any], **listeners: Any) -> dict[str, Any]:
    """Return a configuration of these routes on the listener `local`, unless they say otherwise; and of listeners."""
    credential = {
        "token_url": "https://login.example.com/t",
        "client_id": "id",
        "client_secret": {"env": "SECRET"},
    }
    return {
        "credentials": {"switch": credential},
        "listeners": {"local": {"listen": "127.0.0.1:8080"}, **listeners},
        "routes": [
            {
                "name": f"r{index}",
                "upstream": "https://api.example.com",
                "credential": "switch",
                **({} if "listen" in route else {"listener": "local"}),
                **route,
            }
            for index, route in enumerate(routes)
        ],
    }


def _told(data: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read_settings(data, {})
    return [f"{render_path(problem.path)}: {problem.text}" for problem in caught.value.problems]


_NEEDED_EARLY = "is needed before the route of a request is known, so it belongs to the listener; write it under "
_SAME = "matches the same requests as routes[0], on the same listener; give one of them another path or host in match"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        pytest.param(
            _data({}, {"listener": None}),
            [
                "routes[1].listen: is missing; write listen: 127.0.0.1:8080, or listener: NAME for one of those in listeners"
            ],
            id="neither listen nor listener",
        ),
        pytest.param(
            _data({"listen": "127.0.0.1:1", "listener": "local"}),
            [
                'routes[0].listener: "local" is given together with listen, and a route has one listener; keep one of them'
            ],
            id="both listen and listener",
        ),
        pytest.param(
            _data({}, {"listener": "locl", "match": {"path": "/a"}}),
            ['routes[1].listener: "locl" names no listener; did you mean "local"?'],
            id="listener misspelt",
        ),
        pytest.param(
            _data({}, {"listener": "xyz", "match": {"path": "/a"}}),
            [('routes[1].listener: "xyz" names no listener; write one of those in listeners (local), or add it there')],
            id="listener like no other",
        ),
        pytest.param(
            {**_data({}), "listeners": None},
            [
                (
                    'routes[0].listener: "local" names no listener, and there is no listeners section; write it at the top '
                    "level, as in docs/configuration.md"
                )
            ],
            id="no listeners at all",
        ),
        pytest.param(_data({}, {}), [f"routes[1].listener: {_SAME}"], id="two routes for everything"),
        pytest.param(
            _data({"match": {"path": "/a"}}, {"match": {"path": "/a/"}}),
            [f"routes[1].match: {_SAME}"],
            id="same path, with and without its last slash",
        ),
        pytest.param(
            _data({"match": {"path": "/%61"}}, {"match": {"path": "/a"}}),
            [f"routes[1].match: {_SAME}"],
            id="same path, encoded",
        ),
        pytest.param(
            _data({"match": {"path": "/"}}, {"match": None}),
            [f"routes[1].match: {_SAME}"],
            id="every path, said and not",
        ),
        pytest.param(
            _data({"match": {"host": "a.example"}}, {"match": {"host": "A.Example."}}),
            [f"routes[1].match: {_SAME}"],
            id="same host in another case",
        ),
        pytest.param(
            _data({"match": {"path": "switch"}}),
            ['routes[0].match.path: "switch" does not begin with a slash; write a path such as /switch/'],
            id="path without its first slash",
        ),
        pytest.param(
            _data({"match": {"host": "a.example:80"}}),
            [('routes[0].match.host: "a.example:80" has a port; remove it, because hosts are compared without ports')],
            id="host with a port",
        ),
        pytest.param(
            _data({"match": {"host": "*.example"}}),
            [
                (
                    "routes[0].match.host: the value has no valid host name; write letters, digits, hyphens and dots, such "
                    "as api.example.com"
                )
            ],
            id="host with a wildcard",
        ),
        pytest.param(
            _data({"strip_prefix": True}),
            [
                (
                    "routes[0].strip_prefix: true has no prefix to take off; write match: {path: /prefix/} beside it, or "
                    "remove it"
                )
            ],
            id="nothing to strip",
        ),
        pytest.param(
            _data(
                {
                    "allow_remote_clients": False,
                    "timeouts": {"idle": 5, "request_head": 5, "keep_alive": 75},
                    "limits": {"head": 8192, "request_line": "8KiB", "field_lines": 5, "replay_buffer": 0},
                }
            ),
            [
                f"routes[0].allow_remote_clients: {_NEEDED_EARLY}listeners.local",
                f"routes[0].timeouts.request_head: {_NEEDED_EARLY}listeners.local.timeouts",
                f"routes[0].timeouts.keep_alive: {_NEEDED_EARLY}listeners.local.timeouts",
                f"routes[0].limits.request_line: {_NEEDED_EARLY}listeners.local.limits",
                f"routes[0].limits.head: {_NEEDED_EARLY}listeners.local.limits",
                f"routes[0].limits.field_lines: {_NEEDED_EARLY}listeners.local.limits",
            ],
            id="listener's keys on a route",
        ),
        pytest.param(
            _data({}, other={"listen": "127.0.0.1:1"}),
            ["listeners.other: is used by no route; write listener: other in one, or remove it"],
            id="listener without a route",
        ),
        pytest.param(
            _data({}, {"listen": "127.0.0.1:8080"}),
            [
                'routes[1].listen: "127.0.0.1:8080" is taken by listeners.local.listen; give each listener a port of its own'
            ],
            id="address of a route and of a listener",
        ),
        pytest.param(
            _data({}, {"listener": "b"}, b={"listen": "localhost:9901"}),
            ['listeners.b.listen: "localhost:9901" is taken by admin.listen; give each listener a port of its own'],
            id="admin's address",
        ),
        pytest.param(
            _data({"listener": "admin"}, {}, admin={"listen": "127.0.0.1:1"}),
            ["listeners.admin: is what the log calls the admin listener; give this one another name"],
            id="admin's name",
        ),
        pytest.param(
            _data({"name": "local", "listen": "127.0.0.1:1"}, {}),
            ["listeners.local: is the name of routes[0], whose own listener has that name; give this one another name"],
            id="name of a route with a listener of its own",
        ),
        pytest.param(
            _data({}, local={"listen": "0.0.0.0:8080"}),
            [
                (
                    'listeners.local.listen: "0.0.0.0:8080" can be reached from outside this pod, and whoever reaches it can '
                    "use the credentials of its routes; write 127.0.0.1:8080 or set allow_remote_clients: true beside it"
                )
            ],
            id="listener open to others",
        ),
        pytest.param(
            _data({}, local={"listen": "127.0.0.1:8080", "limits": {"head": 4096}}),
            [("listeners.local.limits.head: 4096 is less than request_line, which is part of it; write 8192 or more")],
            id="head below its first line",
        ),
        pytest.param(
            _data({}, local={"listen": "127.0.0.1:8080", "wait_for_token": 5}),
            ["listeners.local.wait_for_token: is not a key here, but one of routes[N]; write it there"],
            id="route's key on a listener",
        ),
    ],
)
def test_mistake_is_told_with_what_would_be_right(data: dict[str, Any], told: list[str]) -> None:
    assert _told(data) == told


def _listeners(data: dict[str, Any]) -> tuple[ListenerModel, ...]:
    return effective_listeners(read_settings(data, {}))


def test_route_with_an_address_of_its_own_is_a_listener_with_that_one_route() -> None:
    route = {
        "listen": "127.0.0.1:1",
        "via": "edge",
        "timeouts": {"idle": 1, "request_head": 2, "keep_alive": 3},
        "limits": {"request_line": 1000, "head": 2000, "field_lines": 30, "request_buffers": "1MiB"},
    }
    data = _data(route)
    del data["listeners"]
    (listener,) = _listeners(data)
    assert (listener.name, listener.listen) == ("r0", Address(host="127.0.0.1", port=1))
    assert (listener.timeouts.idle, listener.timeouts.request_head, listener.timeouts.keep_alive) == (1.0, 2.0, 3.0)
    assert (listener.limits.request_line, listener.limits.head, listener.limits.field_lines) == (1000, 2000, 30)
    assert listener.limits.request_buffers == 1024 * 1024
    assert listener.proxy_name == "edge"
    (only,) = listener.routes
    assert (only.name, only.match_segments, only.match_host, only.strip_prefix) == ("r0", (), None, False)


def test_routes_that_name_a_listener_are_its_routes_and_have_its_limits() -> None:
    own, shared = _listeners(
        _data(
            {"match": {"path": "/a/%62/", "host": "[::1]"}, "strip_prefix": True, "limits": {"replay_buffer": 7}},
            {"listen": "127.0.0.1:1"},
            {"match": {"host": "Switch.Local."}},
            local={
                "listen": "127.0.0.1:8080",
                "limits": {"head": 16384, "field_lines": 7},
                "timeouts": {"keep_alive": 9},
            },
        )
    )
    assert [own.name, *(route.name for route in own.routes)] == ["r1", "r1"]
    assert [shared.name, *(route.name for route in shared.routes)] == ["local", "r0", "r2"]
    assert shared.timeouts.keep_alive == 9.0
    first, second = shared.routes
    assert (first.match_segments, first.match_host, first.strip_prefix) == (("a", "b"), "::1", True)
    assert (second.match_segments, second.match_host, second.strip_prefix) == ((), "switch.local", False)
    limits = first.settings.limits
    assert (limits.request_line, limits.head, limits.field_lines, limits.replay_buffer) == (8192, 16384, 7, 7)


@pytest.mark.parametrize(
    ("vias", "name"),
    [
        pytest.param(["edge", "edge"], "edge", id="the same"),
        pytest.param(["edge", "other"], "switch-proxy", id="different ones"),
        pytest.param(["off", "off"], "switch-proxy", id="none"),
    ],
)
def test_listener_has_the_name_that_its_routes_agree_on(vias: list[str], name: str) -> None:
    (listener,) = _listeners(_data(*({"via": via, "match": {"path": f"/{index}"}} for index, via in enumerate(vias))))
    assert listener.proxy_name == name


@given(configurations())
def test_every_route_is_on_exactly_one_listener(data: dict[str, Any]) -> None:
    settings = read_settings(data, {})
    listeners = effective_listeners(settings)
    assert sorted(route.name for listener in listeners for route in listener.routes) == sorted(
        route.name for route in settings.routes
    )
    assert len({listener.name for listener in listeners}) == len(listeners)


def test_summary_tells_which_routes_a_listener_has_and_what_they_take() -> None:
    data = _data({"match": {"path": "/a"}, "strip_prefix": True}, {"match": {"host": "b.local"}})
    told = "\n".join(summarize(read_settings(data, {})))
    assert told.startswith(
        """\
listener local
  listens on        127.0.0.1:8080, this pod alone
  has the routes    r0, r1

route r0
  listens on        listener local
  takes             path /a/, any host, and strips the path
"""
    )
    assert "  takes             any path, host b.local\n" in told
