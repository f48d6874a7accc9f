"""
Target: whole client connections, from the client's bytes to the upstream's and back, with transports in memory.

A case sends requests, good and bad, in pieces, to an upstream that answers from a script, good and bad. Whatever comes
of it: every byte on either side reads strictly, the bearer is on every request and in no answer, nothing that was cut
looks whole, nothing is left behind. In half of the cases the same bytes are sent once more in other pieces, which must
make no difference.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Final

from fuzz import inputs, memory, wire
from fuzz.memory import MemoryWorld, Reply

if TYPE_CHECKING:
    import random

_IDEMPOTENT: Final = {b"GET", b"HEAD", b"OPTIONS", b"QUERY", b"PUT", b"DELETE"}
_HOP_BY_HOP: Final = {
    *(b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization"),
}
_BEFORE_THE_CONTENT: Final = {b"authorization", b"content-length", b"host", b"transfer-encoding", b"trailer", b"te"}


def check(rng: random.Random) -> str:
    """Run one connection; return how its last exchange ended."""
    if inputs.maybe(rng, 0.05):
        return _check_tunnel(rng)
    data = b"".join(_request(rng) for _ in range(rng.choice([1, 1, 2, 4])))
    if inputs.maybe(rng, 0.15):
        data = inputs.mutated(rng, data, share=1)
    if inputs.maybe(rng, 0.5):
        return _check_two_segmentations(rng, data)
    world = _run(rng, inputs.cut(rng, data), [_scripted(rng) for _ in range(6)], is_eventful=True)
    return (world.records[-1].failure or "whole") if world.records else "no request"


def _request(rng: random.Random) -> bytes:
    return inputs.request(rng) if inputs.maybe(rng, 0.6) else inputs.plain_request(rng)


def _scripted(rng: random.Random) -> Reply:
    if inputs.maybe(rng, 0.1):
        return Reply(pieces=[inputs.plain_response(rng) + rng.choice(inputs.TOKENS)], is_too_long=True)
    return Reply(
        pieces=inputs.cut(rng, _reply(rng)),
        ending=rng.choice(["keep", "keep", "keep", "end", "break"]),
        is_early=inputs.maybe(rng, 0.15),
    )


def _reply(rng: random.Random) -> bytes:
    reply = inputs.response(rng) if inputs.maybe(rng, 0.5) else inputs.plain_response(rng)
    if inputs.maybe(rng, 0.15):
        reply = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + reply
    if inputs.maybe(rng, 0.1):
        reply = reply[: rng.randrange(len(reply))]
    return inputs.mutated(rng, reply, share=0.2)


def _check_tunnel(rng: random.Random) -> str:
    """After 101 both directions carry bytes as they come, those that came early among them."""
    up, down = rng.randbytes(rng.randrange(200)), rng.randbytes(rng.randrange(200))
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    request = b"GET /tunnel HTTP/1.1\r\nHost: localhost\r\n" + upgrade + b"\r\n" + up
    response = b"HTTP/1.1 101 Switching Protocols\r\n" + upgrade + b"\r\n" + down
    world = _run(rng, inputs.cut(rng, request), [Reply(pieces=inputs.cut(rng, response))], is_eventful=False)
    (channel,) = world.channels
    assert bytes(channel.transport.written).partition(b"\r\n\r\n")[2] == up
    assert bytes(world.client_transport.written).partition(b"\r\n\r\n")[2] == down
    return "tunnel"


def _check_two_segmentations(rng: random.Random, data: bytes) -> str:
    """
    How the client's bytes are cut changes neither what the upstream gets nor what the client is told.

    The upstream does not end its connections by itself here: whether the next request meets the end is a matter of
    time, and so is what becomes of it.
    """
    script = [_reply(rng) for _ in range(6)]
    worlds = [
        _run(rng, pieces, [Reply(pieces=[reply]) for reply in script], is_eventful=False)
        for pieces in ([data], inputs.cut(rng, data))
    ]
    first, second = worlds
    assert _asked(first) == _asked(second), "the segmentation changes what is asked of the upstream"
    assert _told(first) == _told(second), "the segmentation changes what the client is told"
    return "same in two segmentations"


def _run(rng: random.Random, pieces: list[bytes], replies: list[Reply], *, is_eventful: bool) -> MemoryWorld:
    """Send the pieces, with other events in between if asked for; check all there is to check at the end."""
    worlds: list[MemoryWorld] = []

    async def scenario() -> None:
        world = MemoryWorld(
            replies,
            has_token=not is_eventful or inputs.maybe(rng, 0.7),
            refuses=is_eventful and inputs.maybe(rng, 0.05),
        )
        worlds.append(world)
        keeps_pace = not is_eventful or inputs.maybe(rng, 0.7)
        events = 0.1 if is_eventful and inputs.maybe(rng, 0.4) else 0.0
        for piece in pieces:
            if not await world.send(piece):
                break
            if keeps_pace:
                await world.settle()
            elif inputs.maybe(rng, 0.3):
                await world.step()
            if inputs.maybe(rng, events):
                await _happen(rng, world)
        if inputs.maybe(rng, events):
            await _happen(rng, world)
        await world.end()
        _check_nothing_is_left(world)

    memory.run(scenario())
    (world,) = worlds
    _check_requests(world)
    _check_responses(world)
    return world


async def _happen(rng: random.Random, world: MemoryWorld) -> None:  # noqa: C901 - a list of events
    """Let one of the things happen that are neither the client's bytes nor the upstream's."""
    event = rng.choice(["client full", "upstream full", "time", "client lost", "draining", "stop"])
    if world.client_transport.is_closing():
        return
    if event == "client full":
        world.client.pause_writing()
        await world.settle()
        if not world.client_transport.is_lost:
            world.client.resume_writing()
    elif event == "upstream full":
        channels = [channel for channel in world.channels if not channel.transport.is_closing()]
        for channel in channels:
            channel.connection.pause_writing()
        await world.step()
        for channel in channels:
            if not channel.transport.is_lost:
                channel.connection.resume_writing()
    elif event == "time":
        now = world.context.now() + rng.choice([1, 8, 20, 100, 1000])
        world.client.check_time(now)
        world.route.pool.expire(now)
    elif event == "client lost":
        world.client_transport.lose(ConnectionResetError("reset by peer"))
    elif event == "draining":
        world.context.stopped_accepting = True
        world.client.close_when_idle()
    else:
        world.client.end_at_once()


def _check_nothing_is_left(world: MemoryWorld) -> None:
    assert world.closed_clients == 1
    assert not world.clients
    assert (world.route.pool.busy, world.route.pool.waiting) == (0, 0)
    assert all(channel.connection.user is None for channel in world.channels)
    world.route.pool.close_idle()
    assert all(channel.transport.is_closing() for channel in world.channels)


def _check_requests(world: MemoryWorld) -> None:
    requests = world.requests()
    for message in requests:
        method, target = message.start
        assert message.values(b"authorization") == [b"Bearer " + memory.TOKEN.encode()]
        assert message.values(b"host") == [memory.UPSTREAM]
        assert target == b"*" or target.startswith(memory.BASE_PATH.encode() + b"/")
        assert message.values(b"x-request-id"), "no request id"
        assert b"1.1 switch-proxy" not in message.values(b"via"), "a Via that is off"
        assert not _HOP_BY_HOP & {name for name, _ in message.pairs}
        options = b", ".join(message.values(b"connection")).lower().split(b", ")
        assert set(options) <= {b"", b"te", b"upgrade"}, f"Connection: {options}"
        assert not _BEFORE_THE_CONTENT & {name for name, _ in message.trailers}
    for channel in world.channels:
        if channel.spoilt_after is not None:
            assert len(channel.requests()) <= channel.spoilt_after, "a connection with bytes left over was used again"
    sent = Counter(message.start[0] for message in requests)
    asked = Counter(record.method for record in world.records)
    # Each request may be sent once more after a 401.
    assert world.route.replays <= len(world.records)
    for method, times in sent.items():
        may_be = asked[method] + world.route.replays
        assert times <= may_be or method in _IDEMPOTENT, f"{method!r} was sent more often than it was asked for"


def _check_responses(world: MemoryWorld) -> None:
    written = bytes(world.client_transport.written)
    assert memory.TOKEN.encode() not in written, "the token is in an answer"
    finals = [message for message in world.responses() if message.status >= 200 or message.status == 101]
    records = [record for record in world.records if record.status]
    assert len(finals) <= len(records)
    for message, record in zip(finals, records, strict=False):
        assert message.status == record.status
        if message.status == 101 or _is_problem(message):
            continue
        if record.failure is None:
            assert message.is_whole, "an exchange that went well has an answer that is not whole"
        elif message.is_whole:
            assert message.ends_with_connection or record.failure == "client-gone", "a cut answer looks whole"
            assert world.client_transport.was_aborted or record.failure == "client-gone", "a cut answer ends in order"


def _is_problem(message: wire.Message) -> bool:
    return message.values(b"content-type") == [b"application/problem+json"]


def _asked(world: MemoryWorld) -> list[tuple[object, ...]]:
    """Return what the upstream was asked in full, without what differs from run to run."""
    return [
        (message.start, _without(message.pairs, b"x-request-id"), message.body, message.trailers)
        for message in world.requests()
        if message.is_whole
    ]


def _told(world: MemoryWorld) -> list[tuple[object, ...]]:
    """Return what the client was told, without what differs from run to run."""
    told: list[tuple[object, ...]] = []
    for message in world.responses():
        if _is_problem(message):
            # Of several faults another one may be met first, and so may its status.
            members = json.loads(message.body) if message.body else {}
            told.append(("problem", members.get("type")))
        elif message.is_whole:
            told.append((message.start, message.pairs, message.body, message.trailers))
        else:
            told.append((message.start, message.pairs, "cut"))
    return told


def _without(pairs: list[tuple[bytes, bytes]], name: bytes) -> list[tuple[bytes, bytes]]:
    return [pair for pair in pairs if pair[0] != name]
