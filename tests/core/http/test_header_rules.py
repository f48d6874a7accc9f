"""The lines that are replaced and added on the way."""

from __future__ import annotations

import pytest

from switch_proxy.core.http.header_rules import (
    RouteHeaders,
    added_to_request,
    added_to_response,
    added_to_switch,
    count_down,
    dropped_from_request,
    dropped_from_response,
    hide_token,
)
from switch_proxy.core.http.response import field_values

AUTHORIZATION = b"Authorization: Bearer token\r\n"


@pytest.mark.parametrize(("minor", "via"), [(1, b"Via: 1.1 switch-proxy\r\n"), (0, b"Via: 1.0 switch-proxy\r\n")])
def test_a_request_gets_the_upstream_s_host_the_token_and_via(minor: int, via: bytes) -> None:
    """Host comes first (RFC 9110 §7.2). The protocol in Via is the one received (§7.6.3)."""
    headers = RouteHeaders(host="api.example.com", via="switch-proxy")
    lines = headers.of_request(b"Accept: */*\r\n", minor=minor, added_request_id=None, authorization_line=AUTHORIZATION)
    assert b"".join(lines) == b"Host: api.example.com\r\nAccept: */*\r\n" + AUTHORIZATION + via


def test_a_request_without_an_id_gets_one_and_via_can_be_off() -> None:
    headers = RouteHeaders(host="api.example.com:8443", via=None)
    lines = headers.of_request(b"", minor=1, added_request_id=b"a-1", authorization_line=AUTHORIZATION)
    assert b"".join(lines) == b"Host: api.example.com:8443\r\nX-Request-Id: a-1\r\n" + AUTHORIZATION


def test_max_forwards_is_lowered_by_one_and_other_lines_stay() -> None:
    """RFC 9110 §7.6.2."""
    assert count_down(b"A: 7\r\nmax-Forwards: 7\r\nB: 7\r\n", 7) == b"A: 7\r\nmax-Forwards: 6\r\nB: 7\r\n"


def test_framing_trailers_and_upgrade_are_announced_to_the_next_hop() -> None:
    assert added_to_request(is_chunked=True, wants_trailers=True, upgrade=b"websocket") == (
        b"Transfer-Encoding: chunked\r\nTE: trailers\r\nUpgrade: websocket\r\nConnection: TE, Upgrade\r\n"
    )
    assert added_to_request(is_chunked=False, wants_trailers=False, upgrade=None) == b""


@pytest.mark.parametrize(("minor", "is_dropped"), [(0, True), (1, False)])
def test_only_an_old_client_loses_its_expect(minor: int, *, is_dropped: bool) -> None:
    """It cannot get 100 Continue (RFC 9110 §10.1.1)."""
    assert (b"expect" in dropped_from_request([], minor=minor)) is is_dropped


def test_what_connection_names_is_dropped_but_not_the_framing() -> None:
    """Otherwise a sender could take away what the other end judges the message by."""
    for dropped in (
        dropped_from_request([b"x-mine", b"content-length"], minor=1),
        dropped_from_response([b"x-mine", b"content-length"], status=200),
    ):
        assert b"x-mine" in dropped
        assert b"content-length" not in dropped


@pytest.mark.parametrize(("status", "is_dropped"), [(199, True), (200, False), (203, False), (204, True), (205, False)])
def test_content_length_is_dropped_from_responses_that_must_not_have_it(status: int, *, is_dropped: bool) -> None:
    """RFC 9110 §8.6."""
    assert (b"content-length" in dropped_from_response([], status=status)) is is_dropped


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        pytest.param({}, b"", id="nothing"),
        pytest.param({"is_chunked": True}, b"Transfer-Encoding: chunked\r\n", id="chunked"),
        pytest.param({"date": b"now"}, b"Date: now\r\n", id="no date"),
        pytest.param({"closes": True}, b"Connection: close\r\n", id="last on its connection"),
        pytest.param({"minor": 0}, b"Connection: keep-alive\r\n", id="HTTP/1.0 and the connection stays"),
        pytest.param({"minor": 0, "closes": True}, b"Connection: close\r\n", id="HTTP/1.0 and it closes"),
    ],
)
def test_a_response_gets_framing_date_and_the_fate_of_its_connection(
    arguments: dict[str, object], lines: bytes
) -> None:
    """RFC 9110 §6.6.1, RFC 9112 §9.3."""
    everything: dict[str, object] = {"is_chunked": False, "date": None, "closes": False, "minor": 1, **arguments}
    assert added_to_response(**everything) == lines  # type: ignore[arg-type]


def test_a_switch_of_protocols_names_the_new_one() -> None:
    """RFC 9110 §7.8."""
    assert added_to_switch(b"websocket") == b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


def test_values_of_a_field_are_found_in_order_in_any_case_of_its_name() -> None:
    lines = b"WWW-Authenticate: Bearer \r\nX: Basic\r\nwww-authenticate:\tBasic\r\n"
    assert field_values(lines, b"www-authenticate") == [b"Bearer", b"Basic"]
    assert field_values(b"", b"www-authenticate") == []


def test_a_token_is_masked_wherever_it_is_in_lines() -> None:
    lines = b"A: Bearer eyJ.abc\r\nB: eyJ.abceyJ.abc\r\n"
    assert hide_token(lines, b"eyJ.abc") == b"A: Bearer [access token]\r\nB: [access token][access token]\r\n"
