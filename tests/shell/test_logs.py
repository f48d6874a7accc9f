"""The log as it is read: events and access lines, in both formats, redacted, and in their order."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import pty
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from switch_proxy.core.config.models import LogSettings
from switch_proxy.core.exchange_record import ExchangeRecord
from switch_proxy.core.redaction import MASK
from switch_proxy.core.secret import Secret
from switch_proxy.logs.events import LibraryHandler
from switch_proxy.logs.log import Log

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NOW = 1790000000.25
SECRET = "the-secret-of-the-client"

EXCHANGE = ExchangeRecord(
    route="switch-api",
    method=b"GET",
    target=b"/api/readings?registerId=1",
    request_id=b"8f14e45fceea-1f",
    status=200,
    request_body_bytes=0,
    response_body_bytes=174,
    duration=0.25,
    upstream_duration=0.125,
    failure=None,
    started_at_wall=1790000000.0,
)


class Written:
    """A log into a file, and what has been written to it."""

    def __init__(self, path: Path, settings: LogSettings, environ: Mapping[str, str]) -> None:
        self._path = path
        with path.open("wb") as file:
            self.log = Log(settings, environ=environ, wall=lambda: NOW, descriptor=file.fileno())

    @property
    def text(self) -> str:
        assert self.log.flush(10.0)
        return self._path.read_text(encoding="utf-8")

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@contextmanager
def log(path: Path, *, environ: Mapping[str, str] | None = None, **settings: Any) -> Iterator[Written]:
    written = Written(path / "log", LogSettings(**settings), environ or {})
    try:
        yield written
    finally:
        written.log.close()


def test_an_event_is_one_json_object_that_starts_with_when_how_severe_and_what(tmp_path: Path) -> None:
    with log(tmp_path) as written:
        written.log.events.info("token.refreshed", credential="switch", lifetime=3600.0)
        assert written.text == (
            '{"timestamp":"2026-09-21T14:13:20.250Z","level":"info","event":"token.refreshed",'
            '"credential":"switch","lifetime":3600.0}\n'
        )


def test_events_below_the_level_are_not_written(tmp_path: Path) -> None:
    with log(tmp_path, level="warning") as written:
        for method in ("debug", "info", "warning", "error"):
            getattr(written.log.events, method)("event.seen")
        assert [line["level"] for line in written.lines] == ["warning", "error"]


def test_a_traceback_is_a_field_and_holds_no_secret(tmp_path: Path) -> None:
    with log(tmp_path) as written:
        written.log.redactor.learn("client secret", Secret(SECRET))
        try:
            raise ValueError(f"cannot send {SECRET}")
        except ValueError:
            written.log.events.exception("task.died")
        (line,) = written.lines
    assert line["level"] == "error"
    assert line["exception"].splitlines()[0] == "Traceback (most recent call last):"
    assert line["exception"].splitlines()[-1] == f"ValueError: cannot send {MASK}"


def test_secrets_are_masked_in_every_field_of_an_event(tmp_path: Path) -> None:
    with log(tmp_path) as written:
        written.log.redactor.learn("client secret", Secret(SECRET))
        written.log.events.error(f"failed.{SECRET}", detail=[SECRET], error=ValueError(SECRET), secret=Secret(SECRET))
        assert SECRET not in written.text


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("field", ["method", "target", "request_id"])
def test_secrets_are_masked_in_access_lines(tmp_path: Path, log_format: str, field: str) -> None:
    """Even if the field was rendered before the secret was known."""
    changed: dict[str, Any] = {field: SECRET.encode()}
    record = dataclasses.replace(EXCHANGE, **changed)

    with log(tmp_path, format=log_format) as written:
        written.log.log_exchanges([record])
        written.log.redactor.learn("client secret", Secret(SECRET))
        written.log.log_exchanges([record])
        before, after = written.text.splitlines()
    assert SECRET in before
    assert SECRET not in after
    assert MASK in after


def test_exchanges_become_a_line_each_in_their_order(tmp_path: Path) -> None:
    with log(tmp_path) as written:
        written.log.log_exchanges([dataclasses.replace(EXCHANGE, request_id=b"%d" % number) for number in range(3)])
        assert [line["request_id"] for line in written.lines] == ["0", "1", "2"]


def test_both_formats_tell_the_same_of_an_exchange(tmp_path: Path) -> None:
    with log(tmp_path, format="console") as written:
        written.log.log_exchanges([EXCHANGE])
        assert written.text.split() == [
            "2026-09-21T14:13:20.250Z",
            "[info",
            "]",
            "request.forwarded",
            "route=switch-api",
            "method=GET",
            "status=200",
            "path=/api/readings",
            "request_bytes=0",
            "response_bytes=174",
            "duration=0.25",
            "upstream_duration=0.125",
            "request_id=8f14e45fceea-1f",
        ]


@pytest.mark.parametrize(("access", "count"), [("all", 2), ("errors", 1), ("off", 0)])
def test_the_configuration_says_which_exchanges_are_written_for_people_too(
    tmp_path: Path, access: str, count: int
) -> None:
    with log(tmp_path, format="console", access=access) as written:
        written.log.log_exchanges([EXCHANGE])
        written.log.log_exchanges([dataclasses.replace(EXCHANGE, status=500)])
        assert len(written.text.splitlines()) == count


def test_what_comes_from_the_network_cannot_drive_a_terminal(tmp_path: Path) -> None:
    with log(tmp_path, format="console") as written:
        written.log.log_exchanges([dataclasses.replace(EXCHANGE, request_id="\x1b]0;x\x07\u009b2J".encode())])
        assert "\x1b" not in written.text
        assert "\u009b" not in written.text
        assert "\\x1b]0;x\\x07\\x9b2J" in written.text


def read_terminal(descriptor: int, end: bytes) -> bytes:
    data = b""
    while end not in data:
        data += os.read(descriptor, 4096)
    return data


@pytest.mark.parametrize(
    ("environ", "is_coloured"),
    [pytest.param({}, True, id="as it is"), pytest.param({"NO_COLOR": "1"}, False, id="with NO_COLOR")],
)
def test_a_terminal_gets_colours_unless_told_otherwise(environ: dict[str, str], is_coloured: bool) -> None:
    leader, follower = pty.openpty()
    try:
        written = Log(LogSettings(format="console"), environ=environ, wall=lambda: NOW, descriptor=follower)
        written.events.info("proxy.started", end="x")
        shown = read_terminal(leader, b"\n")
        written.close()
        assert (b"\x1b[" in shown) is is_coloured
    finally:
        os.close(leader)
        os.close(follower)


def test_a_file_gets_no_colours(tmp_path: Path) -> None:
    with log(tmp_path, format="console") as written:
        written.log.events.info("proxy.started")
        assert "\x1b" not in written.text


def test_json_has_no_colours_on_a_terminal_either() -> None:
    leader, follower = pty.openpty()
    try:
        written = Log(LogSettings(), environ={}, wall=lambda: NOW, descriptor=follower)
        written.events.info("proxy.started")
        assert json.loads(read_terminal(leader, b"\n"))["event"] == "proxy.started"
        written.close()
    finally:
        os.close(leader)
        os.close(follower)


def test_what_libraries_report_becomes_an_event(tmp_path: Path) -> None:
    with log(tmp_path) as written:
        library = logging.Logger("aiohttp.server")  # noqa: LOG001 - one that nobody else has handlers on
        library.addHandler(LibraryHandler(written.log.write))
        library.info("not of interest")
        library.warning("odd: %s", 7)
        library.error("broken %d", "no number")
        try:
            raise RuntimeError("deep down")
        except RuntimeError:
            library.exception("it failed")
        lines = written.lines
    assert [(line["event"], line["level"], line["library"], line["message"]) for line in lines] == [
        ("library.reported", "warning", "aiohttp.server", "odd: 7"),
        ("library.reported", "error", "aiohttp.server", "broken %d"),
        ("library.reported", "error", "aiohttp.server", "it failed"),
    ]
    assert lines[2]["exception"].endswith("RuntimeError: deep down")


def test_other_threads_may_log(tmp_path: Path) -> None:
    with log(tmp_path) as written:
        written.log.log_exchanges([EXCHANGE])
        thread = threading.Thread(target=lambda: written.log.events.warning("library.reported"))
        thread.start()
        thread.join()
        assert sorted(line["event"] for line in written.lines) == ["library.reported", "request.forwarded"]


def test_lines_that_could_not_be_written_are_counted_and_told(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    broken = Log(LogSettings(), environ={}, wall=lambda: NOW, descriptor=writing)
    os.close(writing)
    broken.events.info("proxy.started")
    assert broken.flush(10.0)
    assert broken.lines_dropped == 1
    broken.close()


def test_standard_output_that_is_closed_is_no_reason_to_fail() -> None:
    """Nor are lines written to whatever gets the number of the closed descriptor next."""
    reading, writing = os.pipe()
    os.close(writing)
    silent = Log(LogSettings(), environ={}, wall=lambda: NOW, descriptor=writing)
    silent.events.info("proxy.started")
    silent.close()
    assert silent.lines_dropped == 0
    os.close(reading)


def test_the_descriptor_is_the_callers_to_close(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        Log(LogSettings(), environ={}, wall=lambda: NOW, descriptor=file.fileno()).close()
        file.write(b"still open\n")
    assert (tmp_path / "log").read_bytes() == b"still open\n"
