"""Paths as servers could read them."""

from __future__ import annotations

import pytest

from switch_proxy.core.errors import RequestError
from switch_proxy.core.path_prefix import canonical_segment
from switch_proxy.core.policy.paths import (
    is_read_alike,
    literal_segments,
    path_of,
    resolved_segments,
    without_segments,
)


@pytest.mark.parametrize(
    ("segment", "canonical"),
    [
        (b"a", b"a"),
        (b"%61%7E", b"a~"),
        (b"%2f%3b", b"%2F%3B"),
        (b"%2561", b"%2561"),
        (b"%zz%", b"%zz%"),
        (b"%c3%a9", b"%C3%A9"),
    ],
)
def test_a_segment_has_one_canonical_form(segment: bytes, canonical: bytes) -> None:
    """RFC 3986 §6.2.2: unreserved characters decoded, once, and other escapes in upper case."""
    assert canonical_segment(segment) == canonical


@pytest.mark.parametrize(
    ("path", "literal", "resolved"),
    [
        (b"/", (b"",), ()),
        (b"/a/b", (b"a", b"b"), (b"a", b"b")),
        (b"/a/", (b"a", b""), (b"a",)),
        (b"//a", (b"", b"a"), (b"a",)),
        (b"/./a", (b".", b"a"), (b"a",)),
        (b"/%2E/a", (b".", b"a"), (b"a",)),
        (b"/a;v=1/b", (b"a;v=1", b"b"), (b"a", b"b")),
        (b"/a%3bv/b", (b"a%3Bv", b"b"), (b"a", b"b")),
        (b"/a%2fb", (b"a%2Fb",), (b"a", b"b")),
        (b"/a\\b%5cc", (b"a\\b%5Cc",), (b"a", b"b", b"c")),
        (b"/...", (b"...",), (b"...",)),
    ],
)
def test_a_path_is_read_in_two_ways(path: bytes, literal: tuple[bytes, ...], resolved: tuple[bytes, ...]) -> None:
    assert (literal_segments(path), resolved_segments(path)) == (literal, resolved)


@pytest.mark.parametrize(
    "path", [b"/..", b"/a/../b", b"/a/%2e./b", b"/a\\..\\b", b"/a/..%2fb", b"/a/..;x/b", b"/a/%2E%2E"]
)
def test_a_path_that_goes_up_is_refused(path: bytes) -> None:
    with pytest.raises(RequestError, match=r"'\.\.' segment"):
        resolved_segments(path)


@pytest.mark.parametrize("path", [b"/a;b\\c", b"/a%3bb%2fc", b"/a;%5C"])
def test_a_path_whose_parameters_have_a_separator_is_refused(path: bytes) -> None:
    """Where the parameters end is then a matter of which is looked at first."""
    with pytest.raises(RequestError, match="parameters"):
        resolved_segments(path)


@pytest.mark.parametrize("path", [b"/", b"/a/b/", b"/a.b/c..d", b"/a~b/$&'()*+,=:@"])
def test_a_usual_path_needs_one_reading(path: bytes) -> None:
    assert is_read_alike(path)


@pytest.mark.parametrize("path", [b"/%61", b"/a;b", b"/a\\b", b"//a", b"/./a", b"/.a", b"/a/.."])
def test_an_unusual_path_needs_both_readings(path: bytes) -> None:
    assert not is_read_alike(path)


@pytest.mark.parametrize(("target", "path"), [(b"/a", b"/a"), (b"/a?b/c", b"/a"), (b"/?", b"/"), (b"/a?b?c", b"/a")])
def test_the_path_ends_at_the_first_question_mark(target: bytes, path: bytes) -> None:
    assert path_of(target) == path


@pytest.mark.parametrize(
    ("target", "count", "rest"),
    [
        (b"/a/b", 1, b"/b"),
        (b"/a/", 1, b"/"),
        (b"/a", 1, b"/"),
        (b"/a?x=/b/c", 1, b"/?x=/b/c"),
        (b"/a/b//c;d?e", 1, b"/b//c;d?e"),
        (b"/a/b/c", 2, b"/c"),
        (b"/%61/b%2fc", 1, b"/b%2fc"),
        (b"/a//", 1, b"//"),
    ],
)
def test_segments_are_taken_off_and_the_rest_stays_byte_for_byte(target: bytes, count: int, rest: bytes) -> None:
    assert without_segments(target, count) == rest
