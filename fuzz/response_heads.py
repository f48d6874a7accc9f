"""Target: response heads, and the bodies behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fuzz import inputs, second_opinion, wire
from switch_proxy.core.errors import ResponseError
from switch_proxy.core.http.chunked import ChunkedDecoder, ChunkSyntaxError
from switch_proxy.core.http.response import NO_BODY, ResponseHead, ResponseParser, find_response_head_fault

if TYPE_CHECKING:
    import random

_MAX_LINES: Final = 128
_MAX_HEAD: Final = 65536

_ENDED_HERE: Final = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"),
    *(b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization", b"http2-settings"),
}


def check(rng: random.Random) -> str:
    """Parse some responses with one parser, as a listener does; return how the last one turned out."""
    parser = ResponseParser(max_field_lines=_MAX_LINES)
    word = ""
    for _ in range(rng.choice([1, 1, 2, 6])):
        data = inputs.mutated(rng, inputs.response(rng))
        # The same lines once more, and once under another status line, so that memories meet what they know.
        _check_one(rng, parser, b"HTTP/1.0 204 x\r\n" + data.partition(b"\r\n")[2])
        word = _check_one(rng, parser, data)
        _check_one(rng, parser, data)
    return word


def _check_one(rng: random.Random, parser: ResponseParser, data: bytes) -> str:
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        find_response_head_fault(data, max_head=_MAX_HEAD)
        return "unfinished"
    raw = data[:head_end]
    cold = _outcome(ResponseParser(max_field_lines=_MAX_LINES), raw)
    warm = _outcome(parser, raw)
    assert warm == cold, "what a parser remembers changes its answer"
    if isinstance(cold, str):
        assert cold.isprintable()
        return "refused"
    whole = raw + b"\r\n\r\n"
    for end in [*(rng.randrange(len(whole)) for _ in range(20)), len(whole) - 1]:
        fault = find_response_head_fault(whole[:end], max_head=len(raw))
        assert fault is None, f"refused after {end} of {len(whole)} bytes, though the whole is accepted: {fault}"
    _check_passed(cold)
    return _check_body(rng, cold, raw, data[head_end + 4 :])


def _outcome(parser: ResponseParser, raw: bytes) -> ResponseHead | str:
    try:
        return parser.parse(raw)
    except ResponseError as error:
        return error.detail


def _check_passed(head: ResponseHead) -> None:
    """What is sent on reads strictly, ends what ends here, and is read again as the same response."""
    again = ResponseParser(max_field_lines=_MAX_LINES).parse(head.passed.removesuffix(b"\r\n"))
    assert (again.passed, again.status, again.has_date) == (head.passed, head.status, head.has_date)
    if not head.framing.is_chunked:
        assert again.framing == head.framing
    (message,) = wire.read_responses(head.passed + b"\r\n", [b"HEAD"])
    assert not _ENDED_HERE & {name for name, _ in message.pairs}
    assert message.status == head.status


def _check_body(rng: random.Random, head: ResponseHead, raw: bytes, data: bytes) -> str:
    is_head = inputs.maybe(rng, 0.1)
    framing = NO_BODY if is_head else head.framing
    if framing.is_chunked:
        whole = _decode([data])
        assert _decode(inputs.cut(rng, data)) == whole, "the segmentation of a body changes what it is"
        if whole is None:
            return "body refused"
        body, rest = whole
        if rest is None:
            return "body unfinished"
    elif framing.length < 0:
        return "until close"
    else:
        if len(data) < framing.length:
            return "body unfinished"
        body, rest = data[: framing.length], data[framing.length :]
    if not head.is_persistent:
        return "accepted, and the connection closed"
    original = raw + b"\r\n\r\n" + (data[: len(data) - len(rest)] if rest else data)
    readings = second_opinion.read_responses(original + second_opinion.RESPONSE_PROBE, is_head=is_head)
    if readings is None:
        return "accepted here alone"
    first = readings[0]
    assert first.start == (str(head.status),)
    pairs = [
        (name, value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in raw.split(b"\r\n")[1:])
    ]
    assert [(name, value.strip(b" \t")) for name, value in first.pairs] == pairs
    if first.is_upgrade:
        return "accepted by both, upgrade"
    assert first.is_whole, "llhttp waits for more of a body that has ended here"
    assert first.body == body, "llhttp reads another body"
    assert len(readings) == 2, f"llhttp finds {len(readings) - 1} responses behind"
    assert readings[1].start == ("299",)
    return "accepted by both"


def _decode(pieces: list[bytes]) -> tuple[bytes, bytes | None] | None:
    """Return body and what follows (None where it has not ended); None for what is refused."""
    decoder = ChunkedDecoder(takes_padding=True)
    body = rest = b""
    for piece in pieces:
        if decoder.is_complete:
            rest += piece
            continue
        try:
            body += b"".join(decoder.feed(piece))
            while decoder.unread and not decoder.is_complete:
                body += b"".join(decoder.feed(decoder.unread, decoder.position))
        except ChunkSyntaxError:
            return None
    return body, decoder.rest + rest if decoder.is_complete else None
