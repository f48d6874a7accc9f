"""From plain values to settings, or to everything that is wrong with them."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switch_proxy.core.addresses import Address, Origin
from switch_proxy.core.config.dump import dump_model
from switch_proxy.core.config.validation import read_settings
from switch_proxy.core.errors import ConfigurationError
from switch_proxy.core.schema.problem import Path, Problem, render_path
from tests.core.configurations import configurations

_SECRET = "hunter2-hunter2"


def _data(**changes: Any) -> dict[str, Any]:
    """Return a valid configuration, with changes to its one credential (`credential`), its one route, or its top."""
    credential = {
        "token_url": "https://login.example.com/oauth/token",
        "client_id": "id",
        "client_secret": {"env": "SECRET"},
        **changes.pop("credential", {}),
    }
    route = {
        "name": "api",
        "listen": "127.0.0.1:8080",
        "upstream": "https://api.example.com",
        "credential": "switch",
        **changes.pop("route", {}),
    }
    return {"credentials": {"switch": credential}, "routes": [route], **changes}


def _problems(data: dict[str, Any], variables: dict[Path, tuple[str, ...]] | None = None) -> list[Problem]:
    with pytest.raises(ConfigurationError) as caught:
        read_settings(data, variables or {})
    return list(caught.value.problems)


def _told(data: dict[str, Any], variables: dict[Path, tuple[str, ...]] | None = None) -> list[str]:
    return [f"{render_path(problem.path)}: {problem.text}" for problem in _problems(data, variables)]


def test_text_is_read_into_its_final_form() -> None:
    """From the environment every value comes as text."""
    read = read_settings(
        _data(
            route={
                "listen": "[::1]:8080",
                "upstream": "https://API.example.com/base/",
                "wait_for_token": "250ms",
                "allow_plaintext": "true",
                "via": "off",
                "limits": {"head": "64KiB"},
                "pool": {"max_connections": "7"},
            },
            admin={"listen": "off"},
            log={"access": False},
        ),
        {},
    )
    route = read.routes[0]
    assert route.listen == Address(host="::1", port=8080)
    assert route.upstream == Origin(scheme="https", host="api.example.com", port=443, base_path="/base")
    assert (route.wait_for_token, route.allow_plaintext, route.via) == (0.25, True, None)
    assert (route.limits.head, route.pool.max_connections) == (65536, 7)
    assert (read.admin.listen, read.log.access) == (None, "off")


def test_section_of_comments_alone_is_one_that_is_left_out() -> None:
    data = _data(
        route={"timeouts": None, "tls": None},
        admin=None,
        log=None,
        shutdown=None,
        credential={"extra_params": None, "resource": None},
    )
    assert read_settings(data, {}) == read_settings(_data(), {})


def test_empty_text_of_an_optional_key_is_none_at_all() -> None:
    """It is what `${NAME:-}` gives where the variable is not set."""
    read = read_settings(
        _data(credential={"audience": "", "scope": "", "client_secret": {"file": "", "env": "SECRET"}}), {}
    )
    credential = read.credentials["switch"]
    assert (credential.audience, credential.scope, str(credential.client_secret)) == (
        None,
        None,
        "the environment variable SECRET",
    )


@pytest.mark.parametrize(
    ("data", "told"),
    [
        pytest.param(
            {},
            [
                "credentials: is missing; write credentials as in config.example.yaml",
                "routes: is missing; write routes as in config.example.yaml",
            ],
            id="nothing",
        ),
        pytest.param(
            _data(credentials={}),
            ["credentials: is empty; write at least one, as in config.example.yaml"],
            id="no credentials",
        ),
        pytest.param(
            _data(routes=[]), ["routes: is empty; write at least one, as in config.example.yaml"], id="no routes"
        ),
        pytest.param(
            _data(credentials=["a"]),
            ["credentials: must be names, each with its own keys, one per line and indented below it"],
            id="list of credentials",
        ),
        pytest.param(
            _data(routes={"a": 1}),
            ["routes: must be a list; start each entry with a hyphen and a space"],
            id="table of routes",
        ),
        pytest.param(
            _data(log="info"),
            ["log: must be keys with values, one per line and indented below it"],
            id="text as a section",
        ),
        pytest.param(
            _data(routes=[None]),
            ["routes[0]: must be keys with values, one per line and indented below it"],
            id="route of nothing",
        ),
        pytest.param(_data(logs={}), ["logs: is not a key here; did you mean log?"], id="key with a letter too many"),
        pytest.param(
            _data(credential={"tokenUrl": "x"}),
            ["credentials.switch.tokenUrl: is not a key here; did you mean token_url?"],
            id="key in camel case",
        ),
        pytest.param(
            _data(route={"limits": {"kept_body": 0}, "pool": {"wait": 1, "idle": 1}}),
            [
                "routes[0].limits.kept_body: is not a key here; did you mean replay_buffer?",
                "routes[0].pool.wait: is not a key here; did you mean acquire_timeout?",
                "routes[0].pool.idle: is not a key here; did you mean idle_timeout?",
            ],
            id="keys by their former names",
        ),
        pytest.param(
            _data(route={"Allow-Plaintext": True}),
            ["routes[0].Allow-Plaintext: is not a key here; did you mean allow_plaintext?"],
            id="key with hyphens",
        ),
        pytest.param(
            _data(route={"audience": "x"}),
            ["routes[0].audience: is not a key here, but one of credentials.NAME; write it there"],
            id="key of another place",
        ),
        pytest.param(
            _data(frobnicate=1),
            [
                "frobnicate: is not a key here; the keys here are: credentials, listeners, routes, token_store, admin, log, shutdown"
            ],
            id="key like no other",
        ),
        pytest.param(
            _data(route={"timeouts": {"connect": "5 parsecs"}}),
            [
                (
                    'routes[0].timeouts.connect: "5 parsecs" is not a duration; write a number of seconds (5) or a number with a '
                    "unit (250ms, 5s, 2m, 1h)"
                )
            ],
            id="no duration",
        ),
        pytest.param(
            _data(route={"timeouts": {"connect": {"a": "b"}}}),
            [
                (
                    "routes[0].timeouts.connect: a set of keys is not a duration; write a number of seconds (5) or a number with a "
                    "unit (250ms, 5s, 2m, 1h)"
                )
            ],
            id="keys in place of a duration",
        ),
        pytest.param(
            _data(route={"pool": {"max_connections": 0}}),
            ["routes[0].pool.max_connections: 0 is out of range; write a number from 1 to 65535"],
            id="number out of range",
        ),
        pytest.param(
            _data(route={"timeouts": {"idle": "25h"}}),
            ['routes[0].timeouts.idle: "25h" is out of range; write a duration from 1ms to 1d'],
            id="duration out of range",
        ),
        pytest.param(
            _data(log={"level": "trace"}),
            ['log.level: "trace" is not one of the values allowed here; write one of debug, info, warning, error'],
            id="word that is not known",
        ),
        pytest.param(
            _data(credential={"client_id": ""}),
            ["credentials.switch.client_id: the value is empty; write a value"],
            id="empty text",
        ),
        pytest.param(
            _data(credential={"client_id": 12345}),
            ["credentials.switch.client_id: the value is not text; put it in quotes if it is the value you mean"],
            id="number in place of text",
        ),
        pytest.param(
            _data(route={"credential": "swich"}),
            ['routes[0].credential: "swich" names no credential; did you mean "switch"?'],
            id="credential misspelt",
        ),
        pytest.param(
            _data(route={"credential": "other"}),
            [
                'routes[0].credential: "other" names no credential; write one of those in credentials (switch), or add it there',
            ],
            id="credential like no other",
        ),
        pytest.param(
            _data(route={"listen": "0.0.0.0:8080"}),
            [
                (
                    'routes[0].listen: "0.0.0.0:8080" can be reached from outside this pod, and whoever reaches it can use the '
                    "credential; write 127.0.0.1:8080 or set allow_remote_clients: true beside it"
                )
            ],
            id="listener open to others",
        ),
        pytest.param(
            _data(route={"upstream": "http://api.example.com"}),
            [
                (
                    "routes[0].upstream: the value is not https, and the access token goes there; write https://… or set "
                    "allow_plaintext: true beside it"
                )
            ],
            id="upstream in plaintext",
        ),
        pytest.param(
            _data(route={"upstream": "http://api.example.com", "allow_plaintext": "perhaps"}),
            ['routes[0].allow_plaintext: "perhaps" is not a switch; write true or false'],
            id="upstream in plaintext with a switch that says nothing",
        ),
        pytest.param(
            _data(route={"listen": "127.0.0.1:9901"}),
            ['routes[0].listen: "127.0.0.1:9901" is taken by admin.listen; give each listener a port of its own'],
            id="admin's address by default",
        ),
        pytest.param(
            _data(credential={"client_secret": None}),
            [
                (
                    "credentials.switch.client_secret: is missing, which auth_method client_secret_post needs; write "
                    "client_secret: {file: /path/to/the/file} or client_secret: {env: NAME_OF_THE_VARIABLE}"
                )
            ],
            id="no secret",
        ),
        pytest.param(
            _data(credential={"token_url": None}),
            [
                (
                    "credentials.switch.token_url: is missing; write token_url: https://login.example.com/oauth/token, or "
                    "issuer: https://login.example.com"
                )
            ],
            id="no endpoint",
        ),
        pytest.param(
            _data(credential={"issuer": "https://a.example"}),
            [
                "credentials.switch.issuer: the value is given together with token_url, and either is enough; keep one of them"
            ],
            id="two endpoints",
        ),
        pytest.param(
            _data(credential={"token_url": None, "issuer": "http://a.example"}),
            [
                (
                    "credentials.switch.issuer: the value is not https, and what authenticates the client goes there; write "
                    "https://… or set allow_plaintext: true beside it"
                )
            ],
            id="issuer in plaintext",
        ),
        pytest.param(
            _data(credential={"token_url": None, "issuer": "https://a.example/?tenant=b"}),
            [
                (
                    "credentials.switch.issuer: the value has a query (from the ?), which an issuer never has (RFC 8414 §2); "
                    "remove it"
                )
            ],
            id="issuer with a query",
        ),
        pytest.param(
            _data(credential={"auth_method": "private_key_jwt"}),
            [
                (
                    "credentials.switch.client_secret: the value is not used with auth_method private_key_jwt; remove it, "
                    "or write auth_method: client_secret_basic or client_secret_jwt or client_secret_post"
                ),
                (
                    "credentials.switch.private_key: is missing, which auth_method private_key_jwt needs; write "
                    "private_key: {file: /path/to/the/key.pem}"
                ),
            ],
            id="secret where a key is needed",
        ),
        pytest.param(
            _data(credential={"private_key": "-----BEGIN PRIVATE KEY-----", "auth_method": "private_key_jwt"}),
            [
                (
                    "credentials.switch.private_key: the value is text instead of keys, and a private key does not belong in this "
                    "file; write private_key: {file: /path/to/the/key.pem}"
                ),
                (
                    "credentials.switch.client_secret: the value is not used with auth_method private_key_jwt; remove it, "
                    "or write auth_method: client_secret_basic or client_secret_jwt or client_secret_post"
                ),
            ],
            id="key in the clear",
        ),
        pytest.param(
            _data(credential={"private_key": {"file": "/key"}}),
            [
                (
                    "credentials.switch.private_key: the value is not used with auth_method client_secret_post; remove it, "
                    "or write auth_method: private_key_jwt"
                )
            ],
            id="key without its method",
        ),
        pytest.param(
            _data(credential={"assertion_audience": "https://a.example/"}),
            [
                (
                    "credentials.switch.assertion_audience: the value is not used with auth_method client_secret_post; "
                    "remove it, or write auth_method: client_secret_jwt or private_key_jwt"
                )
            ],
            id="audience of no assertion",
        ),
        pytest.param(
            _data(credential={"client_secret": None, "auth_method": "tls_client_auth"}),
            [
                (
                    "credentials.switch.tls: the value names no client certificate, which auth_method tls_client_auth needs; "
                    "write tls: {client_certificate_file: /path/to/tls.crt, client_key_file: /path/to/tls.key}"
                )
            ],
            id="no certificate",
        ),
        pytest.param(
            _data(
                credential={
                    "token_url": "http://localhost/t",
                    "client_secret": None,
                    "auth_method": "tls_client_auth",
                    "tls": {"client_certificate_file": "/cert.pem"},
                }
            ),
            [
                (
                    "credentials.switch.token_url: the value is not https, and tls_client_auth shows its certificate in TLS; "
                    "write https://…"
                )
            ],
            id="certificate without TLS",
        ),
        pytest.param(
            _data(credential={"resource": "https://a.example"}),
            ["credentials.switch.resource: must be a list; start each entry with a hyphen and a space"],
            id="resource that is no list",
        ),
        pytest.param(
            _data(credential={"resource": ["https://a.example/#b"]}),
            [
                (
                    "credentials.switch.resource[0]: the value is not an absolute URI without fragment; write one such as "
                    "https://api.example.com"
                )
            ],
            id="resource with a fragment",
        ),
        pytest.param(
            _data(credential={"extra_headers": {"authorization": "Basic x"}}),
            ["credentials.switch.extra_headers: the value has authorization, which the proxy sets itself; remove it"],
            id="header field of the proxy's own",
        ),
        pytest.param(
            _data(credential={"extra_headers": {"X Y": "a"}}),
            [
                (
                    "credentials.switch.extra_headers.X…: the key is not the name of a header field; write letters, digits "
                    "and hyphens"
                )
            ],
            id="no name of a header field",
        ),
        pytest.param(
            _data(credential={"extra_params": {"resource": "urn:a"}}),
            [
                (
                    "credentials.switch.extra_params: the value has resource, which has a key of its own; write it beside "
                    "extra_params"
                )
            ],
            id="resource among further parameters",
        ),
    ],
)
def test_mistake_is_told_with_what_would_be_right(data: dict[str, Any], told: list[str]) -> None:
    assert _told(data) == told


def test_everything_that_is_wrong_is_told_at_once() -> None:
    data = {
        "credentials": {"a": {"client_id": "", "client_secret": {}, "timeout": "x"}, "b c": None},
        "routes": [
            {"name": "r", "listen": "127.0.0.1:1", "upstream": "x", "credential": "z", "pool": {"idle_timeout": 0}},
            {"name": "r", "listen": "127.0.0.1:1", "extra": 1},
        ],
        "log": {"level": 3, "format": None},
    }
    assert sorted(render_path(problem.path) for problem in _problems(data)) == [
        "credentials.a.client_id",
        "credentials.a.client_secret",
        "credentials.a.timeout",
        "credentials.a.token_url",
        "credentials.b…",
        "credentials.b…",
        "log.format",
        "log.level",
        "routes[0].credential",
        "routes[0].pool.idle_timeout",
        "routes[0].upstream",
        "routes[1].credential",
        "routes[1].extra",
        "routes[1].listen",
        "routes[1].name",
        "routes[1].upstream",
    ]


_SECRET_PLACES = {
    "in the clear": {"client_secret": _SECRET},
    "as a key": {"client_secret": {_SECRET: None}},
    "below another key": {"client_secret": {"value": _SECRET}},
    "in a list": {"client_secret": [_SECRET]},
    "in place of a variable": {"client_secret": {"env": f"{_SECRET}!"}},
    "as a parameter": {"extra_params": {"client_secret": _SECRET}},
    "in the endpoint's user": {"token_url": f"https://id:{_SECRET}@login.example.com/"},
    "in the endpoint's query": {"token_url": f"https://login.example.com/?s={_SECRET} "},
    "under a misspelt key": {"client_secrt": _SECRET},
    "joined to its key": {f"client_secret={_SECRET}": None},
    "in place of the scope": {"scope": f"{_SECRET}  "},
    "with a line end": {"client_id": f"{_SECRET}\n"},
    "in place of a section": {"tls": _SECRET},
    "as a number's text": {"timeout": [_SECRET]},
}


@pytest.mark.parametrize("credential", _SECRET_PLACES.values(), ids=_SECRET_PLACES.keys())
def test_secret_that_stands_in_a_wrong_place_is_never_told(credential: dict[str, Any]) -> None:
    assert _SECRET not in "\n".join(_told(_data(credential=credential)))


@pytest.mark.parametrize("secret", [_SECRET, 12345, True, 1.5, [_SECRET]], ids=repr)
def test_secret_in_the_clear_is_refused_with_the_two_right_forms(secret: object) -> None:
    assert _told(_data(credential={"client_secret": secret})) == [
        (
            "credentials.switch.client_secret: the value is a secret in the clear, which does not belong in this file; write "
            "client_secret: {file: /path/to/the/file} or client_secret: {env: NAME_OF_THE_VARIABLE}"
        )
    ]


def test_secret_taken_from_a_variable_is_refused_with_the_form_that_names_the_variable() -> None:
    path = ("credentials", "switch", "client_secret")
    assert _told(_data(credential={"client_secret": _SECRET}), {path: ("MY_SECRET",)}) == [
        (
            "credentials.switch.client_secret: the value of ${MY_SECRET} is a secret in the clear, which does not belong in this "
            "file; write client_secret: {file: /path/to/the/file} or client_secret: {env: MY_SECRET}"
        )
    ]


@pytest.mark.parametrize(
    ("route", "key"),
    [
        ({"listen": _SECRET}, "listen"),
        ({"credential": _SECRET}, "credential"),
        ({"wait_for_token": _SECRET}, "wait_for_token"),
    ],
    ids=["address", "credential", "duration"],
)
def test_value_that_came_from_the_environment_is_named_and_not_shown(route: dict[str, Any], key: str) -> None:
    told = _told(_data(route=route), {("routes", 0, key): ("VARIABLE",)})
    assert told[0].startswith(f"routes[0].{key}: the value of ${{VARIABLE}} ")
    assert _SECRET not in told[0]


def test_long_value_is_shown_by_its_beginning() -> None:
    (told,) = _told(_data(route={"wait_for_token": "x" * 200}))
    assert f'"{"x" * 59}… is not a duration' in told


# --- properties ----------------------------------------------------------------------------------------------------


@given(configurations())
def test_settings_that_were_written_read_as_the_same(data: dict[str, Any]) -> None:
    """Parsing undoes dumping, exactly."""
    configured = read_settings(data, {})
    assert read_settings(dump_model(configured), {}) == configured


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(["credentials", "routes", "name", "listen", "client_secret", "timeouts", "x"])
            | st.text(max_size=5),
            children,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200)
@given(
    st.dictionaries(st.sampled_from(["credentials", "routes", "admin", "log", "shutdown", "x"]), _json), _json, _json
)
def test_any_values_give_settings_or_problems(data: dict[str, Any], credential: Any, route: Any) -> None:
    for candidate in (
        data,
        {"credentials": {"switch": credential}, "routes": [route]},
        _data(credential={"tls": credential}, route={"tls": route}),
    ):
        with contextlib.suppress(ConfigurationError):
            read_settings(candidate, {})
