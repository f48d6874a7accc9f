"""Target: request heads, and the bodies behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fuzz import inputs, second_opinion, wire
from switch_proxy.core.errors import RequestError
from switch_proxy.core.http.chunked import ChunkedDecoder, ChunkSyntaxError, encode_chunk, last_chunk
from switch_proxy.core.http.problems import Problem, render_problem
from switch_proxy.core.http.request import RequestHead, RequestParser, find_head_fault
from switch_proxy.core.http.target import upstream_target

if TYPE_CHECKING:
    import random

_MAX_LINE: Final = 8192
_MAX_LINES: Final = 128
_MAX_HEAD: Final = 65536

_ENDED_HERE: Final = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"),
    *(b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization", b"http2-settings"),
    *(b"authorization", b"host"),
}


def new_parser() -> RequestParser:
    """Return a parser without memories."""
    return RequestParser(max_request_line=_MAX_LINE, max_field_lines=_MAX_LINES, upgrades=("websocket",))


def check(rng: random.Random) -> str:
    """Parse some requests with one parser, as a listener does; return how the last one turned out."""
    parser = new_parser()
    word = ""
    for _ in range(rng.choice([1, 1, 2, 6])):
        data = inputs.mutated(rng, inputs.request(rng))
        # The same lines once more, and once in the other version, so that memories meet what they know.
        _check_one(rng, parser, data.replace(b"HTTP/1.1\r\n", b"HTTP/1.0\r\n", 1))
        word = _check_one(rng, parser, data)
        _check_one(rng, parser, data)
    return word


def _check_one(rng: random.Random, parser: RequestParser, data: bytes) -> str:
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        find_head_fault(data, max_request_line=_MAX_LINE, max_head=_MAX_HEAD)
        return "unfinished"
    raw = data[:head_end]
    cold = _outcome(new_parser(), raw)
    warm = _outcome(parser, raw)
    assert warm == cold, "what a parser remembers changes its answer"
    if isinstance(cold, tuple):
        _check_refusal(*cold)
        return "refused"
    _check_no_prefix_is_refused(rng, raw)
    _check_forwarded(cold)
    _check_target(cold)
    return _check_body(rng, cold, raw, data[head_end + 4 :])


def _outcome(parser: RequestParser, raw: bytes) -> RequestHead | tuple[int, str]:
    try:
        return parser.parse(raw)
    except RequestError as error:
        return error.status, error.detail


def _check_refusal(status: int, detail: str) -> None:
    """A refusal can be answered."""
    answer = render_problem(
        Problem.REQUEST_MALFORMED,
        detail=detail,
        proxy_name="fuzz",
        next_hop="",
        request_id="1",
        date=b"now",
        status=status,
        closes=True,
    )
    (message,) = wire.read_responses(answer, [b"GET"])
    assert message.is_whole
    assert message.status == status


def _check_no_prefix_is_refused(rng: random.Random, raw: bytes) -> None:
    """A good head is good in any segmentation, also right at the limits."""
    whole = raw + b"\r\n\r\n"
    line = raw.partition(b"\r\n")[0]
    ends = range(len(whole)) if len(whole) < 300 else [rng.randrange(len(whole)) for _ in range(50)]
    for end in [*ends, len(line) + 1, len(whole) - 1]:
        fault = find_head_fault(whole[:end], max_request_line=len(line), max_head=len(raw))
        assert fault is None, f"refused after {end} of {len(whole)} bytes, though the whole is accepted: {fault}"


def _check_forwarded(head: RequestHead) -> None:
    """What is sent on reads strictly, ends what ends here, and is read again as the same request."""
    meaning = head.meaning
    text = b" ".join([head.method, b"/x", b"HTTP/1.1"]) + b"\r\nHost: up\r\n" + head.forwarded
    again = new_parser().parse(text.removesuffix(b"\r\n"))
    assert again.forwarded == head.forwarded
    assert again.method == head.method
    assert again.request_id == head.request_id
    assert (again.meaning.content_length, again.meaning.is_chunked, again.meaning.upgrade) == (
        meaning.content_length,
        meaning.is_chunked,
        meaning.upgrade,
    )
    assert again.meaning.expects_continue == meaning.expects_continue
    (message,) = wire.read_requests(text + b"\r\n")[:1]
    agreed = set()
    if meaning.is_chunked:
        agreed.add(b"transfer-encoding")
    if meaning.upgrade is not None:
        agreed |= {b"upgrade", b"connection"}
    if message.values(b"te"):
        assert message.values(b"te") == [b"trailers"]
        agreed |= {b"te", b"connection"}
    names = [name for name, _ in message.pairs][1:]
    assert _ENDED_HERE & set(names) == agreed
    assert all(names.count(name) == 1 for name in agreed)


def _check_target(head: RequestHead) -> None:
    """A target is refused with 400 or begins with the base path."""
    for base in (b"", b"/base"):
        try:
            sent = upstream_target(head.target, method=head.method, base_path=base)
        except RequestError as error:
            assert error.status == 400  # noqa: PT017 - a refusal is right
        else:
            assert sent in (base + head.target, b"*")


def _check_body(rng: random.Random, head: RequestHead, raw: bytes, data: bytes) -> str:
    """The body ends in the same place in any segmentation, for llhttp, and for whoever reads what is sent on."""
    meaning = head.meaning
    assert not (meaning.is_chunked and meaning.content_length >= 0)
    rendered = b""
    if meaning.is_chunked:
        whole = _decode([data])
        assert _decode(inputs.cut(rng, data)) == whole, "the segmentation of a body changes what it is"
        if whole is None:
            return "body refused"
        body, rest, trailers = whole
        if rest is None:
            return "body unfinished"
        rendered = (encode_chunk([body]) if body else b"") + last_chunk(trailers)
    else:
        length = max(0, meaning.content_length)
        if len(data) < length:
            return "body unfinished"
        body, rest = data[:length], data[length:]
        rendered = body
    original = raw + b"\r\n\r\n" + (data[: len(data) - len(rest)] if rest else data)
    word = _compare(original, head.method, head.target, head, body, pairs=_own_pairs(raw))
    text = b" ".join([head.method, head.target, b"HTTP/1.1"]) + b"\r\nHost: up\r\n" + head.forwarded + b"\r\n"
    _compare(text + rendered, head.method, head.target, head, body, pairs=None)
    return word


def _decode(pieces: list[bytes]) -> tuple[bytes, bytes | None, bytes] | None:
    """Return body, what follows (None where it has not ended) and trailers; None for what is refused."""
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
    return body, decoder.rest + rest if decoder.is_complete else None, decoder.trailers


def _compare(
    data: bytes,
    method: bytes,
    target: bytes,
    head: RequestHead,
    body: bytes,
    *,
    pairs: list[tuple[bytes, bytes]] | None,
) -> str:
    """Hold one whole request against llhttp's reading of it, with a probe behind."""
    # What comes behind a request that closes the connection is nobody's.
    probe = second_opinion.REQUEST_PROBE if head.is_persistent or pairs is None else b""
    readings = second_opinion.read_requests(data + probe)
    if readings is None:
        return "accepted here alone"
    if not readings and method == b"PRI":
        return "taken for the preface of HTTP/2 by llhttp"
    first = readings[0]
    assert [text.encode("utf-8", "surrogateescape") for text in first.start] == [method, target]
    if pairs is not None:
        assert [(name, value.strip(b" \t")) for name, value in first.pairs] == pairs
    if first.is_upgrade:
        return "accepted by both, upgrade"
    assert first.is_whole, "llhttp waits for more of a body that has ended here"
    assert first.body == body, "llhttp reads another body"
    if probe:
        assert len(readings) == 2, f"llhttp finds {len(readings) - 1} requests behind"
        assert readings[1].start == ("GET", "/probe")
    return "accepted by both"


def _own_pairs(raw: bytes) -> list[tuple[bytes, bytes]]:
    pairs = []
    for line in raw.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        pairs.append((name, value.strip(b" \t")))
    return pairs
