"""
Compare the cost of reading a head and preparing it for forwarding, in turns, in one process.

It compares this project's parsers with aiohttp's (llhttp in C) and with bare httptools (llhttp too, each line a callback);
their lines are then joined without the hop-by-hop ones. Ours also judge the framing and remember lines that they have seen.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable

import httptools
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser, HttpResponseParser

from switch_proxy.core.http.header_rules import HOP_BY_HOP
from switch_proxy.core.http.request import RequestParser
from switch_proxy.core.http.response import ResponseParser

_HEADS = 2000
_ROUNDS = 15

_REQUEST = (
    b"GET /api/readings?organizationId=1&registerId=1&registerId=2 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"
    b"User-Agent: readings-exporter/1.4 (python 3.11)\r\nAccept: application/json\r\nAccept-Encoding: gzip, deflate\r\n"
    b"Accept-Language: sv, en\r\nConnection: keep-alive\r\n%s\r\n"
)
_RESPONSE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 0\r\nX-Rate-Limit-Limit: 20\r\n"
    b"X-Rate-Limit-Remaining: 19\r\nX-Rate-Limit-Reset: 2025-11-03T15:51:44Z\r\n"
    b"Date: Mon, 03 Nov 2025 15:51:44 GMT\r\n%s\r\n"
)

Read = Callable[[bytes], object]


def _ours(kind: str) -> Read:
    if kind == "request":
        requests = RequestParser(max_request_line=8192, max_field_lines=128)
        return lambda data: requests.parse(data[:-4])
    responses = ResponseParser(max_field_lines=128)
    return lambda data: responses.parse(data[:-4])


def _aiohttp(kind: str, loop: asyncio.AbstractEventLoop) -> Read:
    protocol = BaseProtocol(loop)
    parser = (HttpRequestParser if kind == "request" else HttpResponseParser)(protocol, loop, 2**16)

    def read(data: bytes) -> object:
        [(message, _)], _, _ = parser.feed_data(data)
        return b"".join(
            name + b": " + value + b"\r\n" for name, value in message.raw_headers if name.lower() not in HOP_BY_HOP
        )

    return read


class _Lines:
    """Collects the lines that pass; httptools calls `on_header` for each."""

    def __init__(self) -> None:
        self.passed: list[bytes] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one line."""
        if name.lower() not in HOP_BY_HOP:
            self.passed.append(name + b": " + value + b"\r\n")


def _httptools(kind: str) -> Read:
    lines = _Lines()
    parser = (httptools.HttpRequestParser if kind == "request" else httptools.HttpResponseParser)(lines)

    def read(data: bytes) -> object:
        lines.passed.clear()
        parser.feed_data(data)
        return b"".join(lines.passed)

    return read


def _microseconds(read: Read, heads: list[bytes]) -> float:
    begun = time.process_time()
    for head in heads:
        read(head)
    return (time.process_time() - begun) / len(heads) * 1e6


def main() -> None:
    """Print the medians and their ratios."""
    loop = asyncio.new_event_loop()
    print(f"CPU per head, median of {_ROUNDS} rounds of {_HEADS} heads, Python {sys.version.split()[0]}")
    print(f"{'':42}{'aiohttp, µs':>13}{'httptools, µs':>15}{'ours, µs':>11}{'ours ÷ aiohttp':>16}")
    for kind, template in (("request", _REQUEST), ("response", _RESPONSE)):
        for what, line in (("the same each time", b""), ("with a line that is new each time", b"traceparent: %d\r\n")):
            readers = (_aiohttp(kind, loop), _httptools(kind), _ours(kind))
            figures: tuple[list[float], ...] = ([], [], [])
            for turn in range(_ROUNDS):
                first = turn * _HEADS
                heads = [template % (line % number if line else b"") for number in range(first, first + _HEADS)]
                for read, taken in zip(readers, figures, strict=True):
                    taken.append(_microseconds(read, heads))
            theirs, bare, ours = (statistics.median(taken) for taken in figures)
            print(f"{kind + ' head, ' + what:42}{theirs:13.1f}{bare:15.1f}{ours:11.1f}{ours / theirs:16.2f}")
    loop.close()


if __name__ == "__main__":
    main()
