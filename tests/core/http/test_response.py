"""Response heads: judged as strictly as requests, framed without doubt, sent on less what was for one hop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.errors import ResponseError
from switch_proxy.core.http.other_protocols import LONGEST_OPENING
from switch_proxy.core.http.response import (
    CHUNKED,
    NO_BODY,
    UNTIL_CLOSE,
    ResponseFraming,
    ResponseHead,
    ResponseParser,
    find_response_head_fault,
)

MAX_LINES = 20


def new_parser() -> ResponseParser:
    return ResponseParser(max_field_lines=MAX_LINES)


def parse(*lines: bytes, status: int = 200, version: bytes = b"HTTP/1.1") -> ResponseHead:
    return new_parser().parse(b"\r\n".join([b"%s %d Reason" % (version, status), *lines]))


def refusal(*lines: bytes, status: int = 200, version: bytes = b"HTTP/1.1") -> ResponseError:
    with pytest.raises(ResponseError) as caught:
        parse(*lines, status=status, version=version)
    assert str(caught.value) == caught.value.detail
    return caught.value


def passed_lines(*lines: bytes, status: int = 200) -> bytes:
    """Return what is sent on behind the status line."""
    line, _, section = parse(*lines, status=status).passed.partition(b"\r\n")
    assert line == b"HTTP/1.1 %d Reason" % status
    return section


# The status line (RFC 9112 §4).


@pytest.mark.parametrize(
    ("line", "status", "minor", "sent"),
    [
        pytest.param(b"HTTP/1.1 200 OK", 200, 1, b"HTTP/1.1 200 OK", id="the usual"),
        pytest.param(b"HTTP/1.0 404 Not  Found", 404, 0, b"HTTP/1.1 404 Not  Found", id="HTTP/1.0"),
        pytest.param(b"HTTP/1.9 200 OK", 200, 1, b"HTTP/1.1 200 OK", id="a later minor version"),
        pytest.param(b"HTTP/1.1 200 ", 200, 1, b"HTTP/1.1 200 ", id="empty reason"),
        pytest.param(b"HTTP/1.1 200", 200, 1, b"HTTP/1.1 200 ", id="no reason and no space"),
        pytest.param(b"HTTP/1.1 200 D\xe9j\xe0 vu", 200, 1, b"HTTP/1.1 200 D\xe9j\xe0 vu", id="beyond ASCII"),
        pytest.param(b"HTTP/1.1 599 \tx", 599, 1, b"HTTP/1.1 599 \tx", id="an unknown status and a tab"),
    ],
)
def test_the_status_line_is_sent_on_with_our_version(line: bytes, status: int, minor: int, sent: bytes) -> None:
    """RFC 9110 §6.2: the version is the sender's own; status and reason are the upstream's."""
    head = new_parser().parse(line + b"\r\nA: b")
    assert (head.status, head.meaning.minor, head.passed) == (status, minor, sent + b"\r\nA: b\r\n")


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/2.0 200 OK", id="HTTP/2"),
        pytest.param(b"HTTP/0.9 200 OK", id="HTTP/0.9"),
        pytest.param(b"http/1.1 200 OK", id="lower case"),
        pytest.param(b"ICY 200 OK", id="another protocol"),
        pytest.param(b"HTTP/1.1  200 OK", id="two spaces"),
        pytest.param(b"HTTP/1.1\t200 OK", id="tab"),
        pytest.param(b" HTTP/1.1 200 OK", id="space before"),
        pytest.param(b"HTTP/1.1 20 OK", id="two digits"),
        pytest.param(b"HTTP/1.1 2000 OK", id="four digits"),
        pytest.param(b"HTTP/1.1 000 x", id="below 100"),
        pytest.param(b"HTTP/1.1 +20 x", id="sign"),
        pytest.param(b"HTTP/1.1 200OK", id="no space before the reason"),
        pytest.param(b"HTTP/1.1 200 O\rK", id="bare CR"),
        pytest.param(b"HTTP/1.1 200 O\nK: v", id="bare LF"),
        pytest.param(b"HTTP/1.1 200 O\x00K", id="NUL"),
        pytest.param(b"HTTP/1.1 200 OK\r", id="CR at the end"),
        pytest.param("HTTP/1.1 ٢٠٠ OK".encode(), id="digits beyond ASCII"),
        pytest.param(b"<html>", id="no HTTP at all"),
        pytest.param(b"5\r\nhello", id="what may be left of a body"),
    ],
)
def test_an_answer_without_a_good_status_line_is_refused(line: bytes) -> None:
    """RFC 9112 §4."""
    with pytest.raises(ResponseError):
        new_parser().parse(line + b"\r\nA: b")


# The field section.


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"A: b\r\n c", id="folded line"),
        pytest.param(b"A : b", id="space before the colon"),
        pytest.param(b"A", id="no colon"),
        pytest.param(b": b", id="no name"),
        pytest.param(b"A: b\rc", id="bare CR"),
        pytest.param(b"A: b\nSet-Cookie: x", id="bare LF"),
        pytest.param(b"A: b\x00", id="NUL"),
        pytest.param(b"\xc3\xa4: b", id="name beyond ASCII"),
        pytest.param(b"", id="empty line"),
    ],
)
def test_an_answer_with_a_malformed_line_is_refused(line: bytes) -> None:
    """RFC 9112 §5, §5.1, §5.2, §2.2: a malformed answer is no answer; the text says where it came from."""
    assert "upstream's response" in refusal(line, b"B: c").detail
    assert "upstream's response" in refusal(b"B: c", line, b"D: e").detail


@pytest.mark.parametrize(("excess", "is_accepted"), [(-1, True), (0, True), (1, False)], ids=["below", "at", "above"])
def test_the_number_of_field_lines_is_limited(excess: int, *, is_accepted: bool) -> None:
    """An upstream is limited as a client is."""
    lines = [b"A: b"] * (MAX_LINES + excess)
    if is_accepted:
        assert parse(*lines)
    else:
        assert "20 header lines" in refusal(*lines).detail


# Framing (RFC 9112 §6.3).


@pytest.mark.parametrize(
    ("status", "version", "lines", "framing"),
    [
        pytest.param(200, b"HTTP/1.1", [b"Content-Length: 5"], ResponseFraming(5, is_chunked=False), id="length"),
        pytest.param(200, b"HTTP/1.0", [b"content-length:5"], ResponseFraming(5, is_chunked=False), id="length in 1.0"),
        pytest.param(200, b"HTTP/1.1", [b"Content-Length: 0"], NO_BODY, id="no bytes"),
        pytest.param(205, b"HTTP/1.1", [b"Content-Length: 2"], ResponseFraming(2, is_chunked=False), id="205 with length"),
        pytest.param(200, b"HTTP/1.1", [b"Transfer-Encoding: chunked"], CHUNKED, id="chunked"),
        pytest.param(200, b"HTTP/1.1", [b"transfer-encoding:\tChunked "], CHUNKED, id="chunked in another spelling"),
        pytest.param(200, b"HTTP/1.1", [], UNTIL_CLOSE, id="neither"),
        pytest.param(200, b"HTTP/1.0", [], UNTIL_CLOSE, id="neither in 1.0"),
        pytest.param(404, b"HTTP/1.1", [b"Connection: content-length", b"Content-Length: 3"],
                     ResponseFraming(3, is_chunked=False), id="length named by Connection"),
        pytest.param(204, b"HTTP/1.1", [], NO_BODY, id="204"),
        pytest.param(204, b"HTTP/1.1", [b"Content-Length: 5"], NO_BODY, id="204 with a length"),
        pytest.param(204, b"HTTP/1.1", [b"Transfer-Encoding: chunked"], NO_BODY, id="204 with chunked"),
        pytest.param(304, b"HTTP/1.1", [b"Content-Length: 5"], NO_BODY, id="304 with a length"),
        pytest.param(304, b"HTTP/1.1", [b"Transfer-Encoding: chunked"], NO_BODY, id="304 with chunked"),
        pytest.param(103, b"HTTP/1.1", [b"Content-Length: 0"], NO_BODY, id="103 with a length of nothing"),
        pytest.param(101, b"HTTP/1.1", [b"Upgrade: x"], NO_BODY, id="101"),
    ],
)  # fmt: skip
def test_the_end_of_a_body_is_known(status: int, version: bytes, lines: list[bytes], framing: ResponseFraming) -> None:
    """RFC 9112 §6.3, in its order: no body by status, then chunked, then a length, then the connection's end."""
    head = parse(*lines, status=status, version=version)
    assert head.framing == head.meaning.framing == framing


