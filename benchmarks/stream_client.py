"""Many slow event streams: counts the events that arrive and measures the age of each.

Run as a program: opens the streams, prints "ready" once each has delivered an event, counts for the requested time,
and prints one JSON line. The side server stamps each event with the monotonic clock, which all processes share.
"""

from __future__ import annotations

import argparse
import json
import re
import select
import socket
import sys
import time

from summary import percentile

_EVENT = re.compile(rb'"sent_at":(\d+)\}\n\n')
_OPEN_TIMEOUT = 60.0
# Few enough simultaneous connects that no listen queue overflows.
_BATCH = 50


def main() -> None:
    """Read the arguments, open, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/events")
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()

    request = f"GET {options.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode()
    poller = select.epoll()
    streams: dict[int, socket.socket] = {}
    partial: dict[int, bytes] = {}
    delivered: set[int] = set()
    ages: list[float] = []
    ends_at = 0.0
    opened_by = time.monotonic() + _OPEN_TIMEOUT
    while not ends_at or time.monotonic() < ends_at:
        if not ends_at and time.monotonic() > opened_by:
            raise RuntimeError(f"{len(delivered)} of {options.streams} streams delivered within {_OPEN_TIMEOUT:.0f} s")
        if len(streams) < options.streams:
            for _ in range(min(_BATCH, options.streams - len(streams))):
                stream = socket.create_connection(("127.0.0.1", options.port), timeout=10.0)
                stream.sendall(request)
                stream.settimeout(0)
                streams[stream.fileno()] = stream
                partial[stream.fileno()] = b""
                poller.register(stream.fileno(), select.EPOLLIN)
        for fd, _ in poller.poll(0.05):
            data = streams[fd].recv(65536)
            now = time.monotonic_ns()
            if not data:
                raise RuntimeError("a stream ended")
            text = partial[fd] + data
            if not partial[fd] and fd not in delivered and not text.startswith(b"HTTP/1.1 200 "[: len(text)]):
                raise RuntimeError(f"unexpected response: {text[:200]!r}")
            end = 0
            for event in _EVENT.finditer(text):
                ages.append((now - int(event[1])) / 1e6)
                end = event.end()
                delivered.add(fd)
            partial[fd] = text[end:]
        if not ends_at and len(delivered) == options.streams:
            ages.clear()
            ends_at = time.monotonic() + options.seconds
            sys.stdout.write("ready\n")
            sys.stdout.flush()
    ages.sort()
    figures = {"events": len(ages), "p50_ms": percentile(ages, 50), "p99_ms": percentile(ages, 99)}
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
