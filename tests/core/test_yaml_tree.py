"""A document's tree, its variables and its places."""

from __future__ import annotations

import pytest

from switch_proxy.core.config.yaml_tree import Node, Scalar, Sequence, Table, parse_document
from switch_proxy.core.schema.problem import About, Mark, Problem


def _at(line: int, column: int = 1) -> Mark:
    return Mark(line=line, column=column)


def _scalar(text: str, *, line: int = 1, quoted: bool = False, tag: str | None = None) -> Scalar:
    return Scalar(mark=_at(line), tag=tag, text=text, is_plain=not quoted)


def _table(*entries: tuple[Node | str, Node | str], line: int = 1, tag: str | None = None) -> Table:
    def node(value: Node | str) -> Node:
        return _scalar(value, line=line) if isinstance(value, str) else value

    return Table(mark=_at(line), tag=tag, entries=tuple((node(key), node(value)) for key, value in entries))


def _list(*items: Node, line: int = 1) -> Sequence:
    return Sequence(mark=_at(line), tag=None, items=items)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("0", 0),
        ("-3", -3),
        ("8080", 8080),
        ("1.5", 1.5),
        ("yes", "yes"),
        ("no", "no"),
        ("off", "off"),
        ("010", "010"),
        ("0x10", "0x10"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("1e3", "1e3"),
        (".inf", ".inf"),
        ("2026-01-01", "2026-01-01"),
        ("9" * 5000, "9" * 5000),
        ("127.0.0.1:8080", "127.0.0.1:8080"),
    ],
)
def test_unquoted_scalar_means_what_yaml_1_2_says(text: str, value: object) -> None:
    """So `no` is a word, 010 is not eight, and 1:30 is not ninety."""
    document = parse_document(_scalar(text), {})
    assert document.values == value
    assert type(document.values) is type(value)


@pytest.mark.parametrize("text", ["", "~", "true", "8080", "1.5", "text"])
def test_quoted_scalar_is_text_as_it_stands(text: str) -> None:
    assert parse_document(_scalar(text, quoted=True), {}).values == text


def test_variable_is_text_whatever_is_in_it() -> None:
    """What a variable holds is not looked at as YAML: an id of digits alone stays text."""
    document = parse_document(_table(("a", "${A}")), {"A": "8080"})
    assert document.values == {"a": "8080"}
    assert document.variables == {("a",): ("A",)}


def test_variable_that_is_unset_is_told_of_with_its_place() -> None:
    document = parse_document(_table(("a", _scalar("${A}", line=3))), {})
    (problem,) = document.problems
    assert (problem.path, problem.mark) == (("a",), _at(3))
    assert "SECRET" not in problem.text
    assert document.unreadable == {("a",)}


def test_key_given_twice_is_told_of_where_it_stands_again() -> None:
    root = _table((_scalar("a", line=1), "x"), (_scalar("a", line=2), "y"))
    document = parse_document(root, {})
    (problem,) = document.problems
    assert (problem.text, problem.mark) == ("is given twice, the first time in line 1; keep one", _at(2))
    assert document.values == {"a": "x"}


def test_merged_keys_stand_behind_a_tables_own_and_the_earlier_merged() -> None:
    first, second = _table(("a", "first"), ("b", "first")), _table(("b", "second"), ("c", "second"))
    document = parse_document(_table(("<<", _list(first, second)), ("a", "own")), {})
    assert (document.values, document.problems) == ({"a": "own", "b": "first", "c": "second"}, ())


def test_merge_of_a_merge_reaches_through() -> None:
    inner = _table(("a", "inner"))
    document = parse_document(_table(("<<", _table(("<<", inner), ("b", "outer")))), {})
    assert document.values == {"a": "inner", "b": "outer"}


def test_quoted_merge_key_is_a_key_like_any_other() -> None:
    assert parse_document(_table((_scalar("<<", quoted=True), "x")), {}).values == {"<<": "x"}


def test_merge_of_what_is_no_table_is_told_of() -> None:
    document = parse_document(_table(("<<", "text")), {})
    assert [problem.text.split(";")[0] for problem in document.problems] == [
        "merges (<<) something that is not a set of keys"
    ]


