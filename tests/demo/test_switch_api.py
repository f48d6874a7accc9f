"""FakeSwitchAPI as its clients see it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from yarl import URL

from switch_proxy.demo.auth_server import SWITCH_AUDIENCE, SWITCH_PERMISSIONS, FakeAuthorizationServer
from switch_proxy.demo.faults import Lifetime, Status
from switch_proxy.demo.switch_api import FakeSwitchAPI

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import aiohttp

    from tests.demo.settable_time import SettableTime

PERIOD = "start=2025-11-03T15%3A51%3A44.667Z&end=2025-11-03T17%3A51%3A44.667Z"
READINGS = f"/api/readings?organizationId=1&registerId=1&registerId=2&{PERIOD}&resolution=3600"
VALUE = {"timestamp": "2025-11-03T16:00:00.000Z", "periodTo": "2025-11-03T17:00:00.000Z", "value": 1.5}


def posted(*values: object, register: object = "7") -> dict[str, Any]:
    return {"meters": [{"id": "1", "registers": [{"id": register, "values": list(values)}]}]}


@pytest.fixture
async def token(auth: FakeAuthorizationServer, client: aiohttp.ClientSession) -> str:
    return await fetch_token(auth, client)


async def fetch_token(
    auth: FakeAuthorizationServer,
    client: aiohttp.ClientSession,
    client_id: str = "app",
    audience: str = SWITCH_AUDIENCE,
) -> str:
    form = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": "s3cret",
        "audience": audience,
    }
    async with client.post(auth.token_url, data=form) as response:
        assert response.status == 200
        return str((await response.json())["access_token"])


async def call(
    api: FakeSwitchAPI,
    client: aiohttp.ClientSession,
    token: str | None,
    target: str,
    method: str = "GET",
    content: object = None,
    headers: Sequence[tuple[str, str]] = (),
) -> tuple[int, Mapping[str, str], Any]:
    fields = [*headers] if token is None else [("Authorization", f"Bearer {token}"), *headers]
    body = None if content is None else json.dumps(content)
    if content is not None and not any(name == "Content-Type" for name, _ in headers):
        fields.append(("Content-Type", "application/json"))
    async with client.request(method, URL(f"{api.url}{target}", encoded=True), headers=fields, data=body) as response:
        raw = await response.read()
        return response.status, response.headers, json.loads(raw) if raw else None


async def test_readings_of_two_registers_come_by_the_hour(
    api: FakeSwitchAPI, client: aiohttp.ClientSession, token: str
) -> None:
    """The repeated parameter names the registers; the response has the documented shape."""
    status, _, body = await call(api, client, token, READINGS)

    assert status == 200
    assert [entry["registerId"] for entry in body] == [1, 2]
    assert [len(entry["readings"]) for entry in body] == [2, 2]
    assert body[0]["readings"][0].keys() == {"periodFrom", "periodTo", "updatedAt", "value"}
    assert body[0]["readings"][0]["periodFrom"] == "2025-11-03T15:51:44.667Z"


async def test_the_same_question_gets_the_same_answer(
    api: FakeSwitchAPI, client: aiohttp.ClientSession, token: str
) -> None:
    """Made-up readings do not change from call to call."""
    first, second = [await call(api, client, token, READINGS) for _ in range(2)]

    assert first[2] == second[2]


async def test_posted_readings_are_answered_204_and_read_back(
    api: FakeSwitchAPI, client: aiohttp.ClientSession, token: str
) -> None:
    """A register returns the posted readings with the time of the post."""
    status, headers, body = await call(api, client, token, "/api/readings", "POST", posted(VALUE))
    assert (status, body, headers.get("Content-Type"), headers.get("Content-Length")) == (204, None, None, None)

    _, _, read = await call(api, client, token, f"/api/readings?organizationId=1&registerId=7&{PERIOD}")
    assert read == [
        {
            "registerId": 7,
            "readings": [
                {
                    "periodFrom": VALUE["timestamp"],
                    "periodTo": VALUE["periodTo"],
                    "updatedAt": "2025-11-03T15:51:44.667Z",
                    "value": 1.5,
                }
            ],
        }
    ]


async def test_hourly_averages_average_within_the_hour(
    api: FakeSwitchAPI, client: aiohttp.ClientSession, token: str
) -> None:
    """The values of an hour become their mean; hours without values are left out."""
    values = [
        {"timestamp": f"2025-11-03T{at}:00Z", "value": value}
        for at, value in (("16:00", 1), ("16:30", 2), ("17:15", 9))
    ]
    await call(api, client, token, "/api/readings", "POST", posted(*values))
    _, _, body = await call(api, client, token, f"/api/readings/average/hourly?organizationId=1&registerId=7&{PERIOD}")

    assert [(reading["periodFrom"], reading["value"]) for reading in body[0]["readings"]] == [
        ("2025-11-03T16:00:00.000Z", 1.5),
        ("2025-11-03T17:00:00.000Z", 9),
    ]


@pytest.mark.parametrize(
    ("target", "key"),
    [
        pytest.param("/api/meter?organizationId=1", "registers", id="meters"),
        pytest.param("/api/grid/zone?organizationId=1", "orderQuantityResolution", id="market zones"),
        pytest.param("/api/grid/zone/1/participants?organizationId=1", "resourceName", id="participants"),
        pytest.param("/api/grid/resource?organizationId=1", "marketZoneId", id="resources"),
        pytest.param(
            f"/api/product/order/flexibility?organizationId=1&marketZoneId=1&{PERIOD}", "unitPrice", id="flexibility"
        ),
        pytest.param(
            f"/api/product/order/availability/resource/1?organizationId=1&{PERIOD}",
            "flexibilityOrdersExpireAt",
            id="availability",
        ),
    ],
)
async def test_every_other_endpoint_answers_in_its_documented_shape(
    api: FakeSwitchAPI, client: aiohttp.ClientSession, token: str, target: str, key: str
) -> None:
    """Names and nesting are those of the API's reference."""
    status, headers, body = await call(api, client, token, target)

    assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert f'"{key}"' in json.dumps(body)


