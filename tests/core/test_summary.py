"""Settings told to a person."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.config.models import AssertionSource, CredentialSettings, SecretSource
from switch_proxy.core.config.summary import (
    describe_grant,
    describe_request,
    find_foreign_references,
    find_idle_credentials,
    summarize,
)
from switch_proxy.core.config.validation import read_settings
from switch_proxy.core.secret import Secret
from switch_proxy.core.tokens import TokenGrant
from tests.core.configurations import configurations


def _jwt(claims: dict[str, Any]) -> str:
    parts = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in ({"alg": "RS256"}, claims)
    )
    return ".".join([*parts, "c2lnbmF0dXJl"])


def _data() -> dict[str, Any]:
    return {
        "credentials": {
            "switch": {
                "token_url": "https://login.example.com/oauth/token?tenant=hidden",
                "client_id": "the-client",
                "client_secret": {"file": "/secret"},
                "audience": "https://api.example.com",
                "extra_params": {"organization": "hidden"},
                "timeout": "2s",
            },
            "spare": {
                "token_url": "http://localhost:1/t",
                "client_id": "x",
                "client_secret": {"env": "SPARE"},
                "scope": "a b",
            },
        },
        "routes": [
            {
                "name": "api",
                "listen": "127.0.0.1:8080",
                "upstream": "https://api.example.com/v1",
                "credential": "switch",
            },
            {
                "name": "other",
                "listen": "0.0.0.0:8081",
                "allow_remote_clients": True,
                "upstream": "http://127.0.0.1:2",
                "credential": "switch",
                "via": "edge-7",
                "allow": [
                    {"methods": ["GET", "POST"], "paths": ["/a", "/b/**"]},
                    {"methods": ["PUT"]},
                    {"paths": ["/c"]},
                ],
                "rate_limits": [
                    {"methods": ["POST"], "limits": ["5/s", "20/min"], "max_wait": "2m"},
                    {"paths": ["/a"], "limits": ["9/s"], "mode": "reject"},
                ],
                "tls": {"ca_file": "/ca.pem"},
                "timeouts": {"connect": "250ms"},
                "limits": {"head": 16384},
            },
        ],
        "shutdown": {"drain_delay": 3},
    }


def test_summary_tells_what_goes_where_and_what_is_not_at_its_default() -> None:
    assert (
        "\n".join(summarize(read_settings(_data(), {})))
        == """\
route api
  listens on        127.0.0.1:8080, this pod alone
  forwards to       https://api.example.com/v1
  with tokens of    credential switch

