"""The token request, byte for byte."""

from __future__ import annotations

import pickle
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.config import CredentialSettings, SecretSource
from proxy.core.oauth import build_request
from proxy.core.secret import Secret

SECRET = 'p&ss=w+rd %/\\"é€'

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
    """Four parameters in the documented order, as a form; JSON is asked for."""
    request = build_request(_settings(), Secret("a-secret"))
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
            {"audience": None, "extra_params": {"body": "1", "redirect_uri": "2", "code": "3", "state": "4"}},
            [("body", "1"), ("redirect_uri", "2"), ("code", "3"), ("state", "4")],
            id="parameters with the names of the encoder's own arguments",
        ),
    ],
)
def test_audience_scope_and_further_parameters_follow(changes: dict[str, Any], rest: list[tuple[str, str]]) -> None:
    """Each is sent where it is configured, and nothing else is."""
    request = build_request(_settings(**changes), Secret(SECRET))
    assert parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True) == [
        ("grant_type", "client_credentials"),
        ("client_id", "the client"),
        ("client_secret", SECRET),
        *rest,
    ]


@given(client_id=configured, secret=secrets, audience=configured)
def test_any_text_arrives_as_it_is(client_id: str, secret: str, audience: str) -> None:
    """Form encoding (RFC 6749 appendix B) brings every character through."""
    request = build_request(_settings(client_id=client_id, audience=audience), Secret(secret))
    assert request.body.isascii()
    assert parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True) == [
        ("grant_type", "client_credentials"),
        ("client_id", client_id),
        ("client_secret", secret),
        ("audience", audience),
    ]


def test_the_request_shows_the_secret_to_nobody() -> None:
    request = build_request(_settings(token_url="https://login.example.com/token?tenant=a"), Secret("a-secret"))
    assert repr(request) == "<TokenRequest POST https://login.example.com/token>"
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(request)