@pytest.mark.parametrize(
    "node",
    [
        _scalar("x", tag="!secret"),
        _scalar("x", tag="tag:yaml.org,2002:binary"),
        _table(tag="tag:yaml.org,2002:set"),
        _scalar("1", tag="tag:yaml.org,2002:int"),
    ],
    ids=["own", "binary", "set", "int"],
)
def test_tag_is_refused_without_naming_it(node: Node) -> None:
    """A value that begins with ! is a tag to YAML, and such a value may be a secret."""
    document = parse_document(_table(("a", node)), {})
    (problem,) = document.problems
    assert "YAML tag" in problem.text
    assert "secret" not in problem.text


@pytest.mark.parametrize("tag", ["!", "tag:yaml.org,2002:str"])
def test_tag_that_says_text_makes_a_scalar_text(tag: str) -> None:
    assert parse_document(_scalar("8080", tag=tag), {}).values == "8080"


@pytest.mark.parametrize("key", [_list(), _table(), _scalar("x", tag="!x")], ids=["list", "table", "tagged"])
def test_key_that_is_no_text_is_refused(key: Node) -> None:
    document = parse_document(_table((key, "x")), {})
    assert [problem.text for problem in document.problems] == ["has a key that is not text; write a word as the key"]


def _doubled(levels: int) -> Node:
    node: Node = _scalar("x")
    for _ in range(levels):
        node = _list(node, node)
    return node


def _doubled_merges(levels: int) -> Node:
    node: Node = _table(("a", "x"))
    for _ in range(levels):
        node = _table(("<<", _list(node, node)))
    return node


def _nested(levels: int) -> Node:
    node: Node = _scalar("x")
    for _ in range(levels):
        node = _table(("a", node))
    return node


def _nested_merges(levels: int) -> Node:
    node: Node = _table(("a", "x"))
    for _ in range(levels):
        node = _table(("<<", node))
    return node


_MANY = (
    "begins too many values: a configuration may have 10000, those of an alias counted at each of its uses; "
    "divide it among several proxies"
)
_DEEP = "is nested too deeply; write it flatter"


@pytest.mark.parametrize(
    ("node", "complaint"),
    [
        pytest.param(_doubled(18), _MANY, id="aliases of aliases"),
        pytest.param(_doubled_merges(18), _MANY, id="merges of merges"),
        pytest.param(_list(*[_scalar("x")] * 10_001), _MANY, id="many"),
        pytest.param(_nested(21), _DEEP, id="one level too deep"),
        pytest.param(_nested(2000), _DEEP, id="far too deep"),
        pytest.param(_nested_merges(2000), _DEEP, id="merges far too deep"),
    ],
)
def test_document_without_measure_is_refused_once_and_without_running_out_of_memory(node: Node, complaint: str) -> None:
    document = parse_document(node, {})
    assert [problem.text for problem in document.problems] == [complaint]


def test_document_at_the_deepest_level_is_read() -> None:
    assert parse_document(_nested(20), {}).problems == ()


def test_problem_is_shown_at_the_key_the_value_or_what_is_around_it() -> None:
    inner = Table(
        mark=_at(2, 3),
        tag=None,
        entries=(
            (
                Scalar(mark=_at(2, 3), tag=None, text="b", is_plain=True),
                Scalar(mark=_at(2, 6), tag=None, text="x", is_plain=True),
            ),
        ),
    )
    root = Table(mark=_at(1), tag=None, entries=((Scalar(mark=_at(1), tag=None, text="a", is_plain=True), inner),))
    document = parse_document(root, {})

    def mark(*path: str, about: About = About.VALUE) -> Mark | None:
        return document.locate(Problem(path=path, text="", about=about)).mark

    assert mark("a", "b", about=About.KEY) == _at(2, 3)
    assert mark("a", "b") == _at(2, 6)
    assert mark("a", "c", about=About.ABSENCE) == _at(1)
    assert mark("a", "c") == _at(2, 3)
    assert mark("z", "y") == _at(1)
