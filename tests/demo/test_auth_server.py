"""FakeAuthorizationServer as a client of the token endpoint sees it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import pytest

from switch_proxy.demo.auth_server import SWITCH_AUDIENCE, SWITCH_PERMISSIONS, FakeAuthorizationServer
from switch_proxy.demo.faults import Lifetime, Status, TokenField, WithoutTokenField

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from tests.demo.settable_time import SettableTime

FORM = "application/x-www-form-urlencoded"
RIGHT = "grant_type=client_credentials&client_id=app&client_secret=s3cret&audience=https%3A%2F%2Fapi.switchmarket.se"


async def ask(
    client: aiohttp.ClientSession, url: str, body: str = RIGHT, headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, str], dict[str, Any]]:
    async with client.post(url, data=body, headers={"Content-Type": FORM, **(headers or {})}) as response:
        return response.status, response.headers, await response.json()


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


def without(name: str) -> str:
    return "&".join(pair for pair in RIGHT.split("&") if not pair.startswith(f"{name}="))


def basic(client_id: str, secret: str) -> dict[str, str]:
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


async def test_the_documented_request_gets_a_token(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession
) -> None:
    """The response to the four parameters has the three members of the API's documentation."""
    status, headers, body = await ask(client, auth.token_url)

    assert status == 200
    assert body == {"access_token": auth.issued[0].value, "token_type": "Bearer", "expires_in": 86400}
    assert headers["Content-Type"] == "application/json; charset=utf-8"


async def test_every_answer_forbids_caching(auth: FakeAuthorizationServer, client: aiohttp.ClientSession) -> None:
    """RFC 6749 §5.1: `Cache-Control: no-store` and `Pragma: no-cache`, on refusals too."""
    for body in (RIGHT, without("audience")):
        _, headers, _ = await ask(client, auth.token_url, body)
        assert (headers["Cache-Control"], headers["Pragma"]) == ("no-store", "no-cache")


async def test_a_token_has_the_form_and_the_claims_of_an_auth0_jwt(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession, now: SettableTime
) -> None:
    """Three base64url parts; audience, whole-second times and permissions in the middle one."""
    await ask(client, auth.token_url)
    token = auth.issued[0].value

    assert len(token.split(".")) == 3
    assert claims_of(token) == {
        "iss": f"{auth.url}/",
        "sub": "app@clients",
        "aud": SWITCH_AUDIENCE,
        "iat": 1762185104,
        "exp": 1762271505,
        "scope": SWITCH_PERMISSIONS,
        "gty": "client-credentials",
        "azp": "app",
    }