@pytest.mark.parametrize("status", [200, 204, 304, 103])
@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([b"Content-Length: 3", b"Transfer-Encoding: chunked"], id="length and chunked"),
        pytest.param([b"Content-Length: 3", b"Content-Length: 4"], id="two lengths"),
        pytest.param([b"Content-Length: 3", b"content-length: 3"], id="the same length twice"),
        pytest.param([b"Content-Length: 3, 3"], id="list of lengths"),
        pytest.param([b"Content-Length:"], id="empty length"),
        pytest.param([b"Content-Length: -1"], id="minus"),
        pytest.param([b"Content-Length: 1_0"], id="underscore"),
        pytest.param([b"Content-Length: " + b"9" * 19], id="beyond 64 bits"),
        pytest.param([b"Transfer-Encoding:"], id="empty coding"),
        pytest.param([b"Transfer-Encoding: identity"], id="identity"),
        pytest.param([b"Transfer-Encoding: gzip, chunked"], id="a coding that is not understood"),
        pytest.param([b"Transfer-Encoding: chunked, gzip"], id="chunked not last"),
        pytest.param([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], id="chunked twice"),
        pytest.param([b"Transfer-Encoding: chunked,"], id="chunked and an empty member"),
        pytest.param([b"Transfer-Encoding: chunked;q=1"], id="parameter"),
        pytest.param([b"Transfer-Encoding: \x0bchunked"], id="vertical tab"),
    ],
)
def test_an_answer_whose_framing_is_in_doubt_is_refused(lines: list[bytes], status: int) -> None:
    """RFC 9112 §6.1, §6.3, §11.1: an answer that two readers end at different places splits the next one."""
    assert "upstream" in refusal(*lines, status=status).detail


