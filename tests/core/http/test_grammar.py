"""The character rules, byte by byte, against the sets that the RFCs spell out."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.http.grammar import (
    CHUNK_LINE,
    CONTENT_LENGTH,
    FIELD_LINE,
    HOST,
    HTTP_VERSION,
    REQUEST_TARGET,
    STATUS_LINE,
    TOKEN,
    has_bare_line_feed,
)

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

ALPHANUMERIC = (string.ascii_letters + string.digits).encode()
TCHAR = b"!#$%&'*+-.^_`|~" + ALPHANUMERIC
FIELD_CONTENT = b"\t " + bytes(range(0x21, 0x7F)) + bytes(range(0x80, 0x100))
TARGET = bytes(set(range(0x21, 0x7F)) - {ord("#")}) + bytes(range(0x80, 0x100))


def accepted_bytes(accepts: Callable[[bytes], object]) -> bytes:
    return bytes(byte for byte in range(256) if accepts(bytes([byte])))


def test_a_token_is_made_of_tchar_only() -> None:
    """RFC 9110 §5.6.2: tchar, at least one."""
    assert set(accepted_bytes(TOKEN.fullmatch)) == set(TCHAR)
    assert TOKEN.fullmatch(TCHAR)
    assert not TOKEN.fullmatch(b"")


def test_a_field_name_is_made_of_tchar_only() -> None:
    """RFC 9110 §5.1: a field name is a token."""
    assert set(accepted_bytes(lambda byte: FIELD_LINE.fullmatch(b"a" + byte + b"b:"))) == set(TCHAR) | set(b":")


def test_a_field_value_holds_visible_characters_blanks_and_bytes_above_ascii() -> None:
    """RFC 9110 §5.5: field-vchar, SP, HTAB, obs-text; no other control character."""
    assert set(accepted_bytes(lambda byte: FIELD_LINE.fullmatch(b"a: b" + byte + b"c"))) == set(FIELD_CONTENT)


@pytest.mark.parametrize("place", [b"a:%b", b"a:%bx", b"a:x%b"], ids=["alone", "before", "after"])
def test_a_control_character_at_the_edge_of_a_value_is_no_white_space(place: bytes) -> None:
    """RFC 9112 §5.1: OWS is SP and HTAB; VT, FF, NEL are stripped by some readers and must not get this far."""
    assert set(accepted_bytes(lambda byte: FIELD_LINE.fullmatch(place % byte))) == set(FIELD_CONTENT)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        pytest.param(b"a:b", b"a", b"b", id="no white space"),
        pytest.param(b"a: b", b"a", b"b", id="one space"),
        pytest.param(b"A:\t b\t ", b"A", b"b", id="white space on both sides"),
        pytest.param(b"a:", b"a", b"", id="empty value"),
        pytest.param(b"a: \t ", b"a", b"", id="nothing but white space"),
        pytest.param(b"a: b  c ", b"a", b"b  c", id="white space within"),
        pytest.param(b"a::b", b"a", b":b", id="a second colon"),
        pytest.param(b"a: \xff\x80", b"a", b"\xff\x80", id="bytes above ASCII"),
    ],
)
def test_a_field_line_gives_its_name_and_its_value_without_outer_white_space(
    line: bytes, name: bytes, value: bytes
) -> None:
    """RFC 9112 §5: field-name ":" OWS field-value OWS."""
    match = FIELD_LINE.fullmatch(line)
    assert match is not None
    assert (match[1], match[2].strip(b" \t")) == (name, value)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"a :b", id="space before the colon"),
        pytest.param(b"a\t:b", id="tab before the colon"),
        pytest.param(b" a:b", id="space before the name"),
        pytest.param(b":b", id="no name"),
        pytest.param(b"a", id="no colon"),
        pytest.param(b"", id="empty line"),
        pytest.param(b"a:b\r", id="bare CR at the end"),
        pytest.param(b"a:b\n", id="bare LF at the end"),
        pytest.param(b"a:b\r\n c", id="folding"),
        pytest.param(b"a(b:c", id="delimiter in the name"),
        pytest.param("ä:b".encode(), id="name beyond ASCII"),
    ],
)
def test_what_is_no_field_line_does_not_match(line: bytes) -> None:
    """RFC 9112 §5, §5.1, §5.2, §2.2."""
    assert not FIELD_LINE.fullmatch(line)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"a:" + b" " * 65536 + b"\x01", id="blanks before a control character"),
        pytest.param(b"a:x" + b" \t" * 32768 + b"y", id="blanks within a value"),
        pytest.param(b"a:x" + b" " * 65536 + b"\x01", id="blanks between a value and a control character"),
        pytest.param(b"a:" + b" x" * 32768 + b"\x01", id="words up to a control character"),
    ],
)
def test_a_line_of_64_kib_is_judged_without_backtracking(line: bytes) -> None:
    """A head is read on the one thread that serves everybody: judging a line takes time in step with its length."""
    FIELD_LINE.fullmatch(line)


def test_a_request_target_holds_neither_blanks_nor_controls_nor_a_fragment() -> None:
    """RFC 9112 §3.2; bytes above 0x7F pass, as they do in nginx."""
    assert set(accepted_bytes(REQUEST_TARGET.fullmatch)) == set(TARGET)
    assert not REQUEST_TARGET.fullmatch(b"")


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        pytest.param(HTTP_VERSION, b"HTTP/1.1", id="version 1.1"),
        pytest.param(HTTP_VERSION, b"HTTP/2.0", id="version 2.0"),
        pytest.param(STATUS_LINE, b"HTTP/1.1 200 OK", id="status line"),
        pytest.param(STATUS_LINE, b"HTTP/1.0 404 Not  Found", id="reason with two spaces"),
        pytest.param(STATUS_LINE, b"HTTP/1.1 200 ", id="empty reason"),
        pytest.param(STATUS_LINE, b"HTTP/1.1 200", id="no reason and no space"),
        pytest.param(STATUS_LINE, b"HTTP/1.1 200 \xe9", id="reason beyond ASCII"),
        pytest.param(STATUS_LINE, b"HTTP/1.1 999 x", id="the highest status"),
        pytest.param(CONTENT_LENGTH, b"0", id="no bytes"),
        pytest.param(CONTENT_LENGTH, b"007", id="leading zeros"),
        pytest.param(CONTENT_LENGTH, b"9" * 18, id="the longest length"),
        pytest.param(HOST, b"", id="empty host"),
        pytest.param(HOST, b"example.com", id="host name"),
        pytest.param(HOST, b"127.0.0.1:80", id="IPv4 and port"),
        pytest.param(HOST, b"[::1]:8080", id="IPv6 and port"),
        pytest.param(HOST, b"[fe80::1%25eth0]", id="IPv6 with a zone"),
        pytest.param(HOST, b"a_b", id="host with an underscore"),
        pytest.param(HOST, b"localhost:", id="empty port"),
        pytest.param(CHUNK_LINE, b"0", id="last chunk"),
        pytest.param(CHUNK_LINE, b"fF", id="size in both cases"),
        pytest.param(CHUNK_LINE, b"000a", id="size with zeros"),
        pytest.param(CHUNK_LINE, b"a;b=c", id="extension"),
        pytest.param(CHUNK_LINE, b"a \t;b", id="blanks before an extension"),
        pytest.param(CHUNK_LINE, b'a;b="\xe9;"', id="quoted extension"),
        pytest.param(CHUNK_LINE, b"f" * 15, id="the longest size"),
    ],
)
def test_what_is_well_formed_matches(pattern: re.Pattern[bytes], text: bytes) -> None:
    """RFC 9112 §2.3, §4, §7.1; RFC 9110 §7.2, §8.6."""
    assert pattern.fullmatch(text)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        pytest.param(HTTP_VERSION, b"http/1.1", id="version in lower case"),
        pytest.param(HTTP_VERSION, b"HTTP/1", id="version without minor"),
        pytest.param(HTTP_VERSION, b"HTTP/1.10", id="version with two digits"),
        pytest.param(HTTP_VERSION, b"HTTP/1.1\r", id="version and a bare CR"),
        pytest.param(STATUS_LINE, b"HTTP/2.0 200 OK", id="status line of HTTP/2"),
        pytest.param(STATUS_LINE, b"HTTP/1.1  200 OK", id="two spaces before the status"),
        pytest.param(STATUS_LINE, b"HTTP/1.1\t200 OK", id="tab before the status"),
        pytest.param(STATUS_LINE, b"HTTP/1.1 099 x", id="status below 100"),
        pytest.param(STATUS_LINE, b"HTTP/1.1 20 OK", id="status of two digits"),
        pytest.param(STATUS_LINE, b"HTTP/1.1 2000 OK", id="status of four digits"),
        pytest.param(STATUS_LINE, b"HTTP/1.1 200OK", id="no space before the reason"),
        pytest.param(STATUS_LINE, b"HTTP/1.1 200 O\rK", id="bare CR in the reason"),
        pytest.param(STATUS_LINE, b"HTTP/1.1 200 O\x00K", id="NUL in the reason"),
        pytest.param(STATUS_LINE, b" HTTP/1.1 200 OK", id="space before the status line"),
        pytest.param(CONTENT_LENGTH, b"", id="no length"),
        pytest.param(CONTENT_LENGTH, b"+1", id="length with a plus"),
        pytest.param(CONTENT_LENGTH, b"-1", id="length with a minus"),
        pytest.param(CONTENT_LENGTH, b"1_0", id="length with an underscore"),
        pytest.param(CONTENT_LENGTH, b"0x10", id="length in hexadecimal"),
        pytest.param(CONTENT_LENGTH, b"1 0", id="length with a space"),
        pytest.param(CONTENT_LENGTH, b"1,1", id="list of lengths"),
        pytest.param(CONTENT_LENGTH, b"\xd9\xa1", id="length in other digits"),
        pytest.param(CONTENT_LENGTH, b"9" * 19, id="length beyond 64 bits"),
        pytest.param(HOST, b"a b", id="host with a space"),
        pytest.param(HOST, b"a/b", id="host with a slash"),
        pytest.param(HOST, b"a@b", id="host with user information"),
        pytest.param(HOST, b"a,b", id="two hosts in one line"),
        pytest.param(HOST, b"a\xe9", id="host beyond ASCII"),
        pytest.param(HOST, b"a:80:80", id="two ports"),
        pytest.param(HOST, b"a:x", id="port that is a word"),
        pytest.param(HOST, b"[::1", id="open bracket"),
        pytest.param(HOST, b"::1", id="IPv6 without brackets"),
        pytest.param(CHUNK_LINE, b"", id="no size"),
        pytest.param(CHUNK_LINE, b"0x1", id="size with a prefix"),
        pytest.param(CHUNK_LINE, b"+1", id="size with a plus"),
        pytest.param(CHUNK_LINE, b"-1", id="size with a minus"),
        pytest.param(CHUNK_LINE, b"1_0", id="size with an underscore"),
        pytest.param(CHUNK_LINE, b" 1", id="space before the size"),
        pytest.param(CHUNK_LINE, b"1 ", id="space after the size"),
        pytest.param(CHUNK_LINE, b"1 2", id="two sizes"),
        pytest.param(CHUNK_LINE, b"1;a\rb", id="bare CR in an extension"),
        pytest.param(CHUNK_LINE, b"1;a\nb", id="bare LF in an extension"),
        pytest.param(CHUNK_LINE, b"1\n", id="bare LF after the size"),
        pytest.param(CHUNK_LINE, b"g", id="size that is no number"),
        pytest.param(CHUNK_LINE, b"f" * 16, id="size beyond 64 bits"),
    ],
)
def test_what_two_readers_could_take_differently_does_not_match(pattern: re.Pattern[bytes], text: bytes) -> None:
    """RFC 9112 §2.3, §4, §7.1, §11.2; RFC 9110 §7.2, §8.6."""
    assert not pattern.fullmatch(text)


@pytest.mark.parametrize(
    ("text", "is_bare"),
    [
        pytest.param(b"\n", True, id="first byte"),
        pytest.param(b"a\nb", True, id="within"),
        pytest.param(b"a\r\n\n", True, id="after a line end"),
        pytest.param(b"a\r\nb\r\n\r\n", False, id="line ends"),
        pytest.param(b"a\rb", False, id="bare CR alone"),
        pytest.param(b"", False, id="nothing"),
    ],
)
def test_a_line_feed_is_bare_where_no_carriage_return_precedes(text: bytes, *, is_bare: bool) -> None:
    """RFC 9112 §2.2."""
    assert has_bare_line_feed(text) is is_bare


@given(pieces=st.lists(st.text("\r\na", max_size=4)))
def test_a_bare_line_feed_is_found_in_any_segmentation(pieces: list[str]) -> None:
    """RFC 9112 §2.2; what was looked at before is not looked at again."""
    whole = "".join(pieces)
    seen = 0
    found = False
    for end in (len("".join(pieces[: count + 1])) for count in range(len(pieces))):
        found = found or has_bare_line_feed(whole[:end].encode(), seen=seen)
        seen = end
    assert found is ("\n" in whole.replace("\r\n", ""))
