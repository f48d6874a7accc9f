"""The URLs of an issuer's metadata, and what is taken from them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.backoff import Lane
from switch_proxy.core.config.models import CredentialSettings, SecretSource, TlsSettings
from switch_proxy.core.errors import TokenEndpointUnavailableError, TokenFetchError, TokenResponseInvalidError
from switch_proxy.core.lifecycle import Failed, Fetching, TokenState, lane_of, status_of, step, wake_at
from switch_proxy.core.oauth.discovery import metadata_urls, most_telling, parse_metadata
from switch_proxy.core.oauth.quoting import ServerWords
from switch_proxy.core.oauth.response import ServerResponse
from switch_proxy.core.secret import Secret

ISSUER: Final = "https://login.example.com/tenant"
TOKEN: Final = "zebra-token-of-a-credential"
WORDS: Final = ServerWords(credential_name="the client secret", secret=Secret(""), others=[Secret(TOKEN)])
ENDPOINT: Final = "https://login.example.com/tenant/token"


def _settings(**changes: Any) -> CredentialSettings:
    values = {"issuer": ISSUER, "client_id": "c", "client_secret": SecretSource(env="X"), **changes}
    return CredentialSettings(**values)


def _response(status: int = 200, body: bytes | None = None, **members: Any) -> ServerResponse:
    document = {"issuer": ISSUER, "token_endpoint": ENDPOINT, **members}
    content = json.dumps({name: value for name, value in document.items() if value is not ...}).encode()
    return ServerResponse(status=status, body=content if body is None else body)


def _parse(response: ServerResponse, **settings: Any) -> str | None:
    return parse_metadata(response, settings=_settings(**settings), words=WORDS, wall=0.0)


@pytest.mark.parametrize(
    ("issuer", "first", "second"),
    [
        pytest.param(
            "https://a.example",
            "https://a.example/.well-known/oauth-authorization-server",
            "https://a.example/.well-known/openid-configuration",
            id="without a path",
        ),
        pytest.param(
            "https://a.example/",
            "https://a.example/.well-known/oauth-authorization-server",
            "https://a.example/.well-known/openid-configuration",
            id="with a slash",
        ),
        pytest.param(
            "https://a.example:8443/realms/b",
            "https://a.example:8443/.well-known/oauth-authorization-server/realms/b",
            "https://a.example:8443/realms/b/.well-known/openid-configuration",
            id="with a path",
        ),
        pytest.param(
            "https://a.example/b/",
            "https://a.example/.well-known/oauth-authorization-server/b",
            "https://a.example/b/.well-known/openid-configuration",
            id="with a path and a slash",
        ),
    ],
)
def test_metadata_are_looked_for_at_both_places(issuer: str, first: str, second: str) -> None:
    """RFC 8414 §3.1, its own form first: one slash at the end is left out before anything is added."""
    assert metadata_urls(issuer) == (first, second)


def test_endpoint_is_what_the_metadata_name() -> None:
    assert _parse(_response(authorization_endpoint=None)) == ENDPOINT


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(_response(404), id="not there"),
        pytest.param(_response(403), id="forbidden"),
        pytest.param(_response(302), id="moved"),
        pytest.param(_response(body=b"<html>"), id="a page"),
    ],
)
def test_another_place_is_tried_where_there_is_nothing(response: ServerResponse) -> None:
    assert _parse(response) is None


@pytest.mark.parametrize(
    ("status", "lane"), [(429, Lane.EXHAUSTED), (500, Lane.TRANSIENT), (503, Lane.TRANSIENT)], ids=str
)
def test_a_server_that_is_unwell_is_told_from_one_without_metadata(status: int, lane: Lane) -> None:
    """It is tried again soon, or when it has asked for it."""
    said = f"metadata cannot be read: it responded with {status}"
    with pytest.raises(TokenEndpointUnavailableError, match=said) as caught:
        _parse(_response(status))
    assert lane_of(caught.value) is lane


def test_a_limit_on_requests_for_metadata_is_no_quota_of_tokens() -> None:
    """Whatever its fields say: nobody is told that the tokens are used up."""
    quota = ("Auth0-Client-Quota-Limit", "b=per_day;q=50;r=0;t=40000")
    response = replace(_response(429), retry_after="7200", fields=(quota, ("X-RateLimit-Remaining", "0")))
    with pytest.raises(TokenEndpointUnavailableError) as caught:
        _parse(response)
    assert (caught.value.quota, caught.value.outcome) == ((), "unavailable")
    state, _ = step(TokenState(phase=Fetching(since=0.0)), Failed(error=caught.value), 0.0, 0.0)
    # Not a second later, and without the limit of an hour.
    assert wake_at(state) == pytest.approx(7200.1)
    assert not status_of(
        state, 0.0, name="x", secret_error=None, fetches={}, remedy="", uses_previous_secret=False
    ).is_exhausted


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        pytest.param({"issuer": ISSUER + "/"}, f"name '{ISSUER}/', which is not the configured one", id="a slash more"),
        pytest.param({"issuer": ISSUER.upper()}, "which is not the configured one", id="another case"),
        pytest.param({"issuer": ...}, "name no issuer", id="no issuer"),
        pytest.param({"issuer": [ISSUER]}, "name no issuer", id="issuers"),
        pytest.param({"token_endpoint": ...}, "name no token_endpoint", id="no endpoint"),
        pytest.param({"token_endpoint": 7}, "name no token_endpoint", id="a number for an endpoint"),
        pytest.param({"token_endpoint": "/token"}, "that is no URL", id="a path"),
        pytest.param({"token_endpoint": "https://a:b@c.example/t"}, "that is no URL", id="a user in it"),
        pytest.param({"token_endpoint": "http://a.example/t"}, "that is not https", id="in plaintext"),
    ],
)
def test_metadata_of_another_or_without_a_safe_endpoint_are_refused(members: dict[str, Any], complaint: str) -> None:
    """RFC 8414 §3.3: identical, or they may be an attacker's; and a secret is for https alone."""
    with pytest.raises(TokenResponseInvalidError) as caught:
        _parse(_response(**members))
    assert complaint in str(caught.value)
    assert "check issuer" in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "settings"),
    [
        pytest.param("http://localhost:1/t", {}, id="on loopback"),
        pytest.param("http://a.example/t", {"allow_plaintext": True}, id="where it is allowed"),
    ],
)
def test_endpoint_may_be_plain_where_token_url_might(endpoint: str, settings: dict[str, Any]) -> None:
    assert _parse(_response(token_endpoint=endpoint), **settings) == endpoint


