"""
Many clients and an upstream that all misbehave at once, over a pool that is too small.

Whatever happens, no client gets what belongs to another, nothing that was cut looks whole, every request is reported
once, and in the end nothing is left (which the world checks).
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from switch_proxy.core.config.models import PoolSettings

if TYPE_CHECKING:
    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.raw_client import RawClient
    from tests.shell.http1.raw_upstream import UpstreamSide
    from tests.shell.http1.world import World

CLIENTS = 24
REQUESTS = 6

ENDING_MANNERS = [
    "length, then closed",
    "length, as announced the last",
    "up to the end of the connection",
    "cut",
    "too much",
    "nonsense",
    "reset",
]

MANNERS = ["length"] * 6 + ["chunked"] * 4 + ENDING_MANNERS


def body_for(target: bytes, size: int) -> bytes:
    """Return a body that says whose it is, in every part of it."""
    return (target * (size // len(target) + 1))[:size]


class Upstream:
    """Answers each request in a way drawn by lot."""

    def __init__(self, world: World, lots: random.Random) -> None:
        self._world = world
        self._lots = lots

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                with suppress(AssertionError):  # no connection within the time: the test may still end
                    group.create_task(self._serve(await self._world.upstream.accept()))

    async def _serve(self, side: UpstreamSide) -> None:
        with suppress(AssertionError, OSError):
            if self._lots.random() < 0.05:
                side.reset()
                return
            while side.socket.fileno() >= 0:
                await self._answer(side)

    async def _answer(self, side: UpstreamSide) -> None:
        head = await side.receive_head()
        target = head.start.split(b" ")[1]
        manners = MANNERS
        if self._lots.random() < 0.1:
            # Closing without having read the body is a reset, which may or may not overtake the answer.
            manners = ENDING_MANNERS
        else:
            await self._read_body(side, head.value("Content-Length"), is_chunked=bool(head.values("Transfer-Encoding")))
        body = body_for(target, self._lots.choice([0, 1, 100, 5_000, 150_000]))
        if self._lots.random() < 0.3:
            await asyncio.sleep(0.001)
        if self._lots.random() < 0.2:
            await side.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await self._send(side, self._lots.choice(manners), body)

    async def _send(self, side: UpstreamSide, manner: str, body: bytes) -> None:
        length = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        chunk = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
        match manner:
            case "length" | "length, then closed":
                await side.send(length, body)
            case "length, as announced the last":
                await side.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body), body)
            case "chunked":
                await side.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk, b"0\r\n\r\n")
            case "up to the end of the connection":
                await side.send(b"HTTP/1.1 200 OK\r\n\r\n" + body)
            case "cut":
                await side.send(length, body[: len(body) // 2])
            case "too much":
                # In one piece with the end: what comes later is taken for the next answer by every client there is.
                body = body[:1000]
                length = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
                await side.send(length + body + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
            case "nonsense":
                await side.send(b"\x00\x01nonsense\r\n\r\n")
            case "reset":
                side.reset()
        if manner not in {"length", "chunked", "reset"}:
            await side.close()

    async def _read_body(self, side: UpstreamSide, length: bytes | None, *, is_chunked: bool) -> None:
        if is_chunked:
            while await side.receive_chunk():
                pass
            await side.receive(2)
        elif length is not None:
            await side.receive(int(length))


class Client:
    """Makes its requests one after the other, in a way drawn by lot, and checks what it gets."""

    def __init__(self, world: World, lots: random.Random, number: int) -> None:
        self._world = world
        self._lots = lots
        self._number = number
        self.whole = 0
        self.problems = 0
        self.cut = 0

    async def run(self) -> None:
        client = await self._world.client()
        for count in range(REQUESTS):
            target = b"/%d-%d/" % (self._number, count)
            manner = self._lots.choice(["get"] * 5 + ["put", "post", "chunked", "leave", "pipeline"])
            try:
                if manner == "leave":
                    await client.send(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % target)
                    if self._lots.random() < 0.5:
                        await asyncio.sleep(0.001)
                    client.reset()
                    client = await self._world.client()
                    continue
                await client.send(self._request(manner, target))
                targets = [target, target + b"second/"] if manner == "pipeline" else [target]
                for expected in targets:
                    if not await self._check(client, expected):
                        client.socket.close()
                        client = await self._world.client()
                        break
            except (AssertionError, ConnectionError):
                # The connection ended before the message did: cut, and seen to be cut.
                self.cut += 1
                client.socket.close()
                client = await self._world.client()
        client.socket.close()

    def _request(self, manner: str, target: bytes) -> bytes:
        if manner == "put":
            return b"PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n" % target + bytes(20_000)
        if manner == "post":
            return b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" % target
        if manner == "chunked":
            return b"PUT %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" % target
        if manner == "pipeline":
            second = b"GET %ssecond/ HTTP/1.1\r\nHost: x\r\n\r\n" % target
            return b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % target + second
        return b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % target

    async def _check(self, client: RawClient, target: bytes) -> bool:
        """Read one response; return whether the connection goes on after it."""
        response = await client.receive_response()
        while response.status == 103:
            response = await client.receive_response()
        if response.status == 200:
            if response.body != body_for(target, len(response.body)):
                raise MixUpError(target, response.body[:100])
            self.whole += 1
        else:
            if response.status not in {502, 503} or b"urn:switch-proxy:problem:" not in response.body:
                raise MixUpError(target, response.body[:100])
            self.problems += 1
        return response.head.value("Connection") != b"close"


class MixUpError(Exception):
    """A client got what it must not get."""


@pytest.mark.parametrize("seed", range(8))
async def test_nothing_is_mixed_up_and_nothing_is_left(start_world: StartWorld, seed: int) -> None:
    lots = random.Random(seed)
    world = await start_world(pool=PoolSettings(max_connections=5, max_waiting=12, acquire_timeout=0.5))
    serving = asyncio.get_running_loop().create_task(Upstream(world, lots).run())
    clients = [Client(world, lots, number) for number in range(CLIENTS)]
    try:
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.run())
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving
    assert sum(client.whole for client in clients) > CLIENTS
    assert sum(client.problems for client in clients) > 0
    for record in world.records.all:
        assert record.target.startswith(b"/")
        assert (
            record.failure is None
            or record.status != 200
            or record.failure
            in {
                "client-gone",
                "upstream-incomplete",
                "upstream-malformed",
            }
        )
