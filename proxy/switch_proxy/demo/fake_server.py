"""The HTTP server of both fakes: receives a whole request, records it, and responds or performs a fault."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from contextlib import suppress
from email.utils import formatdate
from typing import TYPE_CHECKING

from aiohttp import web

from switch_proxy.demo import faults
from switch_proxy.demo.messages import ReceivedRequest, Response

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Sequence

Faults = tuple[object, ...]

_MAX_BODY = 64 * 2**20
"""Bytes of a request body: far more than any request to the Switch API, less than a small CI machine's memory."""


def wall_time() -> float:
    """Return Unix time (seconds): the fakes' default clock."""
    return time.time()  # noqa: TID251 - the fakes may not import switch_proxy.clock


_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here


def reachable(host: str) -> str:
    """Return the host to connect to for a host that is listened on: loopback if it is a wildcard."""
    return _WILDCARDS.get(host, host)


class FakeServer:
    """
    A real HTTP/1.1 server on a free port of loopback whose responses are decided by one function.

    `decide` is called with each request and its faults, after any delay. `refuse` returns the response for an error
    status. Neither does I/O.
    """

    def __init__(
        self,
        *,
        decide: Callable[[ReceivedRequest, Faults], Response],
        refuse: Callable[[int], Response],
        take_faults: Callable[[str, str], Faults],
        now: Callable[[], float],
        host: str,
        port: int,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self._decide = decide
        self._refuse = refuse
        self._take_faults = take_faults
        self._now = now
        self._host = host
        self._port = port
        self._ssl_context = ssl_context
        self._runner: web.ServerRunner | None = None
        self._arrival = asyncio.Event()
        self._stopping = asyncio.Event()
        self.requests: list[ReceivedRequest] = []

    async def start(self) -> None:
        """Bind and serve. Raises OSError if the address cannot be bound, RuntimeError if it serves already."""
        if self._runner is not None:
            raise RuntimeError(f"this fake already serves at {self.url}")
        self._stopping.clear()
        # handler_cancellation: a hang ends when its client disconnects.
        server = web.Server(self._serve, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.5)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port, ssl_context=self._ssl_context).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self._port = runner.addresses[0][1]  # kept, so that a restarted fake has the same address

    async def stop(self) -> None:
        """Close the listening socket and every connection; hanging requests end."""
        runner, self._runner = self._runner, None
        if runner is not None:
            self._stopping.set()
            await runner.cleanup()

    @property
    def is_running(self) -> bool:
        """Return whether the server is bound."""
        return self._runner is not None

    @property
    def port(self) -> int:
        """Return the port; 0 before the first start if any free port is to be used."""
        return self._port

    @property
    def url(self) -> str:
        """Return scheme, host and port for clients on this machine, without a slash at the end."""
        host = reachable(self._host)
        written = f"[{host}]" if ":" in host else host  # RFC 3986 §3.2.2
        return f"{'https' if self._ssl_context else 'http'}://{written}:{self._port}"

    async def wait_for_requests(self, count: int, *, within: float) -> Sequence[ReceivedRequest]:
        """Return the requests once there are `count` of them. Raises TimeoutError, which says how many there were."""
        try:
            async with asyncio.timeout(within):
                while len(self.requests) < count:
                    await self._arrival.wait()
        except TimeoutError:
            raise TimeoutError(f"{len(self.requests)} of {count} requests came within {within:g} s") from None
        return tuple(self.requests)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        received = await self._receive(request)
        met = self._take_faults(received.method, received.path)
        for fault in met:
            match fault:
                case faults.Delay(seconds=seconds):
                    await self._pause(seconds)
        for fault in met:
            match fault:
                case faults.Hang():
                    await self._hang(request)
                    return web.Response()  # aiohttp cannot send it any more, and ignores that
                case faults.Reset():
                    _reset(request)
                    return web.Response()
                case faults.Close():
                    _close(request)
                    return web.Response()
        try:
            return await self._send(request, self._decide_response(received, met), met)
        except ConnectionResetError:
            # Either side closed the connection before the response; aiohttp would log a traceback.
            return web.Response()

    async def _receive(self, request: web.BaseRequest) -> ReceivedRequest:
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the interim response is not part of the response
        body = bytearray()
        is_complete = False
        try:
            async for piece in _body_pieces(request):
                body += piece
                if len(body) > _MAX_BODY:
                    raise web.HTTPRequestEntityTooLarge(max_size=_MAX_BODY, actual_size=len(body))
            is_complete = True
        finally:
            host, port = request.get_extra_info("peername", ("", 0))[:2]
            received = ReceivedRequest(
                method=request.method,
                target=request.raw_path,
                fields=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers),
                body=bytes(body),
                is_complete=is_complete,
                peer=(host, port),
                received_at=self._now(),
            )
            self.requests.append(received)
            self._arrival.set()
            self._arrival = asyncio.Event()  # for those who wait for the next request
        return received

    def _decide_response(self, received: ReceivedRequest, met: Faults) -> Response:
        status = next((fault for fault in met if isinstance(fault, faults.Status)), None)
        if status is None:
            response = self._decide(received, met)
        else:
            response = self._refuse(status.code)
            if status.retry_after is not None:
                response = response.with_field("Retry-After", str(status.retry_after))
        for fault in met:
            match fault:
                case faults.Body(content=content, content_type=content_type):
                    response = response.with_body(content)
                    if content_type is not None:
                        response = response.with_field("Content-Type", content_type)
                case faults.Field(name=name, value=value):
                    response = response.with_field(name, value)
        return response

    async def _send(self, request: web.BaseRequest, response: Response, met: Faults) -> web.StreamResponse:
        if not any(name.lower() == "date" for name, _ in response.fields):
            # By the fake's own clock, as the tokens in its responses; aiohttp would use the machine's.
            response = response.with_field("Date", formatdate(self._now(), usegmt=True))
        sending = next(
            (f for f in met if isinstance(f, faults.TruncatedBody | faults.StalledBody | faults.SlowBody)), None
        )
        if sending is None:
            sent: web.StreamResponse = web.Response(status=response.status, headers=response.fields, body=response.body)
            await sent.prepare(request)
            await sent.write_eof()
        else:
            sent = web.StreamResponse(status=response.status, headers=response.fields)
            if sending.is_chunked:
                sent.enable_chunked_encoding()
            else:
                sent.content_length = len(response.body)
            await sent.prepare(request)
            match sending:
                case faults.SlowBody(pause=pause, piece=piece):
                    for start in range(0, len(response.body), piece):
                        await self._pause(pause)
                        await sent.write(response.body[start : start + piece])
                    await sent.write_eof()
                case faults.TruncatedBody(after=after):
                    await sent.write(response.body[:after])
                    _close(request)
                case faults.StalledBody(after=after):
                    await sent.write(response.body[:after])
                    await self._hang(request)
        if any(isinstance(fault, faults.CloseAfterwards) for fault in met):
            _close(request)
        return sent

    async def _pause(self, seconds: float) -> None:
        """Wait, or until the fake is stopped."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _hang(self, request: web.BaseRequest) -> None:
        await self._stopping.wait()  # cancelled if the client disconnects
        _close(request)


async def _body_pieces(request: web.BaseRequest) -> AsyncIterator[bytes]:
    while piece := await request.content.readany():
        yield piece


def _close(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.close()


def _reset(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is not None:
        # With a linger time of 0 the kernel sends RST instead of FIN (socket(7), SO_LINGER).
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
