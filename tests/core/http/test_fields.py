"""Field sections: lines in order, refused with a reason a person understands, remembered without a change of answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.http.fields import (
    FieldLine,
    FieldSyntaxError,
    LineMemory,
    list_members,
    parse_field_lines,
    trailer_lines,
)
from switch_proxy.core.http.header_rules import HOP_BY_HOP, NOT_IN_TRAILERS

SIGNIFICANT = frozenset({b"host", b"connection"})

SECTIONS = st.lists(
    st.sampled_from(
        [
            b"Host: a",
            b"host:b",
            b"HOST:\ta ",
            b"Connection: x",
            b"Accept: */*",
            b"X-Trace: 1",
            b"x-trace: 2",
            b"X-Trace:",
            b"X:" + b"y" * 600,
            b"Host:" + b"z" * 600,
        ]
    ),
    max_size=12,
).map(b"\r\n".join)


def new_memory() -> LineMemory:
    return LineMemory(significant=SIGNIFICANT, noted=b"x-trace")


def test_lines_keep_their_order_their_duplicates_and_their_bytes() -> None:
    """RFC 9110 §5.3: the order of lines of one name has a meaning, so none is moved, joined or dropped."""
    assert parse_field_lines(b"A: 1\r\nb:2\r\na:\t3 ") == [
        FieldLine(b"a", b"1", b"A: 1"),
        FieldLine(b"b", b"2", b"b:2"),
        FieldLine(b"a", b"3", b"a:\t3 "),
    ]


def test_an_empty_section_has_no_lines() -> None:
    """RFC 9112 §2.1: a head may have no field line at all."""
    assert parse_field_lines(b"") == []


MALFORMED = [
    pytest.param(b" secret", r"folded .*§5\.2", id="folded with a space"),
    pytest.param(b"\tsecret: x", r"folded .*§5\.2", id="folded with a tab"),
    pytest.param(b"secret", r"no colon", id="no colon"),
    pytest.param(b"", r"no colon", id="empty line"),
    pytest.param(b"secret : x", r"white space .* before|white space stands between", id="space before the colon"),
    pytest.param(b"secret\t: x", r"white space stands between", id="tab before the colon"),
    pytest.param(b"a: secret\rx", r"bare CR or LF .*§2\.2", id="bare CR in the value"),
    pytest.param(b"a: secret\nx", r"bare CR or LF .*§2\.2", id="bare LF in the value"),
    pytest.param(b"a: secret\r", r"bare CR or LF .*§2\.2", id="bare CR at the end"),
    pytest.param(b"se(cret: x", r"name has a character", id="delimiter in the name"),
    pytest.param(b"s\xe9cret: x", r"name has a character", id="name beyond ASCII"),
    pytest.param(b": secret", r"name", id="no name"),
    pytest.param(b"X-Key: secret\x00", r"X-Key has a control character .*§5\.5", id="NUL in the value"),
    pytest.param(b"X-Key: sec\x7fret", r"X-Key has a control character .*§5\.5", id="DEL in the value"),
]


@pytest.mark.parametrize(("line", "reason"), MALFORMED)
@pytest.mark.parametrize("before", [b"", b"Host: a\r\n"], ids=["first", "second"])
def test_a_malformed_line_is_refused_with_its_rule(before: bytes, line: bytes, reason: str) -> None:
    """RFC 9112 §5: nothing is repaired; the text says which rule was broken, in ASCII and in one line."""
    with pytest.raises(FieldSyntaxError, match=reason) as caught:
        parse_field_lines(before + line + b"\r\nAccept: x")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("line", "reason"), MALFORMED)
def test_a_refusal_never_quotes_the_line(line: bytes, reason: str) -> None:
    """A value may be a secret, and so may a name that is none; both end in logs and answers."""
    with pytest.raises(FieldSyntaxError) as caught:
        parse_field_lines(b"Host: a\r\n" + line)
    assert "secret" not in str(caught.value)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(("line", "reason"), MALFORMED)
def test_a_memory_refuses_a_malformed_line_each_time_it_comes(line: bytes, reason: str) -> None:
    """What was found out about a line is remembered; that it is malformed must not be forgotten by it."""
    memory = new_memory()
    for _ in range(2):
        with pytest.raises(FieldSyntaxError, match=reason):
            memory.split(b"Host: a\r\n" + line)


def test_a_split_picks_out_the_significant_lines_and_the_first_noted_one() -> None:
    """The names that mean something are found in any spelling; the others are only passed."""
    split = new_memory().split(b"HOST: a\r\nAccept: x\r\nX-TRACE: 1\r\nx-trace: 2\r\nconnection:x")
    assert split.lines == [b"HOST: a", b"Accept: x", b"X-TRACE: 1", b"x-trace: 2", b"connection:x"]
    assert split.significant == [b"HOST: a", b"connection:x"]
    assert split.noted == b"X-TRACE: 1"


def test_a_split_of_an_empty_section_is_empty() -> None:
    """RFC 9112 §2.1."""
    memory = new_memory()
    split = memory.split(b"")
    assert (split.lines, split.significant, split.noted) == ([], [], None)
    assert memory.without(split, frozenset({b"host"})) == b""


@pytest.mark.parametrize(
    ("dropped", "kept"),
    [
        pytest.param(set(), b"Host: a\r\nAccept: x\r\nhost: b\r\nX-Trace: 1\r\nHost: a\r\n", id="nothing"),
        pytest.param({b"host"}, b"Accept: x\r\nX-Trace: 1\r\n", id="a significant name"),
        pytest.param({b"accept"}, b"Host: a\r\nhost: b\r\nX-Trace: 1\r\nHost: a\r\n", id="another name"),
        pytest.param({b"host", b"x-trace"}, b"Accept: x\r\n", id="a significant name and the noted one"),
        pytest.param(
            {b"connection"}, b"Host: a\r\nAccept: x\r\nhost: b\r\nX-Trace: 1\r\nHost: a\r\n", id="an absent name"
        ),
        pytest.param({b"host", b"accept", b"x-trace"}, b"", id="everything"),
    ],
)
def test_lines_are_left_out_by_name_in_any_spelling(dropped: set[bytes], kept: bytes) -> None:
    """What stays keeps its order and its bytes."""
    memory = new_memory()
    split = memory.split(b"Host: a\r\nAccept: x\r\nhost: b\r\nX-Trace: 1\r\nHost: a")
    assert memory.without(split, frozenset(dropped)) == kept


def test_leaving_lines_out_leaves_the_split_as_it_was() -> None:
    """What was found out is shared between messages, so it must not change."""
    memory = new_memory()
    split = memory.split(b"Host: a\r\nAccept: x")
    memory.without(split, frozenset({b"host"}))
    memory.without(split, frozenset())
    assert split.lines == [b"Host: a", b"Accept: x"]


@given(sections=st.lists(SECTIONS, min_size=1, max_size=6))
def test_a_memory_in_use_splits_as_a_new_one_does(sections: list[bytes]) -> None:
    """A line means the same whether it is met for the first time or the hundredth."""
    used = new_memory()
    for section in [*sections, *sections]:
        assert used.split(section) == new_memory().split(section)


@given(section=SECTIONS, dropped=st.frozensets(st.sampled_from([b"host", b"connection", b"accept", b"x-trace", b"x"])))
def test_leaving_out_agrees_with_the_lines_parsed_one_by_one(section: bytes, dropped: frozenset[bytes]) -> None:
    """The quick ways through the memory give what the plain way gives."""
    memory = new_memory()
    expected = b"".join(line.raw + b"\r\n" for line in parse_field_lines(section) if line.name not in dropped)
    assert memory.without(memory.split(section), dropped) == expected


@pytest.mark.parametrize("length", [1, 511, 512, 513, 4096])
def test_a_line_of_any_length_is_split_the_same_each_time(length: int) -> None:
    """Long lines are not remembered, which must not show."""
    memory = new_memory()
    line = b"host:".ljust(length, b"x") if length > 5 else b"a:"
    expected = [line] if length > 5 else []
    assert [memory.split(line).significant for _ in range(3)] == [expected] * 3


def test_a_memory_does_not_grow_with_the_lines_it_meets() -> None:
    """Memory is bounded whatever clients send: a full memory is emptied."""
    memory = new_memory()
    sizes = set()
    for number in range(5000):
        memory.split(b"X-Request: %d\r\nHost: %d" % (number, number))
        sizes.add(len(memory._kinds))
    assert max(sizes) <= 1024
    assert memory.split(b"Host: last").significant == [b"Host: last"]


@pytest.mark.parametrize(
    ("values", "members"),
    [
        pytest.param([], [], id="no line"),
        pytest.param([b""], [], id="empty value"),
        pytest.param([b"close"], [b"close"], id="one member"),
        pytest.param([b"Keep-Alive, TE"], [b"keep-alive", b"te"], id="two members in capitals"),
        pytest.param([b"a", b"b,c"], [b"a", b"b", b"c"], id="spread over lines"),
        pytest.param([b",a,, ,b,"], [b"a", b"b"], id="empty members"),
        pytest.param([b"\ta\t,\t b "], [b"a", b"b"], id="tabs and spaces"),
        pytest.param([b"a b"], [b"a b"], id="blank within a member"),
        pytest.param([b"a\xa0"], [b"a\xa0"], id="no-break space is no white space"),
        pytest.param([b"a, a"], [b"a", b"a"], id="twice the same"),
    ],
)
def test_a_list_is_the_same_however_it_is_spread(values: list[bytes], members: list[bytes]) -> None:
    """RFC 9110 §5.6.1: empty members do not count, lines of one name are one list."""
    assert list_members(values) == members


def test_trailers_that_frame_route_or_authenticate_are_left_out() -> None:
    """RFC 9110 §6.5.1: such fields are read before the content; behind it they are ways to smuggle."""
    section = b"\r\n".join(name.title() + b": x" for name in sorted(NOT_IN_TRAILERS))
    assert trailer_lines(parse_field_lines(section)) == b""


def test_other_trailers_pass_in_order_with_their_bytes() -> None:
    """RFC 9110 §6.5.2: a forwarder keeps what it need not understand."""
    assert trailer_lines(parse_field_lines(b"Digest:  a\r\nHost: evil\r\nx-sum:b\r\nDigest: c")) == (
        b"Digest:  a\r\nx-sum:b\r\nDigest: c\r\n"
    )


@pytest.mark.parametrize(
    "name",
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    ],
)
def test_a_field_of_one_hop_is_known_as_such(name: str) -> None:
    """RFC 9110 §7.6.1 names the fields to be removed even where Connection does not; §11.7 the proxy's own."""
    assert name.encode() in HOP_BY_HOP
    assert name.encode() in NOT_IN_TRAILERS


@pytest.mark.parametrize("name", ["trailer", "via", "cookie", "content-length", "date", "host"])
def test_a_field_for_both_ends_is_not_taken_for_one_of_a_hop(name: str) -> None:
    """RFC 9110 §7.6.1: what is not for this hop alone passes or is dealt with on its own."""
    assert name.encode() not in HOP_BY_HOP


@pytest.mark.parametrize(
    "name",
    ["authorization", "content-length", "content-type", "cookie", "expect", "host", "set-cookie", "trailer"],
)
def test_a_field_that_must_come_before_the_content_is_no_trailer(name: str) -> None:
    """RFC 9110 §6.5.1."""
    assert name.encode() in NOT_IN_TRAILERS
