"""The chunked coding: the same in any segmentation, strict about everything that another reader could take differently."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from switch_proxy.core.http.chunked import (
    CHUNKS_PER_CALL,
    LAST_CHUNK,
    ChunkedDecoder,
    ChunkSyntaxError,
    encode_chunk,
    last_chunk,
)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What there is to know once a decoder has seen all bytes."""

    body: bytes
    is_complete: bool
    trailers: bytes
    rest: bytes


def decode(*pieces: bytes) -> Decoded:
    """Feed the pieces one by one; those after the end of the body are rest, as they are for a connection."""
    decoder = ChunkedDecoder()
    body = b""
    rest = b""
    for piece in pieces:
        if decoder.is_complete:
            rest += piece
            continue
        body += b"".join(decoder.feed(piece))
        while decoder.unread and not decoder.is_complete:
            body += b"".join(decoder.feed(decoder.unread, decoder.position))
    return Decoded(body, decoder.is_complete, decoder.trailers, decoder.rest + rest)


def decode_or_refuse(*pieces: bytes) -> Decoded | None:
    try:
        return decode(*pieces)
    except ChunkSyntaxError:
        return None


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def bytewise(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


CUTS = st.lists(st.integers(0, 2000), max_size=12)
SIZES = st.sampled_from([b"%x", b"%X", b"0%x", b"00%X"])
EXTENSIONS = st.sampled_from([b"", b";a", b" ;a", b"\t; a=b", b';a="b;\xff"', b";"])
TRAILERS = st.sampled_from(
    [b"Digest: abc\r\n", b"x-sum:1\r\n", b"x-sum:\t2 \r\n", b"Host: evil\r\n", b"Content-Length: 9\r\n"]
)


@st.composite
def chunked_bodies(draw: st.DrawFn) -> tuple[bytes, bytes, list[bytes]]:
    """Draw a body in chunks as a sender may write it: the bytes on the wire, the body, the trailers."""
    chunks = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=5))
    wire = b"".join(draw(SIZES) % len(chunk) + draw(EXTENSIONS) + b"\r\n" + chunk + b"\r\n" for chunk in chunks)
    wire += draw(st.sampled_from([b"0", b"000"])) + draw(EXTENSIONS) + b"\r\n"
    trailers = draw(st.lists(TRAILERS, max_size=4))
    return wire + b"".join(trailers) + b"\r\n", b"".join(chunks), trailers


@given(chunked=chunked_bodies(), rest=st.binary(max_size=20), cuts=CUTS)
def test_a_body_is_decoded_the_same_in_any_segmentation(
    chunked: tuple[bytes, bytes, list[bytes]], rest: bytes, cuts: list[int]
) -> None:
    """RFC 9112 §7.1: how the network cuts the bytes has no meaning; what follows the body is not touched."""
    wire, body, trailers = chunked
    passed = b"".join(line for line in trailers if not line.startswith((b"Host", b"Content-Length")))
    expected = Decoded(body, is_complete=True, trailers=passed, rest=rest)
    assert decode(wire + rest) == expected
    assert decode(*cut(wire + rest, cuts)) == expected
    assert decode(*bytewise(wire + rest)) == expected


@given(chunked=chunked_bodies(), end=st.integers(0, 10_000))
def test_a_body_that_has_not_ended_is_never_complete(chunked: tuple[bytes, bytes, list[bytes]], end: int) -> None:
    """RFC 9112 §8: a body cut short must not be taken for a whole one."""
    wire, body, _ = chunked
    decoded = decode(wire[: end % len(wire)])
    assert not decoded.is_complete
    assert body.startswith(decoded.body)
    assert not decoded.trailers
    assert not decoded.rest


@given(chunks=st.lists(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=3), max_size=5), cuts=CUTS)
def test_what_is_encoded_is_decoded_to_the_same_bytes(chunks: list[list[bytes]], cuts: list[int]) -> None:
    """RFC 9112 §7.1: encode, cut anyhow, decode: the identity."""
    trailers = b"Digest: abc\r\n"
    wire = b"".join(map(encode_chunk, chunks)) + last_chunk(trailers)
    body = b"".join(piece for chunk in chunks for piece in chunk)
    assert decode(*cut(wire, cuts)) == Decoded(body, is_complete=True, trailers=trailers, rest=b"")


