"""The line of the access log: which exchanges get one, and that the quick rendering says what the plain one says."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.access_line import AccessLineRenderer, access_event, access_level, is_logged
from switch_proxy.core.exchange_record import ExchangeRecord
from switch_proxy.core.http.problems import Problem
from switch_proxy.core.redaction import Redactor
from switch_proxy.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

FORWARDED = ExchangeRecord(
    route="switch-api",
    method=b"GET",
    target=b"/api/readings?registerId=1&registerId=2",
    request_id=b"8f14e45fceea-1f",
    status=200,
    request_body_bytes=0,
    response_body_bytes=174,
    duration=0.0123456,
    upstream_duration=0.0113454,
    failure=None,
    started_at_wall=1790000000.1,
)

durations = st.floats(min_value=0, max_value=1e6)
records = st.builds(
    ExchangeRecord,
    route=st.text(min_size=1, max_size=8),
    method=st.one_of(st.sampled_from([b"GET", b"POST"]), st.binary(max_size=8)),
    target=st.one_of(st.sampled_from([b"/", b"*", b"/a%20b?c=d"]), st.binary(max_size=40)),
    request_id=st.one_of(st.sampled_from([b"a-1", b"a.b"]), st.binary(max_size=40)),
    status=st.integers(min_value=0, max_value=999),
    request_body_bytes=st.integers(min_value=0, max_value=2**70),
    response_body_bytes=st.integers(min_value=0, max_value=2**70),
    duration=durations,
    upstream_duration=st.none() | durations,
    failure=st.none() | st.sampled_from([problem.value.name for problem in Problem]),
    started_at_wall=st.floats(min_value=0, max_value=4e9),
    detail=st.none() | st.text(max_size=40) | st.just("x" * 300),
)


def renderer(
    *, access: str = "all", level: str = "info", redact: Callable[[str], str] = lambda text: text
) -> AccessLineRenderer:
    return AccessLineRenderer(access=access, level=level, redact=redact)


def fields_of(line: bytes) -> list[tuple[str, object]]:
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    pairs: list[tuple[str, object]] = json.loads(line, object_pairs_hook=list)
    return pairs


def test_a_line_tells_the_exchange_with_its_path_and_without_its_query() -> None:
    assert renderer().render([FORWARDED]) == (
        b'{"timestamp":"2026-09-21T14:13:20.112Z","level":"info","event":"request.forwarded","route":"switch-api",'
        b'"method":"GET","status":200,"path":"/api/readings","request_bytes":0,"response_bytes":174,'
        b'"duration":0.012346,"upstream_duration":0.011345,"request_id":"8f14e45fceea-1f"}\n'
    )


@given(st.lists(records, min_size=1, max_size=5))
def test_quick_lines_hold_exactly_the_fields_of_the_event_whatever_the_bytes(seen: list[ExchangeRecord]) -> None:
    """One renderer sees several records, so that what it remembers of one is tried on the others."""
    quick = renderer()
    for record in [*seen, *seen]:
        event = access_event(record)
        expected = [("timestamp", event.pop("timestamp")), ("level", access_level(record)), *event.items()]
        assert fields_of(quick.render([record])) == expected


def test_bytes_that_are_no_text_and_characters_that_json_escapes_arrive_readable() -> None:
    record = dataclasses.replace(FORWARDED, target=b'/\xff"\\\x00\xc3\xa9', request_id=b'id"\x1b[31m\xe2\x82')
    fields = dict(fields_of(renderer().render([record])))
    assert (fields["path"], fields["request_id"]) == ('/\\xff"\\\x00é', 'id"\x1b[31m\\xe2\\x82')


def test_renderings_stay_right_when_more_is_seen_than_is_remembered() -> None:
    quick = renderer()
    for number in range(3000):
        record = dataclasses.replace(FORWARDED, target=b"/%d" % number, method=b"M%d" % number)
        fields = dict(fields_of(quick.render([record])))
        assert (fields["path"], fields["method"]) == (f"/{number}", f"M{number}")


def test_timestamps_follow_the_clock_from_second_to_second() -> None:
    quick = renderer()
    lines = [
        dict(fields_of(quick.render([dataclasses.replace(FORWARDED, started_at_wall=at, duration=0.0)])))["timestamp"]
        for at in (1790000000.5, 1790000001.25, 1790000000.75)
    ]
    assert lines == ["2026-09-21T14:13:20.500Z", "2026-09-21T14:13:21.250Z", "2026-09-21T14:13:20.750Z"]


@pytest.mark.parametrize("field", ["method", "target", "request_id"])
def test_what_looks_like_a_secret_is_given_to_the_redactor(field: str) -> None:
    quick = renderer(redact=lambda text: "masked" if "eyJ" in text else text)
    changed: dict[str, bytes] = {field: b"eyJhbGciOi.eyJzdWIi.c2ln"}
    line = quick.render([dataclasses.replace(FORWARDED, **changed)])  # type: ignore[arg-type]
    assert b"masked" in line
    assert b"eyJ" not in line


@pytest.mark.parametrize(
    ("failure", "upstream_duration", "event"),
    [
        pytest.param(None, 0.1, "request.forwarded", id="the upstream answered"),
        pytest.param("upstream-timeout", None, "request.failed", id="the proxy failed"),
        pytest.param("upstream-incomplete", 0.1, "request.failed", id="cut short after its head"),
        pytest.param(None, None, "request.answered", id="the proxy was the last recipient"),
    ],
)
def test_the_event_says_who_answered(failure: str | None, upstream_duration: float | None, event: str) -> None:
    record = dataclasses.replace(FORWARDED, failure=failure, upstream_duration=upstream_duration)
    assert dict(fields_of(renderer().render([record])))["event"] == event


def test_a_failure_is_named_and_its_missing_upstream_duration_is_null() -> None:
    record = dataclasses.replace(FORWARDED, status=504, failure="upstream-timeout", upstream_duration=None)
    fields = dict(fields_of(renderer().render([record])))
    assert (fields["failure"], fields["upstream_duration"], fields["level"]) == ("upstream-timeout", None, "warning")


def test_a_failure_says_why() -> None:
    record = dataclasses.replace(FORWARDED, failure="upstream-name-unknown", detail="the name a.b cannot be resolved")
    fields = fields_of(renderer().render([record]))
    names = [name for name, _ in fields]
    assert dict(fields)["detail"] == "the name a.b cannot be resolved"
    assert names.index("detail") == names.index("failure") + 1


def test_a_detail_is_searched_for_secrets() -> None:
    """It may hold an authorization server's words."""
    redactor = Redactor()
    redactor.learn("test", Secret("the-secret-of-the-client"))
    record = dataclasses.replace(FORWARDED, failure="token-unavailable", detail="no: the-secret-of-the-client")
    line = renderer(redact=redactor.redact).render([record])
    assert dict(fields_of(line))["detail"] == "no: [redacted]"


