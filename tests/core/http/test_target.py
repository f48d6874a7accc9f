"""Targets: which are accepted, that they pass byte for byte, and that none leaves the upstream's base path."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from switch_proxy.core.errors import RequestError
from switch_proxy.core.http.target import upstream_target

BASE = b"/api/v1"

SEPARATORS = [rb"\\", rb"%5[cC]", rb"%2[fF]"]
PARAMETERS = [rb";", rb"%3[bB]"]


def to_upstream(target: bytes, *, method: bytes = b"GET", base_path: bytes = BASE) -> bytes:
    return upstream_target(target, method=method, base_path=base_path)


def is_refused(target: bytes, *, method: bytes = b"GET", base_path: bytes = BASE) -> bool:
    try:
        to_upstream(target, method=method, base_path=base_path)
    except RequestError as error:
        assert error.status == 400  # noqa: PT017 - a refusal may be right
        return True
    return False


def may_leave_base(path: bytes) -> bool:
    """
    Say whether any server could take `path` to climb above where it begins.

    A reference: walk it segment by segment, as each of the servers would that take a backslash, `%5c` and `%2f` for a
    separator or for a letter, cut path parameters off or not, decode `%2e` or not, and merge empty segments or not.
    """
    for count in range(len(SEPARATORS) + 1):
        for separators in itertools.combinations(SEPARATORS, count):
            for parameter in [None, *PARAMETERS, b"|".join(PARAMETERS)]:
                for decodes_dots, merges in itertools.product([True, False], repeat=2):
                    segments = re.split(b"|".join([b"/", *separators]), path)[1:]
                    if parameter is not None:
                        segments = [re.split(parameter, segment)[0] for segment in segments]
                    if decodes_dots:
                        segments = [re.sub(rb"(?i)%2e", b".", segment) for segment in segments]
                    if climbs(segments, merges=merges):
                        return True
    return False


def climbs(segments: list[bytes], *, merges: bool) -> bool:
    """RFC 3986 §5.2.4, on a stack: say whether `..` is ever met with nothing left to remove."""
    depth = 0
    for segment in segments:
        if segment == b"..":
            depth -= 1
            if depth < 0:
                return True
        elif segment != b"." and (segment or not merges):
            depth += 1
    return False


PATHS = st.lists(
    st.sampled_from(
        [
            b"/",
            b"\\",
            b"%2f",
            b"%2F",
            b"%5c",
            b"%5C",
            b".",
            b"..",
            b"%2e",
            b"%2E",
            b";",
            b"%3b",
            b"a",
            b"b",
            b"",
            b"%25",
        ]
    ),
    max_size=14,
).map(lambda parts: b"/" + b"".join(parts))


@given(path=PATHS)
@example(path=b"/a%2fb/../..")
@example(path=b"/a\\b/../../secret")
@example(path=b"/a%5cb/..%2f..")
@example(path=b"/x;%2f../..")
@example(path=b"/..;x/y")
@example(path=b"/a/..%2f%2e%2E")
@example(path=b"/a;/b;/../../..")
@example(path=b"//..")
def test_no_target_leaves_the_base_path_however_the_upstream_reads_it(path: bytes) -> None:
    """RFC 3986 §5.2.4 in every dialect: what one upstream takes to climb out of the base is refused."""
    if not is_refused(path):
        assert not may_leave_base(path)


@given(segments=st.lists(st.sampled_from([b"a", b"b.c", b"..d", b"e..", b"...", b"%20", b"a%2Fb", b"", b".", b"x;y"])))
def test_no_target_without_a_dot_segment_of_two_is_refused(segments: list[bytes]) -> None:
    """Only what climbs is refused: dots within names, encoded slashes and empty segments are the API's business."""
    target = b"/" + b"/".join(segments)
    assert to_upstream(target) == BASE + target


