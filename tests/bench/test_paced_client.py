from __future__ import annotations

from itertools import islice

import pytest
from paced_client import ResponseReader, arrivals, figures

RESPONSE = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\nhello"


def test_arrivals_are_the_same_for_every_system() -> None:
    """The moments depend only on rate and seed, not on the proxy."""
    assert list(islice(arrivals(1000.0, 7), 500)) == list(islice(arrivals(1000.0, 7), 500))


def test_arrivals_come_at_the_rate_asked_for() -> None:
    nanoseconds = list(islice(arrivals(1000.0, 1), 20_000))[-1]
    assert nanoseconds == pytest.approx(20 * 1e9, rel=0.03)


@pytest.mark.parametrize("size", [1, 2, 7, len(RESPONSE)], ids=lambda size: f"in pieces of {size}")
def test_a_response_is_complete_with_its_last_byte(size: int) -> None:
    reader = ResponseReader()
    pieces = [RESPONSE[at : at + size] for at in range(0, len(RESPONSE), size)]
    assert [reader.is_complete_with(piece) for piece in pieces] == [*(False for _ in pieces[1:]), True]


def test_the_next_response_is_read_after_one_is_complete() -> None:
    reader = ResponseReader()
    assert [reader.is_complete_with(RESPONSE), reader.is_complete_with(RESPONSE)] == [True, True]


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", id="another status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", id="no length"),
        pytest.param(RESPONSE + b"x", id="more than was announced"),
    ],
)
def test_a_response_that_cannot_be_timed_ends_the_run(response: bytes) -> None:
    with pytest.raises(RuntimeError, match="response"):
        ResponseReader().is_complete_with(response)


def test_what_was_never_answered_counts_with_its_age() -> None:
    """Otherwise the slowest proxy would seem the fastest."""
    found = figures(latencies=[1.0] * 98, unanswered=[2000.0, 2000.0], lateness=[0.1])
    assert found == {"p50_ms": 1.0, "p99_ms": 2000.0, "p999_ms": 2000.0, "generator_late_p99_ms": 0.1}
