"""The proxy's own answers: valid JSON, a Proxy-Status that parses, and no text that breaks out of its line."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.http.problems import PROBLEM_TYPE_PREFIX, Problem, proxy_status, render_problem

DATE = b"Tue, 15 Nov 1994 08:12:31 GMT"

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=40) | st.text(
    alphabet='"\\\r\n\t\0;=, é€😀\ud800\udc80\x7f\x1f~ab', max_size=20
)

REGISTERED_ERRORS = frozenset(
    [
        "dns_timeout",
        "dns_error",
        "destination_not_found",
        "destination_unavailable",
        "destination_ip_prohibited",
        "destination_ip_unroutable",
        "connection_refused",
        "connection_terminated",
        "connection_timeout",
        "connection_read_timeout",
        "connection_write_timeout",
        "connection_limit_reached",
        "tls_protocol_error",
        "tls_certificate_error",
        "tls_alert_received",
        "http_request_error",
        "http_request_denied",
        "http_response_incomplete",
        "http_response_header_section_size",
        "http_response_header_size",
        "http_response_body_size",
        "http_response_trailer_section_size",
        "http_response_trailer_size",
        "http_response_transfer_coding",
        "http_response_content_coding",
        "http_response_timeout",
        "http_upgrade_failed",
        "http_protocol_error",
        "proxy_internal_response",
        "proxy_internal_error",
        "proxy_configuration_error",
        "proxy_loop_detected",
    ]
)
"""RFC 9209 §2.3, as registered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response as a strict reader takes it apart."""

    status: int
    reason: str
    lines: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for field, value in self.lines if field == name]

    def value(self, name: str) -> str:
        (value,) = self.values(name)
        return value

    def problem(self) -> dict[str, object]:
        parsed = json.loads(self.body)
        assert isinstance(parsed, dict)
        return parsed


def read(response: bytes) -> Answer:
    """Read a response with the rules spelled out here: ASCII, CR LF, no bare CR or LF, no empty line within."""
    head, separator, body = response.partition(b"\r\n\r\n")
    assert separator
    first, *lines = head.decode("ascii").split("\r\n")
    match = re.fullmatch(r"HTTP/1\.1 (\d{3}) ([\x20-\x7e]+)", first)
    assert match is not None
    pairs = []
    for line in lines:
        field = re.fullmatch(r"([A-Za-z-]+): ([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)", line)
        assert field is not None, line
        pairs.append((field[1], field[2]))
    return Answer(int(match[1]), match[2], pairs, body)


def render(
    problem: Problem = Problem.UPSTREAM_REFUSED,
    *,
    detail: str = "it refused",
    proxy_name: str = "switch-proxy",
    next_hop: str = "api.example:443",
    request_id: str = "id-1",
    status: int | None = None,
    retry_after: float | None = None,
    is_head: bool = False,
    closes: bool = False,
    keeps_alive: bool = False,
) -> bytes:
    return render_problem(
        problem,
        detail=detail,
        proxy_name=proxy_name,
        next_hop=next_hop,
        request_id=request_id,
        date=DATE,
        status=status,
        retry_after=retry_after,
        is_head=is_head,
        closes=closes,
        keeps_alive=keeps_alive,
    )


def parse_item(text: str) -> tuple[str, dict[str, str]]:
    """
    Parse a structured field item whose value is a string (RFC 9651 §4.2), strictly.

    Parameters are strings or tokens; a token is given back with a leading colon, so that it cannot pass for a string.
    """
    value, text = parse_string(text)
    parameters: dict[str, str] = {}
    while text:
        match = re.match(r"; *([a-z*][a-z0-9_\-.*]*)=", text)
        assert match is not None, text
        key, text = match[1], text[match.end() :]
        assert key not in parameters
        if text.startswith('"'):
            parameters[key], text = parse_string(text)
        else:
            token = re.match(r"[A-Za-z*][!#$%&'*+\-.^_`|~:/0-9A-Za-z]*", text)
            assert token is not None, text
            parameters[key], text = ":" + token[0], text[token.end() :]
    return value, parameters


def parse_string(text: str) -> tuple[str, str]:
    """Parse a structured field string (RFC 9651 §4.2.5); return its value and what follows."""
    match = re.match(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"', text)
    assert match is not None, text
    return re.sub(r"\\(.)", r"\1", match[1]), text[match.end() :]


@pytest.mark.parametrize("problem", Problem, ids=lambda problem: problem.value.name)
def test_every_problem_renders_as_a_whole_answer(problem: Problem) -> None:
    """RFC 9457 §3: type, title, status, detail, and our request_id; Content-Length in bytes; never stored."""
    answer = read(render(problem, detail="wäre ✓"))
    assert answer.status == problem.value.status
    assert answer.value("Content-Type") == "application/problem+json"
    assert answer.value("Content-Length") == str(len(answer.body))
    assert answer.value("Cache-Control") == "no-store"
    assert answer.value("Date") == DATE.decode()
    assert answer.problem() == {
        "type": PROBLEM_TYPE_PREFIX + problem.value.name,
        "title": problem.value.title,
        "status": problem.value.status,
        "detail": "wäre ✓",
        "request_id": "id-1",
    }


@pytest.mark.parametrize("problem", Problem, ids=lambda problem: problem.value.name)
def test_every_problem_says_at_which_hop_it_arose(problem: Problem) -> None:
    """RFC 9209 §2: who speaks, a registered error, the next hop, details."""
    value, parameters = parse_item(read(render(problem)).value("Proxy-Status"))
    assert value == "switch-proxy"
    assert parameters == {"error": f":{problem.value.error}", "next-hop": "api.example:443", "details": "it refused"}
    assert problem.value.error in REGISTERED_ERRORS


def test_a_problem_before_any_next_hop_names_none() -> None:
    """RFC 9209 §2.1.2: next-hop is where the request went; an empty one would say nothing."""
    _, parameters = parse_item(read(render(Problem.REQUEST_MALFORMED, next_hop="")).value("Proxy-Status"))
    assert parameters == {"error": ":http_request_error", "details": "it refused"}


def test_the_names_of_problems_are_unique_and_fit_for_a_uri() -> None:
    """They are stable: the end of a URI, a log field, a label of a metric."""
    names = [problem.value.name for problem in Problem]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in names)


@given(problem=st.sampled_from(Problem), detail=ANY_TEXT, name=ANY_TEXT, next_hop=ANY_TEXT, request_id=ANY_TEXT)
def test_no_text_can_break_out_of_its_place(
    problem: Problem, detail: str, name: str, next_hop: str, request_id: str
) -> None:
    """RFC 9112 §11.1: whatever stands in a detail or an id, the answer has the lines and members it always has."""
    rendered = render(problem, detail=detail, proxy_name=name, next_hop=next_hop, request_id=request_id)
    answer = read(rendered)
    plain = read(render(problem, next_hop=next_hop and "x"))
    assert [field for field, _ in answer.lines] == [field for field, _ in plain.lines]
    assert answer.value("Content-Length") == str(len(answer.body))
    assert list(answer.problem()) == ["type", "title", "status", "detail", "request_id"]
    value, parameters = parse_item(answer.value("Proxy-Status"))
    assert [*parameters] == (["error", "next-hop", "details"] if next_hop else ["error", "details"])
    assert value == in_ascii(name)
    assert parameters["details"] == in_ascii(detail)


def in_ascii(text: str) -> str:
    return re.sub(r"[^\x20-\x7e]", "?", text.replace("§", "section ").replace("…", "..."))


@given(detail=st.text())
def test_a_detail_reaches_the_reader_of_the_body_as_it_is(detail: str) -> None:
    """RFC 8259 §8.1: JSON in UTF-8, whatever the text."""
    assert read(render(detail=detail)).problem()["detail"] == detail


@pytest.mark.parametrize(
    ("detail", "quoted"),
    [
        pytest.param('say "no"', r'"say \"no\""', id="quotes"),
        pytest.param("a\\b", r'"a\\b"', id="backslash"),
        pytest.param("a\r\nSet-Cookie: b", '"a??Set-Cookie: b"', id="line end"),
        pytest.param("größe", '"gr??e"', id="beyond ASCII"),
        pytest.param("(RFC 9112 §3.2), …", '"(RFC 9112 section 3.2), ..."', id="our own words"),
        pytest.param("", '""', id="empty"),
    ],
)
def test_details_are_a_structured_string(detail: str, quoted: str) -> None:
    """RFC 9651 §3.3.3: printable ASCII, quotes and backslashes escaped."""
    text = proxy_status(Problem.INTERNAL.value, detail=detail, proxy_name="p", next_hop="")
    assert text == f'"p"; error=proxy_internal_error; details={quoted}'


@pytest.mark.parametrize(
    ("retry_after", "header"),
    [
        pytest.param(0.0, "1", id="at once"),
        pytest.param(-3.0, "1", id="in the past"),
        pytest.param(0.001, "1", id="a moment"),
        pytest.param(1.0, "1", id="a second"),
        pytest.param(1.001, "2", id="a bit more than a second"),
        pytest.param(29.5, "30", id="half a second"),
        pytest.param(30, "30", id="a whole number"),
    ],
)
def test_retry_after_is_whole_seconds_rounded_up(retry_after: float, header: str) -> None:
    """RFC 9110 §10.2.3: who comes back earlier than that would be refused again."""
    assert read(render(Problem.TOKEN_UNAVAILABLE, retry_after=retry_after)).value("Retry-After") == header


@pytest.mark.parametrize("problem", Problem, ids=lambda problem: problem.value.name)
def test_retry_after_stands_where_coming_back_makes_sense(problem: Problem) -> None:
    """RFC 9110 §10.2.3: the kind's own number where the case has none."""
    expected = [] if problem.value.retry_after is None else [str(problem.value.retry_after)]
    assert read(render(problem)).values("Retry-After") == expected
    assert read(render(problem, retry_after=7)).values("Retry-After") == ["7"]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "Bad Request"),
        (405, "Method Not Allowed"),
        (408, "Request Timeout"),
        (414, "URI Too Long"),
        (431, "Request Header Fields Too Large"),
        (500, "Internal Server Error"),
        (501, "Not Implemented"),
        (502, "Bad Gateway"),
        (503, "Service Unavailable"),
        (504, "Gateway Timeout"),
        (505, "HTTP Version Not Supported"),
    ],
)
def test_a_status_of_its_own_stands_in_line_and_body(status: int, reason: str) -> None:
    """RFC 9457 §3.1.2: the member and the status line agree; RFC 9110 §15: the registered reason."""
    answer = read(render(Problem.REQUEST_MALFORMED, status=status))
    assert (answer.status, answer.reason, answer.problem()["status"]) == (status, reason, status)