async def test_reference_readings_of_a_resource_are_answered_204(
    api: FakeSwitchAPI, client: aiohttp.ClientSession, token: str
) -> None:
    """`POST /api/grid/resource/{id}/readings/reference` has no rate limit."""
    content = {"organizationId": 1, "readings": [VALUE]}
    target = "/api/grid/resource/1/readings/reference"

    assert {(await call(api, client, token, target, "POST", content))[0] for _ in range(8)} == {204}


@pytest.mark.parametrize(
    ("lines", "challenge"),
    [
        pytest.param([], "Bearer", id="no Authorization"),
        pytest.param(["Basic YTpi"], "Bearer", id="another scheme"),
        pytest.param(["Bearer {token}", "Bearer {token}"], "Bearer", id="Authorization twice"),
        pytest.param(["Bearer {token}, Bearer {token}"], 'Bearer error="invalid_token"', id="two in one line"),
        pytest.param(["Bearer"], 'Bearer error="invalid_token"', id="no token"),
        pytest.param(["Bearer nobody.issued.this"], 'Bearer error="invalid_token"', id="unknown token"),
        pytest.param(["Bearer {token}x"], 'Bearer error="invalid_token"', id="a character too many"),
    ],
)
async def test_a_request_without_one_valid_token_is_unauthorized(
    api: FakeSwitchAPI, client: aiohttp.ClientSession, token: str, lines: Sequence[str], challenge: str
) -> None:
    """401, the API's error body, and the challenge of RFC 6750 §3."""
    headers = [("Authorization", line.replace("{token}", token)) for line in lines]
    status, answered, body = await call(api, client, None, READINGS, headers=headers)

    assert (status, body) == (401, {"errors": [{"message": "Unauthorized", "code": 3}]})
    assert answered["WWW-Authenticate"].partition(",")[0] == challenge


async def test_the_scheme_is_read_in_any_case(api: FakeSwitchAPI, client: aiohttp.ClientSession, token: str) -> None:
    """RFC 9110 §11.1."""
    status, _, _ = await call(api, client, None, READINGS, headers=[("authorization", f"bEARER {token}")])

    assert status == 200


async def test_an_expired_token_is_unauthorized(
    api: FakeSwitchAPI, auth: FakeAuthorizationServer, client: aiohttp.ClientSession, now: SettableTime
) -> None:
    """It is valid until the end of its lifetime and no longer."""
    now.at = 1_000.0
    auth.faults.add(Lifetime(seconds=2))
    token = await fetch_token(auth, client)
    answers = []
    for at in (1_001.9, 1_002.0):
        now.at = at
        answers.append((await call(api, client, token, "/api/meter?organizationId=1"))[0])

    assert answers == [200, 401]


async def test_a_revoked_token_is_unauthorized(
    api: FakeSwitchAPI, auth: FakeAuthorizationServer, client: aiohttp.ClientSession, token: str
) -> None:
    """The API introspects each token each time."""
    auth.revoke_all()

    assert (await call(api, client, token, READINGS))[0] == 401


