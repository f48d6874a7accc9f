"""What the token endpoint's responses mean: every bad one is a failed fetch with a reason that a person can act on."""

from __future__ import annotations

import base64
import gzip
import json
import pickle
import string
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from switch_proxy.core.backoff import Lane
from switch_proxy.core.config.models import CredentialSettings, SecretSource
from switch_proxy.core.errors import (
    TokenEndpointUnavailableError,
    TokenFetchError,
    TokenQuotaExhaustedError,
    TokenRequestRefusedError,
    TokenResponseInvalidError,
)
from switch_proxy.core.lifecycle import lane_of
from switch_proxy.core.oauth.quoting import ServerWords
from switch_proxy.core.oauth.response import MAX_BODY, ServerResponse, parse_retry_after
from switch_proxy.core.oauth.token_response import LONGEST_LIFETIME, parse_response
from switch_proxy.core.secret import Secret
from switch_proxy.core.tokens import TokenGrant

SECRET: Final = "kT9-zebra-Quilt_42.vortex"
TOKEN: Final = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjIn0.c2ln"
WALL: Final = 1_700_000_000.0
_DAY: Final = 86400

SETTINGS: Final = CredentialSettings(
    token_url="https://login.example.com/oauth/token",
    client_id="the-client",
    client_secret=SecretSource(env="X"),
    audience="https://api.switchmarket.se",
    default_lifetime=300.0,
)


def _parse(body: bytes, status: int = 200, **head: Any) -> TokenGrant:
    response = ServerResponse(status=status, body=body, **head)
    return parse_response(response, settings=SETTINGS, words=_words(), wall=WALL)


def _words(secret: str = SECRET, *others: str) -> ServerWords:
    return ServerWords(credential_name="the client secret", secret=Secret(secret), others=map(Secret, others))


def _members(**changes: object) -> bytes:
    """Return a good response's body with some members changed; `...` leaves one out."""
    members = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600, **changes}
    return json.dumps({name: value for name, value in members.items() if value is not ...}).encode()


def _error(code: str, description: str | None = None, **more: object) -> bytes:
    members: dict[str, object] = {"error": code, **more}
    return json.dumps(members if description is None else members | {"error_description": description}).encode()


def _failure(body: bytes, status: int = 200, **head: Any) -> TokenFetchError:
    with pytest.raises(TokenFetchError) as caught:
        _parse(body, status, **head)
    return caught.value


# --- good responses ------------------------------------------------------------------------------------------------


def test_a_good_answer_is_a_grant() -> None:
    assert _parse(_members()) == TokenGrant(value=Secret(TOKEN), lifetime=3600.0, scope=None)


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_token_type_is_bearer_in_any_case(token_type: str) -> None:
    """RFC 6749 §5.1: the value is case insensitive."""
    assert _parse(_members(token_type=token_type)).value == Secret(TOKEN)


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        pytest.param(1, 1.0, id="a second"),
        pytest.param(3600, 3600.0, id="an hour"),
        pytest.param(3599.5, 3599.5, id="a fraction"),
        pytest.param(1e-9, 1e-9, id="next to nothing"),
        pytest.param("3600", 3600.0, id="text"),
        pytest.param(" 3600 ", 3600.0, id="text with blanks"),
        pytest.param("3599.5", 3599.5, id="text with a fraction"),
        pytest.param(..., 300.0, id="missing"),
        pytest.param(None, 300.0, id="null"),
        pytest.param(30 * _DAY - 1, 30.0 * _DAY - 1, id="a second less than the longest"),
        pytest.param(30 * _DAY, LONGEST_LIFETIME, id="the longest"),
        pytest.param(30 * _DAY + 1, LONGEST_LIFETIME, id="a second more than the longest"),
        pytest.param(10 * 365 * _DAY, LONGEST_LIFETIME, id="ten years"),
        pytest.param(1e308, LONGEST_LIFETIME, id="the largest number there is"),
        pytest.param(10**400, LONGEST_LIFETIME, id="more than a float can hold"),
        pytest.param("9" * 30, LONGEST_LIFETIME, id="long text"),
    ],
)
def test_the_lifetime_is_a_positive_number_or_text_of_one(expires_in: object, lifetime: float) -> None:
    """Missing, it is the configured default; beyond thirty days, it is thirty days."""
    assert _parse(_members(expires_in=expires_in)).lifetime == lifetime


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        pytest.param("read write", "read write", id="as it was told"),
        pytest.param(..., None, id="not told"),
        pytest.param("", None, id="empty"),
        pytest.param(["read"], None, id="no text"),
        pytest.param("read\r\nwrite", None, id="not of the characters that a scope has"),
        pytest.param("x" * 9000, None, id="overlong"),
    ],
)
def test_the_scope_is_taken_where_it_is_one(scope: object, expected: str | None) -> None:
    """It is only shown to people: a strange one is left out, and the token used."""
    assert _parse(_members(scope=scope)).scope == expected


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("a", id="one character"),
        pytest.param(string.ascii_letters + string.digits + "-._~+/", id="every character there is"),
        pytest.param("abc==", id="padded"),
        pytest.param("x" * 60_000, id="a long one"),
        pytest.param("00D000000000001!AQEAQ_x", id="with an exclamation mark, Salesforce"),
        pytest.param("".join(map(chr, range(0x21, 0x7F))), id="all of visible ASCII"),
        pytest.param("abc,def", id="a comma"),
        pytest.param("ab=c", id="padding within it"),
    ],
)
def test_a_token_of_visible_ascii_passes(token: str) -> None:
    """More than RFC 6750 §2.1 names: servers grant it, and their APIs take it."""
    assert _parse(_members(access_token=token)).value == Secret(token)


