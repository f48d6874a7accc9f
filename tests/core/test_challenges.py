"""What WWW-Authenticate says of a refused token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.http.www_authenticate import is_about_token, wants_more_scope


@pytest.mark.parametrize(
    ("challenges", "is_about"),
    [
        pytest.param([], True, id="nothing is said"),
        pytest.param([b"Bearer"], True, id="bearer alone"),
        pytest.param([b'Bearer realm="api"'], True, id="bearer without an error"),
        pytest.param([b'Bearer realm="api", error="invalid_token"'], True, id="invalid token"),
        pytest.param([b"bearer error=invalid_token"], True, id="in lower case, not quoted"),
        pytest.param([b'BEARER ERROR = "Invalid_Token"'], True, id="in any case, with white space"),
        pytest.param([b'Basic realm="a, b", Bearer error="invalid_token"'], True, id="behind another scheme"),
        pytest.param([b"Negotiate", b'Bearer error="invalid_token"'], True, id="in a second line"),
        pytest.param([b'OAuth2 realm="a", error="invalid_token"'], True, id="another name for bearer"),
        pytest.param([b"Token"], True, id="a scheme of its own"),
        pytest.param([b'OAuth realm="a"'], True, id="an old scheme"),
        pytest.param([b'Bearer error="token_expired"'], True, id="a code of its own"),
        pytest.param([b'Bearer error="401"'], True, id="a number for a code"),
        pytest.param([b'Basic realm="a", JWT'], True, id="a scheme of its own behind another"),
        pytest.param([b'OAuth2 error="insufficient_scope"'], False, id="scope, under another name"),
        pytest.param([b'Bearer error="insufficient_user_authentication"'], False, id="a person has to log in"),
        pytest.param([b'DPoP error="use_dpop_nonce"'], False, id="a proof is wanted"),
        pytest.param([b'Basic realm="a"', b"Digest nonce=a", b"NTLM"], False, id="three other schemes"),
        pytest.param([b'Bearer error="invalid_request"'], False, id="the request was wrong"),
        pytest.param([b'Bearer error="insufficient_scope", scope="admin"'], False, id="scope does not suffice"),
        pytest.param([b'Bearer realm="error=invalid_token", error="invalid_request"'], False, id="within quotes"),
        pytest.param([b'Basic realm="api"'], False, id="another scheme"),
        pytest.param([b"Negotiate dG9rZW42OA=="], False, id="a scheme with a token68"),
        pytest.param([b'Basic error="invalid_token"'], False, id="the error is another scheme's"),
        pytest.param([b'DPoP error="invalid_token"'], False, id="another scheme of OAuth"),
        pytest.param([b""], True, id="an empty value"),
        pytest.param([b",,"], True, id="empty list members"),
    ],
)
def test_a_401_is_about_the_token_where_it_does_not_say_otherwise(challenges: list[bytes], *, is_about: bool) -> None:
    """RFC 6750 §3, RFC 9110 §11.6.1."""
    assert is_about_token(challenges) is is_about


@pytest.mark.parametrize(
    ("challenges", "wants"),
    [
        pytest.param([b'Bearer error="insufficient_scope", scope="write"'], True, id="insufficient scope"),
        pytest.param(
            [b'Bearer realm="a", scope="write", error="insufficient_scope"'], True, id="as the last parameter"
        ),
        pytest.param([b'Bearer error="invalid_token"'], False, id="invalid token"),
        pytest.param([], False, id="nothing is said"),
    ],
)
def test_a_403_for_want_of_scope_is_known(challenges: list[bytes], *, wants: bool) -> None:
    """RFC 6750 §3.1."""
    assert wants_more_scope(challenges) is wants


@given(st.lists(st.binary() | st.text(alphabet='Bearer error="\\,=').map(str.encode)))
def test_any_value_is_read(challenges: list[bytes]) -> None:
    """What an API says is not ours to refuse: it passes to the client all the same."""
    is_about_token(challenges)
    wants_more_scope(challenges)


@pytest.mark.parametrize("text", [b'"' * 60_000, b'Bearer error="' + b"\\" * 60_000, b"a " * 30_000, b'a="' * 20_000])
def test_a_long_value_is_read_in_linear_time(text: bytes) -> None:
    """Within the time that one test may take; quadratic reading would not be."""
    assert not wants_more_scope([text])
