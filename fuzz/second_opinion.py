"""
The same bytes as another reader takes them: llhttp, the parser of Node.js, through aiohttp.

It is asked about one message with a probe behind it, another small message: who reads the end of the first one in
another place finds the probe in another place, or not at all, and that is what smuggling is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser, HttpResponseParser

_LIMITS: Final[dict[str, Any]] = {"max_line_size": 65536, "max_headers": 1000, "max_field_size": 131072}

REQUEST_PROBE: Final = b"GET /probe HTTP/1.1\r\nHost: probe\r\n\r\n"
RESPONSE_PROBE: Final = b"HTTP/1.1 299 Probe\r\nContent-Length: 0\r\n\r\n"

_LOOP: Final = asyncio.new_event_loop()
"""Never run: the parsers want a loop to hang their futures on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondReading:
    """One message as llhttp reads it."""

    start: tuple[str, ...]
    """Method and target, or the status; as text that was bytes."""
    minor: int
    pairs: list[tuple[bytes, bytes]]
    body: bytes
    is_whole: bool
    is_upgrade: bool


def read_requests(data: bytes) -> list[SecondReading] | None:
    """Return the requests that llhttp finds in `data`, None where it refuses them."""
    parser = HttpRequestParser(BaseProtocol(_LOOP), _LOOP, 2**20, auto_decompress=False, **_LIMITS)
    try:
        messages, _, _ = parser.feed_data(data)
    except (HttpProcessingError, ValueError):
        return None
    readings = []
    for message, payload in messages:
        reading = SecondReading(
            start=(message.method, message.path),
            minor=message.version.minor,
            pairs=list(message.raw_headers),
            body=_content(payload),
            is_whole=payload.is_eof(),
            is_upgrade=message.upgrade or message.method == "CONNECT",
        )
        readings.append(reading)
    return readings


def read_responses(data: bytes, *, is_head: bool = False) -> list[SecondReading] | None:
    """Return the responses that llhttp finds in `data`, None where it refuses them."""
    parser = HttpResponseParser(
        BaseProtocol(_LOOP),
        _LOOP,
        2**20,
        auto_decompress=False,
        read_until_eof=True,
        response_with_body=not is_head,
        **_LIMITS,
    )
    try:
        messages, _, _ = parser.feed_data(data)
    except (HttpProcessingError, ValueError):
        return None
    readings = []
    for message, payload in messages:
        reading = SecondReading(
            start=(str(message.code),),
            minor=message.version.minor,
            pairs=list(message.raw_headers),
            body=_content(payload),
            is_whole=payload.is_eof(),
            is_upgrade=message.upgrade or message.code == 101,
        )
        readings.append(reading)
    return readings


def _content(payload: object) -> bytes:
    buffered = getattr(payload, "_buffer", None)
    if not buffered:
        return b""
    return b"".join(buffered)