async def test_a_token_for_another_audience_is_unauthorized(
    api: FakeSwitchAPI, auth: FakeAuthorizationServer, client: aiohttp.ClientSession
) -> None:
    """A valid token of the same server for another API is refused."""
    auth.add_client("vtn", client_secret="s3cret", audience="https://vtn.example")
    token = await fetch_token(auth, client, "vtn", "https://vtn.example")

    assert (await call(api, client, token, READINGS))[0] == 401


async def test_any_judge_of_tokens_will_do(client: aiohttp.ClientSession) -> None:
    """The API uses only the introspection of the authorization server; `aud` may be a list."""

    def introspect(token: str) -> Mapping[str, object]:
        return {"active": token == "good", "aud": ["https://other", SWITCH_AUDIENCE], "scope": SWITCH_PERMISSIONS}

    async with FakeSwitchAPI(introspect=introspect) as api:
        assert [(await call(api, client, token, READINGS))[0] for token in ("good", "bad")] == [200, 401]


async def test_a_client_without_the_permission_is_not_allowed(
    api: FakeSwitchAPI, auth: FakeAuthorizationServer, client: aiohttp.ClientSession
) -> None:
    """403 with the scope that was missing (RFC 6750 §3.1)."""
    auth.add_client("reader", client_secret="s3cret", permissions="Meter.Organization.Read")
    token = await fetch_token(auth, client, "reader")
    status, headers, body = await call(api, client, token, "/api/readings", "POST", posted(VALUE))

    assert (status, body) == (403, {"errors": [{"message": "Forbidden", "code": 4}]})
    assert headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope", scope="Meter.Organization.ReadWrite"'


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(READINGS.replace("organizationId=1", "organizationId=2"), id="readings"),
        pytest.param("/api/meter?organizationId=2", id="meters"),
        pytest.param("/api/grid/zone?organizationId=2", id="zones"),
    ],
)
async def test_another_organization_is_not_allowed(
    api: FakeSwitchAPI, client: aiohttp.ClientSession, token: str, target: str
) -> None:
    """The client may use only its own organizations."""
    assert (await call(api, client, token, target))[0] == 403


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(("organizationId=1&", ""), "organizationId: is required", id="no organization"),
        pytest.param(("organizationId=1", "organizationId=x"), "organizationId: must be an integer", id="text for it"),
        pytest.param(("organizationId=1", "organizationId=1_0"), "organizationId: must be", id="underscore in it"),
        pytest.param(("organizationId=1", "organizationId=99999999999"), "of 32 bits", id="too large"),
        pytest.param(
            ("organizationId=1", "organizationId=1&organizationId=1"), "must not be repeated", id="organization twice"
        ),
        pytest.param(("registerId=1&registerId=2&", ""), "registerId: is required", id="no register"),
        pytest.param(("registerId=2", "registerId="), "registerId: must be an integer", id="empty register"),
        pytest.param(("start=", "begin="), "start: is required", id="no start"),
        pytest.param(("2025-11-03T15%3A51%3A44.667Z", "yesterday"), "start: must be an ISO 8601", id="start as a word"),
        pytest.param(("44.667Z&end", "44.667&end"), "start: must be an ISO 8601", id="start without a zone"),
        pytest.param(("T17", "T15"), "end: must be after start", id="end at start"),
        pytest.param(("end=2025", "end=2199"), "more than 100000 readings", id="too much at once"),
        pytest.param(("resolution=3600", "resolution=-1"), "resolution: must be 0 to", id="negative resolution"),
    ],
)
async def test_invalid_parameters_are_answered_400_saying_which(
    api: FakeSwitchAPI, client: aiohttp.ClientSession, token: str, change: tuple[str, str], message: str
) -> None:
    """The message names the parameter and the mistake."""
    assert change[0] in READINGS
    status, _, body = await call(api, client, token, READINGS.replace(*change))

    assert (status, body["errors"][0]["code"]) == (400, 1)
    assert message in body["errors"][0]["message"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param({}, "meters: must be a list", id="no meters"),
        pytest.param([], "body: must be an object", id="a list"),
        pytest.param({"meters": []}, "meters: must be a list that is not empty", id="empty meters"),
        pytest.param({"meters": [1]}, "meters[0]: must be an object", id="meter as a number"),
        pytest.param({"meters": [{"registers": []}]}, "meters[0].id: must be a text", id="meter without id"),
        pytest.param({"meters": [{"id": "1"}]}, "meters[0].registers: must be a list", id="meter without registers"),
        pytest.param(posted(VALUE, register=7), "registers[0].id: must be a text", id="register's id as a number"),
        pytest.param(posted(), "registers[0].values: must be a list", id="no values"),
        pytest.param(posted(VALUE, {**VALUE, "value": "1"}), "values[1].value: must be a number", id="value as text"),
        pytest.param(posted({**VALUE, "value": True}), "values[0].value: must be a number", id="value as a truth"),
        pytest.param(
            posted({**VALUE, "value": 10**400}), "values[0].value: must be a number", id="value beyond bounds"
        ),
        pytest.param(posted({**VALUE, "value": float("nan")}), "body: is not JSON", id="NaN"),
        pytest.param(
            posted({**VALUE, "timestamp": 1}), "values[0].timestamp: must be an ISO", id="timestamp as number"
        ),
        pytest.param(
            posted({**VALUE, "timestamp": "0001-01-01T00:00:00+14:00"}), "values[0].timestamp", id="too early"
        ),
        pytest.param(posted({**VALUE, "periodTo": "2025-11-03T15:00:00Z"}), "values[0].periodTo", id="ends too early"),
    ],
)
async def test_invalid_readings_are_answered_400_saying_where_and_store_nothing(
    api: FakeSwitchAPI, client: aiohttp.ClientSession, token: str, content: object, message: str
) -> None:
    """One bad value refuses the whole request."""
    before = await call(api, client, token, f"/api/readings?organizationId=1&registerId=7&{PERIOD}")
    status, _, body = await call(api, client, token, "/api/readings", "POST", content)
    after = await call(api, client, token, f"/api/readings?organizationId=1&registerId=7&{PERIOD}")

    assert status == 400
    assert message in body["errors"][0]["message"]
    assert after[2] == before[2]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[" * 100_000], ids=["empty", "cut short", "not UTF-8", "nested beyond reason"]
)
async def test_a_body_that_is_no_json_is_answered_400(
    api: FakeSwitchAPI, client: aiohttp.ClientSession, token: str, body: bytes
) -> None:
    """No input causes a 500."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    async with client.post(f"{api.url}/api/readings", headers=headers, data=body) as response:
        assert response.status == 400
        assert (await response.json())["errors"][0]["message"] == "body: is not JSON"


async def test_readings_must_be_sent_as_json(api: FakeSwitchAPI, client: aiohttp.ClientSession, token: str) -> None:
    """Another content type is an invalid input."""
    headers = [("Content-Type", "text/plain")]
    status, _, body = await call(api, client, token, "/api/readings", "POST", posted(VALUE), headers)

    assert (status, body["errors"][0]["message"]) == (400, "Content-Type: must be application/json")


@pytest.mark.parametrize(
    ("method", "target", "status", "allow"),
    [
        pytest.param("GET", "/api/nothing", 404, None, id="unknown path"),
        pytest.param("GET", "/api/readings/", 404, None, id="slash at the end"),
        pytest.param("GET", "/api/grid/zone/x/participants", 404, None, id="zone as a word"),
        pytest.param("DELETE", "/api/readings", 405, "GET, POST", id="DELETE readings"),
        pytest.param("POST", "/api/meter", 405, "GET", id="POST meters"),
    ],
)
async def test_what_does_not_exist_is_answered_so(
    api: FakeSwitchAPI,
    client: aiohttp.ClientSession,
    token: str,
    method: str,
    target: str,
    status: int,
    allow: str | None,
) -> None:
    """404 for a path, 405 with Allow for a method, both with the API's error body."""
    answered, headers, body = await call(api, client, token, target, method)

    assert (answered, headers.get("Allow")) == (status, allow)
    assert body["errors"][0].keys() == {"message", "code"}