@pytest.mark.parametrize(("length", "is_cut"), [(2048, False), (2049, True)], ids=["at", "above"])
def test_a_detail_is_cut_and_a_mark_says_so(length: int, *, is_cut: bool) -> None:
    record = dataclasses.replace(FORWARDED, failure="token-unavailable", detail="d" * length)
    shown = "d" * 2048 + ("…" if is_cut else "")
    assert dict(fields_of(renderer().render([record])))["detail"] == access_event(record)["detail"] == shown


def test_details_stay_right_when_more_are_seen_than_are_remembered() -> None:
    quick = renderer()
    for number in range(3000):
        record = dataclasses.replace(FORWARDED, failure="upstream-refused", detail=f"{number}")
        assert dict(fields_of(quick.render([record])))["detail"] == f"{number}"


GOOD = FORWARDED
UPSTREAM_ERROR = dataclasses.replace(FORWARDED, status=500)
FAILED = dataclasses.replace(FORWARDED, status=503, failure="token-unavailable", upstream_duration=None)
CUT = dataclasses.replace(FORWARDED, failure="upstream-incomplete")
ABANDONED = dataclasses.replace(FORWARDED, failure="client-gone")


@pytest.mark.parametrize(
    ("access", "level", "logged"),
    [
        pytest.param("all", "info", [GOOD, UPSTREAM_ERROR, FAILED, CUT, ABANDONED], id="all"),
        pytest.param("all", "debug", [GOOD, UPSTREAM_ERROR, FAILED, CUT, ABANDONED], id="all, at debug"),
        pytest.param("all", "warning", [UPSTREAM_ERROR, FAILED, CUT], id="all, from warning on"),
        pytest.param("errors", "info", [UPSTREAM_ERROR, FAILED, CUT], id="errors"),
        pytest.param("off", "info", [FAILED, CUT], id="off leaves what the proxy failed to do"),
        pytest.param("all", "error", [], id="all, from error on"),
    ],
)
def test_the_configuration_says_which_exchanges_get_a_line(
    access: str, level: str, logged: list[ExchangeRecord]
) -> None:
    quick = renderer(access=access, level=level)
    exchanges = [GOOD, UPSTREAM_ERROR, FAILED, CUT, ABANDONED]
    assert [record for record in exchanges if quick.render([record])] == logged
    assert [record for record in exchanges if is_logged(record, access=access, level=level)] == logged


