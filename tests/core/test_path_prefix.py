"""The paths that routes of one listener are told apart by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.errors import InvalidValueError
from switch_proxy.core.path_prefix import PathPrefix, parse_path_prefix


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        pytest.param("/", (), id="every path"),
        pytest.param("/a", ("a",), id="no slash at the end"),
        pytest.param("/a/", ("a",), id="slash at the end"),
        pytest.param("/A/b", ("A", "b"), id="letters keep their case"),
        pytest.param("/%41/%7e", ("A", "~"), id="encoded unreserved characters"),
        pytest.param("/caf%c3%a9", ("caf%C3%A9",), id="escapes in upper case"),
        pytest.param("/a%20b:@!$&'()*+,=", ("a%20b:@!$&'()*+,=",), id="what a path may have"),
        pytest.param("/.a/..b/...", (".a", "..b", "..."), id="dots that are no dot segments"),
    ],
)
def test_path_is_read_into_its_canonical_segments(text: str, segments: tuple[str, ...]) -> None:
    assert parse_path_prefix(text) == PathPrefix(segments=segments)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("a/", "does not begin with a slash", id="no slash at the start"),
        pytest.param("https://a.example/", "does not begin with a slash", id="URL"),
        pytest.param("/a?b", "has a query", id="query"),
        pytest.param("/a#b", "has a fragment", id="fragment"),
        pytest.param("//a", "has an empty segment", id="empty segment at the start"),
        pytest.param("/a//b", "has an empty segment", id="empty segment inside"),
        pytest.param("/a//", "has an empty segment", id="empty segment at the end"),
        pytest.param("//", "has an empty segment", id="nothing but an empty segment"),
        pytest.param("/a/./b", "has a . or .. segment", id="dot segment"),
        pytest.param("/..", "has a . or .. segment", id="two dots"),
        pytest.param("/a/%2e%2E/b", "has a . or .. segment", id="encoded dots"),
        pytest.param("/a%2fb", "encoded slash", id="encoded slash"),
        pytest.param("/a%5Cb", "backslash", id="encoded backslash"),
        pytest.param("/a\\b", "backslash", id="backslash"),
        pytest.param("/a;b", "has a semicolon", id="semicolon"),
        pytest.param("/a%3Bb", "has a semicolon", id="encoded semicolon"),
        pytest.param("/a b", "percent-encode it", id="space"),
        pytest.param("/é", "percent-encode it", id="letter outside ASCII"),
        pytest.param("/a%2", "percent-encode it", id="half an escape"),
    ],
)
def test_path_whose_segments_are_in_doubt_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse_path_prefix(text)
    assert complaint in caught.value.predicate


@given(st.text(st.sampled_from("/ab.%2eE4;~?"), max_size=12).map("/{}".format))
def test_prefix_that_was_written_reads_as_the_same(text: str) -> None:
    try:
        prefix = parse_path_prefix(text)
    except InvalidValueError:
        return
    assert parse_path_prefix(str(prefix)) == prefix
