"""The patterns of paths in rules: what they may be, what they match, and what is no pattern."""

from __future__ import annotations

import re

import pytest

from switch_proxy.core.errors import InvalidValueError
from switch_proxy.core.path_pattern import parse_path_pattern


@pytest.mark.parametrize(
    ("text", "matched", "unmatched"),
    [
        ("/", ["/"], ["", "/a", "//"]),
        ("/a/b", ["/a/b"], ["/a/b/", "/a", "/a/b/c", "/A/b", "/a/bb", "x/a/b", "/a/b\n"]),
        ("/a/", ["/a/"], ["/a", "/a/b"]),
        ("/a/*", ["/a/b", "/a/*", "/a/%2A"], ["/a", "/a/", "/a/b/", "/a/b/c"]),
        ("/a/*/", ["/a/b/"], ["/a/b", "/a//", "/a/b/c/"]),
        ("/a/*/c", ["/a/b/c"], ["/a/c", "/a/b/b/c"]),
        ("/a/**", ["/a/b", "/a/b/", "/a/b/c"], ["/a", "/a/", "/ab", "/b/a/b"]),
        ("/*/**", ["/a/b", "/a/b/c"], ["/a", "/"]),
        ("/**", ["/", "/a", "/a/b/"], ["", "a"]),
        ("/%61.b/%2a%2A", ["/a.b/%2A%2A"], ["/aXb/%2A%2A", "/a.b/**"]),
    ],
)
def test_a_pattern_matches_whole_segments(text: str, matched: list[str], unmatched: list[str]) -> None:
    expression = re.compile(parse_path_pattern(text).expression)
    assert [path for path in [*matched, *unmatched] if expression.fullmatch(path)] == matched


@pytest.mark.parametrize("text", ["/", "/a/b", "/a/", "/*/", "/a/**", "/%2A"])
def test_a_pattern_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_path_pattern(text)) == text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("api", "does not begin with a slash; write a path such as /api/readings/**"),
        ("/a?b", "has a query"),
        ("/a//b", "has an empty segment"),
        ("/a/../b", "has a . or .. segment"),
        ("/a/%2e%2E/b", "has a . or .. segment"),
        ("/a%2fb", "has a backslash or an encoded slash"),
        ("/a;b", "has a semicolon"),
        ("/**/b", "has ** before its end"),
        ("/a/**/", "has ** before its end"),
        ("/a/b*", "has * beside other characters"),
        ("/a/***", "has * beside other characters"),
        ("/{id}", "has a character that a path may not have"),
        ("/a%25b", "has an encoded percent sign"),
    ],
)
def test_what_servers_could_read_differently_is_no_pattern(text: str, complaint: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse_path_pattern(text)
    assert caught.value.predicate.startswith(complaint)