def test_a_byte_order_mark_is_ignored() -> None:
    """RFC 8259 §8.1 allows it, and some servers send one."""
    assert _parse(b"\xef\xbb\xbf" + _members()).value == Secret(TOKEN)


@pytest.mark.parametrize("content_type", ["", "text/html", "application/json; charset=utf-8"])
def test_the_content_type_does_not_matter_where_the_body_is_right(content_type: str) -> None:
    assert _parse(_members(), content_type=content_type).value == Secret(TOKEN)


def test_a_body_of_the_largest_size_is_read() -> None:
    body = _members()
    assert _parse(body + b" " * (MAX_BODY - len(body))).value == Secret(TOKEN)


@pytest.mark.parametrize("error", ["", None], ids=["empty", "null"])
def test_an_error_that_is_none_is_ignored(error: str | None) -> None:
    """Some servers send every member."""
    assert _parse(_members(error=error)).value == Secret(TOKEN)


# --- what is noted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token_type", "note"),
    [
        pytest.param(..., "has no token_type", id="missing"),
        pytest.param(None, "has no token_type", id="null"),
        pytest.param("", "has no token_type", id="empty"),
        pytest.param("BearerToken", "has the token_type 'BearerToken'", id="Apigee's"),
        pytest.param("bearertoken", "has the token_type 'bearertoken'", id="Apigee's, in another case"),
    ],
)
def test_a_token_of_these_types_is_a_bearer_token_and_that_is_noted(token_type: object, note: str) -> None:
    grant = _parse(_members(token_type=token_type))
    assert grant.value == Secret(TOKEN)
    assert grant.notes == (f"the token endpoint's response {note}; the token is used as a Bearer token",)


@pytest.mark.parametrize(
    ("requested", "granted", "missing"),
    [
        pytest.param("read write", "read write", None, id="all of it"),
        pytest.param("read write", "write read more", None, id="more, in another order"),
        pytest.param("read write", "read", "'write'", id="a part"),
        pytest.param("read write", "other", "'read write'", id="none of it"),
        pytest.param("read", ..., None, id="not told: as requested"),
        pytest.param(None, "read", None, id="none requested"),
        pytest.param("https://a/.default", "https://a/read", None, id="all that the client may have"),
    ],
)
def test_a_scope_that_is_narrower_than_requested_is_noted(
    requested: str | None, granted: object, missing: str | None
) -> None:
    """RFC 6749 §3.3 lets the server grant less; the API's 403 would come much later."""
    response = ServerResponse(status=200, body=_members(scope=granted))
    grant = parse_response(response, settings=replace(SETTINGS, scope=requested), words=_words(), wall=WALL)
    assert (missing is None) == (grant.notes == ())
    assert missing is None or f"the granted scope lacks {missing}; check scope" in grant.notes[0]


# --- a token's own end ---------------------------------------------------------------------------------------------

_DATE: Final = "Tue, 14 Nov 2023 22:13:20 GMT"  # WALL
_AN_HOUR_BEHIND: Final = WALL - 3600.0


def _jwt(**claims: object) -> str:
    parts = ({"alg": "RS256"}, claims)
    return ".".join(
        [*(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts), "c2ln"]
    )


def _life(exp: object, *, expires_in: object = 3600, date: str | None = _DATE, wall: float = WALL) -> float:
    body = _members(access_token=_jwt(exp=exp), expires_in=expires_in)
    response = ServerResponse(status=200, body=body, date=date)
    return parse_response(response, settings=SETTINGS, words=_words(), wall=wall).lifetime


@pytest.mark.parametrize(
    ("exp", "expires_in", "lifetime"),
    [
        pytest.param(WALL + 600, 3600, 600.0, id="the token ends first"),
        pytest.param(WALL + 3600, 3600, 3600.0, id="both say the same"),
        pytest.param(WALL + 7200, 3600, 3600.0, id="the answer ends first"),
        pytest.param(WALL + 0.5, 3600, 0.5, id="the token ends in a moment"),
        pytest.param(WALL + 60, ..., 60.0, id="the answer says nothing, the token ends before the default"),
        pytest.param(WALL + 3600, ..., 300.0, id="the answer says nothing, the token lasts longer"),
        pytest.param(WALL + 10**10, 10 * 365 * _DAY, LONGEST_LIFETIME, id="both say years"),
        pytest.param((WALL + 3600) * 1000, 3600, 3600.0, id="milliseconds by mistake"),
        pytest.param("soon", 3600, 3600.0, id="no number"),
        pytest.param(None, 3600, 3600.0, id="no end"),
    ],
)
def test_the_earlier_of_two_ends_counts(exp: object, expires_in: object, lifetime: float) -> None:
    """The expires_in of the response, or the exp of the token, if it is a JWT."""
    assert _life(exp, expires_in=expires_in) == lifetime


