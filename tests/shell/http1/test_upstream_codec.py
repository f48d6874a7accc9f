"""Requests as bytes, and the upstream's bytes as responses, in any segmentation."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.errors import ResponseError
from switch_proxy.core.http.request import RequestHead, RequestParser
from switch_proxy.core.http.response import ResponseParser
from switch_proxy.http1.upstream_codec import UpstreamCodec

KNOWN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello"


def request(method: bytes = b"GET", *lines: bytes) -> RequestHead:
    parser = RequestParser(max_request_line=8192, max_field_lines=10)
    return parser.parse(b"\r\n".join([method + b" /a HTTP/1.1", b"Host: x", *lines]))


def begun(method: bytes = b"GET", *lines: bytes) -> UpstreamCodec:
    codec = UpstreamCodec(parser=ResponseParser(max_field_lines=10), max_head=4096)
    codec.encode_request(request(method, *lines), b"/a", [])
    return codec


def read(codec: UpstreamCodec, pieces: list[bytes]) -> tuple[list[int], bytes]:
    """Return the statuses and the body."""
    statuses, body = [], b""
    for piece in pieces:
        codec.unread += piece
        while codec.head is None and (head := codec.read_head()) is not None:
            statuses.append(head.status)
        if codec.head is not None:
            body += b"".join(codec.read_body())
    return statuses, body


# The request.


@pytest.mark.parametrize(
    ("lines", "body", "trailers", "end"),
    [
        pytest.param([], [], b"", b"", id="no body"),
        pytest.param([b"Content-Length: 5"], [b"he", b"l"], None, b"hel", id="part of a body"),
        pytest.param([b"Transfer-Encoding: chunked"], [], None, b"", id="no chunk yet"),
        pytest.param([b"Transfer-Encoding: chunked"], [b"he", b"l"], None, b"3\r\nhel\r\n", id="one chunk"),
        pytest.param(
            [b"Transfer-Encoding: chunked"], [b"a"], b"T: u\r\n", b"1\r\na\r\n0\r\nT: u\r\n\r\n", id="trailers"
        ),
    ],
)
def test_a_request_is_sent_in_one_piece_with_what_there_is_of_its_body(
    lines: list[bytes], body: list[bytes], trailers: bytes | None, end: bytes
) -> None:
    codec = UpstreamCodec(parser=ResponseParser(max_field_lines=10), max_head=4096)
    sent = codec.encode_request(
        request(b"POST", *lines), b"/base/a", [b"Host: up\r\n", b"", b"B: c\r\n"], body, trailers
    )
    assert sent == b"POST /base/a HTTP/1.1\r\nHost: up\r\nB: c\r\n\r\n" + end


# The response.


@pytest.mark.parametrize(
    ("data", "body", "trailers", "is_complete"),
    [
        (KNOWN, b"hello", b"", True),
        (CHUNKED, b"abcde", b"A: b\r\n", True),
        (UNTIL_CLOSE, b"hello", b"", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", b"", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"", b"", True),
    ],
    ids=["known", "chunked", "until close", "no content", "not modified"],
)
@given(data_=st.data())
def test_the_segmentation_of_the_bytes_changes_no_response(
    data: bytes, body: bytes, trailers: bytes, *, is_complete: bool, data_: st.DataObject
) -> None:
    stream = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + data
    cuts = data_.draw(st.lists(st.integers(0, len(stream)), max_size=10))
    codec = begun()
    pieces = [stream[begin:end] for begin, end in pairwise(sorted({0, len(stream), *cuts}))]
    statuses, found = read(codec, pieces)
    assert (statuses[:2], found, codec.is_complete) == ([103, 100], body, is_complete)
    assert codec.trailers == trailers


def test_a_response_to_head_has_no_body_whatever_it_says() -> None:
    """RFC 9112 §6.3."""
    codec = begun(b"HEAD")
    assert read(codec, [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]) == ([200], b"")
    assert (codec.is_complete, codec.is_reusable) == (True, True)


@pytest.mark.parametrize(
    ("data", "is_reusable"),
    [
        pytest.param(KNOWN, True, id="known length"),
        pytest.param(CHUNKED, True, id="chunked"),
        pytest.param(KNOWN + b"H", False, id="more than was announced"),
        pytest.param(CHUNKED + b"H", False, id="more than the last chunk"),
        pytest.param(KNOWN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1), False, id="said to be the last"),
        pytest.param(KNOWN.replace(b"HTTP/1.1", b"HTTP/1.0"), False, id="HTTP/1.0"),
    ],
)
def test_a_connection_is_reusable_if_the_response_leaves_it_clean(data: bytes, *, is_reusable: bool) -> None:
    """RFC 9112 §9.3."""
    codec = begun()
    read(codec, [data])
    assert (codec.is_complete, codec.is_reusable) == (True, is_reusable)


@pytest.mark.parametrize(
    ("data", "completes"),
    [(UNTIL_CLOSE, True), (KNOWN[:-1], False), (CHUNKED[:-1], False), (b"HTTP/1.1 200", False), (b"", False)],
)
def test_the_end_of_the_stream_completes_only_a_body_that_lasts_until_then(data: bytes, *, completes: bool) -> None:
    """RFC 9112 §6.3, §8; such a connection is never used again."""
    codec = begun()
    read(codec, [data])
    assert codec.receive_end() is completes
    assert not codec.is_reusable


def test_a_codec_reads_the_response_of_each_of_its_requests() -> None:
    codec = begun()
    assert read(codec, [CHUNKED]) == ([200], b"abcde")
    codec.encode_request(request(), b"/b", [])
    assert (codec.head, codec.has_received) == (None, False)
    assert read(codec, [KNOWN[:50], KNOWN[50:]]) == ([200], b"hello")
    assert codec.is_complete


@pytest.mark.parametrize(
    ("data", "has_received", "has_partial_head"),
    [(b"", False, False), (b"HTTP", True, True), (b"HTTP/1.1 103 Early Hints\r\n\r\n", True, False)],
)
def test_it_knows_whether_anything_has_come_back(data: bytes, *, has_received: bool, has_partial_head: bool) -> None:
    codec = begun()
    read(codec, [data] if data else [])
    assert (codec.has_received, codec.has_partial_head) == (has_received, has_partial_head)


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 200 OK\r\nA: " + b"a" * 5000, b"HTTP/1.1 200 OK\n\n", b"ICY 200 OK\r\n\r\n"]
)
def test_a_head_that_nothing_can_mend_is_refused(data: bytes) -> None:
    with pytest.raises(ResponseError):
        read(begun(), [data])


def test_a_chunked_body_that_breaks_the_rules_is_refused() -> None:
    with pytest.raises(ResponseError, match="chunked body"):
        read(begun(), [CHUNKED.replace(b"3\r\n", b"x\r\n", 1)])