def test_an_http_1_0_answer_with_a_transfer_coding_is_refused() -> None:
    """RFC 9112 §6.1: its framing is faulty."""
    assert "HTTP/1.0" in refusal(b"Transfer-Encoding: chunked", version=b"HTTP/1.0").detail


@pytest.mark.parametrize(
    ("version", "lines", "is_persistent"),
    [
        pytest.param(b"HTTP/1.1", [], True, id="1.1"),
        pytest.param(b"HTTP/1.1", [b"Connection: Close"], False, id="1.1 with close"),
        pytest.param(b"HTTP/1.1", [b"Connection: x", b"Connection: keep-alive, close"], False, id="1.1 with both"),
        pytest.param(b"HTTP/1.0", [], False, id="1.0"),
        pytest.param(b"HTTP/1.0", [b"Connection: keep-alive"], True, id="1.0 with keep-alive"),
        pytest.param(b"HTTP/1.0", [b"Keep-Alive: timeout=9"], False, id="1.0 with the wrong field"),
    ],
)
def test_an_upstream_connection_persists_as_the_upstream_says(
    version: bytes, lines: list[bytes], *, is_persistent: bool
) -> None:
    """RFC 9112 §9.3."""
    head = parse(b"Content-Length: 0", *lines, version=version)
    assert head.is_persistent is head.meaning.is_persistent is is_persistent


@pytest.mark.parametrize(
    "lines",
    [[b"Transfer-Encoding: chunked"], [b"Content-Length: 5"]],
    ids=["chunked", "length"],
)
def test_an_upstream_that_may_send_a_body_after_204_loses_its_connection(lines: list[bytes]) -> None:
    """RFC 9112 §6.1, RFC 9110 §8.6: it must not announce one; what it sends would be the next request's answer."""
    assert not parse(*lines, status=204).is_persistent


@pytest.mark.parametrize("lines", [[b"Content-Length: 5"], [b"Transfer-Encoding: chunked"]], ids=["length", "chunked"])
def test_a_304_may_tell_of_the_body_that_it_does_not_have(lines: list[bytes]) -> None:
    """RFC 9110 §8.6, RFC 9112 §6.1: it describes what 200 would have had, so the connection is as good as before."""
    assert parse(*lines, status=304).is_persistent


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        pytest.param([], None, id="none"),
        pytest.param([b"Keep-Alive: timeout=5"], 5, id="seconds"),
        pytest.param([b"Keep-Alive: max=100, Timeout=75"], 75, id="second parameter in capitals"),
        pytest.param([b"Keep-Alive: max=1", b"Keep-Alive: timeout = 3"], 3, id="on a line of its own, with blanks"),
        pytest.param([b"Keep-Alive: xtimeout=5"], None, id="a longer name"),
        pytest.param([b"Keep-Alive: timeout=x"], None, id="no number"),
        pytest.param([b"Keep-Alive: 300"], None, id="no name"),
    ],
)
def test_the_upstreams_idle_time_is_read(lines: list[bytes], seconds: int | None) -> None:
    """RFC 2068 §19.7.1.1 as servers write it: who knows it leaves before the upstream does."""
    assert parse(*lines).meaning.keep_alive_timeout == seconds