async def test_no_two_tokens_are_alike(auth: FakeAuthorizationServer, client: aiohttp.ClientSession) -> None:
    """Even tokens of the same instant differ, so a test can identify them."""
    for _ in range(5):
        await ask(client, auth.token_url)

    assert len({issued.value for issued in auth.issued}) == 5
    assert [issued.number for issued in auth.issued] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        pytest.param(without("grant_type"), 400, "invalid_request", id="no grant_type"),
        pytest.param(without("client_id"), 400, "invalid_request", id="no client_id"),
        pytest.param(without("client_secret"), 400, "invalid_request", id="no client_secret"),
        pytest.param(without("audience"), 400, "invalid_request", id="no audience"),
        pytest.param(without("audience") + "&audience=", 400, "invalid_request", id="audience without a value"),
        pytest.param(RIGHT + "&audience=x", 400, "invalid_request", id="audience twice"),
        pytest.param(RIGHT + "&other=1&other=2", 400, "invalid_request", id="an unknown parameter twice"),
        pytest.param(RIGHT.replace("client_credentials", "password"), 400, "unsupported_grant_type", id="other grant"),
        pytest.param(RIGHT.replace("s3cret", "wrong"), 401, "access_denied", id="wrong secret"),
        pytest.param(RIGHT.replace("=app", "=nobody"), 401, "access_denied", id="unknown client"),
        pytest.param(RIGHT.replace("switchmarket", "elsewhere"), 403, "access_denied", id="unknown audience"),
        pytest.param(RIGHT + "&scope=Meter.Organization.Read%20all", 400, "invalid_scope", id="scope not granted"),
        pytest.param(without("audience") + "&scope=x/.default", 400, "invalid_scope", id="scope of another resource"),
        pytest.param(RIGHT + "&x=%FF", 400, "invalid_request", id="percent-encoded non-UTF-8"),
        pytest.param(RIGHT + "&x=é", 400, "invalid_request", id="raw non-ASCII"),
        pytest.param("", 400, "invalid_request", id="empty"),
        pytest.param(RIGHT + "&x=" + "y" * 65536, 413, "invalid_request", id="too long"),
    ],
)
async def test_a_wrong_request_is_refused_by_the_error_of_the_rfc(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession, body: str, status: int, error: str
) -> None:
    """RFC 6749 §5.2, with Auth0's `access_denied` for unknown credentials and audiences."""
    answered, _, content = await ask(client, auth.token_url, body)

    assert (answered, content["error"]) == (status, error)
    assert content["error_description"]
    assert auth.issued == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(RIGHT + "&colour=blue", id="unknown parameter"),
        pytest.param(RIGHT + "&scope=", id="scope without a value"),
        pytest.param(RIGHT + "&resource=a&resource=b", id="resource twice, RFC 8707"),
    ],
)
async def test_what_the_rfc_says_to_ignore_is_ignored(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession, body: str
) -> None:
    """RFC 6749 §3.2: unrecognised parameters are ignored, those without a value count as omitted."""
    assert (await ask(client, auth.token_url, body))[0] == 200


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "multipart/form-data", ""], ids=lambda value: value or "none"
)
async def test_a_body_that_is_no_form_is_refused(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession, content_type: str
) -> None:
    """The content type of a token request is that of a form (RFC 6749 §4.4.2)."""
    status, _, body = await ask(client, auth.token_url, headers={"Content-Type": content_type})

    assert (status, body["error"]) == (400, "invalid_request")


async def test_a_content_type_with_a_charset_is_a_form_still(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession
) -> None:
    """Parameters of the media type do not matter, nor does its case."""
    status, _, _ = await ask(client, auth.token_url, headers={"Content-Type": f"{FORM.title()}; charset=UTF-8"})

    assert status == 200


async def test_credentials_in_the_url_are_refused(auth: FakeAuthorizationServer, client: aiohttp.ClientSession) -> None:
    """RFC 6749 §2.3.1: credentials must not be in the request URI, even correct ones."""
    status, _, body = await ask(client, f"{auth.token_url}?client_secret=s3cret")

    assert (status, body["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/oauth/token", 405, id="GET"),
        pytest.param("PUT", "/oauth/token", 405, id="PUT"),
        pytest.param("POST", "/token", 404, id="another path"),
    ],
)
async def test_only_post_to_the_token_endpoint_is_answered(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    """RFC 6749 §3.2: the client must use POST."""
    async with client.request(method, f"{auth.url}{path}", data=RIGHT, headers={"Content-Type": FORM}) as response:
        assert response.status == status
        assert response.headers.get("Allow") == ("POST" if status == 405 else None)


async def test_a_scope_that_was_asked_for_is_told(auth: FakeAuthorizationServer, client: aiohttp.ClientSession) -> None:
    """RFC 6749 §5.1: a scope narrower than the client's whole is named in the response and in the token."""
    _, _, body = await ask(client, auth.token_url, RIGHT + "&scope=Meter.Organization.Read")

    assert body["scope"] == "Meter.Organization.Read"
    assert claims_of(body["access_token"])["scope"] == "Meter.Organization.Read"


@pytest.mark.parametrize("endpoint", ["token_url", "microsoft_token_url"])
async def test_a_default_scope_stands_for_the_audience(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession, endpoint: str
) -> None:
    """As at Microsoft: `scope=<resource>/.default` instead of `audience`."""
    body = without("audience") + f"&scope={quote_plus(SWITCH_AUDIENCE + '/.default')}"
    status, _, content = await ask(client, getattr(auth, endpoint), body)

    assert status == 200
    assert claims_of(content["access_token"])["aud"] == SWITCH_AUDIENCE


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        pytest.param(RIGHT, 400, "invalid_request", id="audience in place of scope"),
        pytest.param(RIGHT.replace("s3cret", "wrong"), 401, "invalid_client", id="wrong secret"),
        pytest.param(RIGHT + "&scope=Meter.Organization.Read", 400, "invalid_scope", id="scope without .default"),
    ],
)
async def test_the_microsoft_endpoint_refuses_in_its_own_words(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession, body: str, status: int, error: str
) -> None:
    """It requires a scope that ends in `/.default`, and the error for a wrong secret is `invalid_client`."""
    answered, _, content = await ask(client, auth.microsoft_token_url, body)

    assert (answered, content["error"]) == (status, error)


