"""A fake has a response for any input; no input is an internal error."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.demo.auth_server import SWITCH_PERMISSIONS, FakeAuthorizationServer
from switch_proxy.demo.messages import ReceivedRequest
from switch_proxy.demo.switch_api import FakeSwitchAPI
from switch_proxy.demo.switch_data import InputInvalidError, Readings

NOW = datetime(2025, 11, 3, tzinfo=UTC)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
instants = st.datetimes(timezones=st.just(UTC)).map(lambda at: at.isoformat().replace("+00:00", "Z")) | st.text(
    max_size=8
)
values = st.fixed_dictionaries(
    {"timestamp": instants, "value": json_values}, optional={"periodTo": instants, "resolution": json_values}
)
posts = st.fixed_dictionaries(
    {
        "meters": st.lists(
            st.fixed_dictionaries(
                {
                    "id": st.text(max_size=3),
                    "registers": st.lists(
                        st.fixed_dictionaries(
                            {"id": st.sampled_from(["1", "2"]), "values": st.lists(values, max_size=3)}
                        ),
                        max_size=2,
                    ),
                }
            ),
            max_size=2,
        )
    }
)
queries = st.lists(
    st.tuples(
        st.sampled_from(["organizationId", "registerId", "start", "end", "resolution", "marketZoneId", "x"]),
        st.sampled_from(["1", "2", "3600", "2025-11-03T00:00:00Z", "2025-11-04T00:00:00Z"]) | instants,
    ),
    max_size=8,
)


def received(method: str, target: str, *fields: tuple[str, str], body: bytes = b"") -> ReceivedRequest:
    return ReceivedRequest(
        method=method, target=target, fields=fields, body=body, is_complete=True, peer=("127.0.0.1", 1), received_at=0.0
    )


@given(st.binary(max_size=40) | (json_values | posts).map(lambda content: json.dumps(content).encode()))
def test_any_body_is_either_stored_or_refused_with_a_reason(body: bytes) -> None:
    """A refused request stores nothing; stored readings can be read."""
    readings = Readings()
    try:
        count = readings.save(body, now=NOW)
    except InputInvalidError as refused:
        reason = str(refused)
        count = 0
    else:
        reason = ""

    stored = sum(map(len, readings._posted.values()))
    assert 0 < stored <= count if not reason else stored == 0


@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "DELETE"]),
    path=st.sampled_from([endpoint.path.pattern for endpoint in FakeSwitchAPI(introspect=lambda _: {})._endpoints]).map(
        lambda pattern: pattern.replace("(?P<zone>[0-9]{1,9})", "1").replace("(?P<resource>[0-9]{1,9})", "1")
    )
    | st.text(max_size=10).map(lambda text: "/" + quote(text)),
    query=queries.map(urlencode) | st.text(st.characters(max_codepoint=255), max_size=20),
    body=st.binary(max_size=20) | posts.map(lambda content: json.dumps(content).encode()),
)
def test_the_api_decides_on_any_request(method: str, path: str, query: str, body: bytes) -> None:
    """With a token for everything: a response of the API's reference, with its rate limit."""
    granted = {"active": True, "aud": "https://api.switchmarket.se", "scope": SWITCH_PERMISSIONS, "client_id": "app"}
    api = FakeSwitchAPI(introspect=lambda _: granted, now=lambda: 1762185104.667)
    fields = (("Authorization", "Bearer x"), ("Content-Type", "application/json"))
    answer = api._decide(received(method, f"{path}?{query}", *fields, body=body))

    assert answer.status in {200, 204, 400, 403, 404, 405}
    assert "X-Rate-Limit-Limit" in dict(answer.fields)
    assert answer.status == 204 or json.loads(answer.body) is not None


@given(
    pairs=st.lists(
        st.tuples(
            st.sampled_from(["grant_type", "client_id", "client_secret", "audience", "scope", "resource", "x"]),
            st.sampled_from(["client_credentials", "app", "s3cret", "https://api.switchmarket.se", ""])
            | st.text(max_size=4),
        ),
        max_size=6,
    ),
    raw=st.none() | st.binary(max_size=30),
    authorization=st.none() | st.text(st.characters(max_codepoint=255), max_size=20).map("Basic {}".format),
    path=st.sampled_from(["/oauth/token", "/tenant/oauth2/v2.0/token", "/other"]),
)
def test_the_authorization_server_decides_on_any_request(
    pairs: list[tuple[str, str]], raw: bytes | None, authorization: str | None, path: str
) -> None:
    """A token for the right credentials, else an error response with a name and a description."""
    auth = FakeAuthorizationServer(client_id="app", client_secret="s3cret")
    fields = [("Content-Type", "application/x-www-form-urlencoded")]
    if authorization is not None:
        fields.append(("Authorization", authorization))
    body = urlencode(pairs).encode() if raw is None else raw
    answer = auth._decide(received("POST", path, *fields, body=body), ())
    content = json.loads(answer.body)

    if answer.status == 200:
        assert dict(pairs)["client_secret"] == "s3cret"
        assert auth.introspect(content["access_token"])["active"] is True
    else:
        assert answer.status in {400, 401, 403, 404}
        assert content.keys() == {"error", "error_description"}
        assert auth.issued == []
