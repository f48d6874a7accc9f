"""The body of a request on its way: every piece is sent once, and kept as long as that is allowed."""

from __future__ import annotations

import pytest

from switch_proxy.http1.request_body import RequestBody


def body(*reads: list[bytes], limit: int = 4) -> RequestBody:
    taken = RequestBody(limit=limit)
    for pieces in reads:
        taken.take(pieces)
    return taken


@pytest.mark.parametrize(
    ("reads", "kept"),
    [
        ([], b""),
        ([[]], b""),
        ([[b"abc"]], b"abc"),
        ([[b"ab"], [b"c", b"d"]], b"abcd"),
        ([[b"abcd"], [b"e"]], None),
        ([[b"abc", b"de"]], None),
        ([[b"abcde"], [b"f"]], None),
    ],
)
def test_a_body_is_kept_up_to_its_limit(reads: list[list[bytes]], kept: bytes | None) -> None:
    taken = body(*reads)
    assert (taken.kept, taken.size) == (kept, sum(len(piece) for pieces in reads for piece in pieces))


def test_what_waits_is_given_once() -> None:
    taken = body([b"ab"], [b"c"])
    assert taken.take_waiting() == [b"ab", b"c"]
    assert taken.take_waiting() == []


def test_after_a_restart_all_that_is_kept_waits_again_and_nothing_is_delayed() -> None:
    taken = body([b"ab"], [b"c"])
    taken.take_waiting()
    taken.take([b"d"])
    taken.is_delayed = True
    taken.restart()
    assert (taken.take_waiting(), taken.is_delayed) == ([b"abcd"], False)


def test_a_restart_without_a_byte_of_body_sends_nothing() -> None:
    taken = body()
    taken.restart()
    assert taken.take_waiting() == []
