"""
A YAML document as a tree with marks, and the way from it to plain values.

proxy/switch_proxy/settings.py builds the tree. Here `${…}` is replaced, scalars become numbers, switches and text by YAML 1.2's
core schema (so `no` and `off` stay words), merge keys are merged, and the first problems are found: duplicate keys, tags,
unset variables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, assert_never

from switch_proxy.core.config.interpolation import interpolate
from switch_proxy.core.errors import InvalidValueError
from switch_proxy.core.schema.problem import About, Mark, Path, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE: Final = frozenset({"true", "True", "TRUE"})
_FALSE: Final = frozenset({"false", "False", "FALSE"})
# Without leading zeros: YAML 1.1 reads such a number as octal, YAML 1.2 as decimal.
_WHOLE: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_DECIMAL: Final = re.compile(r"[-+]?[0-9]{1,18}\.[0-9]{0,18}")

DEEPEST: Final = 20
"""Levels of a document; a configuration has six."""

_MOST_VALUES: Final = 10_000
"""Values of a document, with aliases resolved: aliases of aliases would otherwise fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """A single value; `is_plain` if it is written without quotes."""

    mark: Mark
    tag: str | None
    text: str
    is_plain: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """A list."""

    mark: Mark
    tag: str | None
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Keys with values in their order, duplicates included."""

    mark: Mark
    tag: str | None
    entries: tuple[tuple[Node, Node], ...]


Node = Scalar | Sequence | Table


UNREADABLE: Final = object()
"""Placeholder in the plain values for a value with a problem."""

_TEXT_TAGS: Final = frozenset({None, "!", "tag:yaml.org,2002:str"})
_TAGS: Final[Mapping[type[Node], frozenset[str | None]]] = {
    Scalar: _TEXT_TAGS,
    Sequence: frozenset({None, "!", "tag:yaml.org,2002:seq"}),
    Table: frozenset({None, "!", "tag:yaml.org,2002:map"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedDocument:
    """
    The plain values of a document, with the marks that problems need.

    `problems` are those found so far, each with its mark; `unreadable` are the paths that have no value because of one;
    `variables` are the names of the variables that a value came from.
    """

    values: object
    value_marks: Mapping[Path, Mark]
    key_marks: Mapping[Path, Mark]
    variables: Mapping[Path, tuple[str, ...]]
    problems: tuple[Problem, ...]
    unreadable: frozenset[Path]
    excess: Problem | None = None
    """The problem of a document with too many values, of which the rest is unknown; None if it was read whole."""

    def locate(self, problem: Problem) -> Problem:
        """Return a problem with its mark: of the key it is about, of the value, or of the nearest thing around it."""
        path = problem.path[:-1] if problem.about is About.ABSENCE else problem.path
        if problem.about is not About.VALUE and path in self.key_marks:
            return replace(problem, mark=self.key_marks[path])
        return replace(problem, mark=self.mark_of(path))

    def mark_of(self, path: Path) -> Mark:
        """Return the mark of the value at a path, or of the nearest thing around it."""
        while path not in self.value_marks:
            path = path[:-1]
        return self.value_marks[path]


def parse_document(root: Node, environ: Mapping[str, str]) -> ParsedDocument:
    """Return the plain values of a document, its variables replaced from `environ`, and its problems so far."""
    walk = _Walk(environ=environ)
    values = walk.value(root, ())
    return ParsedDocument(
        values=values,
        value_marks=walk.value_marks,
        key_marks=walk.key_marks,
        variables=walk.variables,
        problems=tuple(walk.problems),
        unreadable=frozenset(walk.unreadable),
        excess=walk.excess,
    )


class _Walk:
    """One walk through a document, from its top."""

    def __init__(self, *, environ: Mapping[str, str]) -> None:
        self.value_marks: dict[Path, Mark] = {}
        self.key_marks: dict[Path, Mark] = {}
        self.variables: dict[Path, tuple[str, ...]] = {}
        self.problems: list[Problem] = []
        self.unreadable: set[Path] = set()
        self._environ = environ
        self.excess: Problem | None = None
        self._left = _MOST_VALUES

    def value(self, node: Node, path: Path) -> object:
        self.value_marks[path] = node.mark
        if not self._may_go_on(node, path):
            self.unreadable.add(path)
            return UNREADABLE
        match node:
            case Scalar():
                return self._scalar(node, path)
            case Sequence():
                return [self.value(item, (*path, index)) for index, item in enumerate(node.items)]
            case Table():
                values = {}
                for key, (key_mark, value_node) in self._entries(node, path).items():
                    self.key_marks[*path, key] = key_mark
                    values[key] = self.value(value_node, (*path, key))
                return values
            case _:
                assert_never(node)

    def _scalar(self, node: Scalar, path: Path) -> object:
        try:
            interpolated = interpolate(node.text, self._environ)
        except InvalidValueError as error:
            self._add(path, node.mark, f"the value {error.predicate}")
            self.unreadable.add(path)
            return UNREADABLE
        if interpolated.names:
            self.variables[path] = interpolated.names
            return interpolated.text
        return _plain_value(interpolated.text) if node.is_plain and node.tag is None else interpolated.text

    def _entries(self, node: Table, path: Path, depth: int = 0) -> dict[str, tuple[Mark, Node]]:
        """Return the entries of a table and those that it merges; its own come first, then the earlier merged."""
        entries: dict[str, tuple[Mark, Node]] = {}
        merged: list[Node] = []
        for key_node, value_node in node.entries:
            if not isinstance(key_node, Scalar) or key_node.tag not in _TEXT_TAGS:
                self._add(path, key_node.mark, "has a key that is not text; write a word as the key")
            elif key_node.text == "<<" and key_node.is_plain:
                merged += value_node.items if isinstance(value_node, Sequence) else (value_node,)
            elif key_node.text in entries:
                first = entries[key_node.text][0].line
                self._add(
                    (*path, key_node.text), key_node.mark, f"is given twice, the first time in line {first}; keep one"
                )
            else:
                entries[key_node.text] = (key_node.mark, value_node)
        for other in merged:
            if not isinstance(other, Table):
                self._add(
                    path,
                    other.mark,
                    "merges (<<) something that is not a set of keys; name an anchor of one, such as *name",
                )
            elif self._may_go_on(other, path, depth=depth + 1):
                for key, entry in self._entries(other, path, depth + 1).items():
                    entries.setdefault(key, entry)
        return entries

    def _may_go_on(self, node: Node, path: Path, depth: int = 0) -> bool:
        if node.tag not in _TAGS[type(node)]:
            self._add(
                path,
                node.mark,
                "has a YAML tag (from the !), which is not supported; quote a value that begins with !",
            )
            return False
        self._left -= 1
        is_flat = len(path) + depth <= DEEPEST
        if self._left > 0 and is_flat:
            return True
        if self._left >= 0:
            text = (
                f"begins too many values: a configuration may have {_MOST_VALUES}, those of an alias counted at each of its "
                "uses; divide it among several proxies"
                if is_flat
                else "is nested too deeply; write it flatter"
            )
            self._left = 0  # Reported once.
            self._add(path, node.mark, text)
            if is_flat:
                self.excess = self.problems[-1]
        return False

    def _add(self, path: Path, mark: Mark, text: str) -> None:
        self.problems.append(Problem(path=path, mark=mark, text=text))


def _plain_value(text: str) -> object:
    """Return the value of an unquoted scalar by YAML 1.2's core schema, as far as a configuration needs it."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text