@given(chunked=chunked_bodies(), cuts=CUTS)
def test_what_is_decoded_and_encoded_anew_means_the_same(
    chunked: tuple[bytes, bytes, list[bytes]], cuts: list[int]
) -> None:
    """A body that passes through arrives as the same body with the same trailers."""
    wire = chunked[0]
    decoder = ChunkedDecoder()
    sent = b""
    for piece in cut(wire, cuts):
        pieces = decoder.feed(piece)
        sent += encode_chunk(pieces) if pieces else b""
    assert decoder.is_complete
    assert decode(sent + last_chunk(decoder.trailers)) == decode(wire)


@given(st.lists(st.sampled_from(
    [b"0", b"1", b"a", b"F", b"x", b";", b" ", b"\t", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b":", b"b", b"\x00", b"0\r\n"]
)).map(b"".join), CUTS)  # fmt: skip
@example(b"0\r\n\n\r\n", [4])
@example(b"1\r\na\r\r\n", [5])
@example(b"1 \r\n", [2])
def test_any_bytes_are_decoded_or_refused_alike_in_any_segmentation(data: bytes, cuts: list[int]) -> None:
    """RFC 9112 §11.2: a segmentation must not turn a refused body into an accepted one, or the other way round."""
    whole = decode_or_refuse(data)
    assert decode_or_refuse(*cut(data, cuts)) == whole
    assert decode_or_refuse(*bytewise(data)) == whole


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"5   \r\nhello\r\n0   \r\n\r\n", id="blanks"),
        pytest.param(b"5\t\r\nhello\r\n0\t \r\n\r\n", id="tabs"),
        pytest.param(b"5 ;a=b \r\nhello\r\n0 ; c\r\n\r\n", id="with extensions"),
    ],
)
def test_a_size_that_is_padded_with_blanks_is_taken_where_padding_is(wire: bytes) -> None:
    """Old servers write sizes into a field of fixed width; what such a body is does not depend on its segmentation."""
    for pieces in ([wire], bytewise(wire), *(cut(wire, [place]) for place in range(len(wire)))):
        decoder = ChunkedDecoder(takes_padding=True)
        assert b"".join(piece for data in pieces for piece in decoder.feed(data)) == b"hello"
        assert decoder.is_complete


@pytest.mark.parametrize("line", [b" 5\r\n", b"5 5\r\n", b"5 \n", b"5 \r \r\n", b"5 \x0b\r\n", b" \r\n", b"5 x\r\n"])
def test_blanks_are_padding_only_behind_a_size(line: bytes) -> None:
    for pieces in ([line + b"hello\r\n"], bytewise(line + b"hello\r\n")):
        decoder = ChunkedDecoder(takes_padding=True)
        with pytest.raises(ChunkSyntaxError):
            _ = [decoder.feed(piece) for piece in pieces]


MALFORMED = [
    pytest.param(b"\r\n", id="no size"),
    pytest.param(b";a\r\n", id="an extension without a size"),
    pytest.param(b"x\r\n", id="a size that is no number"),
    pytest.param(b"0x5\r\nhello\r\n", id="a prefix"),
    pytest.param(b"+5\r\nhello\r\n", id="a plus"),
    pytest.param(b"-5\r\nhello\r\n", id="a minus"),
    pytest.param(b"1_0\r\nhello\r\n", id="an underscore"),
    pytest.param(b" 5\r\nhello\r\n", id="a space before the size"),
    pytest.param(b"5 \r\nhello\r\n", id="a space after the size"),
    pytest.param(b"5\t\r\nhello\r\n", id="a tab after the size"),
    pytest.param(b"5 5\r\nhello\r\n", id="two sizes"),
    pytest.param(b"5,5\r\nhello\r\n", id="a list of sizes"),
    pytest.param(b"5\nhello\r\n", id="a bare LF after the size"),
    pytest.param(b"5\rhello\r\n", id="a bare CR after the size"),
    pytest.param(b"5\r\r\nhello\r\n", id="two CR after the size"),
    pytest.param(b"5;a\nb\r\nhello\r\n", id="a bare LF in an extension"),
    pytest.param(b"5;a\rb\r\nhello\r\n", id="a bare CR in an extension"),
    pytest.param(b"5;\x00\r\nhello\r\n", id="NUL in an extension"),
    pytest.param(b'5;a="\r\nhello\r\n"\r\n', id="a line end within quotes"),
    pytest.param(b"0" * 16 + b"\r\n\r\n", id="sixteen digits"),
    pytest.param(b"f" * 16 + b"\r\n", id="a size beyond 64 bits"),
    pytest.param(b"\xb2\r\nab\r\n", id="a digit of Latin-1"),
    pytest.param(b"5\r\nhelloworld\r\n", id="a chunk longer than its size"),
    pytest.param(b"5\r\nhello\n0\r\n\r\n", id="a bare LF after the data"),
    pytest.param(b"5\r\nhello\r0\r\n\r\n", id="a bare CR after the data"),
    pytest.param(b"5\r\nhello0\r\n\r\n", id="no line end after the data"),
    pytest.param(b"5\r\nhell\r\n0\r\n\r\n", id="a chunk shorter than its size"),
    pytest.param(b"0\r\nbad trailer\r\n\r\n", id="a trailer without a colon"),
    pytest.param(b"0\r\nx : y\r\n\r\n", id="a space before a trailer's colon"),
    pytest.param(b"0\r\nx: y\r\n z\r\n\r\n", id="a folded trailer"),
    pytest.param(b"0\r\n x: y\r\n\r\n", id="a trailer section that begins with a blank"),
    pytest.param(b"0\r\nx: y\nz: a\r\n\r\n", id="a bare LF in the trailer section"),
    pytest.param(b"0\r\n\nGET / HTTP/1.1\r\n\r\n", id="a bare LF at the end"),
    pytest.param(b"0\n\r\n\r\n", id="a bare LF after the last size"),
    pytest.param(b"0\r\nx: \x00\r\n\r\n", id="NUL in a trailer"),
]


