"""What `switch-proxy check --request` tells."""

from __future__ import annotations

from typing import Any

import pytest

from switch_proxy.core.config.listeners import effective_listeners
from switch_proxy.core.config.validation import read_settings
from switch_proxy.core.policy.trial import try_request

_CREDENTIAL = {"token_url": "https://login.example.com/t", "client_id": "id", "client_secret": {"env": "SECRET"}}
_ROUTES: list[dict[str, Any]] = [
    {
        "name": "api",
        "listener": "local",
        "match": {"path": "/switch/"},
        "strip_prefix": True,
        "upstream": "https://api.example.com/v1",
        "credential": "switch",
        "allow": [{"methods": ["GET"], "paths": ["/readings/**"]}, {"paths": ["/open"]}],
    },
    {
        "name": "prices",
        "listener": "local",
        "match": {"host": "prices.local"},
        "upstream": "http://127.0.0.1:81",
        "credential": "switch",
    },
    {"name": "own", "listen": "127.0.0.1:82", "upstream": "https://own.example.com", "credential": "switch"},
]
LISTENERS = effective_listeners(
    read_settings(
        {"credentials": {"switch": _CREDENTIAL}, "listeners": {"local": {"listen": "127.0.0.1:80"}}, "routes": _ROUTES},
        {},
    )
)


def told(text: str) -> dict[str, str]:
    """Return what is told about the shared listener, by its label."""
    trial = try_request(LISTENERS[1:], text)
    first, *lines = trial.lines
    assert first == f"request {text}"
    found = {line[:20].strip(): line[20:] for line in lines}
    assert found.pop("on") == "listener 'local', 127.0.0.1:80"
    assert trial.is_forwarded == ("forwarded to" in found)
    return found


def test_it_tells_route_reading_rule_and_target() -> None:
    assert told("GET /switch/readings/%61?x=%2e") == {
        "route": "api",
        "path is read as": "/readings/a",
        "rule": "GET at /readings/**",
        "forwarded to": "GET https://api.example.com/v1/readings/%61?x=%2e",
    }


def test_a_route_without_rules_says_so() -> None:
    assert told("DELETE http://prices.local/a//b") == {
        "route": "prices",
        "rule": "the route has none: everything is allowed",
        "forwarded to": "DELETE http://127.0.0.1:81/a//b",
    }
    assert told("GET http://prices.local")["forwarded to"] == "GET http://127.0.0.1:81/"


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        (
            "POST /switch/readings/a",
            "403 request-not-allowed: the rules (allow) of route 'api' allow GET, HEAD at this path",
        ),
        ("GET /switch/readings/%252e", "403 request-not-allowed: the request has an encoded percent sign"),
        ("GET /x", "404 route-unknown: "),
        ("TRACE /switch/open", "405 method-not-allowed: "),
        ("GET switch", "400 request-malformed: "),
        ("GET", "400 request-malformed: "),
        ("GET /a b", "400 request-malformed: "),
        ("GET /switch/../x", "400 request-malformed: "),
    ],
)
def test_it_tells_why_a_request_is_refused(text: str, refused: str) -> None:
    assert told(text)["refused"].startswith(refused)


def test_every_listener_is_asked() -> None:
    trial = try_request(LISTENERS, "GET /x")
    assert trial.is_forwarded
    assert [line[20:] for line in trial.lines if line.startswith("  on ")] == [
        "route 'own', 127.0.0.1:82",
        "listener 'local', 127.0.0.1:80",
    ]
