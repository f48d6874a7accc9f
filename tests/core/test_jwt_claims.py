"""The claims of an access token."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.jwt_claims import audiences, expiry, read_claims, scopes


def _part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def _token(claims: object, header: object = None) -> str:
    return f"{_part(header or {'alg': 'RS256'})}.{_part(claims)}.c2lnbmF0dXJl"


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text())))
def test_claims_of_a_jwt_are_read_without_its_signature(claims: dict[str, object]) -> None:
    assert read_claims(_token(claims)) == claims


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("opaque", id="opaque"),
        pytest.param("a.b", id="two parts"),
        pytest.param("a.b.c.d.e", id="encrypted"),
        pytest.param(f"{_part({})}.{_part([1])}.x", id="claims that are a list"),
        pytest.param(f"{_part([])}.{_part({})}.x", id="header that is a list"),
        pytest.param(f"{_part({})}.e30*.x", id="character outside base64url"),
        pytest.param(f"{_part({})}.e.x", id="base64 cut short"),
        pytest.param(f"{_part({})}.gICA.x", id="bytes that are no text"),
        pytest.param(f"{_part({})}.{base64.urlsafe_b64encode(b'[' * 30_000).decode()}.x", id="brackets without end"),
        pytest.param(_token({"a": "x" * 65536}), id="too long"),
        pytest.param("", id="nothing"),
    ],
)
def test_token_that_is_no_jwt_has_no_claims(token: str) -> None:
    assert read_claims(token) is None


@given(st.text())
def test_any_text_has_claims_or_none(token: str) -> None:
    claims = read_claims(token)
    assert claims is None or isinstance(claims, dict)


@pytest.mark.parametrize(
    ("claim", "found"),
    [("https://a", ["https://a"]), (["a", "b", 3, ""], ["a", "b"]), (None, []), (7, []), ({"a": "b"}, [])],
    ids=["text", "list", "null", "number", "object"],
)
def test_audience_is_text_or_a_list_of_texts(claim: object, found: list[str]) -> None:
    """RFC 7519 §4.1.3."""
    assert audiences({"aud": claim}) == found


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        ({"scope": "a b"}, ["a", "b"]),
        ({"scope": ["a", "b"]}, ["a", "b"]),
        ({"scp": "a b"}, ["a", "b"]),
        ({"scp": ["a"], "roles": ["b", "a"]}, ["a", "b"]),
        ({}, []),
        ({"scope": 3, "scp": None}, []),
    ],
    ids=["text", "list", "Okta", "Microsoft", "none", "no texts"],
)
def test_scope_is_found_under_each_of_its_names(claims: dict[str, object], found: list[str]) -> None:
    assert scopes(claims) == found


@pytest.mark.parametrize(
    ("value", "at"),
    [
        pytest.param(1_700_000_000, 1_700_000_000.0, id="a number"),
        pytest.param(1_700_000_000.5, 1_700_000_000.5, id="a fraction"),
        pytest.param(-1, -1.0, id="before 1970"),
        pytest.param(None, None, id="nothing"),
        pytest.param("1700000000", None, id="text"),
        pytest.param(True, None, id="true"),
        pytest.param(10**400, None, id="more than a float can hold"),
        pytest.param(float("nan"), None, id="no number"),
    ],
)
def test_end_is_a_number_of_seconds_or_none(value: object, at: float | None) -> None:
    assert expiry({"exp": value}) == at
