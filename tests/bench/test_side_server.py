from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from side_server import SideServer, StreamWheel

if TYPE_CHECKING:
    import asyncio

UPLOAD = b"POST /upload HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t\r\nContent-Length: 7\r\n\r\n1234567"
TOKEN = b"POST /oauth/token HTTP/1.1\r\nHost: h\r\ncontent-length: 3\r\n\r\na=b"


class RecordingTransport:
    """Keeps the written bytes."""

    def __init__(self) -> None:
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True


def answers_to(*pieces: bytes) -> RecordingTransport:
    transport, buffer = RecordingTransport(), memoryview(bytearray(1 << 16))
    server = SideServer(token="t", buffer=buffer, wheel=StreamWheel(interval=1.0))
    server.connection_made(cast("asyncio.Transport", transport))
    for piece in pieces:
        buffer[: len(piece)] = piece
        server.buffer_updated(len(piece))
    return transport


@given(st.lists(st.integers(1, 2 * len(UPLOAD)), max_size=8))
def test_the_answers_do_not_depend_on_how_the_bytes_arrive(cuts: list[int]) -> None:
    both = UPLOAD + TOKEN + UPLOAD
    edges = sorted({0, *cuts, len(both)})
    pieces = [both[start:end] for start, end in pairwise(edges)]
    assert answers_to(*pieces).written == answers_to(both).written


def test_an_upload_is_answered_after_its_last_byte() -> None:
    assert answers_to(UPLOAD[:-1]).written == b""
    assert answers_to(UPLOAD[:-1], UPLOAD[-1:]).written.endswith(b"\r\n\r\nstored 7")


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        pytest.param(UPLOAD.replace(b"Bearer t", b"Bearer u"), b"401", id="another token"),
        pytest.param(UPLOAD.replace(b"Authorization", b"X"), b"401", id="no token"),
        pytest.param(UPLOAD.replace(b"/upload", b"/elsewhere"), b"404", id="another path"),
        pytest.param(UPLOAD.replace(b"Content-Length: 7", b"Transfer-Encoding: chunked"), b"411", id="no length"),
    ],
)
def test_what_a_proxy_must_not_send_is_refused(request_head: bytes, status: bytes) -> None:
    """A system that works wrongly fails its turn instead of being measured."""
    assert answers_to(request_head).written.startswith(b"HTTP/1.1 " + status)