@pytest.mark.parametrize(
    ("lines", "upgrade"),
    [
        pytest.param([b"Upgrade: websocket", b"Connection: Upgrade"], b"websocket", id="named by Connection"),
        pytest.param([b"Upgrade: a", b"Connection: upgrade", b"Upgrade: b"], b"a, b", id="two"),
        pytest.param([b"Upgrade: websocket"], None, id="without Connection"),
        pytest.param([b"Connection: upgrade"], None, id="without Upgrade"),
    ],
)
def test_the_protocol_that_is_switched_to_is_read(lines: list[bytes], upgrade: bytes | None) -> None:
    """RFC 9110 §7.8."""
    assert parse(*lines, status=101).meaning.upgrade == upgrade


@pytest.mark.parametrize(
    ("lines", "has_date"),
    [
        pytest.param([], False, id="none"),
        pytest.param([b"dATE: now"], True, id="one"),
        pytest.param([b"Date: now", b"Connection: date"], False, id="for one hop, so it does not pass"),
    ],
)
def test_a_date_that_passes_is_noticed(lines: list[bytes], *, has_date: bool) -> None:
    """RFC 9110 §6.6.1: a recipient with a clock adds one where there is none, and never a second."""
    head = parse(*lines)
    assert head.has_date is has_date
    assert (b"now" in head.passed) is has_date


# What is sent on.


def test_lines_are_sent_on_in_order_with_duplicates_and_spelling() -> None:
    """RFC 9110 §5.3: Set-Cookie above all cannot be joined or moved."""
    lines = [
        b"Set-Cookie: a",
        b"B:2",
        b"set-cookie:  b ",
        b"Content-Length:\t3",
        b"Set-Cookie: a",
        b"Trailer: x",
        b"D: \xff",
    ]
    assert passed_lines(*lines) == b"".join(line + b"\r\n" for line in lines)


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: x",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: keep-alive",
        b"Proxy-Authenticate: Basic",
        b"Proxy-Authentication-Info: x",
        b"Proxy-Authorization: x",
        b"TE: trailers",
        b"Transfer-Encoding: chunked",
        b"Upgrade: h2c",
    ],
    ids=lambda line: line.partition(b":")[0].decode(),
)
def test_a_line_of_the_upstreams_hop_is_not_sent_on(line: bytes) -> None:
    """RFC 9110 §7.6.1, §11.7."""
    assert passed_lines(b"A: 1", line, b"B: 2") == b"A: 1\r\nB: 2\r\n"


@pytest.mark.parametrize(
    "line", [b"WWW-Authenticate: Bearer", b"Via: 1.1 x", b"Server: x", b"Trailer: y", b"Content-Encoding: gzip"]
)
def test_a_line_for_the_client_is_sent_on(line: bytes) -> None:
    """RFC 9110 §7.6.1: what is not for one hop passes."""
    assert passed_lines(line) == line + b"\r\n"


def test_lines_named_by_connection_end_here() -> None:
    """RFC 9110 §7.6.1."""
    lines = [b"X-Hop: a", b"Connection: x-hop, close", b"x-HOP: b", b"X-Hop-2: c"]
    assert passed_lines(*lines) == b"X-Hop-2: c\r\n"


def test_an_upstream_cannot_have_the_length_dropped() -> None:
    """The length by which the body is read is the length that the client is told."""
    assert passed_lines(b"Connection: content-length", b"Content-Length: 3") == b"Content-Length: 3\r\n"


@pytest.mark.parametrize("status", [100, 103, 204])
def test_a_length_is_not_sent_on_where_there_must_be_none(status: int) -> None:
    """RFC 9110 §8.6: no Content-Length in 1xx and 204."""
    assert passed_lines(b"A: 1", b"Content-Length: 0", b"B: 2", status=status) == b"A: 1\r\nB: 2\r\n"