def test_client_with_a_certificate_goes_where_its_like_are_sent() -> None:
    """RFC 8705 §5; others stay at the ordinary endpoint."""
    response = _response(mtls_endpoint_aliases={"token_endpoint": "https://mtls.example.com/token"})
    certificate = TlsSettings(client_certificate_file="/cert")
    found = _parse(response, auth_method="tls_client_auth", client_secret=None, tls=certificate)
    assert (found, _parse(response)) == ("https://mtls.example.com/token", ENDPOINT)


def test_certificate_is_never_meant_for_plaintext() -> None:
    certificate = TlsSettings(client_certificate_file="/cert")
    with pytest.raises(TokenResponseInvalidError, match="not https"):
        _parse(
            _response(token_endpoint="http://localhost:1/t"),
            auth_method="tls_client_auth",
            client_secret=None,
            tls=certificate,
        )


def test_token_in_the_metadata_is_not_shown() -> None:
    with pytest.raises(TokenResponseInvalidError) as caught:
        _parse(_response(issuer=f"https://a.example/{TOKEN}"))
    assert TOKEN not in str(caught.value)


UNWELL = TokenEndpointUnavailableError("503")
UNREACHABLE = TokenEndpointUnavailableError("no connection")
LIMITED = TokenEndpointUnavailableError("429", is_rate_limited=True)
WRONG = TokenResponseInvalidError("another issuer")


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        pytest.param([UNWELL], UNWELL, id="one is unwell"),
        pytest.param([UNWELL, UNREACHABLE], UNREACHABLE, id="both are unwell"),
        pytest.param([WRONG, UNWELL], WRONG, id="the first is of another issuer"),
        pytest.param([UNWELL, WRONG], WRONG, id="the second is of another issuer"),
        pytest.param([LIMITED, WRONG], LIMITED, id="the first asks for fewer requests"),
        pytest.param([LIMITED, UNWELL], LIMITED, id="the first asks for fewer requests, the second is unwell"),
    ],
)
def test_what_says_the_most_of_two_failures_is_told(failures: list[TokenFetchError], expected: TokenFetchError) -> None:
    assert most_telling(failures, settings=_settings()) is expected


def test_issuer_without_metadata_is_told_with_both_places() -> None:
    text = str(most_telling([], settings=_settings()))
    assert all(url in text for url in metadata_urls(ISSUER))
    assert "write token_url instead" in text


@given(
    st.binary() | st.recursive(st.none() | st.text(), lambda inner: st.dictionaries(st.text(), inner)).map(json.dumps)
)
def test_any_document_names_an_endpoint_or_is_told(document: bytes | str) -> None:
    body = document if isinstance(document, bytes) else document.encode("utf-8", "surrogatepass")
    try:
        found = _parse(ServerResponse(status=200, body=body))
    except TokenFetchError:
        return
    assert found is None