@pytest.mark.parametrize("wall", [_AN_HOUR_BEHIND, WALL + 10**8], ids=["behind", "ahead"])
def test_a_clock_that_is_off_shortens_no_life(wall: float) -> None:
    """The token's end is measured on the clock of the server that set it."""
    assert _life(WALL + 3600, wall=wall) == 3600.0
    assert _life(WALL + 600, wall=wall) == 600.0


@pytest.mark.parametrize("date", [None, "", "yesterday"], ids=["missing", "empty", "malformed"])
def test_without_a_date_the_machines_clock_is_taken_where_it_makes_sense(date: str | None) -> None:
    """An end that has passed by it is the clock's mistake: no server grants a token that is over."""
    assert _life(WALL + 600, date=date) == 600.0
    assert _life(WALL + 600, date=date, wall=WALL + 700) == 3600.0


@pytest.mark.parametrize(
    ("nbf", "date", "valid_in"),
    [
        pytest.param(WALL + 3, _DATE, 3.0, id="in some seconds"),
        pytest.param(WALL, _DATE, 0.0, id="at this moment"),
        pytest.param(WALL - 3, _DATE, 0.0, id="in the past"),
        pytest.param(None, _DATE, 0.0, id="missing"),
        pytest.param("soon", _DATE, 0.0, id="no number"),
        pytest.param(_AN_HOUR_BEHIND + 5, None, 5.0, id="by the machine's clock if there is no date"),
    ],
)
def test_a_token_that_is_not_valid_yet_says_when_it_is(nbf: object, date: str | None, valid_in: float) -> None:
    """By the clock of the server that set it; the machine's is an hour behind."""
    response = ServerResponse(status=200, body=_members(access_token=_jwt(nbf=nbf)), date=date)
    grant = parse_response(response, settings=SETTINGS, words=_words(), wall=_AN_HOUR_BEHIND)
    assert grant.valid_in == valid_in


@pytest.mark.parametrize("exp", [WALL, WALL - 1, 0], ids=["at this moment", "a second ago", "in 1970"])
def test_a_token_that_was_over_when_it_was_granted_is_none(exp: float) -> None:
    """By the server's own clock: the API would refuse it."""
    with pytest.raises(TokenResponseInvalidError, match="had ended"):
        _life(exp)


@given(exp=st.integers() | st.floats() | st.text() | st.none(), wall=st.floats(0, 4e9))
def test_a_token_never_lives_longer_than_the_answer_says(exp: object, wall: float) -> None:
    """Whatever it claims: nothing else is believed of it."""
    assert 0.0 < _life(exp, date=None, wall=wall) <= 3600.0
    with suppress(TokenResponseInvalidError):
        assert 0.0 < _life(exp, date=_DATE, wall=wall) <= 3600.0


# --- responses that cannot be used ---------------------------------------------------------------------------------

