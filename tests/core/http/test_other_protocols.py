"""What is sent by peers that speak something else than HTTP/1 is named, in any segmentation and as soon as it is certain."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.errors import RequestError, ResponseError
from switch_proxy.core.http.other_protocols import (
    LONGEST_OPENING,
    find_other_protocol_of_client,
    find_other_protocol_of_upstream,
)
from switch_proxy.core.http.request import RequestParser, find_head_fault
from switch_proxy.core.http.response import ResponseParser, find_response_head_fault

TLS_1_3: Final = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)) + b"\r\n\r\n"
SETTINGS: Final = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"
GOAWAY: Final = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0d"

CLIENTS: Final = {
    "TLS 1.3": (TLS_1_3, 400, "TLS", 2),
    "TLS 1.0": (b"\x16\x03\x00\x00\x05", 400, "TLS", 2),
    "a TLS alert": (b"\x15\x03\x03\x00\x02\x02\x46", 400, "TLS", 2),
    "HTTP/2 with prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS, 505, "HTTP/2", 12),
    "PROXY, IPv4": (b"PROXY TCP4 10.0.0.1 10.0.0.2 5000 80\r\nGET / HTTP/1.1\r\n", 400, "PROXY protocol", 11),
    "PROXY, IPv6": (b"PROXY TCP6 ::1 ::1 5000 80\r\n", 400, "PROXY protocol", 11),
    "PROXY, a health check": (b"PROXY UNKNOWN\r\n", 400, "PROXY protocol", 14),
    "PROXY, binary": (b"\x00\r\nQUIT\n\x21\x11\x00\x0cGET / HTTP/1.1\r\n\r\n", 400, "PROXY protocol", 8),
    "SOCKS 5": (b"\x05\x01\x00", 400, "SOCKS", 1),
    "SOCKS 4": (b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", 400, "SOCKS", 1),
    "PostgreSQL": (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", 400, "0x00", 2),
    "SSL 2": (b"\x80\x2e\x01", 400, "0x80", 1),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", 400, "request line", 21),
    "SMTP": (b"EHLO client.example\r\n", 400, "request line", 21),
}

UPSTREAMS: Final = {
    "HTTP/2, settings": (SETTINGS, "HTTP/2", 9),
    "HTTP/2, goodbye": (GOAWAY, "HTTP/2", 9),
    "a TLS alert": (b"\x15\x03\x03\x00\x02\x02\x46", "https://", 2),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", "status line", 1),
    "SMTP": (b"220 mail.example ESMTP\r\n", "status line", 1),
    "other frames": (b"\x00\x00\x06\x01\x00\x00\x00\x00\x01", "status line", 9),
    "no frame": (b"\x01\x00", "status line", 1),
    "HTTP/2 as text": (b"HTTP/2 200 OK\r\n", "status line", 6),
    "half of a TLS record's type": (b"\x16\x04", "status line", 2),
}


@pytest.mark.parametrize(("sent", "status", "name", "decided_at"), CLIENTS.values(), ids=CLIENTS.keys())
def test_a_client_is_told_what_it_speaks(sent: bytes, status: int, name: str, decided_at: int) -> None:
    """However the bytes come, and without waiting for more than are needed."""
    faults = [find_head_fault(sent[:end], max_request_line=8192, max_head=65536) for end in range(len(sent) + 1)]
    assert faults[:decided_at] == [None] * decided_at
    assert {(fault and fault.status) for fault in faults[decided_at:]} == {status}
    assert all(fault is not None and name in fault.detail for fault in faults[decided_at:])


@pytest.mark.parametrize(("sent", "name", "decided_at"), UPSTREAMS.values(), ids=UPSTREAMS.keys())
def test_an_upstream_is_called_what_it_speaks(sent: bytes, name: str, decided_at: int) -> None:
    faults = [find_response_head_fault(sent[:end], max_head=65536) for end in range(len(sent) + 1)]
    assert faults[:decided_at] == [None] * decided_at
    assert all(fault is not None and name in fault.detail for fault in faults[decided_at:])


def test_an_upstreams_frame_is_named_where_the_bytes_have_the_end_of_a_head_in_them() -> None:
    with pytest.raises(ResponseError, match="HTTP/2"):
        ResponseParser(max_field_lines=128).parse(SETTINGS)


@pytest.mark.parametrize(
    "line",
    [b"PROXY /a HTTP/1.1", b"PRI /a HTTP/1.1", b"PROXY * HTTP/1.1", b"PROXYX / HTTP/1.1", b"\rGET", b"\r\n"],
    ids=["PROXY", "PRI", "PROXY of all", "PROXYX", "a lone CR", "an empty line"],
)
def test_methods_of_such_names_and_line_ends_are_none_of_them(line: bytes) -> None:
    assert [find_other_protocol_of_client(line[:end]) for end in range(len(line) + 1)] == [None] * (len(line) + 1)


@given(st.binary(max_size=40))
def test_what_is_certain_stays_so_whatever_follows(opening: bytes) -> None:
    """A verdict on some bytes is the verdict on more of them, so that no segmentation changes the response."""
    for find in (find_other_protocol_of_client, find_other_protocol_of_upstream):
        verdicts = [find(opening[:end]) for end in range(len(opening) + 1)]
        details = [verdict.detail for verdict in verdicts if verdict is not None]
        first = next((at for at, verdict in enumerate(verdicts) if verdict is not None), len(verdicts))
        assert len(details) == len(verdicts) - first
        assert len(set(details)) <= 1
        assert first <= LONGEST_OPENING or not details


@given(st.binary(max_size=40))
def test_no_good_head_is_another_protocol(opening: bytes) -> None:
    try:
        RequestParser(max_request_line=8192, max_field_lines=128).parse(opening + b" / HTTP/1.1\r\nHost: a")
    except RequestError:
        return
    assert find_other_protocol_of_client(opening + b" / HTTP/1.1\r\nHost: a\r\n\r\n") is None


def test_what_was_judged_before_is_not_judged_again() -> None:
    """A head is long, and comes in pieces."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain"
    assert find_response_head_fault(head, max_head=65536, seen=LONGEST_OPENING) is None
    assert find_head_fault(b"GET / HTTP/1.1\r\nHost: a", max_request_line=8192, max_head=65536, seen=16) is None