async def test_basic_authentication_is_accepted_with_form_encoded_credentials(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession
) -> None:
    """RFC 6749 §2.3.1: id and secret are form-encoded, then joined by a colon, then base64."""
    auth.add_client("a:b c", client_secret="p:ä%+")
    body = f"grant_type=client_credentials&audience={quote_plus(SWITCH_AUDIENCE)}"

    assert (await ask(client, auth.token_url, body, basic("a:b c", "p:ä%+")))[0] == 200


@pytest.mark.parametrize(
    ("headers", "body", "status", "error"),
    [
        pytest.param(basic("app", "wrong"), without("client_secret"), 401, "invalid_client", id="wrong secret"),
        pytest.param({"Authorization": "Basic !"}, without("client_secret"), 401, "invalid_client", id="no base64"),
        pytest.param({"Authorization": "Basic é"}, without("client_secret"), 401, "invalid_client", id="no ASCII"),
        pytest.param({"Authorization": "Basic YQ=="}, without("client_secret"), 401, "invalid_client", id="no colon"),
        pytest.param({"Authorization": "Bearer YTpi"}, without("client_secret"), 401, "invalid_client", id="bearer"),
        pytest.param(basic("app", "s3cret"), RIGHT, 400, "invalid_request", id="both ways at once"),
        pytest.param(basic("else", "x"), without("client_secret"), 400, "invalid_request", id="another client_id"),
    ],
)
async def test_wrong_basic_authentication_is_refused(
    auth: FakeAuthorizationServer,
    client: aiohttp.ClientSession,
    headers: Mapping[str, str],
    body: str,
    status: int,
    error: str,
) -> None:
    """RFC 6749 §5.2: 401 with the used scheme in WWW-Authenticate; only one way of authentication is allowed."""
    answered, answer_headers, content = await ask(client, auth.token_url, body, headers)

    assert (answered, content["error"]) == (status, error)
    assert answer_headers.get("WWW-Authenticate", "").startswith("Basic ") is (status == 401)


async def test_a_rotated_secret_stops_working_at_once(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession
) -> None:
    """There is one secret at a time: after the rotation only the new one is accepted."""
    new = auth.rotate_secret()

    assert (await ask(client, auth.token_url))[0] == 401
    assert (await ask(client, auth.token_url, RIGHT.replace("s3cret", quote_plus(new))))[0] == 200


async def test_a_token_outlives_the_rotation_of_its_secret(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession
) -> None:
    """Tokens already issued stay valid until they expire."""
    await ask(client, auth.token_url)
    auth.rotate_secret(client_secret="new")

    assert auth.introspect(auth.issued[0].value)["active"] is True
    assert auth.client_secret == "new"


async def test_introspection_tells_what_the_token_is_for(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession
) -> None:
    """RFC 7662 §2.2."""
    await ask(client, auth.token_url)

    assert auth.introspect(auth.issued[0].value) == {
        "active": True,
        "client_id": "app",
        "aud": SWITCH_AUDIENCE,
        "scope": SWITCH_PERMISSIONS,
        "exp": 1762271505,
        "token_type": "Bearer",
    }


@pytest.mark.parametrize(
    ("after", "is_active"),
    [
        pytest.param(0.0, True, id="at once"),
        pytest.param(1.9, True, id="just before the end"),
        pytest.param(2.0, False, id="at the end"),
    ],
)
async def test_a_token_expires_at_the_end_of_its_lifetime(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession, now: SettableTime, after: float, *, is_active: bool
) -> None:
    """`lifetime` may be set at any time and applies to new tokens."""
    now.at = 1_000.0
    auth.lifetime = 2
    _, _, body = await ask(client, auth.token_url)
    now.at += after

    assert body["expires_in"] == 2
    assert auth.introspect(body["access_token"])["active"] is is_active