async def test_head_is_answered_as_get_without_its_body(
    api: FakeSwitchAPI, client: aiohttp.ClientSession, token: str
) -> None:
    """RFC 9110 §9.3.2: the length of the response to GET, without its body."""
    got = await call(api, client, token, READINGS)
    status, headers, body = await call(api, client, token, READINGS, "HEAD")

    assert (status, body) == (200, None)
    assert headers["Content-Length"] == got[1]["Content-Length"]


async def test_the_sixth_post_within_a_second_is_answered_429(
    api: FakeSwitchAPI, client: aiohttp.ClientSession, token: str, now: SettableTime
) -> None:
    """Five a second; after the whole seconds of Retry-After, the next post succeeds."""
    statuses = [(await call(api, client, token, "/api/readings", "POST", posted(VALUE)))[0] for _ in range(5)]
    status, headers, body = await call(api, client, token, "/api/readings", "POST", posted(VALUE))

    assert statuses == [204] * 5
    assert (status, headers["Retry-After"]) == (429, "1")
    assert body == {"errors": [{"message": "Rate limit exceeded", "code": 7}]}
    now.at += 1
    assert (await call(api, client, token, "/api/readings", "POST", posted(VALUE)))[0] == 204


async def test_the_twenty_first_post_within_a_minute_is_answered_429(
    api: FakeSwitchAPI, client: aiohttp.ClientSession, token: str, now: SettableTime
) -> None:
    """Twenty a minute, at any pace; Retry-After is the rest of the minute."""
    for _ in range(20):
        assert (await call(api, client, token, "/api/readings", "POST", posted(VALUE)))[0] == 204
        now.at += 1
    status, headers, _ = await call(api, client, token, "/api/readings", "POST", posted(VALUE))

    assert (status, headers["Retry-After"], headers["X-Rate-Limit-Remaining"]) == (429, "40", "0")