@pytest.mark.parametrize("wire", MALFORMED)
@pytest.mark.parametrize("before", [b"", b"3\r\nabc\r\n"], ids=["at the start", "after a chunk"])
def test_a_malformed_body_is_refused_in_any_segmentation(before: bytes, wire: bytes) -> None:
    """RFC 9112 §7.1, §2.2, §11.2: nothing is repaired, for the next reader might repair it differently."""
    data = before + wire
    for end in range(len(data) + 1):
        with pytest.raises(ChunkSyntaxError) as caught:
            decode(data[:end], data[end:])
        assert str(caught.value).isprintable()
    with pytest.raises(ChunkSyntaxError):
        decode(*bytewise(data))


@pytest.mark.parametrize(
    "partial",
    [
        pytest.param(b"x", id="no digit"),
        pytest.param(b"1x", id="a digit and a letter"),
        pytest.param(b" ", id="a blank"),
        pytest.param(b"1;\n", id="a bare LF"),
        pytest.param(b"1\rx", id="a bare CR"),
        pytest.param(b"1\r\nab", id="a chunk that is too long"),
        pytest.param(b"0\r\nx\n", id="a bare LF in the trailer section"),
        pytest.param(b"f" * 16, id="a size that is too long"),
        pytest.param(b"1;" + b"a" * 4096, id="an extension without end"),
        pytest.param(b"0\r\nx: " + b"a" * 70_000, id="a trailer without end"),
    ],
)
def test_what_no_further_byte_can_mend_is_refused_at_once(partial: bytes) -> None:
    """A sender of garbage is answered now, and not after its idle time."""
    with pytest.raises(ChunkSyntaxError):
        decode(partial)


@pytest.mark.parametrize(("length", "is_accepted"), [(4094, True), (4095, False)], ids=["at", "above"])
def test_a_size_line_is_limited_alike_in_any_segmentation(length: int, *, is_accepted: bool) -> None:
    """An extension has no limit of its own in RFC 9112 §7.1.1, so there is one here: 4,096 bytes with the line end."""
    line = b"1;".ljust(length, b"a")
    wire = line + b"\r\nx\r\n" + LAST_CHUNK
    for pieces in ([wire], [line, wire[length:]], [wire[: length + 1], wire[length + 1 :]], bytewise(wire)):
        decoded = decode_or_refuse(*pieces)
        assert decoded == (Decoded(b"x", is_complete=True, trailers=b"", rest=b"") if is_accepted else None)


@pytest.mark.parametrize(("excess", "is_accepted"), [(0, True), (1, False)], ids=["at", "above"])
def test_a_trailer_section_is_limited_alike_in_any_segmentation(excess: int, *, is_accepted: bool) -> None:
    """RFC 9112 §7.1.2: trailers are kept until they end, so they have the limit of heads."""
    section = b"x: ".ljust(65536 + excess, b"a")
    wire = b"0\r\n" + section + b"\r\n\r\n"
    for pieces in ([wire], [wire[:40_000], wire[40_000:]], *([wire[:-back], wire[-back:]] for back in range(1, 6))):
        decoded = decode_or_refuse(*pieces)
        if is_accepted:
            assert decoded == Decoded(b"", is_complete=True, trailers=section + b"\r\n", rest=b"")
        else:
            assert decoded is None


