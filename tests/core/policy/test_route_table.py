"""Which route a request is for."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.errors import RequestError
from switch_proxy.core.policy.route_table import RouteMatch, RouteTable

TABLE = RouteTable(
    [
        RouteMatch(route="rest"),
        RouteMatch(route="switch", segments=(b"switch",)),
        RouteMatch(route="admin", segments=(b"switch", b"admin")),
        RouteMatch(route="host", host=b"a.example"),
        RouteMatch(route="switch on host", segments=(b"switch",), host=b"a.example"),
    ]
)


@pytest.mark.parametrize(
    ("target", "host", "route"),
    [
        (b"/", None, "rest"),
        (b"/other", b"b.example", "rest"),
        (b"/switch", b"b.example", "switch"),
        (b"/switch/", None, "switch"),
        (b"/switch?x", None, "switch"),
        (b"/switch/a/b", None, "switch"),
        (b"/switches", None, "rest"),
        (b"/Switch", None, "rest"),
        (b"/%73witch/a", None, "switch"),
        (b"/switch/admin", None, "admin"),
        (b"/switch/admin/x", b"a.example", "admin"),
        (b"/switch/x", b"a.example", "switch on host"),
        (b"/", b"a.example", "host"),
        (b"/?/switch", None, "rest"),
        (b"*", None, "rest"),
        (b"*", b"a.example", "host"),
        (b"/switch/a%2Fb;c//d/./e", None, "switch"),
        (b"/%2573witch", None, "rest"),
    ],
)
def test_the_longest_path_wins_and_then_the_host(target: bytes, host: bytes | None, route: str) -> None:
    assert TABLE.select(target, host=host) == route


@pytest.mark.parametrize(
    "target",
    [
        b"//switch/x",
        b"/./switch",
        b"/switch;v=1/x",
        b"/%2fswitch",
        b"/\\switch",
        b"/switch%2fadmin",
        b"/switch/;/admin",
        b"/switch/../x",
        b"/x/../switch",
        b"/switch/..%2f..%2fx",
        b"/switch/..;/..%2fswitch",
        b"/x/../switch/..;/y",
    ],
)
def test_a_path_that_could_be_another_routes_is_refused(target: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        TABLE.select(target, host=None)
    assert caught.value.status == 400


def test_a_request_that_no_route_is_for_has_none() -> None:
    table = RouteTable([RouteMatch(route="a", segments=(b"a",)), RouteMatch(route="b", host=b"b.example")])
    assert table.select(b"/c", host=b"c.example") is None


def test_routes_told_apart_by_host_alone_take_every_path() -> None:
    """Nothing of the path matters then, so nothing in it is refused."""
    table = RouteTable([RouteMatch(route="a", host=b"a.example"), RouteMatch(route="b", host=b"b.example")])
    assert table.select(b"/x/..//%2f;y", host=b"b.example") == "b"


def readings(path: bytes) -> set[tuple[bytes, ...]]:
    """
    Return the segments as each kind of server would take them: a reference, by trying all combinations.

    All decode letters, because an escaped letter means the same (RFC 3986 §6.2.2.2).
    """
    found = set()
    for count in range(4):
        for separators in itertools.combinations([rb"\\", rb"%5[cC]", rb"%2[fF]"], count):
            for parameters in (None, rb";", rb"%3[bB]", rb";|%3[bB]"):
                for decodes, resolves, merges in itertools.product([True, False], repeat=3):
                    segments = re.split(b"|".join([b"/", *separators]), path)[1:]
                    if parameters is not None:
                        segments = [re.split(parameters, segment)[0] for segment in segments]
                    segments = [segment.replace(b"%61", b"a").replace(b"%62", b"b") for segment in segments]
                    if decodes:
                        segments = [re.sub(rb"(?i)%2e", b".", segment) for segment in segments]
                    if resolves:
                        segments = resolve(segments)
                    if merges:
                        segments = [segment for segment in segments if segment]
                    found.add(tuple(segments))
    return found


def resolve(segments: list[bytes]) -> list[bytes]:
    left: list[bytes] = []
    for segment in segments:
        if segment == b"..":
            del left[-1:]
        elif segment != b".":
            left.append(segment)
    return left


@given(
    pieces=st.lists(
        st.sampled_from(
            [
                b"/",
                b"/",
                b"a",
                b"b",
                b"c",
                b".",
                b"..",
                b"//",
                b";",
                b"%3b",
                b"\\",
                b"%2f",
                b"%5C",
                b"%2e",
                b"%61",
                b"%62",
            ]
        ),
        max_size=9,
    )
)
def test_no_server_takes_a_path_for_another_routes(pieces: list[bytes]) -> None:
    """A property: whatever a server decodes, resolves, merges and cuts off, the path is the selected route's to it too."""
    path = b"/" + b"".join(pieces)
    table = RouteTable(
        [
            RouteMatch(route="rest"),
            RouteMatch(route="a", segments=(b"a",)),
            RouteMatch(route="a/b", segments=(b"a", b"b")),
        ]
    )
    try:
        route = table.select(path, host=None)
    except RequestError:
        return
    for reading in readings(path):
        assert table._find(reading, None) == route
