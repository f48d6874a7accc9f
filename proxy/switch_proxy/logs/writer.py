"""
Writes log lines to a file descriptor from a thread of its own, so that logging never blocks and never fails.

Standard output may be a pipe that nobody reads, or a disk that is full, slow or gone. Writing can block on each of them
(`O_NONBLOCK` does nothing for files, and on a pipe it would change the descriptor for everything that shares it), so it
happens in a thread where nothing else waits, as in Envoy's access log. The thread wakes up a few times a second at most and
writes everything that is pending, because frequent switches between threads cost more than the work.

Lines that cannot be written, or exceed the capacity, are dropped and counted; when writing works again, a line reports
how many.
"""

from __future__ import annotations

import os
import select
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_INTERVAL: Final = 0.1
"""Seconds that the first line of a batch waits for others; `tail -f` still looks immediate."""

_CAPACITY: Final = 4 * 1024 * 1024
"""Bytes that may be pending: over ten thousand lines, about a second of a very busy proxy."""

_POLL: Final = 100
"""Milliseconds to wait for a descriptor that is not writable, before checking again whether the log is closing."""


class LogWriter:
    """Takes whole lines from any thread and writes them in order."""

    def __init__(
        self, descriptor: int, *, describe_loss: Callable[[int, str], bytes], capacity: int = _CAPACITY
    ) -> None:
        """
        Begin to write to `descriptor`. The caller owns it, and keeps it open until `close` has returned True.

        `describe_loss` renders the line that reports how many lines were dropped, and why; `capacity` is in bytes.
        """
        self._descriptor = descriptor
        self._describe_loss = describe_loss
        self._capacity = capacity
        # The condition guards the attributes below; its lock is never held during a write.
        self._settled = threading.Condition()
        self._waiting: list[bytes] = []
        self._unwritten_bytes = 0
        self._dropped = 0
        self._unreported = 0
        self._why = ""
        # Work pending; flush immediately; closing.
        self._is_due = threading.Event()
        self._is_urgent = threading.Event()
        self._is_closing = False
        # Of the thread alone: whether the last write failed, and whether the last written line lacks its end.
        self._is_broken = False
        self._is_line_torn = False
        # A daemon: a write that never returns must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<LogWriter fd={self._descriptor} unwritten={self._unwritten_bytes} dropped={self._dropped}>"

    @property
    def lines_dropped(self) -> int:
        """Return how many lines have been dropped since the start."""
        return self._dropped

    def write(self, lines: bytes) -> None:
        """Write lines, each with its line end, soon. Never blocks, never raises."""
        with self._settled:
            if self._is_closing:
                self._lose(lines.count(b"\n"), "the log was closed")
            elif self._unwritten_bytes + len(lines) > self._capacity:
                self._lose(lines.count(b"\n"), "lines came faster than they could be written")
            else:
                self._waiting.append(lines)
                self._unwritten_bytes += len(lines)
        if not self._is_due.is_set():
            self._is_due.set()

    def flush(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until everything is written or dropped; return whether it is."""
        self._is_urgent.set()
        with self._settled:
            is_done = self._settled.wait_for(lambda: not self._unwritten_bytes, timeout)
        if not self._is_closing:
            self._is_urgent.clear()
        return is_done

    def close(self, timeout: float) -> bool:
        """Write pending lines for at most `timeout` seconds and end; return whether the descriptor is no longer used."""
        is_written = self.flush(timeout)
        with self._settled:
            self._is_closing = True
        self._is_urgent.set()
        self._is_due.set()
        self._thread.join(timeout if is_written else 0)
        return not self._thread.is_alive()

    def _lose(self, lines: int, why: str) -> None:
        self._dropped += lines
        self._unreported += lines
        self._why = why

    def _run(self) -> None:
        is_last = False
        while not is_last:
            self._is_due.wait()
            self._is_urgent.wait(_INTERVAL)
            self._is_due.clear()
            with self._settled:
                is_last = self._is_closing
                batch, self._waiting = b"".join(self._waiting), []
                lost, why = self._unreported, self._why
            if batch or (lost and not self._is_broken):
                self._write_batch(batch, lost, why)

    def _write_batch(self, batch: bytes, lost: int, why: str) -> None:
        before = b"\n" if self._is_line_torn else b""
        if lost:
            before += self._describe_loss(lost, why)
        written, error = self._write_all(before + batch)
        self._is_broken = error is not None
        with self._settled:
            if written >= len(before):
                self._unreported -= lost
            if error is not None:
                self._lose(batch.count(b"\n", max(0, written - len(before))), error)
            self._unwritten_bytes -= len(batch)
            self._settled.notify_all()

    def _write_all(self, data: bytes) -> tuple[int, str | None]:
        """Return how many bytes were written, and why not all of them were."""
        rest = memoryview(data)
        error = None
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                # Another process that shares the descriptor has made it non-blocking.
                if self._is_closing:
                    error = "nobody read what was written"
                    break
                self._wait_until_writable()
            except OSError as failure:
                error = os.strerror(failure.errno) if failure.errno else str(failure)
                break
        written = len(data) - len(rest)
        if written:
            self._is_line_torn = data[written - 1 : written] != b"\n"
        return written, error

    def _wait_until_writable(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        poll.poll(_POLL)