UNUSABLE: Final[dict[str, tuple[bytes, str]]] = {
    "a token_type that is no text": (_members(token_type=1), "a token_type that is no text; only Bearer"),
    "another token_type": (_members(token_type="mac"), "the token_type 'mac'; only Bearer"),
    "a token that is bound to a key": (_members(token_type="DPoP"), "the token_type 'DPoP'; only Bearer"),
    "a token_type that says it is none": (_members(token_type="N_A"), "the token_type 'N_A'; only Bearer"),
    "no access_token": (_members(access_token=...), "has no access_token"),
    "an empty access_token": (_members(access_token=""), "has no access_token"),
    "an access_token that is no text": (_members(access_token={"a": TOKEN}), "has no access_token"),
    "a CR LF in the token": (
        _members(access_token="abc\r\nX-Injected: 1"),
        "characters that no Authorization line may have",
    ),
    "a newline at the token's end": (_members(access_token="abc\n"), "characters that no Authorization line may have"),
    "a blank in the token": (_members(access_token="abc def"), "characters that no Authorization line may have"),
    "a letter beyond ASCII in the token": (
        _members(access_token="abcé"),
        "characters that no Authorization line may have",
    ),
    "a tab in the token": (_members(access_token="abc\tdef"), "characters that no Authorization line may have"),
    "a NUL in the token": (_members(access_token="abc\0"), "characters that no Authorization line may have"),
    "a DEL in the token": (_members(access_token="abc\x7f"), "characters that no Authorization line may have"),
    "a digit of another script": (_members(access_token="abc٣"), "characters that no Authorization line may have"),
    "a life of zero": (_members(expires_in=0), "not positive"),
    "a life of zero as text": (_members(expires_in="0"), "not positive"),
    "a negative life": (_members(expires_in=-1), "not positive"),
    "a hugely negative life": (_members(expires_in=-(10**400)), "not positive"),
    "a life that is true": (_members(expires_in=True), "no number of seconds"),
    "a life that is false": (_members(expires_in=False), "no number of seconds"),
    "a life in a list": (_members(expires_in=[3600]), "no number of seconds"),
    "a life in words": (_members(expires_in="an hour"), "no number of seconds"),
    "an empty life": (_members(expires_in=""), "no number of seconds"),
    "a negative life as text": (_members(expires_in="-1"), "no number of seconds"),
    "a life in another notation": (_members(expires_in="1e3"), "no number of seconds"),
    "a life in digits of another script": (_members(expires_in="٣٦٠٠"), "no number of seconds"),
    "infinity as text": (_members(expires_in="inf"), "no number of seconds"),
    "text with too many digits": (_members(expires_in="9" * 31), "no number of seconds"),
    "a life that overflows": (_members().replace(b"3600", b"1e999"), "not finite"),
    "a life that is NaN": (_members(expires_in=float("nan")), "is not JSON"),
    "a life that is Infinity": (_members(expires_in=float("inf")), "is not JSON"),
    "more digits than can be converted": (_members().replace(b"3600", b"9" * 5000), "is not JSON"),
    "nothing": (b"", "is empty"),
    "blanks": (b" \r\n", "is empty"),
    "HTML": (b"<!DOCTYPE html><html><body>Sign in</body></html>", "is not JSON"),
    "JSON that is cut short": (_members()[:-2], "is not JSON"),
    "JSON with something after it": (_members() + b"x", "is not JSON"),
    "a list": (b"[" + _members() + b"]", "is JSON, but no object"),
    "a text": (b'"' + TOKEN.encode() + b'"', "is JSON, but no object"),
    "null": (b"null", "is JSON, but no object"),
    "bytes that are no UTF-8": (_members(comment="x").replace(b'"x"', b'"\xff"'), "is not in UTF-8"),
    "UTF-16": (_members().decode().encode("utf-16"), "is not in UTF-8"),
    "a member that is there twice": (_members()[:-1] + b', "expires_in": 7200}', "a repeated member"),
    "a member that is there twice, deeper": (
        _members()[:-1] + b', "x": {"a": 1, "a": 2}}',
        "a repeated member",
    ),
    "lists nested deeply": (b"[" * MAX_BODY, "nested too deeply"),
    "objects nested deeply": (b'{"a":' * (MAX_BODY // 5), "nested too deeply"),
    "one byte too many": (_members() + b" " * (MAX_BODY - len(_members()) + 1), "is larger than 64 KiB"),
}


@pytest.mark.parametrize(("body", "complaint"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_answer_that_cannot_be_used_is_an_error_that_says_why(body: bytes, complaint: str) -> None:
    """The reason names what is wrong, and repeats nothing of the body but a token_type."""
    failure = _failure(body)
    assert type(failure) is TokenResponseInvalidError
    assert complaint in failure.reason
    assert TOKEN not in failure.reason
    assert "Sign in" not in failure.reason


def test_an_answer_that_was_cut_off_for_its_size_is_not_used() -> None:
    """Even if the part that was read is a whole response."""
    assert "larger than 64 KiB" in _failure(_members(), is_complete=False).reason


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", " GZIP "])
def test_an_answer_in_gzip_is_read(coding: str) -> None:
    """It was not requested, but some gateways compress every response."""
    assert _parse(gzip.compress(_members()), content_encoding=coding).value == Secret(TOKEN)
    refusal = _failure(gzip.compress(_error("invalid_client")), 401, content_encoding=coding)
    assert "invalid_client" in refusal.reason


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        pytest.param(_members(), "is not in the content coding that it names", id="not compressed"),
        pytest.param(gzip.compress(_members())[:-9], "breaks off within its content coding", id="cut short"),
        pytest.param(b"", "breaks off within its content coding", id="empty"),
        pytest.param(gzip.compress(b" " * (MAX_BODY + 1)), "is larger than 64 KiB", id="a byte too much"),
    ],
)
def test_an_answer_whose_gzip_is_wrong_is_not_used(body: bytes, complaint: str) -> None:
    assert complaint in _failure(body, content_encoding="gzip").reason


def test_a_body_in_gzip_of_the_largest_size_is_read() -> None:
    body = _members()
    padded = gzip.compress(body + b" " * (MAX_BODY - len(body)))
    assert _parse(padded, content_encoding="gzip").value == Secret(TOKEN)


@pytest.mark.parametrize("coding", ["br", "deflate", "zstd", "gzip, gzip"])
def test_an_answer_with_another_content_coding_is_not_used(coding: str) -> None:
    """None was requested."""
    assert "content coding" in _failure(_members(), content_encoding=coding).reason
    assert _parse(_members(), content_encoding="identity").value == Secret(TOKEN)


def test_the_content_type_of_what_is_no_json_is_told() -> None:
    """It shows that a login page came instead of JSON."""
    failure = _failure(b"<html>", content_type="text/html; charset=utf-8")
    assert failure.reason == "the token endpoint's response (text/html) is not JSON"


# --- refusals and outages ------------------------------------------------------------------------------------------


REFUSED, UNAVAILABLE, INVALID = TokenRequestRefusedError, TokenEndpointUnavailableError, TokenResponseInvalidError
EXHAUSTED = TokenQuotaExhaustedError

FAILURES: Final[dict[str, tuple[int, bytes, type[TokenFetchError], str]]] = {
    "a wrong secret": (401, _error("access_denied", "Unauthorized"), REFUSED, "401 Unauthorized: access_denied: Un"),
    "a wrong secret, Microsoft": (
        401,
        _error("invalid_client", "AADSTS7000215: Invalid client secret provided."),
        REFUSED,
        "invalid_client: AADSTS7000215: Invalid client secret provided.; check client_id and the client secret",
    ),
    "a wrong audience": (403, _error("access_denied", "Service not enabled"), REFUSED, "audience or scope"),
    "a malformed request": (400, _error("invalid_request"), REFUSED, "check client_id, audience, scope"),
    "a grant that is not allowed": (400, _error("unauthorized_client"), REFUSED, "client_credentials grant"),
    "a refusal without a body": (403, b"", REFUSED, "403 Forbidden; check"),
    "a refusal in HTML": (401, b"<html>no</html>", REFUSED, "401 Unauthorized; check client_id"),
    "a wrong path": (404, b"<html>no</html>", REFUSED, "404 Not Found; check token_url"),
    "a wrong method": (405, b"", REFUSED, "405 Method Not Allowed; check token_url"),
    "a status nobody knows": (499, b"", REFUSED, "with 499; check token_url"),
    "an error with 200": (200, _error("invalid_client", "no"), REFUSED, "200 OK: invalid_client: no"),
    "an error and a token with 200": (200, _members(error="invalid_client"), REFUSED, "200 OK: invalid_client"),
    "an error that is no text, with 200": (200, _members(error=True), REFUSED, "200 OK"),
    "a lockout": (429, _error("too_many_attempts", "Blocked"), REFUSED, "the client is locked out"),
    "too many requests": (429, _error("too_many_requests"), EXHAUSTED, "429 Too Many Requests: too_many_requests"),
    "too many requests in HTML": (429, b"<html>", EXHAUSTED, "429 Too Many Requests; the client gets no more tokens"),
    "a timeout of the server's": (408, b"", UNAVAILABLE, "408 Request Timeout"),
    "too early": (425, b"", UNAVAILABLE, "425 Too Early"),
    "an internal error": (500, _error("server_error"), UNAVAILABLE, "500 Internal Server Error: server_error"),
    "a gateway's page": (502, b"<html>" * 1000, UNAVAILABLE, "responded with 502 Bad Gateway"),
    "unavailable": (503, b"", UNAVAILABLE, "responded with 503 Service Unavailable"),
    "the last status": (599, b"", UNAVAILABLE, "responded with 599"),
    "unavailable as an error code": (400, _error("temporarily_unavailable"), UNAVAILABLE, "temporarily_unavailable"),
    "an internal error with 200": (200, _error("server_error"), UNAVAILABLE, "200 OK: server_error"),
    "a redirect": (302, b"", INVALID, "redirects are not followed"),
    "a redirect that keeps the method": (307, b"", INVALID, "redirects are not followed"),
    "no content": (204, b"", INVALID, "the token endpoint's response is empty"),
    "created, but no token": (201, b"{}", INVALID, "has no access_token"),
    "an interim status": (199, b"", INVALID, "responded with 199, not 2xx"),
}


@pytest.mark.parametrize(("status", "body", "kind", "text"), FAILURES.values(), ids=FAILURES)
def test_each_failure_is_told_by_whose_it_is(status: int, body: bytes, kind: type[TokenFetchError], text: str) -> None:
    """What another request does not cure is a refusal; what may pass is an outage; the rest is an unusable response."""
    failure = _failure(body, status)
    assert type(failure) is kind
    assert text in failure.reason
    assert TOKEN not in failure.reason


@pytest.mark.parametrize(
    ("status", "body", "has_hint"),
    [
        pytest.param(401, b"", True, id="401"),
        pytest.param(400, _error("invalid_client"), True, id="invalid_client"),
        pytest.param(400, _error("invalid_scope"), False, id="another cause"),
        pytest.param(403, b"", False, id="a bare 403"),
    ],
)
def test_the_hint_of_the_method_is_given_if_the_client_is_refused(status: int, body: bytes, *, has_hint: bool) -> None:
    words = ServerWords(credential_name="the key", secret=Secret(SECRET), refusal_hint="see assertion_audience")
    with pytest.raises(TokenRequestRefusedError) as caught:
        parse_response(ServerResponse(status=status, body=body), settings=SETTINGS, words=words, wall=WALL)
    assert caught.value.reason.endswith("; see assertion_audience") is has_hint


def test_a_bare_403_may_come_from_something_in_front_of_the_server() -> None:
    assert "no firewall in front of the server" in _failure(b"<html>", 403).reason


@pytest.mark.parametrize("status", [199, 200, 201, 203, 299, 300, 399, 400, 499, 500, 599])
def test_no_status_but_2xx_brings_a_token(status: int) -> None:
    """A whole token response with any other status is not used."""
    if 200 <= status < 300:
        assert _parse(_members(), status).value == Secret(TOKEN)
    else:
        assert TOKEN not in _failure(_members(), status).reason


def test_a_redirect_tells_where_to_without_the_query() -> None:
    """What stands in a query may be a secret."""
    failure = _failure(b"", 301, location="https://new.example.com/token?code=private#part")
    assert failure.reason == (
        "the token endpoint responded with 301 Moved Permanently to https://new.example.com/token; "
        "redirects are not followed: token_url must be final"
    )


@pytest.mark.parametrize(
    ("quota", "text", "until"),
    [
        pytest.param(
            "b=per_hour;q=10;r=3;t=100,b=per_day;q=50;r=0;t=6400",
            "the client's quota of tokens (50 a day) is used up until 00:00 UTC; "
            "the token endpoint responded with 429 Too Many Requests: too_many_requests",
            11_400.0,
            id="the day's",
        ),
        pytest.param(
            "b=per_hour;q=10;r=0;t=2800,b=per_day;q=50;r=0;t=6400",
            "the client's quota of tokens (50 a day) is used up until 00:00 UTC; ",
            11_400.0,
            id="both: the one that resets last",
        ),
        pytest.param(
            "b=per_hour;q=10;r=0;t=2800,b=per_day;q=50;r=40;t=6400",
            "the client's quota of tokens (10 an hour) is used up until 23:00 UTC; ",
            7_800.0,
            id="the hour's",
        ),
        pytest.param(
            "b=per_hour;q=10;r=1;t=2800",
            "the token endpoint responded with 429 Too Many Requests: too_many_requests; the client gets no more tokens",
            None,
            id="none, by its own count",
        ),
    ],
)
def test_a_429_says_which_quota_is_used_up_and_until_when(quota: str, text: str, until: float | None) -> None:
    """WALL is 22:13:20 UTC."""
    failure = _failure(
        _error("too_many_requests"), 429, fields=(("Auth0-Client-Quota-Limit", quota),), received_at=5000.0
    )
    assert isinstance(failure, TokenQuotaExhaustedError)
    assert failure.reason.startswith(text)
    assert failure.exhausted_until == until
    assert len(failure.quota) == quota.count("q=")


def test_the_moment_of_the_reset_is_by_the_servers_clock() -> None:
    """This machine's is an hour behind."""
    fields = (("Auth0-Client-Quota-Limit", "b=per_day;q=50;r=0;t=2800"),)
    failure = _failure(b"", 429, fields=fields, received_at=5000.0, date="Tue, 14 Nov 2023 23:13:20 GMT")
    assert "until 00:00 UTC" in failure.reason


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 429, 500, 503])
def test_a_body_that_was_cut_off_does_not_change_what_its_status_says(status: int) -> None:
    kind = type(_failure(b"", status))
    assert type(_failure(b"x" * MAX_BODY, status, is_complete=False)) is kind


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param(None, None, id="missing"),
        pytest.param("0", 0.0, id="zero"),
        pytest.param("120", 120.0, id="seconds"),
        pytest.param(" 120 ", 120.0, id="seconds with blanks"),
        pytest.param("9" * 400, 1e30, id="more seconds than there will be"),
        pytest.param("Tue, 14 Nov 2023 22:14:20 GMT", 60.0, id="a date"),
        pytest.param("Tuesday, 14-Nov-23 22:14:20 GMT", 60.0, id="a date in the form of RFC 850"),
        pytest.param("Tue Nov 14 22:14:20 2023", 60.0, id="a date in the form of asctime"),
        pytest.param("Tue, 14 Nov 2023 22:13:20 GMT", 0.0, id="now"),
        pytest.param("Tue, 14 Nov 2023 22:13:19 GMT", 0.0, id="a date that has passed"),
        pytest.param("-1", None, id="negative"),
        pytest.param("1.5", None, id="a fraction"),
        pytest.param("soon", None, id="a word"),
        pytest.param("", None, id="empty"),
        pytest.param("٣", None, id="a digit of another script"),
        pytest.param("²", None, id="a digit that is no decimal"),
        pytest.param("Tue, 99 Nov 2023 22:14:20 GMT", None, id="a day that is none"),
        pytest.param("Tue, 14 Nov 99999999999999999999 22:14:20 GMT", None, id="a year that is none"),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    """RFC 9110 §10.2.3; anything else is ignored."""
    found = parse_retry_after(value, wall=WALL)
    assert found == (seconds if seconds is None else pytest.approx(seconds))


