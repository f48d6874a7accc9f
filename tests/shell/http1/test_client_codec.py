"""The client's bytes as requests, in any segmentation, and responses as bytes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.config.models import ListenerLimitSettings
from switch_proxy.core.errors import RequestError
from switch_proxy.core.http.request import RequestParser
from switch_proxy.http1.client_codec import ClientCodec

LIMITS = ListenerLimitSettings(request_line=8192, head=8192, field_lines=10)
STREAM = (
    b"\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n"
    b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    b"\r\n\r\nPUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nA: b\r\n\r\n"
    b"GET /d HTTP/1.1\r\nHost: x\r\n\r\n"
)
REQUESTS = [(b"/a", b"", b""), (b"/b", b"hello", b""), (b"/c", b"abcde", b"A: b\r\n"), (b"/d", b"", b"")]


def new_codec() -> ClientCodec:
    parser = RequestParser(max_request_line=LIMITS.request_line, max_field_lines=LIMITS.field_lines)
    return ClientCodec(parser=parser, limits=LIMITS)


def read_all(pieces: list[bytes]) -> list[tuple[bytes, bytes, bytes]]:
    """Return target, body and trailers of each request."""
    codec = new_codec()
    found: list[tuple[bytes, bytes, bytes]] = []
    target, body, is_open = b"", b"", False
    for piece in pieces:
        codec.unread += piece
        while True:
            if not is_open:
                head = codec.read_head()
                if head is None:
                    break
                target, body, is_open = head.target, b"", True
            if not codec.is_request_complete:
                body += b"".join(codec.read_body())
            if not codec.is_request_complete:
                break
            found.append((target, body, codec.trailers if target == b"/c" else b""))
            is_open = False
    return found


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_the_segmentation_of_the_bytes_changes_no_request(cuts: list[int]) -> None:
    bounds = sorted({0, len(STREAM), *cuts})
    assert read_all([STREAM[begin:end] for begin, end in pairwise(bounds)]) == REQUESTS


def test_byte_by_byte_it_is_the_same() -> None:
    assert read_all([STREAM[at : at + 1] for at in range(len(STREAM))]) == REQUESTS


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"a" * 9000, 414),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 9000, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 8192 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (b"NONSENSE\r\n\r\n", 400),
    ],
)
def test_a_head_that_nothing_can_mend_is_refused(data: bytes, status: int) -> None:
    codec = new_codec()
    codec.unread += data
    with pytest.raises(RequestError) as caught:
        codec.read_head()
    assert caught.value.status == status


def test_a_chunked_body_that_breaks_the_rules_is_refused() -> None:
    """RFC 9112 §7.1."""
    codec = new_codec()
    codec.unread += b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    codec.read_head()
    with pytest.raises(RequestError, match="chunked body"):
        codec.read_body()


def test_what_is_taken_is_read_as_no_request() -> None:
    codec = new_codec()
    codec.unread += b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\x00raw"
    codec.read_head()
    assert codec.take_unread() == b"\x00raw"
    assert (codec.read_head(), codec.unread) == (None, b"")


# Responses.


def response(minor: int, *, length: int, closes: bool = False, date: bytes | None = None) -> tuple[ClientCodec, bytes]:
    codec = new_codec()
    codec.unread += b"GET / HTTP/1.%d\r\nHost: x\r\n\r\n" % minor
    codec.read_head()
    lines = b"HTTP/1.1 200 OK\r\nA: b\r\n"
    return codec, codec.encode_response(lines, length=length, date=date, closes=closes, body=[b"hi"], trailers=None)


@pytest.mark.parametrize(
    ("minor", "length", "closes", "date", "added", "body"),
    [
        pytest.param(1, 5, False, None, b"", b"hi", id="nothing is added"),
        pytest.param(1, 5, True, None, b"Connection: close\r\n", b"hi", id="last"),
        pytest.param(1, 5, False, b"now", b"Date: now\r\n", b"hi", id="undated"),
        pytest.param(0, 5, False, None, b"Connection: keep-alive\r\n", b"hi", id="HTTP/1.0"),
        pytest.param(1, -1, False, None, b"Transfer-Encoding: chunked\r\n", b"2\r\nhi\r\n", id="of unknown length"),
        pytest.param(0, -1, True, None, b"Connection: close\r\n", b"hi", id="of unknown length for HTTP/1.0"),
    ],
)
def test_a_response_gets_what_its_framing_and_its_client_need(
    minor: int, length: int, closes: bool, date: bytes | None, added: bytes, body: bytes
) -> None:
    _, data = response(minor, length=length, closes=closes, date=date)
    assert data == b"HTTP/1.1 200 OK\r\nA: b\r\n" + added + b"\r\n" + body


@pytest.mark.parametrize(
    ("minor", "length", "is_delimited"), [(1, 5, False), (1, -1, False), (0, 5, False), (0, -1, True)]
)
def test_only_a_body_of_unknown_length_for_http_1_0_ends_with_the_connection(
    minor: int, length: int, *, is_delimited: bool
) -> None:
    """RFC 9112 §6.3."""
    codec, _ = response(minor, length=length)
    assert codec.is_close_delimited is is_delimited


@pytest.mark.parametrize(
    ("pieces", "trailers", "data"),
    [
        ([], None, b""),
        ([b"ab", b"c"], None, b"3\r\nabc\r\n"),
        ([], b"", b"0\r\n\r\n"),
        ([b"a"], b"T: u\r\n", b"1\r\na\r\n0\r\nT: u\r\n\r\n"),
    ],
)
def test_more_of_a_chunked_body_is_one_chunk_and_its_end(
    pieces: list[bytes], trailers: bytes | None, data: bytes
) -> None:
    codec, _ = response(1, length=-1)
    assert codec.encode_body(pieces, trailers=trailers) == data


def test_more_of_a_body_of_known_length_passes_as_it_is_and_trailers_do_not() -> None:
    codec, _ = response(1, length=5)
    assert codec.encode_body([b"l", b"lo"], trailers=b"T: u\r\n") == b"llo"
