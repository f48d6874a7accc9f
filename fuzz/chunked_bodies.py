"""Target: the chunked coding, in any segmentation, beside llhttp, and written anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fuzz import inputs, second_opinion, wire
from switch_proxy.core.http.chunked import ChunkedDecoder, ChunkSyntaxError, encode_chunk, last_chunk

if TYPE_CHECKING:
    import random

_HEAD: Final = b"POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def check(rng: random.Random) -> str:
    """Decode one body, whole and in pieces; return how it turned out."""
    content = inputs.body(rng)
    data = inputs.mutated(rng, inputs.chunked(rng, content), share=0.7)
    if inputs.maybe(rng, 0.1):
        data = b"".join(rng.choice(inputs.TOKENS) for _ in range(rng.randrange(12)))
    data += rng.choice([b"", b"", b"rest", second_opinion.REQUEST_PROBE])

    whole = _decode([data])
    for _ in range(4):
        assert _decode(inputs.cut(rng, data)) == whole, "the segmentation of a body changes what it is"
    if whole is None:
        return "refused"
    body, is_complete, trailers, rest = whole
    if not is_complete:
        assert not rest
        assert not trailers
        return "unfinished"
    assert data.endswith(rest)
    wire_bytes = data[: len(data) - len(rest)] if rest else data

    written = b"".join(encode_chunk([piece]) for piece in inputs.cut(rng, body)) + last_chunk(trailers)
    assert _decode([written]) == (body, True, trailers, b"")
    (message,) = wire.read_requests(_HEAD + written)
    assert message.is_whole
    assert message.body == body
    _compare(written, body)
    return _compare(wire_bytes, body)


def _decode(pieces: list[bytes]) -> tuple[bytes, bool, bytes, bytes] | None:
    decoder = ChunkedDecoder()
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
    return body, decoder.is_complete, decoder.trailers, decoder.rest + rest


def _compare(data: bytes, body: bytes) -> str:
    readings = second_opinion.read_requests(_HEAD + data + second_opinion.REQUEST_PROBE)
    if readings is None:
        return "accepted here alone"
    assert readings[0].is_whole, "llhttp waits for more of a body that has ended here"
    assert readings[0].body == body, "llhttp reads another body"
    assert len(readings) == 2, f"llhttp finds {len(readings) - 1} requests behind"
    assert readings[1].start == ("GET", "/probe")
    return "accepted by both"