@given(target=st.binary(max_size=30).map(lambda rest: b"/" + rest))
def test_an_accepted_target_passes_byte_for_byte_behind_the_base(target: bytes) -> None:
    """RFC 9110 §7.6: path and query are not ours to normalise, decode or encode."""
    assert to_upstream(target, base_path=b"") == target
    if not is_refused(target):
        assert to_upstream(target) == BASE + target


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(b"/", id="root"),
        pytest.param(b"/a/b?c=d&e", id="path and query"),
        pytest.param(b"/a%2Fb%zz%", id="percent signs"),
        pytest.param(b"//host/a", id="two slashes"),
        pytest.param(b"/a//b/", id="empty segment"),
        pytest.param(b"/a/./b", id="a single dot"),
        pytest.param(b"/a/../b", id="up and down within the base"),
        pytest.param(b"/a/b/../../", id="up as far as the base"),
        pytest.param(b"/?x=/../..", id="dots in the query"),
        pytest.param(b"/a?b?../../..", id="dots behind a second question mark"),
        pytest.param(b"/a/..b/c../...", id="dots that are names"),
        pytest.param(b"/a..%2e", id="three dots, one encoded"),
        pytest.param(b"/%252e%252e/", id="encoded twice"),
        pytest.param(b"/\xc3\xa9", id="bytes above ASCII"),
        pytest.param(b"/http://elsewhere/", id="a URL within the path"),
    ],
)
@pytest.mark.parametrize("base_path", [b"", BASE], ids=["no base", "base"])
def test_a_target_in_origin_form_passes_behind_the_base(base_path: bytes, target: bytes) -> None:
    """RFC 9112 §3.2.1."""
    assert to_upstream(target, base_path=base_path) == base_path + target


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(b"/..", id="plain"),
        pytest.param(b"/../x", id="plain with more"),
        pytest.param(b"/..?a=b", id="before a query"),
        pytest.param(b"/a/../..", id="down once, up twice"),
        pytest.param(b"//..", id="behind an empty segment"),
        pytest.param(b"/a//../..", id="empty segments that may be merged"),
        pytest.param(b"/./..", id="behind a single dot"),
        pytest.param(b"/%2e%2e/x", id="encoded"),
        pytest.param(b"/%2E./x", id="half encoded"),
        pytest.param(b"/.%2e", id="the other half encoded"),
        pytest.param(b"/..%2fx", id="encoded slash"),
        pytest.param(b"/a%2F..%2F..", id="encoded slashes"),
        pytest.param(b"/..\\x", id="backslash"),
        pytest.param(b"/a\\..\\..", id="backslashes"),
        pytest.param(b"/..%5cx", id="encoded backslash"),
        pytest.param(b"/..;a=b/x", id="parameter"),
        pytest.param(b"/%2e%2e;/x", id="encoded, with a parameter"),
        pytest.param(b"/..%3b/x", id="encoded parameter"),
        pytest.param(b"/;a/..", id="nothing but a parameter before"),
        pytest.param(b"/a%2fb/../..", id="an encoded slash that only some take for one"),
        pytest.param(b"/a\\b/../..", id="a backslash that only some take for a slash"),
        pytest.param(b"/a%5Cb/../..", id="an encoded backslash that only some take for a slash"),
    ],
)
def test_a_path_that_climbs_out_of_the_base_is_refused(target: bytes) -> None:
    """The base path is a wall: with the bearer on it no request goes beside it."""
    with pytest.raises(RequestError, match="climbs out of the upstream's base path") as caught:
        to_upstream(target)
    assert caught.value.status == 400


@pytest.mark.parametrize("target", [b"/..", b"/../a", b"/%2e%2e", b"/a/../../b"])
def test_a_path_passes_as_it_is_where_there_is_no_base_to_climb_out_of(target: bytes) -> None:
    """RFC 9110 §7.6: without a base there is nothing above."""
    assert to_upstream(target, base_path=b"") == target


def test_the_asterisk_passes_for_options_alone_and_without_the_base() -> None:
    """RFC 9112 §3.2.4: it means the server as a whole."""
    assert to_upstream(b"*", method=b"OPTIONS") == b"*"
    assert to_upstream(b"*", method=b"OPTIONS", base_path=b"") == b"*"
    assert is_refused(b"*", method=b"GET")
    assert is_refused(b"*", method=b"options")


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(b"http://elsewhere/", id="http"),
        pytest.param(b"HTTPS://elsewhere/a?b", id="https in capitals"),
        pytest.param(b"http://", id="nothing behind the scheme"),
        pytest.param(b"ws://elsewhere", id="another scheme"),
        pytest.param(b"://", id="no scheme"),
    ],
)
def test_a_target_in_absolute_form_is_refused_and_explained(target: bytes) -> None:
    """No form of target can name another host; a client that takes this for its HTTP proxy is told so."""
    with pytest.raises(RequestError, match="HTTP_PROXY") as caught:
        to_upstream(target)
    assert caught.value.status == 400
    assert "elsewhere" not in caught.value.detail


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(b"elsewhere:443", id="authority"),
        pytest.param(b"a/b", id="relative path"),
        pytest.param(b"?a", id="query alone"),
        pytest.param(b"\\a", id="backslash"),
        pytest.param(b"%2fa", id="encoded slash"),
        pytest.param(b"*a", id="more than an asterisk"),
        pytest.param(b"http:/a", id="a URL with one slash"),
        pytest.param(b".", id="dot"),
        pytest.param(b"", id="nothing"),
    ],
)
@pytest.mark.parametrize("base_path", [b"", BASE], ids=["no base", "base"])
@pytest.mark.parametrize("method", [b"GET", b"OPTIONS"])
def test_any_other_target_is_refused(method: bytes, base_path: bytes, target: bytes) -> None:
    """RFC 9112 §3.2.1: the path begins with a slash; joined to a base it would become another path."""
    with pytest.raises(RequestError, match=r"does not begin with a slash .*§3\.2\.1") as caught:
        to_upstream(target, method=method, base_path=base_path)
    assert caught.value.status == 400