def test_an_answer_to_head_has_the_length_but_not_the_body() -> None:
    """RFC 9110 §9.3.2, §8.6."""
    whole, head = read(render()), read(render(is_head=True))
    assert (head.lines, head.body) == (whole.lines, b"")


@pytest.mark.parametrize(
    ("closes", "keeps_alive", "connection"),
    [
        pytest.param(False, False, [], id="HTTP/1.1 goes on"),
        pytest.param(True, False, ["close"], id="HTTP/1.1 ends"),
        pytest.param(False, True, ["keep-alive"], id="HTTP/1.0 goes on"),
        pytest.param(True, True, ["close"], id="HTTP/1.0 ends"),
    ],
)
def test_the_client_is_told_what_becomes_of_the_connection(
    connection: list[str], *, closes: bool, keeps_alive: bool
) -> None:
    """RFC 9112 §9.3, §9.6: an HTTP/1.0 client has to be told that it stays, an HTTP/1.1 client that it ends."""
    assert read(render(closes=closes, keeps_alive=keeps_alive)).values("Connection") == connection


@pytest.mark.parametrize("problem", Problem, ids=lambda problem: problem.value.name)
def test_a_refused_method_is_answered_with_those_that_are_allowed(problem: Problem) -> None:
    """RFC 9110 §15.5.6, §10.2.1: 405 carries Allow, and nothing else does."""
    expected = ["GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"] if problem is Problem.METHOD_NOT_ALLOWED else []
    assert read(render(problem)).values("Allow") == expected