async def test_revoked_tokens_are_inactive_and_later_ones_are_not(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession
) -> None:
    """`revoke_all` ends the tokens issued so far."""
    await ask(client, auth.token_url)
    auth.revoke_all()
    await ask(client, auth.token_url)

    assert [auth.introspect(issued.value)["active"] for issued in auth.issued] == [False, True]


def test_a_token_that_was_never_issued_is_inactive() -> None:
    """Its form does not matter."""
    assert FakeAuthorizationServer().introspect("eyJ.e30.x") == {"active": False}


async def test_each_client_has_a_secret_and_an_audience_of_its_own(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession
) -> None:
    """A second API on the same platform, with its own credentials."""
    auth.add_client("vtn", client_secret="other", audience="https://vtn.example", permissions="read_all")
    mine = RIGHT.replace("=app", "=vtn").replace("s3cret", "other")

    assert (await ask(client, auth.token_url, mine))[0] == 403
    _, _, body = await ask(client, auth.token_url, mine.replace("api.switchmarket.se", "vtn.example"))
    assert claims_of(body["access_token"])["aud"] == "https://vtn.example"


async def test_too_many_calls_in_a_minute_get_429_with_retry_after(
    client: aiohttp.ClientSession, now: SettableTime
) -> None:
    """`calls_per_minute` counts every call; Retry-After gives the time of the next one."""
    async with FakeAuthorizationServer(client_id="app", client_secret="s3cret", now=now, calls_per_minute=2) as auth:
        assert [(await ask(client, auth.token_url))[0] for _ in range(3)] == [200, 200, 429]
        now.at += 30.5
        _, headers, body = await ask(client, auth.token_url)

        assert (headers["Retry-After"], body["error"]) == ("30", "too_many_requests")
        now.at += 30
        assert (await ask(client, auth.token_url))[0] == 200


async def test_refusals_in_a_row_lock_the_client_out_until_unlocked(
    client: aiohttp.ClientSession, now: SettableTime
) -> None:
    """`lockout_after`: from then on even the right secret gets 429."""
    async with FakeAuthorizationServer(client_id="app", client_secret="s3cret", now=now, lockout_after=2) as auth:
        wrong = RIGHT.replace("s3cret", "wrong")

        assert [(await ask(client, auth.token_url, body))[0] for body in (wrong, wrong, RIGHT)] == [401, 401, 429]
        auth.unlock()
        assert (await ask(client, auth.token_url))[0] == 200


async def test_a_success_forgets_the_refusals_before_it(client: aiohttp.ClientSession, now: SettableTime) -> None:
    """Only refusals in a row count towards the lockout."""
    async with FakeAuthorizationServer(client_id="app", client_secret="s3cret", now=now, lockout_after=2) as auth:
        wrong = RIGHT.replace("s3cret", "wrong")

        answered = [(await ask(client, auth.token_url, body))[0] for body in (wrong, RIGHT, wrong, RIGHT)]
        assert answered == [401, 200, 401, 200]


async def test_a_short_lifetime_by_fault_is_said_and_true(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession, now: SettableTime
) -> None:
    """`Lifetime` changes the token itself, once."""
    auth.faults.add(Lifetime(seconds=0.5))
    _, _, first = await ask(client, auth.token_url)
    _, _, second = await ask(client, auth.token_url)
    now.at += 1

    assert (first["expires_in"], second["expires_in"]) == (0.5, 86400)
    assert [auth.introspect(issued.value)["active"] for issued in auth.issued] == [False, True]


