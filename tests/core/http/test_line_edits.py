"""Header lines that a configuration sets and removes."""

from __future__ import annotations

from switch_proxy.core.http.header_rules import RouteHeaders
from switch_proxy.core.http.line_edits import LineEdits
from switch_proxy.core.http.response import ResponseParser

EDITS = LineEdits(replaced={"X-Tenant": "a", "X-New": "b"}, removed=["Cookie"])


def test_lines_are_replaced_removed_and_added_in_any_case_and_others_keep_their_order() -> None:
    lines = b"B: 1\r\ncookie: c\r\nx-tenant: evil\r\nX-TENANT: more\r\nA: 2\r\nCOOKIE: d\r\n"
    for _ in range(2):
        assert EDITS.apply(lines) == b"B: 1\r\nA: 2\r\nX-Tenant: a\r\nX-New: b\r\n"


def test_no_lines_get_those_that_are_set() -> None:
    assert EDITS.apply(b"") == b"X-Tenant: a\r\nX-New: b\r\n"


def test_any_number_of_different_sections_is_edited() -> None:
    """The memory is emptied when full, and takes no long sections."""
    edits = LineEdits(replaced={}, removed=["Cookie"])
    for number in range(300):
        line = b"A: %d\r\n" % number
        assert edits.apply(b"Cookie: a\r\n" + line) == line
    long = b"A: " + b"a" * 3000 + b"\r\n"
    assert edits.apply(b"Cookie: a\r\n" + long) == long


def test_requests_are_edited_before_the_proxys_own_lines_are_added() -> None:
    headers = RouteHeaders(host="a", via=None, edits=EDITS)
    lines = headers.of_request(
        b"Cookie: c\r\n", minor=1, added_request_id=None, authorization_line=b"Authorization: b\r\n"
    )
    assert b"".join(lines) == b"Host: a\r\nX-Tenant: a\r\nX-New: b\r\nAuthorization: b\r\n"


def test_final_responses_are_edited_and_interim_ones_not() -> None:
    parser = ResponseParser(max_field_lines=20, edits=LineEdits(replaced={}, removed=["Server"]))
    assert parser.parse(b"HTTP/1.1 200 OK\r\nServer: a\r\nA: b").passed == b"HTTP/1.1 200 OK\r\nA: b\r\n"
    assert b"Server" in parser.parse(b"HTTP/1.1 103 Early Hints\r\nServer: a").passed