route other
  listens on        0.0.0.0:8081, reachable from outside the pod
  forwards to       http://127.0.0.1:2 (in plaintext)
  with tokens of    credential switch
  only              GET, POST at /a, /b/**
                    PUT at every path
                    every method at /c
  at most           5/s, 20/min of POST at every path; others wait up to 2m
                    9/s of every method at /a; others get 429
  not by default    allow_remote_clients: true (default false)
                    via: edge-7
                    tls.ca_file: /ca.pem
                    timeouts.connect: 250ms (default 5s)
                    limits.head: 16384 (default 65536)

credential switch
  token endpoint    https://login.example.com/oauth/token
  client id         the-client
  client secret     from the file /secret
  audience          https://api.example.com
  not by default    extra_params: organization
                    timeout: 2s (default 10s)

credential spare
  token endpoint    http://localhost:1/t (in plaintext)
  client id         x
  client secret     from the environment variable SPARE
  scope             a b

the proxy itself
  admin             127.0.0.1:9901, this pod alone: /livez, /readyz, /metrics
  log               from level info, as json; a line for each request
  shutdown          3s of drain delay, then up to 25s for requests in flight"""
    )


def test_summary_tells_when_admin_is_off() -> None:
    data = {**_data(), "admin": {"listen": "off"}, "log": {"access": "off"}}
    told = list(summarize(read_settings(data, {})))
    assert "  admin             off" in told
    assert (
        "  log               from level info, as json; a line for each request that the proxy itself could not serve"
        in told
    )


@pytest.mark.parametrize(
    ("changes", "token_url", "credential", "lines"),
    [
        pytest.param({"token_url": "https://a.example/t"}, "https://a.example/t", "a-secret", [], id="nothing to find"),
        pytest.param(
            {"issuer": "https://a.example"},
            "https://a.example/t?key=hidden",
            "a-secret",
            ["  token endpoint    https://a.example/t, as the issuer says"],
            id="an endpoint that was found",
        ),
        pytest.param({"issuer": "https://a.example"}, None, "a-secret", [], id="no endpoint found"),
        pytest.param(
            {"token_url": "https://a.example/t", "auth_method": "client_secret_jwt"},
            "https://a.example/t",
            "a-secret",
            ["  assertion aud     https://a.example/t"],
            id="an assertion of our own",
        ),
        pytest.param(
            {"issuer": "https://a.example", "auth_method": "client_secret_jwt"},
            None,
            "a-secret",
            [],
            id="no endpoint to make an assertion for",
        ),
        pytest.param(
            {
                "token_url": "https://a.example/t",
                "auth_method": "client_assertion",
                "client_secret": None,
                "client_assertion": AssertionSource(file="/token"),
            },
            "https://a.example/t",
            _jwt({"aud": ["b", "c"], "sub": "d"}),
            ["  assertion aud     b c", "  assertion iss     none", "  assertion sub     d"],
            id="somebody else's assertion",
        ),
    ],
)
def test_request_is_described_by_what_a_refusal_may_be_about(
    changes: dict[str, Any], token_url: str | None, credential: str, lines: list[str]
) -> None:
    settings = CredentialSettings(**{"client_id": "x", "client_secret": SecretSource(env="X"), **changes})
    told = describe_request(settings, token_url=token_url, client_credential=Secret(credential))
    assert list(told) == lines


def test_credential_that_no_route_uses_is_found() -> None:
    """Its tokens would be fetched, and paid for, in vain."""
    assert find_idle_credentials(read_settings(_data(), {})) == ["spare"]


def test_variables_in_the_notations_of_others_are_found_wherever_they_stand() -> None:
    """In texts, in lists and in maps; what is written our own way is replaced before, so it is never met here."""
    data = _data()
    credential = data["credentials"]["switch"]
    credential["client_id"] = "$CLIENT_ID"
    credential["extra_headers"] = {"X-Tenant": "$(TENANT)", "X-Plain": "costs 5 $ and 100%"}
    credential["audience"] = "{{ .Values.audience }}"
    meaning = "which is taken literally; for the value of a variable write"
    assert list(find_foreign_references(read_settings(data, {}))) == [
        f"credentials.switch.client_id has $CLIENT_ID, {meaning} ${{CLIENT_ID}}",
        f"credentials.switch.audience has {{{{ .Values.audience }}}}, {meaning} ${{NAME}}",
        f"credentials.switch.extra_headers.X-Tenant has $(TENANT), {meaning} ${{TENANT}}",
    ]


@given(configurations())
def test_any_settings_can_be_told_in_lines(data: dict[str, Any]) -> None:
    for line in summarize(read_settings(data, {})):
        assert line.isprintable()


def _granted(value: str, *, lifetime: float = 3600.0, scope: str | None = None) -> list[str]:
    return list(describe_grant(TokenGrant(value=Secret(value), lifetime=lifetime, scope=scope)))


def test_what_is_odd_about_a_token_is_told() -> None:
    grant = TokenGrant(value=Secret("opaque"), lifetime=60.0, scope=None, notes=("one thing", "another"))
    assert [line.split()[0] for line in describe_grant(grant)][-2:] == ["note", "note"]


def test_token_that_is_a_jwt_is_told_by_its_claims() -> None:
    claims = {"iss": "https://login.example.com/", "aud": ["https://a", "https://b"], "scope": "read write"}
    assert _granted(_jwt(claims), scope="read") == [
        "  type              Bearer, a JWT",
        "  lifetime          1h, replaced after 45m or later",
        "  issuer            https://login.example.com/",
        "  audience          https://a https://b",
        "  scope             read write",
    ]


def test_token_that_is_opaque_is_told_by_what_the_server_said_of_it() -> None:
    assert _granted("opaque-token", lifetime=299.6, scope="read") == [
        "  type              Bearer, opaque: only the API can read it",
        "  lifetime          5m, replaced after 225s or later",
        "  scope             read",
    ]


def test_claims_that_are_missing_are_said_to_be() -> None:
    assert _granted(_jwt({}))[2:] == [
        "  issuer            unknown",
        "  audience          unknown",
        "  scope             unknown",
    ]


@given(
    st.text(st.characters(codec="utf-8"), max_size=400),
    st.from_regex(r"[A-Za-z0-9._~+/-]{8,400}=*", fullmatch=True),
    st.floats(0.001, 2592000),
)
def test_token_is_never_part_of_what_is_told_of_it(claim: str, opaque: str, lifetime: float) -> None:
    for token in (_jwt({"iss": claim, "aud": claim, "scope": claim}), opaque):
        told = _granted(token, lifetime=lifetime)
        assert all(line.isprintable() for line in told)
        assert token not in "\n".join(told)


def test_summary_tells_how_each_credential_authenticates() -> None:
    data = _data()
    common = {"issuer": "https://login.example.com/", "client_id": "x"}
    data["credentials"] = {
        "switch": {
            **common,
            "auth_method": "private_key_jwt",
            "private_key": {"file": "/key.pem", "algorithm": "PS256"},
            "resource": ["urn:a", "urn:b"],
        },
        "workload": {**common, "auth_method": "client_assertion", "client_assertion": {"file": "/token"}},
        "certificate": {**common, "auth_method": "tls_client_auth", "tls": {"client_certificate_file": "/tls.crt"}},
        "rotating": {**common, "client_secret": {"env": "NEW"}, "previous_client_secret": {"file": "/old"}},
    }
    text = "\n".join(summarize(read_settings(data, {})))
    assert (
        text[text.index("\ncredential switch\n") + 1 : text.index("the proxy itself")]
        == """\
credential switch
  issuer            https://login.example.com/
  client id         x
  private key       from the file /key.pem
  assertion aud     https://login.example.com/
  not by default    auth_method: private_key_jwt (default client_secret_post)
                    private_key.algorithm: PS256
                    resource: urn:a, urn:b

credential workload
  issuer            https://login.example.com/
  client id         x
  client assertion  from the file /token
  not by default    auth_method: client_assertion (default client_secret_post)

credential certificate
  issuer            https://login.example.com/
  client id         x
  not by default    auth_method: tls_client_auth (default client_secret_post)
                    tls.client_certificate_file: /tls.crt

credential rotating
  issuer            https://login.example.com/
  client id         x
  client secret     from the environment variable NEW, or else from the file /old

"""
    )


@pytest.mark.parametrize(
    ("store", "lines"),
    [
        pytest.param(
            {"directory": "/tokens"},
            ["directory         /tokens", "encrypted with    each credential's own secret or key"],
            id="directory",
        ),
        pytest.param(
            {
                "redis": {"url": "redis://localhost", "password": {"env": "REDIS"}, "prefix": "team:"},
                "encryption_key": {"file": "/key"},
            },
            [
                "Redis server      redis://localhost:6379/0 (in plaintext)",
                "not by default    password.env: REDIS",
                "                  prefix: team: (default switch-proxy:)",
                "encrypted with    the secret from the file /key",
            ],
            id="Redis",
        ),
        pytest.param(
            {"redis": {"url": "rediss://cache.example.com"}, "encryption_key": {"env": "KEY"}},
            [
                "Redis server      rediss://cache.example.com:6379/0",
                "encrypted with    the secret from the environment variable KEY",
            ],
            id="Redis over TLS",
        ),
    ],
)
def test_summary_tells_where_tokens_are_kept(store: dict[str, Any], lines: list[str]) -> None:
    told = list(summarize(read_settings({**_data(), "token_store": store}, {})))
    at = told.index("token store")
    assert told[at + 1 : told.index("", at)] == [f"  {line}" for line in lines]


@pytest.mark.parametrize("store", [{}, {"directory": ""}, {"directory": "", "encryption_key": {"env": "KEY"}}])
def test_summary_is_silent_about_a_store_that_is_none(store: dict[str, Any]) -> None:
    told = list(summarize(read_settings({**_data(), "token_store": store}, {})))
    assert told == list(summarize(read_settings(_data(), {})))
