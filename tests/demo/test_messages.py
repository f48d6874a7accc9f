"""Requests and responses as values: their attributes, and what their reprs hide."""

from __future__ import annotations

import pytest

from switch_proxy.demo.messages import ReceivedRequest, Response

TOKEN = "eyJhbGciOiJSUzI1NiJ9.e30.c2ln"


def received(
    *fields: tuple[str, str], target: str = "/", body: bytes = b"", is_complete: bool = True
) -> ReceivedRequest:
    return ReceivedRequest(
        method="GET",
        target=target,
        fields=fields,
        body=body,
        is_complete=is_complete,
        peer=("127.0.0.1", 1),
        received_at=0.0,
    )


def test_path_and_query_stay_as_they_were_sent() -> None:
    """Only `parameters` decodes."""
    request = received(target="/a%2Fb?x=%3A&x=1?2&y=")

    assert (request.path, request.query) == ("/a%2Fb", "x=%3A&x=1?2&y=")
    assert request.parameters == (("x", ":"), ("x", "1?2"), ("y", ""))


def test_values_keep_order_and_ignore_case() -> None:
    """A repeated field gives all its values."""
    request = received(("X-A", "1"), ("x-b", "2"), ("x-a", "3"))

    assert request.values("X-a") == ("1", "3")
    assert (request.value("x-A"), request.value("x-c")) == ("1", None)


@pytest.mark.parametrize(
    ("fields", "token"),
    [
        pytest.param([("Authorization", f"Bearer {TOKEN}")], TOKEN, id="one bearer line"),
        pytest.param([("authorization", f"bearer {TOKEN}")], TOKEN, id="in lower case"),
        pytest.param([], None, id="no line"),
        pytest.param([("Authorization", f"Bearer {TOKEN}")] * 2, None, id="two lines"),
        pytest.param([("Authorization", "Basic YTpi")], None, id="another scheme"),
    ],
)
def test_the_bearer_token_is_that_of_the_one_bearer_line(fields: list[tuple[str, str]], token: str | None) -> None:
    """Two lines are as bad as none: servers differ in which one they use."""
    assert received(*fields).bearer_token == token


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(("Authorization", f"Bearer {TOKEN}"), id="bearer"),
        pytest.param(("AUTHORIZATION", TOKEN), id="no scheme"),
        pytest.param(("Proxy-Authorization", f"Basic {TOKEN}"), id="proxy"),
        pytest.param(("Cookie", f"session={TOKEN}"), id="cookie"),
    ],
)
def test_the_repr_of_a_request_masks_credentials(line: tuple[str, str]) -> None:
    """A repr ends up in logs and in test output."""
    shown = repr(received(line, ("X-Other", "seen"), body=f"client_secret={TOKEN}".encode()))

    assert TOKEN not in shown
    assert f"{line[0]}: " in shown
    assert "X-Other: seen" in shown


def test_the_repr_of_a_request_says_when_it_was_cut_short() -> None:
    """The repr shows that the client broke off."""
    assert repr(received(body=b"abc", is_complete=False)) == "<ReceivedRequest GET / [] 3 bytes, cut short>"


def test_the_repr_of_an_answer_hides_its_body() -> None:
    """The body may be a token response."""
    assert repr(Response(status=200, body=TOKEN.encode())) == f"<Response 200 {len(TOKEN)} bytes>"


def test_a_field_of_an_answer_is_replaced_whatever_its_case() -> None:
    """`with_field` leaves one line of that name."""
    answer = Response(status=200, fields=(("content-type", "a"), ("X", "1"))).with_field("Content-Type", "b")

    assert answer.fields == (("X", "1"), ("Content-Type", "b"))