def test_a_date_without_a_zone_is_in_utc_wherever_the_proxy_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9110 §5.6.7: all of HTTP's dates are."""
    monkeypatch.setenv("TZ", "ABC+05:00")
    time.tzset()
    try:
        assert parse_retry_after("Tue Nov 14 22:14:20 2023", wall=WALL) == pytest.approx(60.0)
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.text())
def test_any_retry_after_is_seconds_or_nothing(value: str) -> None:
    found = parse_retry_after(value, wall=WALL)
    assert found is None or 0.0 <= found <= 1e30


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 408, 429, 500, 503])
def test_retry_after_is_taken_from_any_failure(status: int) -> None:
    assert _failure(b"", status, retry_after="120").retry_after == 120.0


# --- what an error shows -------------------------------------------------------------------------------------------

ECHOES: Final = {
    "whole": SECRET,
    "in a sentence": f"the secret {SECRET} is wrong",
    "its beginning": f"the secret {SECRET[:10]}... is wrong",
    "its middle": f"...{SECRET[6:16]}...",
    "its end": SECRET[-8:],
    "in upper case": SECRET.upper(),
    "percent-encoded": quote(SECRET, safe=""),
    "in base64": base64.b64encode(SECRET.encode()).decode(),
    "as Basic credentials": base64.b64encode(f"the-client:{SECRET}".encode()).decode(),
    "as the end of Basic credentials": base64.b64encode(f"the-client:{SECRET}".encode()).decode()[-14:],
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("place", ["error", "error_description", "error_uri"])
def test_a_secret_that_the_server_repeats_is_not_shown(place: str, echo: str) -> None:
    """Wherever it stands, whole or in part, as it is or encoded."""
    failure = _failure(json.dumps({"error": "invalid_client", place: echo}).encode(), 401)
    assert echo not in str(failure)
    assert "it repeats the client secret" in str(failure)
    for start in range(len(SECRET) - 7):
        assert SECRET[start : start + 8].lower() not in str(failure).lower()


@pytest.mark.parametrize("head", [{"location": f"https://x/{SECRET}"}, {"content_type": f"text/{SECRET}"}])
def test_a_secret_in_the_head_of_an_answer_is_not_shown(head: dict[str, str]) -> None:
    status = 302 if "location" in head else 200
    assert SECRET not in str(_failure(b"", status, **head))


@pytest.mark.parametrize("echo", [TOKEN, f"token {TOKEN} was not revoked", TOKEN[-12:], TOKEN.upper()])
@pytest.mark.parametrize("place", ["error", "error_description", "error_uri"])
def test_a_token_in_use_that_the_server_repeats_is_not_shown(place: str, echo: str) -> None:
    """Of any credential: servers quote what they have logged."""
    body = json.dumps({"error": "temporarily_unavailable", place: echo}).encode()
    with pytest.raises(TokenFetchError) as caught:
        parse_response(
            ServerResponse(status=503, body=body), settings=SETTINGS, words=_words(SECRET, "other", TOKEN), wall=WALL
        )
    assert "it repeats a token or another secret" in str(caught.value)
    for start in range(len(TOKEN) - 7):
        assert TOKEN[start : start + 8].lower() not in str(caught.value).lower()


@pytest.mark.parametrize("status", [200, 400, 503])
@pytest.mark.parametrize("name", ["access_token", "refresh_token", "id_token"])
def test_a_token_of_the_answer_itself_is_not_shown(name: str, status: int) -> None:
    members = {"error": "server_error", "error_description": "of zebra-token-value", name: "zebra-token-value"}
    assert "zebra" not in _failure(json.dumps(members).encode(), status).reason


def test_a_token_in_another_member_is_not_shown() -> None:
    """Neither as a token's type nor as its scope."""
    assert TOKEN not in _failure(_members(token_type=TOKEN)).reason
    assert _parse(_members(scope=f"read {TOKEN}")).scope is None


def test_a_secret_with_letters_beyond_ascii_is_found_before_they_are_replaced() -> None:
    secret = "pässwörd-öf-a-tëst"
    body = _error("invalid_client", f"not {secret}")
    with pytest.raises(TokenRequestRefusedError) as caught:
        parse_response(ServerResponse(status=401, body=body), settings=SETTINGS, words=_words(secret), wall=WALL)
    assert "rd-" not in str(caught.value)


def test_without_a_secret_the_servers_words_are_shown_whole() -> None:
    """With mutual TLS there is nothing that they could repeat."""
    response = ServerResponse(status=401, body=_error("invalid_client", "unknown certificate"))
    with pytest.raises(TokenFetchError, match="invalid_client: unknown certificate"):
        parse_response(response, settings=SETTINGS, words=_words(""), wall=WALL)


def test_the_client_id_may_be_shown() -> None:
    """It is no secret, and helps to find the mistake; also encoded as a Basic credential begins."""
    words = f"unknown client the-client ({base64.b64encode(b'the-client:').decode()[:12]})"
    assert words in _failure(_error("invalid_client", words), 401).reason


def test_a_short_secret_is_not_shown_either() -> None:
    with pytest.raises(TokenRequestRefusedError) as caught:
        parse_response(
            ServerResponse(status=401, body=_error("invalid_client", "not zq7")),
            settings=SETTINGS,
            words=_words("zq7"),
            wall=WALL,
        )
    assert "zq7" not in str(caught.value)


def test_the_servers_words_are_cut_short() -> None:
    failure = _failure(_error("invalid_client", "word " * 1000), 401)
    assert len(failure.reason) < 400
    assert "invalid_client: word word" in failure.reason
    assert "...; check client_id" in failure.reason


@pytest.mark.parametrize(
    ("description", "shown"),
    [
        pytest.param("a\r\nb", "a b", id="line breaks"),
        pytest.param("a\x1b[31mb", "a?[31mb", id="a terminal's control sequence"),
        pytest.param("a\x00b", "a?b", id="a NUL"),
        pytest.param("a\u202eb", "a?b", id="a change of direction"),
        pytest.param('a"b\\c', "a?b?c", id="what RFC 6749 leaves out"),
        pytest.param("aéb", "a?b", id="a letter beyond ASCII"),
        pytest.param("a\ud800b", "a?b", id="half of a character"),
    ],
)
def test_the_servers_words_are_shown_in_printable_ascii(description: str, shown: str) -> None:
    """RFC 6749 §5.2 allows no more; a log or a terminal is not to be written to by a server."""
    assert f"invalid_client: {shown};" in _failure(_error("invalid_client", description), 401).reason


@pytest.mark.parametrize("value", [1, None, True, ["x"], {"a": "x"}])
def test_members_of_an_error_that_are_no_text_are_left_out(value: object) -> None:
    body = json.dumps({"error": "invalid_client", "error_description": value, "error_uri": value}).encode()
    assert "401 Unauthorized: invalid_client; check" in _failure(body, 401).reason


@pytest.mark.parametrize(
    ("body", "head"),
    [
        pytest.param(_members(token_type="DPoP"), {}, id="another token_type"),
        pytest.param(_members(expires_in=-1), {}, id="no life"),
        pytest.param(_members(access_token=...), {}, id="no access_token"),
        pytest.param(b" \r\n" + _members()[:-5], {}, id="cut off, after blanks"),
        pytest.param(b"\xef\xbb\xbf" + _members()[:-5], {}, id="cut off, after a byte order mark"),
        pytest.param(b"{" + b"x" * MAX_BODY, {"is_complete": False}, id="too large"),
        pytest.param(gzip.compress(_members())[:-9], {"content_encoding": "gzip"}, id="cut off in its coding"),
        pytest.param(b"\x8b", {"content_encoding": "br"}, id="in a coding that is not read"),
        pytest.param(_members(), {"status": 201, "content_encoding": "br"}, id="201"),
    ],
)
def test_a_good_response_that_cannot_be_used_may_have_cost_a_token(body: bytes, head: dict[str, Any]) -> None:
    assert lane_of(_failure(body, **head)) is Lane.UNUSABLE


@pytest.mark.parametrize(
    ("body", "head"),
    [
        pytest.param(b"<!DOCTYPE html><p>{}", {"content_type": "text/html"}, id="a page"),
        pytest.param(b"", {}, id="nothing"),
        pytest.param(b" \n", {}, id="blanks"),
        pytest.param(b"OK", {}, id="a word"),
        pytest.param(b'[{"access_token":"x"}]', {}, id="a list"),
        pytest.param(_members(), {"status": 302}, id="a redirect"),
        pytest.param(_members(), {"status": 503}, id="an error"),
    ],
)
def test_a_response_that_is_no_token_response_has_cost_no_token(body: bytes, head: dict[str, Any]) -> None:
    """A gateway's page is gone as soon as the gateway has found the server again."""
    assert lane_of(_failure(body, **head)) is Lane.TRANSIENT


# --- any response --------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "access_token": st.just(TOKEN) | json_values,
        "token_type": st.sampled_from(["Bearer", "bearer"]) | json_values,
        "expires_in": st.integers() | st.floats() | json_values,
        "scope": json_values,
        "error": st.sampled_from(["invalid_client", "server_error"]) | json_values,
        "error_description": json_values,
        "error_uri": json_values,
    },
).map(lambda document: json.dumps(document).encode())
VISIBLE_ASCII: Final = frozenset(map(chr, range(0x21, 0x7F)))