@pytest.mark.parametrize("status", [100, 103, 163])
@pytest.mark.parametrize("line", [b"Content-Length: 5", b"Transfer-Encoding: chunked"], ids=["length", "chunked"])
def test_an_interim_response_that_announces_a_body_is_refused(line: bytes, status: int) -> None:
    """RFC 9110 §8.6, RFC 9112 §6.1: some readers (llhttp, of an unknown 1xx) would wait for the body, others not."""
    assert "interim" in refusal(line, status=status).detail


@pytest.mark.parametrize("status", [200, 304, 404])
def test_a_length_is_sent_on_where_it_tells_of_a_body(status: int) -> None:
    """RFC 9110 §8.6: 304, and any answer to HEAD, tell of the body that GET would have had."""
    assert passed_lines(b"Content-Length: 5", status=status) == b"Content-Length: 5\r\n"


def test_a_head_without_lines_is_a_head() -> None:
    """RFC 9112 §2.1."""
    head = new_parser().parse(b"HTTP/1.1 200 OK")
    assert (head.passed, head.framing) == (b"HTTP/1.1 200 OK\r\n", UNTIL_CLOSE)


# The same by a model of its own, over all sorts of sections.

HOP_NAMES = {
    *["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"],
    *["proxy-authenticate", "proxy-authentication-info", "proxy-authorization"],
}


@st.composite
def field_lines(draw: st.DrawFn) -> list[bytes]:
    """Draw the lines of a section whose framing is good, in any order and spelling."""
    names = draw(st.lists(st.text(alphabet="abcXYZ019-_.!~", min_size=1, max_size=8), min_size=1, max_size=4))
    framing = draw(st.sampled_from([None, ("content-length", b"12"), ("transfer-encoding", b"Chunked")]))
    pairs = [] if framing is None else [framing]
    options = draw(st.lists(st.sampled_from([*names, "close", "keep-alive", "Upgrade", "content-length", "date", ""])))
    if options:
        pairs.append(("connection", ", ".join(options).encode()))
    values = st.binary(max_size=12).map(
        lambda value: bytes(byte for byte in value if byte in b"\t " or 32 < byte != 127)
    )
    others = st.sampled_from([*names, "set-cookie", "via", "date", "keep-alive", "upgrade", "proxy-authenticate"])
    pairs += draw(st.lists(st.tuples(others, values), max_size=10))
    pairs = draw(st.permutations(pairs))
    spellings = st.sampled_from([str.lower, str.upper, str.title])
    blanks = st.sampled_from([b"", b" ", b"\t", b"  "])
    return [draw(spellings)(name).encode() + b":" + draw(blanks) + value + draw(blanks) for name, value in pairs]


@given(lines=field_lines(), status=st.sampled_from([200, 304, 500]))
def test_what_is_sent_on_is_what_was_received_less_what_ends_here(lines: list[bytes], status: int) -> None:
    """RFC 9110 §7.6.1: order, duplicates and bytes of all other lines stay; nothing is added."""
    pairs = [(name.decode().lower(), value) for name, _, value in (line.partition(b":") for line in lines)]
    options = {
        option.strip().lower() for name, value in pairs if name == "connection" for option in value.decode().split(",")
    }
    ended = HOP_NAMES | (options - {"content-length"})
    passed = [line for line, (name, _) in zip(lines, pairs, strict=True) if name not in ended]
    head = parse(*lines, status=status)
    assert head.passed == b"\r\n".join([b"HTTP/1.1 %d Reason" % status, *passed, b""])
    assert head.has_date is any(name == "date" for name, _ in pairs if name not in ended)


@given(lines=field_lines())
def test_what_is_sent_on_is_read_again_as_the_same_answer(lines: list[bytes]) -> None:
    """What leaves is well formed, and has nothing more in it to end at a hop."""
    first = parse(*lines)
    again = new_parser().parse(first.passed.removesuffix(b"\r\n"))
    assert (again.passed, again.status, again.has_date) == (first.passed, first.status, first.has_date)
    assert again.framing == (UNTIL_CLOSE if first.framing is CHUNKED else first.framing)


# Memory.