@pytest.mark.parametrize(
    ("fault", "member", "expected"),
    [
        pytest.param(WithoutTokenField(name="expires_in"), "expires_in", "absent", id="no expires_in"),
        pytest.param(WithoutTokenField(name="access_token"), "access_token", "absent", id="no access_token"),
        pytest.param(TokenField(name="token_type", value="mac"), "token_type", "mac", id="another token_type"),
        pytest.param(TokenField(name="expires_in", value="3600"), "expires_in", "3600", id="expires_in as text"),
        pytest.param(TokenField(name="expires_in", value=-1), "expires_in", -1, id="negative expires_in"),
        pytest.param(TokenField(name="access_token", value="a\r\nb"), "access_token", "a\r\nb", id="line break in it"),
    ],
)
async def test_a_token_response_says_what_the_fault_says(
    auth: FakeAuthorizationServer,
    client: aiohttp.ClientSession,
    fault: TokenField | WithoutTokenField,
    member: str,
    expected: object,
) -> None:
    """Members are changed or left out; the others stay the same."""
    auth.faults.add(fault)
    status, _, body = await ask(client, auth.token_url)

    assert (status, body.get(member, "absent")) == (200, expected)
    assert len({"access_token", "token_type", "expires_in"} - body.keys()) == (1 if expected == "absent" else 0)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, "invalid_request"),
        (401, "access_denied"),
        (403, "access_denied"),
        (429, "too_many_requests"),
        (500, "server_error"),
        (502, "server_error"),
        (503, "temporarily_unavailable"),
    ],
)
async def test_a_status_by_fault_has_the_body_that_belongs_to_it(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession, code: int, error: str
) -> None:
    """A refusal by a fault has the form of a real one."""
    auth.faults.add(Status(code=code, retry_after=7))
    status, headers, body = await ask(client, auth.token_url)

    assert (status, body["error"], headers["Retry-After"]) == (code, error, "7")


async def test_requests_are_recorded_as_they_came(auth: FakeAuthorizationServer, client: aiohttp.ClientSession) -> None:
    """Method, target, field lines and body; the secret is in the body and not in the repr."""
    await ask(client, auth.token_url, headers={"X-Two": "b"})
    [request] = auth.requests

    assert (request.method, request.target, request.body) == ("POST", "/oauth/token", RIGHT.encode())
    assert request.value("x-two") == "b"
    assert "s3cret" not in repr(request)


async def test_reprs_show_neither_secret_nor_token(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession
) -> None:
    """The reprs of the server, its clients and its tokens."""
    await ask(client, auth.token_url)
    added = auth.add_client("vtn", client_secret="s3cret")

    for shown in (repr(auth), repr(added), repr(auth.issued), repr(auth.requests)):
        assert "s3cret" not in shown
        assert auth.issued[0].value not in shown


def test_a_secret_that_is_not_given_is_random() -> None:
    """A default secret could end up in production."""
    assert FakeAuthorizationServer().client_secret != FakeAuthorizationServer().client_secret


# --- the ration ----------------------------------------------------------------------------------------------------


async def asked(client: aiohttp.ClientSession, auth: FakeAuthorizationServer, body: str = RIGHT) -> tuple[int, str]:
    """Return the status of a token request, and what the response states of the quota."""
    status, headers, _ = await ask(client, auth.token_url, body)
    return status, headers.get("Auth0-Client-Quota-Limit", "")


async def test_each_response_states_what_is_left_of_the_hour_and_the_day(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession
) -> None:
    """It is 15:51:44.667 UTC."""
    assert await asked(client, auth) == (200, "b=per_hour;q=10;r=9;t=496,b=per_day;q=50;r=49;t=29296")
    assert await asked(client, auth) == (200, "b=per_hour;q=10;r=8;t=496,b=per_day;q=50;r=48;t=29296")


async def test_the_eleventh_token_of_an_hour_is_refused_until_the_next_hour(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession, now: SettableTime
) -> None:
    assert [(await asked(client, auth))[0] for _ in range(11)] == [200] * 10 + [429]
    status, _, body = await ask(client, auth.token_url)
    assert (status, body["error"]) == (429, "too_many_requests")
    assert (await asked(client, auth))[1] == "b=per_hour;q=10;r=0;t=496,b=per_day;q=50;r=40;t=29296"

    now.at += 495.0
    assert (await asked(client, auth))[0] == 429
    now.at += 0.5  # 16:00:00.167
    assert await asked(client, auth) == (200, "b=per_hour;q=10;r=9;t=3600,b=per_day;q=50;r=39;t=28800")
    assert len(auth.issued) == 11