async def test_nothing_but_the_posting_of_readings_is_limited(
    api: FakeSwitchAPI, client: aiohttp.ClientSession, token: str
) -> None:
    """Reads do not count."""
    statuses = {(await call(api, client, token, READINGS))[0] for _ in range(30)}
    _, headers, _ = await call(api, client, token, READINGS)

    assert statuses == {200}
    assert headers["X-Rate-Limit-Remaining"] == "20"


async def test_each_client_has_a_limit_of_its_own(
    api: FakeSwitchAPI, auth: FakeAuthorizationServer, client: aiohttp.ClientSession, token: str
) -> None:
    """The limit belongs to the client, not to the token or the address."""
    auth.add_client("other", client_secret="s3cret")
    others = await fetch_token(auth, client, "other")
    for _ in range(6):
        await call(api, client, token, "/api/readings", "POST", posted(VALUE))

    assert (await call(api, client, others, "/api/readings", "POST", posted(VALUE)))[0] == 204
    again = await fetch_token(auth, client)
    assert (await call(api, client, again, "/api/readings", "POST", posted(VALUE)))[0] == 429


@pytest.mark.parametrize(
    ("target", "is_authorized", "status"),
    [
        pytest.param(READINGS, True, 200, id="success"),
        pytest.param("/api/nothing", True, 404, id="not found"),
        pytest.param("/api/readings", True, 400, id="invalid"),
        pytest.param(READINGS, False, 401, id="unauthorized"),
    ],
)
async def test_every_response_tells_the_rate_limit(
    api: FakeSwitchAPI, client: aiohttp.ClientSession, token: str, target: str, *, is_authorized: bool, status: int
) -> None:
    """The limit per minute, the rest of it, and its reset in ISO 8601 and UTC."""
    answered, headers, _ = await call(api, client, token if is_authorized else None, target)

    assert answered == status
    assert (headers["X-Rate-Limit-Limit"], headers["X-Rate-Limit-Remaining"]) == ("20", "20")
    assert headers["X-Rate-Limit-Reset"] == "2025-11-03T15:52:44.667Z"


async def test_a_status_by_fault_has_the_apis_error_body_and_rate_limit(
    api: FakeSwitchAPI, client: aiohttp.ClientSession, token: str
) -> None:
    """A refusal by a fault has the form of a real one, and the endpoint is not called."""
    api.faults.add(Status(code=503, retry_after=2), method="POST", path="/api/readings")
    status, headers, body = await call(api, client, token, "/api/readings", "POST", posted(VALUE))

    assert (status, headers["Retry-After"]) == (503, "2")
    assert body == {"errors": [{"message": "Service Unavailable", "code": 2}]}
    assert headers["X-Rate-Limit-Remaining"] == "20"


async def test_requests_are_recorded_byte_for_byte(
    api: FakeSwitchAPI, client: aiohttp.ClientSession, token: str
) -> None:
    """Target with its percent-encoding, field lines in order and case, body; the token is masked in the repr."""
    headers = [("X-First", "1"), ("x-second", "ä"), ("X-First", "3")]
    await call(api, client, token, "/api/readings?a=%3a&a=b", "POST", posted(VALUE), headers)
    [request] = api.requests

    assert (request.method, request.target) == ("POST", "/api/readings?a=%3a&a=b")
    assert request.values("x-first") == ("1", "3")
    assert json.loads(request.body) == posted(VALUE)
    assert request.bearer_token == token
    assert token not in repr(request) + repr(api)