ANY_HEADS = st.lists(
    st.tuples(
        st.sampled_from(
            [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 204 No Content", b"HTTP/1.1 103 x", b"BAD"]
        ),
        st.lists(
            st.sampled_from(
                [
                    b"Content-Length: 3",
                    b"Content-Length: 4",
                    b"Transfer-Encoding: chunked",
                    b"Transfer-Encoding: gzip",
                    b"Connection: close",
                    b"Connection: keep-alive, date",
                    b"Connection: x-a",
                    b"Date: 1",
                    b"Date: 2",
                    b"X-A: 1",
                    b"Keep-Alive: timeout=3",
                    b"X-Long: " + b"y" * 2100,
                    b"Bad : line",
                ]
            ),
            max_size=6,
        ),
    ),
    min_size=1,
    max_size=6,
).map(lambda heads: [b"\r\n".join([line, *lines]) for line, lines in heads])


def outcome(parser: ResponseParser, head: bytes) -> ResponseHead | str:
    try:
        return parser.parse(head)
    except ResponseError as error:
        return error.detail


@given(heads=ANY_HEADS)
def test_a_parser_in_use_answers_as_a_new_one_does(heads: list[bytes]) -> None:
    """What is remembered of earlier heads, of whatever status or version, never changes an answer."""
    used = new_parser()
    for head in [*heads, *heads]:
        assert outcome(used, head) == outcome(new_parser(), head)


def test_the_same_lines_mean_different_things_under_another_status_line() -> None:
    """RFC 9112 §6.3, §9.3: status and version have a say in what the lines mean."""
    parser = new_parser()
    section = b"\r\nContent-Length: 3\r\nDate: now"
    lines = [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 304 Not Modified"]
    for _ in range(2):
        heads = [parser.parse(line + section) for line in lines]
        assert [(head.framing.length, head.is_persistent) for head in heads] == [(3, True), (3, False), (0, True)]


def test_the_memory_of_a_parser_is_bounded() -> None:
    """An upstream that answers with ever new lines must not make the process grow."""
    parser = new_parser()
    largest = 0
    for number in range(3000):
        head = parser.parse(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nDate: %d" % (number, number))
        assert head.framing.length == number
        largest = max(largest, len(parser.known), len(parser._meanings))
    assert largest == 256


def test_long_heads_are_not_remembered() -> None:
    """What is long is judged anew each time, with the same answer."""
    parser = new_parser()
    head = b"HTTP/1.1 200 OK\r\nConnection: " + b"a" * 3000
    assert parser.parse(head) == parser.parse(head) == new_parser().parse(head)
    assert not parser.known
    assert not parser._meanings


# Heads that have not ended yet.


@pytest.mark.parametrize(
    ("partial", "reason"),
    [
        pytest.param(b"", None, id="nothing yet"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: b\r\n\r", None, id="all but one byte"),
        pytest.param(b"HTTP/1.1 200 OK\n", "bare LF", id="bare LF"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: b\n\n", "bare LF", id="bare LF on a later line"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA:" + b"a" * 400, "300 bytes", id="without end"),
    ],
)
def test_a_head_that_cannot_become_good_is_refused_before_it_ends(partial: bytes, reason: str | None) -> None:
    """RFC 9112 §2.2; a limit on what an upstream may make us hold."""
    fault = find_response_head_fault(partial, max_head=300)
    if reason is None:
        assert fault is None
    else:
        assert fault is not None
        assert reason in fault.detail


@given(lines=field_lines())
def test_no_part_of_a_good_head_at_the_limit_is_refused(lines: list[bytes]) -> None:
    """However a head comes in pieces, it is judged as if it came at once: the limit is that of the whole."""
    head = b"\r\n".join([b"HTTP/1.1 200 OK", *lines])
    new_parser().parse(head)
    whole = head + b"\r\n\r\n"
    faults = [find_response_head_fault(whole[:end], max_head=len(head)) for end in range(len(whole))]
    assert faults == [None] * len(whole)


@given(st.binary(max_size=80), st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nA: b\r\n"]))
def test_any_bytes_are_a_head_or_a_refusal(noise: bytes, start: bytes) -> None:
    """Whatever an upstream sends, nothing but ResponseError comes of it."""
    try:
        head = new_parser().parse(start + noise)
    except ResponseError as error:
        assert error.detail.isprintable()  # noqa: PT017 - either way is right
    else:
        assert 100 <= head.status <= 999


def test_what_was_judged_before_is_not_searched_for_other_protocols_again() -> None:
    """Only the first bytes of a connection tell a protocol; a head that is seen for the second time is past them."""
    assert find_response_head_fault(b"HTTP/1.1 200 OK\r\nA: b", max_head=1000, seen=LONGEST_OPENING) is None
