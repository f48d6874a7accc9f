from __future__ import annotations

import pytest
from wrk import WrkError, WrkReport, parse_wrk, wrk_command

REPORT = """\
Running 3s test @ http://127.0.0.1:40415/api/readings
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.62ms    1.03ms  24.45ms   95.46%
    Req/Sec    20.45k     2.13k   23.74k    83.33%
  Latency Distribution
     50%    1.46ms
     75%    1.64ms
     90%    2.01ms
     99%  840.00us
  61048 requests in 3.02s, 26.61MB read
Requests/sec:  20214.57
Transfer/sec:      8.81MB
"""


def test_a_clean_report_gives_requests_time_and_percentiles() -> None:
    assert parse_wrk(REPORT) == WrkReport(
        requests=61048, seconds=3.02, p50_ms=1.46, p99_ms=0.84, socket_errors=0, error_statuses=0
    )


def test_the_rate_is_requests_by_time() -> None:
    assert parse_wrk(REPORT).requests_per_second == pytest.approx(61048 / 3.02)


def test_socket_errors_of_all_kinds_add_up() -> None:
    report = REPORT.replace(
        "Requests/sec", "  Socket errors: connect 1, read 20, write 300, timeout 4000\nRequests/sec"
    )
    assert parse_wrk(report).socket_errors == 4321


def test_answers_that_are_no_success_are_counted() -> None:
    assert (
        parse_wrk(REPORT.replace("Requests/sec", "  Non-2xx or 3xx responses: 17\nRequests/sec")).error_statuses == 17
    )


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        pytest.param("940.12ms", 0.94012, id="milliseconds"),
        pytest.param("10.05s", 10.05, id="seconds"),
        pytest.param("1.50m", 90.0, id="minutes"),
    ],
)
def test_time_is_read_in_any_of_wrks_units(written: str, seconds: float) -> None:
    assert parse_wrk(REPORT.replace("3.02s", written)).seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    "report",
    [
        pytest.param("", id="nothing"),
        pytest.param("unable to connect to 127.0.0.1:1 Connection refused\n", id="no connection"),
        pytest.param(REPORT.replace("61048 requests in", ""), id="no totals"),
        pytest.param(REPORT.replace("99%", "98%"), id="no percentile"),
    ],
)
def test_a_report_without_its_figures_is_an_error(report: str) -> None:
    with pytest.raises(WrkError, match="in wrk's report"):
        parse_wrk(report)


def test_wrk_gets_each_header_line_and_whole_seconds() -> None:
    command = wrk_command("wrk", "http://x/", connections=8, seconds=1.6, header_lines=["A: 1", "B: 2"], script=None)
    assert command == [
        "wrk", "-t1", "-c8", "-d2s", "--timeout", "10s", "--latency", "-H", "A: 1", "-H", "B: 2", "http://x/",
    ]  # fmt: skip


def test_less_than_a_second_becomes_one() -> None:
    """Wrk takes 0s for a run without an end."""
    assert "-d1s" in wrk_command("wrk", "u", connections=1, seconds=0.2, header_lines=[], script=None)
