"""Where a response sends the client next: back through the proxy if that is at the upstream, and below its base path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.addresses import parse_origin
from switch_proxy.core.http.locations import LocationRewriter
from switch_proxy.core.http.response import ResponseParser

PLAIN = LocationRewriter(parse_origin("https://api.example.com"), prefix="")
DEEP = LocationRewriter(parse_origin("http://api.example.com:8080/v1"), prefix="/switch")
IPV6 = LocationRewriter(parse_origin("https://[::1]:8443"), prefix="")


@pytest.mark.parametrize(
    ("rewriter", "location", "expected"),
    [
        (PLAIN, b"https://api.example.com/a/b?c=d#e", b"/a/b?c=d#e"),
        (PLAIN, b"HTTPS://API.Example.com.:443/%7ea", b"/%7ea"),
        (PLAIN, b"https://api.example.com", b"/"),
        (PLAIN, b"https://api.example.com?a", b"/?a"),
        (PLAIN, b"https://api.example.com:/a", b"/a"),
        (PLAIN, b"//api.example.com/a", b"/a"),
        (PLAIN, b"/a", b"/a"),
        (DEEP, b"http://api.example.com:8080/v1/readings/7", b"/switch/readings/7"),
        (DEEP, b"http://api.example.com:8080/v1?a", b"/switch/?a"),
        (DEEP, b"/v1/readings/7", b"/switch/readings/7"),
        (IPV6, b"https://[::1]:8443/a", b"/a"),
    ],
)
def test_what_points_at_the_upstream_is_led_back(rewriter: LocationRewriter, location: bytes, expected: bytes) -> None:
    assert rewriter.rewrite(location) == expected


@pytest.mark.parametrize(
    ("rewriter", "location"),
    [
        *(
            (PLAIN, b"https://other.example.com/a"),
            (PLAIN, b"http://api.example.com/a"),
            (PLAIN, b"a/b"),
            (PLAIN, b"?a"),
        ),
        *((PLAIN, b"https://api.example.com:8443/a"), (PLAIN, b"https://api.example.com.evil/a"), (PLAIN, b"")),
        *((PLAIN, b"https://user@api.example.com/a"), (PLAIN, b"https://api.example.com@evil/a"), (PLAIN, b"mailto:a")),
        *((PLAIN, b"https://api.example.com:999999/a"), (PLAIN, b"https://api.example.com//evil.example/a")),
        *((PLAIN, b"https://api.example.com\\@evil/a"), (PLAIN, b"//evil.example/a"), (PLAIN, b"#a")),
        *(
            (DEEP, b"http://api.example.com:8080/v2/a"),
            (DEEP, b"http://api.example.com:8080/v10"),
            (DEEP, b"/v10"),
            (DEEP, b"/"),
        ),
    ],
)
def test_what_is_elsewhere_stays_as_it_is(rewriter: LocationRewriter, location: bytes) -> None:
    assert rewriter.rewrite(location) == location


@given(st.binary(max_size=40))
def test_no_location_is_led_to_another_host(rest: bytes) -> None:
    """A path that begins with two slashes would name one."""
    rewritten = PLAIN.rewrite(b"https://api.example.com" + rest)
    assert not rewritten.startswith(b"//")
    assert rewritten.startswith((b"/", b"https://api.example.com"))


def test_locations_of_final_responses_are_rewritten_and_other_lines_stay() -> None:
    parser = ResponseParser(max_field_lines=20, locations=PLAIN)
    lines = b"A: https://api.example.com/a\r\nlocation:  https://api.example.com/b \r\nContent-Location: https://api.example.com/c"
    head = parser.parse(b"HTTP/1.1 201 Created\r\n" + lines)
    assert head.passed == (
        b"HTTP/1.1 201 Created\r\nA: https://api.example.com/a\r\nlocation: /b\r\nContent-Location: /c\r\n"
    )
    early = parser.parse(b"HTTP/1.1 103 Early Hints\r\nLocation: https://api.example.com/b")
    assert b"https://api.example.com/b" in early.passed