def test_long_methods_and_paths_are_rendered_whole() -> None:
    """They are not remembered, so that a client cannot fill the memory with them."""
    quick = renderer()
    for _ in range(2):
        record = dataclasses.replace(FORWARDED, target=b"/" + b"p" * 300, method=b"M" * 300)
        fields = dict(fields_of(quick.render([record])))
        assert (fields["path"], fields["method"]) == ("/" + "p" * 300, "M" * 300)


@pytest.mark.parametrize(
    ("length", "is_cut"), [(2048, False), (2049, True), (8000, True)], ids=["at", "above", "far above"]
)
def test_a_path_is_cut_and_a_mark_says_so(length: int, *, is_cut: bool) -> None:
    """What is logged is cut before it is searched for secrets, so that a client cannot make that slow."""
    record = dataclasses.replace(FORWARDED, target=b"/".ljust(length, b"p") + b"?query")
    shown = "/".ljust(min(length, 2048), "p") + ("…" if is_cut else "")
    assert dict(fields_of(renderer().render([record])))["path"] == shown
    assert access_event(record)["path"] == shown


@pytest.mark.parametrize("before", range(2030, 2049))
def test_a_secret_that_a_path_is_cut_in_is_not_logged_in_part(before: int) -> None:
    """Wherever the cut falls, within a character too; seven characters and fewer tell nothing."""
    redactor = Redactor()
    redactor.learn("test", Secret("ßecret-of-the-client"))
    record = dataclasses.replace(FORWARDED, target=b"/".ljust(before, b"p") + "ßecret-of-the-client".encode() + b"/x")
    rendered = dict(fields_of(renderer(redact=redactor.redact).render([record])))["path"]
    for path in (rendered, redactor.redact(str(access_event(record)["path"]))):
        assert "ßecret-o" not in str(path)
        assert str(path).endswith("…")


def test_bytes_that_are_no_text_are_cut_at_the_limit() -> None:
    record = dataclasses.replace(FORWARDED, target=b"/".ljust(2040, b"p") + b"\x80" * 20)
    assert access_event(record)["path"] == "/".ljust(2040, "p") + "\\x80" * 8 + "…"


def test_a_request_id_is_cut_too() -> None:
    record = dataclasses.replace(FORWARDED, request_id=b"." * 129)
    assert dict(fields_of(renderer().render([record])))["request_id"] == "." * 128 + "…"
    assert access_event(record)["request_id"] == "." * 128 + "…"
