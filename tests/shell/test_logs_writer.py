"""The writing thread: lines arrive whole and in order, and nothing waits for a broken output."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from switch_proxy.logs.writer import LogWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE = 10.0


def describe_loss(count: int, why: str) -> bytes:
    return f"lost {count}: {why}\n".encode()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE  # noqa: TID251 - threads run in real time
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"  # noqa: TID251 - threads run in real time
        time.sleep(0.005)


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        for descriptor in (reading, writing):
            with suppress(OSError):  # if the test has closed it
                os.close(descriptor)


def fill(writing: int) -> int:
    """Fill a pipe to the brim; return how many bytes that took."""
    os.set_blocking(writing, False)
    filled = 0
    try:
        while True:
            filled += os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
        return filled


def read_exactly(reading: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(reading, size - len(data))
        assert piece, "the pipe was closed early"
        data += piece
    return data


def test_lines_arrive_whole_and_in_order(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        writer = LogWriter(file.fileno(), describe_loss=describe_loss)
        expected = [b"line %d\n" % number for number in range(2000)]
        for line in expected:
            writer.write(line)
        assert writer.close(PATIENCE)
    assert (tmp_path / "log").read_bytes() == b"".join(expected)
    assert writer.lines_dropped == 0


def test_flush_returns_when_all_is_written(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        writer = LogWriter(file.fileno(), describe_loss=describe_loss)
        writer.write(b"a\n")
        assert writer.flush(PATIENCE)
        assert (tmp_path / "log").read_bytes() == b"a\n"
        writer.close(PATIENCE)


def test_a_reader_that_stops_reading_stops_nobody_and_learns_how_much_it_missed() -> None:
    with pipe() as (reading, writing):
        filled = fill(writing)
        writer = LogWriter(writing, describe_loss=describe_loss, capacity=100)
        for number in range(100):
            writer.write(b"line number %03d\n" % number)
        assert writer.lines_dropped == 94
        assert not writer.flush(0.01)
        read_exactly(reading, filled)
        # Which of the two is written first depends on whether the thread had taken the lines before some were dropped.
        lost = b"lost 94: lines came faster than they could be written\n"
        kept = b"".join(b"line number %03d\n" % number for number in range(6))
        assert read_exactly(reading, len(kept + lost)) in {kept + lost, lost + kept}
        writer.close(PATIENCE)


def test_the_loss_is_told_when_reading_goes_on_although_no_further_line_comes() -> None:
    with pipe() as (reading, writing):
        filled = fill(writing)
        writer = LogWriter(writing, describe_loss=describe_loss, capacity=3)
        writer.write(b"a\n")
        # By the time this returns, the thread is stuck with that line.
        assert not writer.flush(0.2)
        writer.write(b"too long\n")
        read_exactly(reading, filled)
        expected = b"a\nlost 1: lines came faster than they could be written\n"
        assert read_exactly(reading, len(expected)) == expected
        writer.close(PATIENCE)


def test_closing_does_not_wait_for_a_reader_that_never_comes() -> None:
    with pipe() as (reading, writing):
        filled = fill(writing)
        writer = LogWriter(writing, describe_loss=describe_loss)
        writer.write(b"never read\n")
        assert not writer.close(0.2)
        # Let the thread end, so that the test leaves nothing behind.
        read_exactly(reading, filled)
        assert writer.close(PATIENCE)


def test_closing_gives_up_on_a_non_blocking_descriptor_that_takes_nothing() -> None:
    with pipe() as (_, writing):
        fill(writing)
        os.set_blocking(writing, False)
        writer = LogWriter(writing, describe_loss=describe_loss)
        writer.write(b"never read\n")
        writer.close(0.01)
        wait_until(lambda: writer.close(0.01))
        assert writer.lines_dropped == 1


def test_a_descriptor_that_someone_made_non_blocking_is_waited_for() -> None:
    with pipe() as (reading, writing):
        filled = fill(writing)
        os.set_blocking(writing, False)
        writer = LogWriter(writing, describe_loss=describe_loss)
        writer.write(b"a\n")
        read_exactly(reading, filled)
        assert read_exactly(reading, 2) == b"a\n"
        writer.close(PATIENCE)
        assert writer.lines_dropped == 0


def test_a_closed_pipe_costs_the_lines_and_nothing_else() -> None:
    with pipe() as (reading, writing):
        os.close(reading)
        writer = LogWriter(writing, describe_loss=describe_loss)
        for _ in range(3):
            writer.write(b"a\nb\n")
        assert writer.flush(PATIENCE)
        assert writer.lines_dropped == 6
        assert writer.close(PATIENCE)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes: writes then fail in the middle, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_was_full_is_written_on_from_the_next_line_and_the_loss_told(tmp_path: Path) -> None:
    """What fits is kept, a torn line is ended, and the lines lost are counted: the torn one too."""
    path = tmp_path / "log"
    with path.open("wb") as file:
        writer = LogWriter(file.fileno(), describe_loss=describe_loss)
        with file_size_limit(9):
            writer.write(b"one\n")
            assert writer.flush(PATIENCE)
            writer.write(b"two\nthree\nfour\n")
            writer.write(b"five\n")
            assert writer.flush(PATIENCE)
        assert writer.lines_dropped == 3
        writer.write(b"six\n")
        writer.close(PATIENCE)
    assert path.read_bytes() == b"one\ntwo\nt\nlost 3: File too large\nsix\n"


def test_lines_from_many_threads_are_not_mixed(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        writer = LogWriter(file.fileno(), describe_loss=describe_loss)

        def write_many(letter: bytes) -> None:
            for _ in range(200):
                writer.write(letter * 50 + b"\n")

        threads = [threading.Thread(target=write_many, args=(letter,)) for letter in (b"a", b"b", b"c")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.close(PATIENCE)
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert sorted(lines) == sorted([b"a" * 50, b"b" * 50, b"c" * 50] * 200)


def test_lines_that_come_after_the_end_are_counted_as_dropped(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        writer = LogWriter(file.fileno(), describe_loss=describe_loss)
        writer.close(PATIENCE)
        writer.write(b"late\n")
        assert writer.lines_dropped == 1