async def test_the_fifty_first_token_of_a_day_is_refused_until_midnight(
    client: aiohttp.ClientSession, now: SettableTime
) -> None:
    async with FakeAuthorizationServer(client_id="app", client_secret="s3cret", now=now, tokens_per_hour=None) as auth:
        assert [(await asked(client, auth))[0] for _ in range(51)] == [200] * 50 + [429]
        now.at += 29295.0
        assert (await asked(client, auth))[0] == 429
        now.at += 0.5
        assert await asked(client, auth) == (200, "b=per_day;q=50;r=49;t=86400")


async def test_with_a_lag_more_tokens_are_granted_until_they_count(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession, now: SettableTime
) -> None:
    """Auth0's count is eventually consistent. It is 15:51:44.667 UTC."""
    auth.quota_lag = 5.0
    assert {await asked(client, auth) for _ in range(12)} == {
        (200, "b=per_hour;q=10;r=10;t=496,b=per_day;q=50;r=50;t=29296")
    }
    now.at += 4.9
    assert (await asked(client, auth))[0] == 200
    now.at += 0.1
    assert await asked(client, auth) == (429, "b=per_hour;q=10;r=0;t=491,b=per_day;q=50;r=38;t=29291")
    auth.quota_lag = 0.0
    now.at += 495.0
    assert await asked(client, auth) == (200, "b=per_hour;q=10;r=9;t=3596,b=per_day;q=50;r=36;t=28796")


async def test_a_token_counts_in_the_hour_in_which_it_was_granted(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession, now: SettableTime
) -> None:
    auth.quota_lag = 600.0
    await asked(client, auth)
    now.at += 600.0
    assert (await asked(client, auth))[1] == "b=per_hour;q=10;r=10;t=3496,b=per_day;q=50;r=49;t=28696"


async def test_each_client_has_its_own_ration(auth: FakeAuthorizationServer, client: aiohttp.ClientSession) -> None:
    auth.add_client("other", client_secret="s3cret")
    auth.use_up_quota()
    assert (await asked(client, auth))[0] == 429
    assert (await asked(client, auth, RIGHT.replace("=app", "=other")))[0] == 200


async def test_a_refused_request_takes_nothing_and_states_nothing(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession
) -> None:
    assert await asked(client, auth, RIGHT.replace("s3cret", "wrong")) == (401, "")
    assert "r=9;" in (await asked(client, auth))[1]


async def test_a_used_up_quota_is_used_up_until_midnight_or_a_reset(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession, now: SettableTime
) -> None:
    auth.use_up_quota()
    assert await asked(client, auth) == (429, "b=per_hour;q=10;r=10;t=496,b=per_day;q=50;r=0;t=29296")
    auth.reset_quota()
    assert (await asked(client, auth))[0] == 200
    auth.use_up_quota()
    now.at += 29296.0
    assert (await asked(client, auth))[0] == 200


async def test_without_a_ration_there_is_no_end_and_no_statement(
    client: aiohttp.ClientSession, now: SettableTime
) -> None:
    free = FakeAuthorizationServer(
        client_id="app", client_secret="s3cret", now=now, tokens_per_hour=None, tokens_per_day=None
    )
    async with free as auth:
        assert {await asked(client, auth) for _ in range(60)} == {(200, "")}
        with pytest.raises(ValueError, match="has no quota"):
            auth.use_up_quota()


def test_a_ration_below_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        FakeAuthorizationServer(tokens_per_hour=-1)


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_a_lag_below_nothing_or_without_end_is_a_mistake(seconds: float) -> None:
    with pytest.raises(ValueError, match="0 seconds or more"):
        FakeAuthorizationServer(quota_lag=seconds)


async def test_the_endpoint_in_the_manner_of_microsoft_does_not_ration(
    auth: FakeAuthorizationServer, client: aiohttp.ClientSession
) -> None:
    auth.use_up_quota()
    body = without("audience") + "&scope=https%3A%2F%2Fapi.switchmarket.se%2F.default"
    status, headers, _ = await ask(client, auth.microsoft_token_url, body)
    assert (status, headers.get("Auth0-Client-Quota-Limit")) == (200, None)
