"""An open-loop load generator: requests are due at moments fixed beforehand, and latency counts from those moments.

wrk is closed-loop: a connection sends its next request after the last response, so a proxy that stalls gets fewer
requests, and the stall counts once instead of for every request that would have come ("coordinated omission"). Here
arrivals are a Poisson process with a fixed seed: the same moments and the same offered rate for every system, whatever
the proxy does. A request without an idle connection waits, and the wait counts.

Run as a program; prints one JSON line. The timer is a timerfd, because epoll's timeout has whole milliseconds.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import random
import re
import select
import socket
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from summary import percentile

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
# After the last arrival, requests in flight get this long; then a request's age is its latency.
_GRACE_NS = 2_000_000_000


class Timer:
    """A timerfd: readable from a set moment of the monotonic clock on."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_FLAGS)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def set(self, at_ns: int) -> None:
        """Make the timer fire at `at_ns`, or immediately if that has passed."""
        setting = (ctypes.c_long * 4)(0, 0, at_ns // 1_000_000_000, at_ns % 1_000_000_000)
        if self._libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, ctypes.byref(setting), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def clear(self) -> None:
        """Acknowledge that it fired."""
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            return


class ResponseReader:
    """Reads the responses of one connection only to find the end of each."""

    __slots__ = ("_head", "_left")

    def __init__(self) -> None:
        self._left = 0  # Bytes of the body still to come, once the head is in.
        self._head = b""  # The head, while it is not complete.

    def is_complete_with(self, data: bytes) -> bool:
        """Take bytes and return whether a response ends with them. Raises RuntimeError unless it is a 200."""
        if self._left:
            self._left -= len(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return False
            length = _CONTENT_LENGTH.search(self._head, 0, end)
            if not self._head.startswith(b"HTTP/1.1 200 ") or length is None:
                raise RuntimeError(f"unexpected response: {self._head[:200]!r}")
            self._left = int(length[1]) - (len(self._head) - end - 4)
            self._head = b""
        if self._left < 0:
            raise RuntimeError(f"the response is {-self._left} bytes longer than announced")
        return self._left == 0


class Connection:
    """One keep-alive connection: idle, or waiting for the rest of one response that was due at `due_at`."""

    __slots__ = ("due_at", "reader", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=10.0)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(0)
        self.reader = ResponseReader()
        self.due_at = 0


def arrivals(rate: float, seed: int) -> Iterator[int]:
    """Yield the nanoseconds from the start to each arrival of a Poisson process of `rate` per second."""
    generator = random.Random(seed)
    at = 0.0
    while True:
        at += generator.expovariate(rate)
        yield int(at * 1e9)


class OpenLoop:
    """One run: a request that is due is sent on any idle connection, and its latency counts from when it was due."""

    def __init__(self, options: argparse.Namespace, request: bytes) -> None:
        address = (options.host, options.port)
        opened = [Connection(address) for _ in range(options.connections)]
        self._request = request
        self._connections = {connection.socket.fileno(): connection for connection in opened}
        self._idle = deque(opened)
        self._waiting: deque[int] = deque()
        self._timer = Timer()
        self._poller = select.epoll()
        for fd in (self._timer.fd, *self._connections):
            self._poller.register(fd, select.EPOLLIN)
        self._began = time.monotonic_ns() + 10_000_000
        self._count_from = self._began + int(options.warm_up * 1e9)
        self._stop_at = self._count_from + int(options.seconds * 1e9)
        self._schedule = arrivals(options.rate, options.seed)
        self._next_at = self._began + next(self._schedule)
        self._latencies: list[float] = []
        self._lateness: list[float] = []

    def run(self) -> dict[str, float]:
        """Send for the requested time and return the figures, in milliseconds and requests."""
        self._timer.set(self._next_at)
        gc.disable()  # A pause of the generator would count as the proxy's.
        while True:
            for fd, _ in self._poller.poll():
                if fd == self._timer.fd:
                    self._timer.clear()
                else:
                    self._receive(self._connections[fd])
            now = time.monotonic_ns()
            self._take_due(now)
            self._send_waiting()
            if self._next_at < self._stop_at:
                self._timer.set(self._next_at)
                continue
            if len(self._idle) == len(self._connections) or now > self._stop_at + _GRACE_NS:
                return self._figures()
            self._timer.set(self._stop_at + _GRACE_NS + 1)

    def _receive(self, connection: Connection) -> None:
        data = connection.socket.recv(65536)
        if not data:
            raise RuntimeError("the proxy closed a connection")
        if connection.reader.is_complete_with(data):
            if connection.due_at >= self._count_from:
                self._latencies.append((time.monotonic_ns() - connection.due_at) / 1e6)
            connection.due_at = 0
            self._idle.append(connection)

    def _take_due(self, now: int) -> None:
        while self._next_at <= now and self._next_at < self._stop_at:
            self._waiting.append(self._next_at)
            if self._next_at >= self._count_from:
                self._lateness.append((now - self._next_at) / 1e6)
            self._next_at = self._began + next(self._schedule)

    def _send_waiting(self) -> None:
        while self._waiting and self._idle:
            connection = self._idle.popleft()
            connection.due_at = self._waiting.popleft()
            connection.socket.send(self._request)

    def _figures(self) -> dict[str, float]:
        ended = time.monotonic_ns()
        due = [*self._waiting, *(connection.due_at for connection in self._connections.values())]
        unanswered = [(ended - at) / 1e6 for at in due if at >= self._count_from]
        return {
            "seconds": (ended - self._began) / 1e9,
            "offered": len(self._lateness),
            "answered": len(self._latencies),
            **figures(latencies=self._latencies, unanswered=unanswered, lateness=self._lateness),
        }


def figures(*, latencies: list[float], unanswered: list[float], lateness: list[float]) -> dict[str, float]:
    """Return the percentiles to report; a request without a response counts with its age at the end."""
    ordered = sorted([*latencies, *unanswered])
    return {
        "p50_ms": percentile(ordered, 50),
        "p99_ms": percentile(ordered, 99),
        "p999_ms": percentile(ordered, 99.9),
        "generator_late_p99_ms": percentile(sorted(lateness), 99),
    }


def main() -> None:
    """Read the arguments, and from standard input the head to send, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--rate", type=float, required=True, help="requests per second, on average")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warm-up", type=float, default=0.5, help="seconds sent before anything is counted")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    lines = [f"GET {options.path} HTTP/1.1", f"Host: {options.host}:{options.port}", *options.header, "", ""]
    sys.stdout.write(json.dumps(OpenLoop(options, "\r\n".join(lines).encode()).run()) + "\n")


if __name__ == "__main__":
    main()