@given(
    body=st.binary(max_size=300) | documents,
    status=st.just(200) | st.integers(min_value=200, max_value=599),
    content_type=st.text(max_size=20),
    retry_after=st.none() | st.text(max_size=20),
    location=st.none() | st.text(max_size=20),
)
@example(body=b"", status=200, content_type="", retry_after=None, location=None)
def test_any_answer_gives_a_token_or_our_error(
    body: bytes, status: int, content_type: str, retry_after: str | None, location: str | None
) -> None:
    """No response causes another exception, a token that does not fit in a header field, or an endless life."""
    failure = None
    try:
        grant = _parse(body, status, content_type=content_type, retry_after=retry_after, location=location)
    except TokenFetchError as error:
        failure = error
    if failure is not None:
        assert failure.reason.isascii()
        assert failure.reason.isprintable()
        assert TOKEN not in failure.reason
        assert failure.__context__ is None
        assert failure.retry_after is None or failure.retry_after >= 0.0
        return
    assert 200 <= status < 300
    assert set(grant.value.reveal()) <= VISIBLE_ASCII
    assert 0.0 < grant.lifetime <= LONGEST_LIFETIME


def test_an_answer_shows_its_body_to_nobody() -> None:
    response = ServerResponse(status=200, body=_members())
    assert repr(response) == f"<ServerResponse 200 with {len(_members())} bytes>"
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(response)
