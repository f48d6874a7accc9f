"""What the rules of a route let through, and that no spelling of a path passes them by."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from switch_proxy.core.http.problems import Problem, Reject
from switch_proxy.core.http.request import RequestHead, RequestParser
from switch_proxy.core.path_pattern import parse_path_pattern
from switch_proxy.core.policy.allow_rules import AllowRule, AllowRules


def rule(methods: str | None, *paths: str) -> AllowRule:
    return AllowRule(
        methods=None if methods is None else tuple(methods.split()), paths=tuple(map(parse_path_pattern, paths))
    )


RULES = AllowRules(
    [
        rule("GET", "/api/readings", "/api/readings/**"),
        rule("POST", "/api/readings"),
        rule(None, "/api/files/*"),
        rule("OPTIONS", "/**"),
    ],
    owner="route 'a'",
)


def head(method: bytes = b"GET", *lines: bytes) -> RequestHead:
    parser = RequestParser(max_request_line=8192, max_field_lines=100)
    return parser.parse(b"\r\n".join([method + b" / HTTP/1.1", b"Host: x", *lines]))


def refusal(target: bytes, method: bytes = b"GET", *lines: bytes) -> Reject | None:
    return RULES.judge(head(method, *lines), target)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        *((b"GET", b"/api/readings"), (b"GET", b"/api/readings?a=/../%00;//"), (b"GET", b"/api/readings/1/2")),
        *((b"HEAD", b"/api/readings"), (b"POST", b"/api/readings")),
        *((b"DELETE", b"/api/files/a"), (b"GET", b"/api/files/a"), (b"X-MADE-UP", b"/api/files/a")),
        *((b"GET", b"/%61pi/%72eadings"), (b"GET", b"/api/readings/a%20b"), (b"GET", b"/api/files/caf%C3%a9")),
        *((b"GET", b"/api/files/.well-known"), (b"GET", b"/api/files/a.b..c"), (b"GET", b"/api/files/a%2Cb,c@d:e*f~")),
        (b"OPTIONS", b"/"),
    ],
)
def test_what_a_rule_is_for_is_let_through(method: bytes, target: bytes) -> None:
    assert refusal(target, method) is None


@pytest.mark.parametrize(
    ("method", "target"),
    [
        *((b"GET", b"/api"), (b"GET", b"/api/readings/"), (b"GET", b"/API/readings"), (b"GET", b"/api/readings2")),
        *((b"POST", b"/api/readings/1"), (b"PUT", b"/api/readings"), (b"get", b"/api/readings")),
        *(
            (b"GET", b"/"),
            (b"GET", b"/x/api/readings"),
            (b"GET", b"*"),
            (b"OPTIONS", b"*"),
            (b"GET", b"/api/files/a/b"),
        ),
    ],
)
def test_what_no_rule_is_for_is_refused(method: bytes, target: bytes) -> None:
    decision = RULES.judge(RequestHead(method, target, 1, head().meaning, None, b"", is_persistent=True), target)
    assert decision is not None
    assert (decision.problem, decision.problem.value.status) == (Problem.REQUEST_NOT_ALLOWED, 403)


@pytest.mark.parametrize(
    ("segment", "words"),
    [
        *((b"..", "'..'"), (b".", "'.'"), (b"%2e%2e", "'..'"), (b".%2E", "'..'"), (b"...", "'..'"), (b"..%20", "'..'")),
        *((b"", "empty segment"), (b"/", "empty segment")),
        *((b"a\\b", "backslash"), (b"a%5cb", "backslash"), (b"..%5C", "backslash")),
        *((b"a%2fb", "encoded slash"), (b"..%2F", "encoded slash")),
        *((b"a;b", "semicolon"), (b"..;", "semicolon"), (b"a%3Bb", "semicolon")),
        *((b"%252e", "double encoding"), (b"a%25", "double encoding"), (b"%25%32%65", "double encoding")),
        *((b"a%", "percent sign"), (b"a%zz", "percent sign"), (b"%u002e", "percent sign"), (b"a%2", "percent sign")),
        *((b"a%3fb", "question mark"), (b"a%23b", "question mark")),
        *((b"a%00", "control"), (b"a%0d%0A", "control"), (b"a%1f", "control"), (b"%7f", "control")),
        *((b"%c0%ae", "UTF-8"), (b"%C0%AF", "UTF-8"), (b"%e0%80%ae", "UTF-8"), (b"%ff", "UTF-8"), (b"%c3", "UTF-8")),
        *((b"\xc0\xae", "outside ASCII"), (b"caf\xc3\xa9", "outside ASCII")),
        # U+FF0F, U+FF0E, U+2025, U+FF1B, U+FF3C, U+200B between dots.
        *((b"%ef%bc%8f", "takes? for"), (b"%ef%bc%8e%ef%bc%8e", "takes? for"), (b"%e2%80%a5", "takes? for")),
        *((b"a%ef%bc%9bb", "takes? for"), (b"a%EF%BC%BC", "takes? for"), (b".%e2%80%8b.", "takes? for")),
    ],
)
def test_a_path_that_servers_read_in_more_than_one_way_is_refused(segment: bytes, words: str) -> None:
    decision = refusal(b"/api/readings/" + segment + b"/b", b"OPTIONS")
    assert decision is not None
    assert decision.problem is Problem.REQUEST_NOT_ALLOWED
    assert re.search(words, decision.detail)


@pytest.mark.parametrize(
    "name",
    [
        *(b"X-HTTP-Method-Override", b"x-http-method", b"X-Method-Override"),
        *(b"X-Original-URL", b"X-Rewrite-URL", b"X-Override-URL"),
    ],
)
def test_a_header_that_changes_method_or_path_is_refused(name: bytes) -> None:
    """Rails, Symfony, IIS and others obey one of them."""
    decision = refusal(b"/api/readings", b"POST", name + b": DELETE")
    assert decision is not None
    assert name.lower().decode() in decision.detail


@pytest.mark.parametrize(
    ("method", "target", "words"),
    [
        (b"DELETE", b"/api/readings", "route 'a' allow GET, HEAD, POST, OPTIONS at this path, not DELETE"),
        (b"DELETE", b"/api/secret-name", "route 'a' allow OPTIONS at this path, not DELETE"),
        (b"DELETE", b"/api/readings/1", "route 'a' allow GET, HEAD, OPTIONS at this path, not DELETE"),
    ],
)
def test_a_refusal_names_the_methods_of_the_path(method: bytes, target: bytes, words: str) -> None:
    decision = refusal(target, method)
    assert decision is not None
    assert decision.detail.endswith(words)


def test_a_refusal_of_an_unknown_path_says_that_nothing_is_allowed() -> None:
    decision = AllowRules([rule("GET", "/a")], owner="route 'a'").judge(head(), b"/b")
    assert decision is not None
    assert decision.detail == "the rules (allow) of route 'a' allow nothing at this path"


def test_what_was_found_allowed_is_so_for_its_method_and_path_alone() -> None:
    """The memory is emptied when full, and takes no long paths."""
    for path in [
        b"/api/readings",
        *(b"/api/readings/%d" % number for number in range(300)),
        b"/api/readings/" + b"a" * 600,
    ]:
        assert [refusal(path) for _ in range(2)] == [None, None]
        assert refusal(path, b"DELETE") is not None
        assert refusal(path + b"/..") is not None
        assert refusal(path, b"GET", b"X-HTTP-Method: DELETE") is not None


def test_the_rule_that_takes_a_request_is_found() -> None:
    found = [
        RULES.find(*each) for each in ((b"HEAD", b"/api/readings/1?x"), (b"PUT", b"/api/files/%61"), (b"PUT", b"/"))
    ]
    assert [str(each) for each in found] == [
        "GET at /api/readings, /api/readings/**",
        "every method at /api/files/*",
        "None",
    ]


def test_all_rules_that_are_for_a_request_are_found() -> None:
    rules = AllowRules([rule(None, "/**"), rule("GET", "/a"), rule("POST", "/a")], owner="x")
    assert rules.find_all(b"HEAD", b"/%61?b") == [0, 1]
    assert rules.find_all(b"PUT", b"/a") == [0]
    assert rules.find_all(b"OPTIONS", b"*") == []


# Any spelling.

_PIECES = [
    *(b"api", b"readings", b"files", b"admin", b"%61pi", b"a%70i", b"API", b"/", b"//", b".", b"..", b"%2e", b"%2E%2e"),
    *(
        b"%2f",
        b"%5c",
        b"\\",
        b";x",
        b"%3b",
        b"%252e",
        b"%252f",
        b"%00",
        b"%0a",
        b"%20",
        b"%c0%ae",
        b"%e0%80%af",
        b"%23",
    ),
    *(
        b"%3f",
        b"%ef%bc%8f",
        b"%e2%80%a5",
        b"%",
        b"%u002e",
        b"1",
        b"a b".replace(b" ", b"%20"),
        b"caf%c3%a9",
        b"~",
        b"%7e",
    ),
]
spellings = st.lists(st.sampled_from(_PIECES), max_size=10).map(lambda pieces: b"/" + b"".join(pieces))
under_the_rules = st.lists(st.sampled_from(_PIECES), max_size=8).map(
    lambda pieces: b"/api/readings/" + b"".join(pieces)
)

_ALLOWED = re.compile(r"/api/readings(?:/.+)?|/api/files/[^/]+", re.DOTALL)


def _readings(path: bytes) -> list[str]:
    """Return how servers, frameworks and file systems are known to read a path: decoded 0 to 2 times, and resolved."""
    texts = [path.decode("latin-1")]
    for _ in range(2):
        decoded = unquote_to_bytes(texts[-1].encode("latin-1"))
        texts.append(decoded.decode("latin-1"))
    found = []
    for text in texts:
        for variant in (
            text,
            text.replace("\\", "/"),
            re.sub(r";[^/]*", "", text),
            text.split("\0")[0],
            text.rstrip(". "),
        ):
            found += [re.split(r"[?#]", variant)[0], re.sub("/+", "/", variant), posixpath.normpath(variant)]
    return [each for each in found if each != path.decode("latin-1")]


@given(spellings | under_the_rules)
@example(b"/api/readings/..;/admin")
@example(b"/api/readings/%252e%252e/admin")
@example(b"/api/readings%2f..%2fadmin")
def test_no_spelling_that_is_let_through_is_read_as_a_path_outside_of_the_rules(path: bytes) -> None:
    if RULES.judge(head(), path) is not None:
        return
    for reading in _readings(path):
        # An escape that is not decoded, and a slash at the end that is dropped, leave the path where it is.
        assert _ALLOWED.fullmatch(unquote(reading)), (path, reading)


@given(st.binary(max_size=30))
def test_of_any_bytes_what_is_let_through_is_in_one_form(target: bytes) -> None:
    path = b"/api/readings/" + target
    if RULES.judge(head(), path) is None:
        assert re.fullmatch(rb"/api/readings/(?:[^\\;?\x80-\xff]|\?.*)+", path, re.DOTALL)
        assert b"//" not in path.partition(b"?")[0]
