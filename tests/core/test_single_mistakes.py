"""Mistakes in single keys of a configuration, each told alone: no other complaint follows from it."""

from __future__ import annotations

from typing import Any

import pytest

from switch_proxy.core.addresses import parse_address, parse_origin
from switch_proxy.core.authentication.secret_source import plan_source
from switch_proxy.core.config.models import RouteSettings, StoreSecretSource
from switch_proxy.core.config.validation import read_settings
from switch_proxy.core.errors import ConfigurationError, InvalidValueError, SecretUnavailableError
from switch_proxy.core.schema.problem import Mark, Problem
from switch_proxy.core.schema.rules import ALLOWED_HOST, ALLOWED_ORIGIN, one_of


def _valid(*, credential: dict[str, Any] | None = None, route: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a valid configuration in which some keys are changed."""
    return {
        "credentials": {
            "switch": {
                "token_url": "https://login.example.com/oauth/token",
                "client_id": "id",
                "client_secret": {"env": "SECRET"},
                **(credential or {}),
            }
        },
        "routes": [
            {
                "name": "api",
                "listen": "127.0.0.1:8080",
                "upstream": "https://api.example.com",
                "credential": "switch",
                **(route or {}),
            }
        ],
    }


def _complaint(
    *, credential: dict[str, Any] | None = None, route: dict[str, Any] | None = None, **sections: Any
) -> str:
    """Return the one problem of a configuration that is valid but for these keys."""
    data = {**_valid(credential=credential, route=route), **sections}
    with pytest.raises(ConfigurationError) as caught:
        read_settings(data, {})
    (problem,) = caught.value.problems
    return str(problem)


def test_an_assertion_in_the_clear_is_refused_and_not_repeated() -> None:
    complaint = _complaint(
        credential={"auth_method": "client_assertion", "client_secret": None, "client_assertion": "eyJ"}
    )
    assert complaint.startswith("credentials.switch.client_assertion: the value is text instead of keys; write ")
    assert "eyJ" not in complaint


def test_a_word_is_taken_in_any_case() -> None:
    rule = one_of("debug", "info", "off")
    assert [rule.parse(value) for value in ("INFO", "Info", "OFF", False)] == ["info", "info", "off", "off"]


def test_with_an_unknown_method_nothing_is_said_about_its_keys() -> None:
    """What is needed and what is unused follows from the method."""
    complaint = _complaint(credential={"auth_method": "client_secret_pots", "client_secret": None})
    assert complaint.startswith("credentials.switch.auth_method: ")


def test_a_previous_secret_without_a_use_is_told() -> None:
    complaint = _complaint(
        credential={
            "auth_method": "private_key_jwt",
            "client_secret": None,
            "private_key": {"file": "/key"},
            "previous_client_secret": {"env": "OLD"},
        }
    )
    assert complaint.startswith(
        "credentials.switch.previous_client_secret: the value is not used with auth_method private_key_jwt; remove it, or write "
    )


def test_a_port_alone_is_no_address() -> None:
    complaint = _complaint(route={"listen": 8080})
    assert complaint == "routes[0].listen: 8080 is not host:port; write one such as 127.0.0.1:8080"


def test_a_match_that_is_no_section_is_told_once() -> None:
    route = {"listen": None, "listener": "local", "match": "/switch/"}
    complaint = _complaint(route=route, listeners={"local": {"listen": "127.0.0.1:8080"}})
    assert complaint.startswith("routes[0].match: ")


@pytest.mark.parametrize(
    ("resource", "complaint"),
    [
        pytest.param("https://a.example/", "resource: must be a list; start each", id="one without a hyphen"),
        pytest.param([None], "resource[0]: the value is empty; write a value", id="hyphen alone"),
    ],
)
def test_a_list_has_an_entry_behind_each_hyphen(resource: object, complaint: str) -> None:
    assert _complaint(credential={"resource": resource}).startswith(f"credentials.switch.{complaint}")


@pytest.mark.parametrize(
    ("key", "entry", "complaint"),
    [
        ("allowed_hosts", "a.example:80", '"a.example:80" has a port; remove it'),
        ("allowed_hosts", "*.example", "the value has no valid host name"),
        ("allowed_hosts", "", "the value is empty"),
        ("allowed_origins", "null", '"null" is the origin of every sandboxed page'),
        ("allowed_origins", "http://localhost:3000/app", '"http://localhost:3000/app" has a path'),
        ("allowed_origins", "localhost:3000", "the value is not a URL"),
        ("allowed_origins", "http://a.example:port", "the value has no valid host and port"),
        ("allowed_origins", "file:///a", "the value has a scheme other than https and http"),
    ],
)
def test_what_is_no_host_or_origin_cannot_be_allowed(key: str, entry: str, complaint: str) -> None:
    assert _complaint(route={key: [entry]}).startswith(f"routes[0].{key}[0]: {complaint}")


@pytest.mark.parametrize(
    ("allow", "complaint"),
    [
        ([], "allow: is empty; write at least one, or remove the key"),
        ([{}], "allow[0]: a set of keys allows everything, so that the other rules mean nothing"),
        ([{"methods": []}], "allow[0].methods: is empty; write at least one, or remove the key"),
        ([{"paths": []}], "allow[0].paths: is empty; write at least one, or remove the key"),
        ([{"methods": ["get"]}], 'allow[0].methods[0]: "get" is not a method; write it in capitals'),
        ([{"methods": ["A B"]}], 'allow[0].methods[0]: "A B" is not a method'),
        ([{"methods": ["TRACE"]}], 'allow[0].methods[0]: "TRACE" is a method that is never forwarded'),
        ([{"paths": ["api"]}], 'allow[0].paths[0]: "api" does not begin with a slash'),
        ({"paths": ["/api"]}, "allow: must be a list"),
    ],
)
def test_a_rule_says_what_it_allows(allow: object, complaint: str) -> None:
    assert _complaint(route={"allow": allow}).startswith(f"routes[0].{complaint}")


@pytest.mark.parametrize(
    ("limit", "complaint"),
    [
        ({}, ".limits: is missing; write limits: [5/s, 20/min]"),
        ({"limits": []}, ".limits: is empty; write at least one"),
        ({"limits": ["5"]}, '.limits[0]: "5" is not a rate; write a number of requests and a time'),
        ({"limits": ["5/s"], "mode": "drop"}, '.mode: "drop" is not one of the values allowed here'),
    ],
)
def test_a_rate_limit_has_rates(limit: dict[str, object], complaint: str) -> None:
    assert _complaint(route={"rate_limits": [limit]}).startswith(f"routes[0].rate_limits[0]{complaint}")


@pytest.mark.parametrize(
    ("section", "values", "complaint"),
    [
        (
            "request_headers",
            {"set": {"authorization": "Bearer a"}},
            "set: the value has authorization, which is the proxy's own",
        ),
        ("request_headers", {"remove": ["Host"]}, "remove: the value has Host, which is the proxy's own"),
        (
            "response_headers",
            {"remove": ["Content-Length"]},
            "remove: the value has Content-Length, which is the proxy's own",
        ),
        (
            "response_headers",
            {"set": {"X-A": "b"}, "remove": ["x-a"]},
            "remove: the value has X-A, which is set beside it",
        ),
        ("response_headers", {"set": {"X A": "b"}}, "set.X…: the key is not the name of a header field"),
    ],
)
def test_lines_that_are_the_proxys_own_affair_are_not_set_or_removed(
    section: str, values: dict[str, object], complaint: str
) -> None:
    assert _complaint(route={section: values}).startswith(f"routes[0].{section}.{complaint}")


def test_a_route_made_in_code_has_rules_or_none() -> None:
    """No rule at all would allow everything, and an empty list looks as if it allowed nothing."""
    with pytest.raises(InvalidValueError, match="allow is empty"):
        RouteSettings(
            name="a", listen=parse_address("127.0.0.1:1"), upstream=parse_origin("https://a"), credential="b", allow=()
        )


def test_allowed_hosts_and_origins_are_read_as_browsers_write_them() -> None:
    hosts = [ALLOWED_HOST.parse(text) for text in ("*", "A.example.", "[::1]", "127.0.0.1")]
    assert hosts == ["*", "a.example", "::1", "127.0.0.1"]
    origins = ["*", "HTTP://A.example:80/", "https://a.example:443", "http://[::1]:3000", "chrome-extension://AbC"]
    assert [ALLOWED_ORIGIN.parse(text) for text in origins] == [
        *("*", "http://a.example", "https://a.example", "http://[::1]:3000", "chrome-extension://abc"),
    ]


def test_text_must_be_printable() -> None:
    assert _complaint(credential={"client_id": "a\x07b"}).startswith("credentials.switch.client_id: ")


def test_a_header_field_of_the_token_request_must_be_ascii() -> None:
    """RFC 9110 §5.5."""
    assert _complaint(credential={"extra_headers": {"X-Tenant": "größe"}}).startswith(
        "credentials.switch.extra_headers.X-Tenant: the value has a character outside ASCII"
    )


def test_a_problem_tells_its_place_in_the_file() -> None:
    problem = Problem(path=("routes", 0, "listen"), text="is wrong", source="config.yaml", mark=Mark(line=3, column=5))
    assert str(problem) == "config.yaml:3:5: routes[0].listen: is wrong"


@pytest.mark.parametrize(
    ("store", "complaint"),
    [
        pytest.param(
            {"directory": "/tokens", "redis": {"url": "rediss://cache.example.com"}},
            "token_store: the value has both directory and redis; keep one of them",
            id="two stores",
        ),
        pytest.param(
            {"redis": {"url": "redis://cache.example.com"}},
            "token_store.redis.url: the value is not rediss, and the password goes there; write rediss://…",
            id="a server in plaintext",
        ),
        pytest.param(
            {"redis": {"url": "rediss://cache.example.com", "username": "app"}},
            "token_store.redis.username: the value is a user without a password; write password: {file: ",
            id="a user without a password",
        ),
        pytest.param(
            {"redis": {"url": "rediss://cache.example.com", "prefix": "a b"}},
            'token_store.redis.prefix: "a b" is not a prefix; write up to 64 letters, digits and -_.:/',
            id="a prefix with a space",
        ),
        pytest.param(
            {"redis": {"url": "rediss://cache.example.com", "password": "hunter2"}},
            "token_store.redis.password: the value is a secret in the clear, which does not belong in this file",
            id="a password in the clear",
        ),
        pytest.param(
            {"directory": "/tokens", "encryption_key": {"hunter2": None}},
            "token_store.encryption_key: the value has a key other than file and env",
            id="a key in the clear, by its braces",
        ),
        pytest.param(
            {"directory": "/tokens", "encryption_key": {"file": "/a", "env": "B"}},
            "token_store.encryption_key: the value has both file and env; keep one: ",
            id="two sources of the key",
        ),
        pytest.param(
            {"directory": "/tokens", "encryption_key": {"file": None}},
            "token_store.encryption_key: the value has neither file nor env; write ",
            id="no source of the key",
        ),
    ],
)
def test_a_token_store_that_cannot_be_used_is_told_with_what_would_be_right(
    store: dict[str, Any], complaint: str
) -> None:
    told = _complaint(token_store=store)
    assert told.startswith(complaint)
    assert "hunter2" not in told


@pytest.mark.parametrize(
    "credential",
    [
        {"auth_method": "client_assertion", "client_secret": None, "client_assertion": {"file": "/token"}},
        {"auth_method": "tls_client_auth", "client_secret": None, "tls": {"client_certificate_file": "/tls.pem"}},
    ],
    ids=lambda credential: credential["auth_method"],
)
def test_tokens_without_a_secret_of_their_own_need_a_key_to_be_encrypted_with(credential: dict[str, Any]) -> None:
    complaint = _complaint(credential=credential, token_store={"directory": "/tokens"})
    assert complaint == (
        f"token_store.encryption_key: is missing, and the credential switch (auth_method {credential['auth_method']}) has no "
        "secret to encrypt its tokens with; write encryption_key: {file: /path/to/the/file}"
    )


@pytest.mark.parametrize(
    ("store", "is_on"),
    [
        pytest.param({}, False, id="an empty section"),
        pytest.param({"directory": ""}, False, id="an empty variable"),
        pytest.param({"directory": None, "redis": None}, False, id="nothing after both keys"),
        pytest.param({"encryption_key": {"file": "/key"}}, False, id="a key alone"),
        pytest.param({"directory": "/tokens"}, True, id="a directory"),
        pytest.param({"redis": {"url": "rediss://cache.example.com"}}, True, id="a server"),
    ],
)
def test_a_token_store_is_on_if_it_says_where_the_tokens_are_kept(store: dict[str, Any], is_on: bool) -> None:
    """Otherwise it is as good as none, so that a variable can decide."""
    settings = read_settings({**_valid(), "token_store": store}, {})
    assert settings.token_store is not None
    assert settings.token_store.is_on is is_on


def test_tokens_that_are_not_kept_need_no_key() -> None:
    credential = {"auth_method": "client_assertion", "client_secret": None, "client_assertion": {"file": "/token"}}
    settings = read_settings({**_valid(credential=credential), "token_store": {"directory": ""}}, {})
    assert settings.credentials["switch"].auth_method == "client_assertion"


@pytest.mark.parametrize("kind", ["encryption key", "Redis password"])
def test_a_secret_of_the_token_store_is_read_as_it_is_named(kind: str) -> None:
    plan = plan_source(StoreSecretSource(file="/key"), kind=kind, shortest=32)
    assert (plan.kind, plan.paths, plan.variable) == (kind, ("/key",), None)
    assert plan_source(StoreSecretSource(env="KEY"), kind=kind).paths == ()
    with pytest.raises(
        SecretUnavailableError, match=f"no {kind}: the file /key holds fewer than the 32 bytes that are"
    ):
        plan.parse(b"k" * 31, source="the file /key")
