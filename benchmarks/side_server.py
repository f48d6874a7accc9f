"""The origin for workloads that nginx cannot serve: a token endpoint, a sink for uploads, and slow event streams.

Run as a program: binds two loopback ports (plain and TLS), prints them as one JSON line, and serves until it is ended.
It reads into one large buffer and does very little per read, so that a measurement never waits for it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import sys
import time
from pathlib import Path
from typing import cast

import uvloop

# One buffer for all connections: bytes are counted and dropped before the loop reads again.
_BUFFER_SIZE = 1 << 20
_HEAD_LIMIT = 64 << 10
# A tick sends to one slot of the streams, so that events are spread over the interval and not a burst.
_SLOTS = 100


class StreamWheel:
    """All open event streams. Each gets one event per interval, spread evenly."""

    def __init__(self, *, interval: float) -> None:
        self._interval = interval
        self._slots: list[set[asyncio.Transport]] = [set() for _ in range(_SLOTS)]
        self._next = 0

    def add(self, transport: asyncio.Transport) -> None:
        """Send events to `transport` from now on, in the slot with the fewest streams."""
        min(self._slots, key=len).add(transport)

    def discard(self, transport: asyncio.Transport) -> None:
        """Forget a transport, known or not."""
        for slot in self._slots:
            slot.discard(transport)

    def tick(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send an event to the streams of the next slot and schedule the tick after."""
        slot = self._slots[self._next]
        self._next = (self._next + 1) % _SLOTS
        for transport in slot:
            event = b'event: reading\ndata: {"registerId":1,"value":1,"sent_at":%d}\n\n' % time.monotonic_ns()
            transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        loop.call_later(self._interval / _SLOTS, self.tick, loop)


class SideServer(asyncio.BufferedProtocol):
    """One connection; request heads are read only as far as the response needs."""

    def __init__(self, *, token: str, buffer: memoryview, wheel: StreamWheel) -> None:
        self._token_line = f"Bearer {token}".encode()
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": 86400}
        self._token_answer = _response(b"200 OK", b"application/json", json.dumps(answer).encode())
        self._buffer = buffer
        self._wheel = wheel
        self._head = b""
        self._body_left = 0
        self._answer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's.

    def connection_lost(self, _exc: Exception | None) -> None:
        self._wheel.discard(self._transport)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        start = 0
        while start < nbytes:
            if self._body_left:
                taken = min(self._body_left, nbytes - start)
                self._body_left -= taken
                start += taken
                if not self._body_left:
                    self._transport.write(self._answer)
                continue
            self._head += bytes(self._buffer[start:nbytes])
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                if len(self._head) > _HEAD_LIMIT:
                    self._transport.abort()
                return
            start = nbytes - (len(self._head) - end - 4)
            head, self._head = self._head[:end], b""
            self._request(head)

    def _request(self, head: bytes) -> None:
        request_line, *lines = head.split(b"\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        method, target = request_line.split(b" ")[:2]
        path = target.partition(b"?")[0]
        if b"transfer-encoding" in fields:
            self._answer = _response(b"411 Length Required", b"text/plain", b"a Content-Length, please\n")
            self._transport.write(self._answer)
            self._transport.close()
            return
        if path == b"/oauth/token":
            self._answer = self._token_answer
        elif fields.get(b"authorization") != self._token_line:
            self._answer = _response(b"401 Unauthorized", b"text/plain", b"no or wrong token\n")
        elif path == b"/upload":
            self._answer = _response(b"200 OK", b"text/plain", b"stored %b" % fields.get(b"content-length", b"0"))
        elif path == b"/events" and method == b"GET":
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            self._wheel.add(self._transport)
            return
        else:
            self._answer = _response(b"404 Not Found", b"text/plain", b"nothing here\n")
        self._body_left = int(fields.get(b"content-length", b"0"))
        if not self._body_left:
            self._transport.write(self._answer)


def _response(status: bytes, content_type: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (status, content_type, len(body), body)


async def serve(*, token: str, certificate: Path, event_interval: float) -> None:
    """Bind both listeners, print their ports, serve until cancelled."""
    loop = asyncio.get_running_loop()
    buffer = memoryview(bytearray(_BUFFER_SIZE))
    wheel = StreamWheel(interval=event_interval)
    wheel.tick(loop)

    def connection() -> SideServer:
        return SideServer(token=token, buffer=buffer, wheel=wheel)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    plain = await loop.create_server(connection, "127.0.0.1", 0, backlog=4096)
    tls = await loop.create_server(connection, "127.0.0.1", 0, ssl=context, backlog=4096)
    ports = {name: server.sockets[0].getsockname()[1] for name, server in (("plain", plain), ("tls", tls))}
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    await asyncio.gather(plain.serve_forever(), tls.serve_forever())


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--token", required=True)
    parser.add_argument("--certificate", type=Path, required=True, help="key and certificate, PEM, in one file")
    parser.add_argument("--event-interval", type=float, default=1.0, help="seconds between two events of a stream")
    options = parser.parse_args()
    uvloop.run(serve(token=options.token, certificate=options.certificate, event_interval=options.event_interval))


if __name__ == "__main__":
    main()