@pytest.mark.timeout(20)
def test_a_body_of_tiny_chunks_takes_time_in_step_with_its_size() -> None:
    """A sender of one-byte chunks must not cost more than its bytes."""
    wire = b"1\r\na\r\n" * 100_000 + LAST_CHUNK
    assert decode(wire).body == b"a" * 100_000


def test_a_large_chunk_is_given_out_as_it_comes() -> None:
    """A chunk may be larger than memory: what is there is passed on, nothing is collected."""
    decoder = ChunkedDecoder()
    assert decoder.feed(b"fffffffffffff\r\nabc") == [b"abc"]
    piece = b"defg"
    assert decoder.feed(piece)[0] is piece
    assert decoder.feed(b"") == []


def test_two_chunks_in_one_read_are_two_pieces() -> None:
    """The pieces are the chunks' data without what is between them."""
    assert ChunkedDecoder().feed(b"1\r\na\r\n2\r\nbc\r\n3\r\nd") == [b"a", b"bc", b"d"]


def test_a_chunk_of_many_pieces_is_written_as_one() -> None:
    """RFC 9112 §7.1: size in hexadecimal, line end, data, line end."""
    assert encode_chunk([b"a" * 10, b"", b"b" * 6]) == b"10\r\naaaaaaaaaabbbbbb\r\n"


def test_the_last_chunk_carries_the_trailers() -> None:
    """RFC 9112 §7.1.2."""
    assert last_chunk(b"") == b"0\r\n\r\n"
    assert last_chunk(b"A: b\r\n") == b"0\r\nA: b\r\n\r\n"


def test_one_call_reads_a_share_of_many_chunks_and_says_that_it_was_much_work() -> None:
    """Others are served before the next share."""
    decoder = ChunkedDecoder()
    wire = b"1\r\na\r\n" * (CHUNKS_PER_CALL + 1)
    assert len(decoder.feed(wire)) == CHUNKS_PER_CALL
    assert (decoder.is_costly, decoder.rest) == (True, b"1\r\na\r\n")
    decoder.is_costly = False
    assert decoder.feed(decoder.unread, decoder.position) == [b"a"]
    assert (decoder.is_costly, decoder.rest) == (False, b"")


def test_a_few_chunks_are_no_work_to_speak_of() -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(b"1\r\na\r\n" * 63 + LAST_CHUNK) == [b"a"] * 63
    assert not decoder.is_costly


def test_a_body_begins_where_it_is_said_to() -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(b"head1\r\na\r\n0\r\n\r\nnext", 4) == [b"a"]
    assert (decoder.is_complete, decoder.rest) == (True, b"next")


@pytest.mark.parametrize("pieces", [1, 2, 7, 100_000], ids=lambda count: f"{count} pieces")
def test_extensions_may_be_longer_than_their_chunks_by_a_bound(pieces: int) -> None:
    """A body of a few bytes is not to cost megabytes of extensions."""
    line = b"1;" + b"x" * 1022 + b"\r\na\r\n"
    good = line * 16 + LAST_CHUNK
    size = -(-len(good) // pieces)
    assert decode(*(good[start : start + size] for start in range(0, len(good), size))).body == b"a" * 16
    bad = line * 17 + LAST_CHUNK
    size = -(-len(bad) // pieces)
    with pytest.raises(ChunkSyntaxError, match="extensions"):
        decode(*(bad[start : start + size] for start in range(0, len(bad), size)))


def test_extensions_no_longer_than_their_chunks_are_not_bounded() -> None:
    """A signature with each chunk of a long upload."""
    wire = b"400;signature=" + b"x" * 1000 + b"\r\n" + b"a" * 1024 + b"\r\n"
    assert len(decode(wire * 300 + LAST_CHUNK).body) == 300 * 1024


@pytest.mark.parametrize("is_split", [False, True], ids=["in one piece", "byte by byte"])
def test_a_trailer_section_has_as_many_lines_as_a_head_may_have(is_split: bool) -> None:
    def pieces(count: int) -> list[bytes]:
        wire = b"0\r\n" + b"a: b\r\n" * count + b"\r\n"
        return [wire[start : start + 1] for start in range(len(wire))] if is_split else [wire]

    assert decode(*pieces(100)).trailers == b"a: b\r\n" * 100
    with pytest.raises(ChunkSyntaxError, match="more than 100 lines"):
        decode(*pieces(101))
