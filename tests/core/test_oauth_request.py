"""The token request, byte for byte."""

from __future__ import annotations

import base64
import pickle
from typing import Any
from urllib.parse import parse_qsl, unquote, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.config.models import (
    AssertionSource,
    CredentialSettings,
    PrivateKeySettings,
    SecretSource,
    TlsSettings,
)
from switch_proxy.core.oauth.request import build_request
from switch_proxy.core.secret import Secret

SECRET = 'p&ss=w+rd %/\\"é€'
URL = "https://login.example.com/oauth/token"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

secrets = st.text(st.characters(min_codepoint=0x20, exclude_categories=("Cs", "Cc")), min_size=1)
configured = st.text(st.characters(categories=("Lu", "Ll", "Lo", "Nd", "P", "S")), min_size=1).filter(str.isprintable)


def _settings(**changes: Any) -> CredentialSettings:
    values: dict[str, Any] = {
        "token_url": "https://login.example.com/oauth/token",
        "client_id": "the client",
        "client_secret": SecretSource(env="X"),
        "audience": "https://api.switchmarket.se",
    }
    return CredentialSettings(**(values | changes))


def test_the_request_is_the_one_that_the_switch_api_documents() -> None:
    """Four parameters in the documented order, as a form; JSON is requested."""
    request = build_request(_settings(), Secret("a-secret"), token_url=URL)
    assert request.url == "https://login.example.com/oauth/token"
    assert request.fields == (
        ("Accept", "application/json"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    )
    assert request.body == (
        b"grant_type=client_credentials&client_id=the+client&client_secret=a-secret"
        b"&audience=https%3A%2F%2Fapi.switchmarket.se"
    )


@pytest.mark.parametrize(
    ("changes", "rest"),
    [
        pytest.param({"audience": None}, [], id="neither audience nor scope"),
        pytest.param(
            {"audience": None, "scope": "https://x/.default"}, [("scope", "https://x/.default")], id="scope alone"
        ),
        pytest.param(
            {"scope": "read write"},
            [("audience", "https://api.switchmarket.se"), ("scope", "read write")],
            id="audience and scope",
        ),
        pytest.param(
            {"extra_params": {"organization": "org-1", "realm": "b c"}},
            [("audience", "https://api.switchmarket.se"), ("organization", "org-1"), ("realm", "b c")],
            id="further parameters, in their order",
        ),
        pytest.param(
            {"scope": "read", "resource": ("https://a.example/", "urn:b"), "extra_params": {"realm": "c"}},
            [
                ("audience", "https://api.switchmarket.se"),
                ("scope", "read"),
                ("resource", "https://a.example/"),
                ("resource", "urn:b"),
                ("realm", "c"),
            ],
            id="resources, one for each",
        ),
        pytest.param(
            {"audience": None, "extra_params": {"body": "1", "redirect_uri": "2", "code": "3", "state": "4"}},
            [("body", "1"), ("redirect_uri", "2"), ("code", "3"), ("state", "4")],
            id="parameters with the names of the encoder's own arguments",
        ),
    ],
)
def test_audience_scope_and_further_parameters_follow(changes: dict[str, Any], rest: list[tuple[str, str]]) -> None:
    """Each is sent if it is configured, and nothing else is."""
    request = build_request(_settings(**changes), Secret(SECRET), token_url=URL)
    assert parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True) == [
        ("grant_type", "client_credentials"),
        ("client_id", "the client"),
        ("client_secret", SECRET),
        *rest,
    ]


@given(client_id=configured, secret=secrets, audience=configured)
def test_any_text_arrives_as_it_is(client_id: str, secret: str, audience: str) -> None:
    """Form encoding (RFC 6749 appendix B) brings every character through."""
    request = build_request(_settings(client_id=client_id, audience=audience), Secret(secret), token_url=URL)
    assert request.body.isascii()
    assert parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True) == [
        ("grant_type", "client_credentials"),
        ("client_id", client_id),
        ("client_secret", secret),
        ("audience", audience),
    ]


@pytest.mark.parametrize(
    ("changes", "authentication"),
    [
        pytest.param(
            {"auth_method": "client_secret_basic"},
            {},
            id="client_secret_basic",
        ),
        pytest.param(
            {"auth_method": "client_secret_jwt"},
            {"client_id": "the client", "client_assertion_type": ASSERTION_TYPE, "client_assertion": "the-proof"},
            id="client_secret_jwt",
        ),
        pytest.param(
            {
                "auth_method": "private_key_jwt",
                "client_secret": None,
                "private_key": PrivateKeySettings(file="/key"),
            },
            {"client_id": "the client", "client_assertion_type": ASSERTION_TYPE, "client_assertion": "the-proof"},
            id="private_key_jwt",
        ),
        pytest.param(
            {
                "auth_method": "client_assertion",
                "client_secret": None,
                "client_assertion": AssertionSource(file="/token"),
            },
            {"client_id": "the client", "client_assertion_type": ASSERTION_TYPE, "client_assertion": "the-proof"},
            id="client_assertion",
        ),
        pytest.param(
            {
                "auth_method": "client_assertion",
                "client_secret": None,
                "client_assertion": AssertionSource(file="/token"),
                "assertion_type": "jwt-spiffe",
            },
            {
                "client_id": "the client",
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe",
                "client_assertion": "the-proof",
            },
            id="client_assertion of a SPIFFE identity",
        ),
        pytest.param(
            {
                "auth_method": "tls_client_auth",
                "client_secret": None,
                "tls": TlsSettings(client_certificate_file="/cert"),
            },
            {"client_id": "the client"},
            id="tls_client_auth",
        ),
    ],
)
def test_each_method_authenticates_its_own_way(changes: dict[str, Any], authentication: dict[str, str]) -> None:
    """One way and no other (RFC 6749 §2.3): what is not the method's own is not in the body."""
    request = build_request(_settings(**changes), Secret("the-proof"), token_url=URL)
    assert dict(parse_qsl(request.body.decode(), strict_parsing=True)) == {
        "grant_type": "client_credentials",
        **authentication,
        "audience": "https://api.switchmarket.se",
    }
    has_field = "Authorization" in dict(request.fields)
    assert has_field == (changes["auth_method"] == "client_secret_basic")


@given(client_id=configured, secret=secrets)
def test_basic_credentials_are_those_of_the_rfc(client_id: str, secret: str) -> None:
    """RFC 6749 §2.3.1: form-encoded, joined by a colon, in base64; so any characters arrive."""
    settings = _settings(client_id=client_id, auth_method="client_secret_basic")
    fields = dict(build_request(settings, Secret(secret), token_url=URL).fields)
    scheme, _, encoded = fields["Authorization"].partition(" ")
    name, _, password = base64.b64decode(encoded, validate=True).decode("ascii").partition(":")
    assert (scheme, unquote_plus(name), unquote_plus(password)) == ("Basic", client_id, secret)
    # Servers that know percent signs only read the same.
    assert (unquote(name), unquote(password)) == (client_id, secret)


def test_further_header_fields_are_sent() -> None:
    request = build_request(_settings(extra_headers={"X-Tenant": "a"}), Secret(SECRET), token_url=URL)
    assert request.fields[-1] == ("X-Tenant", "a")


def test_the_request_shows_the_secret_to_nobody() -> None:
    request = build_request(_settings(), Secret("a-secret"), token_url="https://login.example.com/token?tenant=a")
    assert repr(request) == "<TokenRequest POST https://login.example.com/token>"
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(request)
