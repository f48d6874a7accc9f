"""
A YAML document as a tree with places, and the way from it to plain values.

The tree is what proxy/switch_proxy/settings.py reads; here `${…}` is replaced, scalars become numbers, switches and text by YAML
1.2's core schema (so `no` and `off` stay words), merge keys are merged, and what is wrong so far is found: keys given
twice, tags, variables that are unset.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from switch_proxy.core.config.findings import Finding, Path
from switch_proxy.core.config.interpolation import expand
from switch_proxy.core.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Mapping

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE: Final = frozenset({"true", "True", "TRUE"})
_FALSE: Final = frozenset({"false", "False", "FALSE"})
# Without leading zeros: to some they are octal, and to nobody decimal for sure.
_WHOLE: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_DECIMAL: Final = re.compile(r"[-+]?[0-9]{1,18}\.[0-9]{0,18}")

DEEPEST: Final = 20
"""Levels that a document may have; the configuration's own are six."""

_MOST_VALUES: Final = 10_000
"""Values that a document may come to: aliases of aliases would otherwise fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something stands in a file; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """A single value; `is_plain` where it is written without quotes."""

    place: Place
    tag: str | None
    text: str
    is_plain: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """A list."""

    place: Place
    tag: str | None
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Keys with values, in their order and with those that are there twice."""

    place: Place
    tag: str | None
    entries: tuple[tuple[Node, Node], ...]


Node = Scalar | Sequence | Table


UNREADABLE: Final = object()
"""Stands in the plain values for a value of which a finding tells already."""

_TEXT_TAGS: Final = frozenset({None, "!", "tag:yaml.org,2002:str"})
_TAGS: Final[Mapping[type[Node], frozenset[str | None]]] = {
    Scalar: _TEXT_TAGS,
    Sequence: frozenset({None, "!", "tag:yaml.org,2002:seq"}),
    Table: frozenset({None, "!", "tag:yaml.org,2002:map"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """
    The plain values of a document, with what is needed to say where something is wrong.

    `findings` is what is wrong so far, each with its place; `unreadable` the paths at which no value stands because of
    it; `expanded` has the variables a value came from.
    """

    values: object
    value_places: Mapping[Path, Place]
    key_places: Mapping[Path, Place]
    expanded: Mapping[Path, tuple[str, ...]]
    findings: tuple[tuple[Finding, Place], ...]
    unreadable: frozenset[Path]

    def place_of(self, finding: Finding) -> Place:
        """Return where a finding is best shown: at the key it is about, the value, or the nearest thing around it."""
        path = finding.path[:-1] if finding.is_about_absence else finding.path
        if (finding.is_about_key or finding.is_about_absence) and path in self.key_places:
            return self.key_places[path]
        return self.place_of_path(path)

    def place_of_path(self, path: Path) -> Place:
        """Return where the value at a path stands, or the nearest thing around it."""
        while path not in self.value_places:
            path = path[:-1]
        return self.value_places[path]


def make_outline(root: Node, environ: Mapping[str, str]) -> Outline:
    """Return the plain values of a document, its variables replaced from `environ`, and what is wrong with it so far."""
    walk = _Walk(environ=environ)
    values = walk.value(root, ())
    return Outline(
        values=values,
        value_places=walk.value_places,
        key_places=walk.key_places,
        expanded=walk.expanded,
        findings=tuple(walk.findings),
        unreadable=frozenset(walk.unreadable),
    )


class _Walk:
    """One way through a document, from its top."""

    def __init__(self, *, environ: Mapping[str, str]) -> None:
        self.value_places: dict[Path, Place] = {}
        self.key_places: dict[Path, Place] = {}
        self.expanded: dict[Path, tuple[str, ...]] = {}
        self.findings: list[tuple[Finding, Place]] = []
        self.unreadable: set[Path] = set()
        self._environ = environ
        self._left = _MOST_VALUES

    def value(self, node: Node, path: Path) -> object:
        self.value_places[path] = node.place
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
                for key, (key_place, value_node) in self._entries(node, path).items():
                    self.key_places[*path, key] = key_place
                    values[key] = self.value(value_node, (*path, key))
                return values

    def _scalar(self, node: Scalar, path: Path) -> object:
        try:
            expansion = expand(node.text, self._environ)
        except InvalidValueError as error:
            self._find(path, node.place, f"the value {error.complaint}")
            self.unreadable.add(path)
            return UNREADABLE
        if expansion.names:
            self.expanded[path] = expansion.names
            return expansion.text
        return _plain_value(expansion.text) if node.is_plain and node.tag is None else expansion.text

    def _entries(self, node: Table, path: Path, depth: int = 0) -> dict[str, tuple[Place, Node]]:
        """Return a table's own entries and those it merges; its own win, then the earlier merged."""
        entries: dict[str, tuple[Place, Node]] = {}
        merged: list[Node] = []
        for key_node, value_node in node.entries:
            if not isinstance(key_node, Scalar) or key_node.tag not in _TEXT_TAGS:
                self._find(path, key_node.place, "has a key that is no text; write a word as the key")
            elif key_node.text == "<<" and key_node.is_plain:
                merged += value_node.items if isinstance(value_node, Sequence) else (value_node,)
            elif key_node.text in entries:
                first = entries[key_node.text][0].line
                self._find(
                    (*path, key_node.text), key_node.place, f"is given twice, the first time in line {first}; keep one"
                )
            else:
                entries[key_node.text] = (key_node.place, value_node)
        for other in merged:
            if not isinstance(other, Table):
                self._find(
                    path, other.place, "is to merge (<<) what is no set of keys; name an anchor of one, such as *name"
                )
            elif self._may_go_on(other, path, depth=depth + 1):
                for key, entry in self._entries(other, path, depth + 1).items():
                    entries.setdefault(key, entry)
        return entries

    def _may_go_on(self, node: Node, path: Path, depth: int = 0) -> bool:
        if node.tag not in _TAGS[type(node)]:
            self._find(
                path,
                node.place,
                "has a YAML tag (from the !), which means nothing here; quote a value that begins with !",
            )
            return False
        self._left -= 1
        if self._left > 0 and len(path) + depth <= DEEPEST:
            return True
        if self._left >= 0:
            self._left = 0  # Said once.
            self._find(path, node.place, "is too deep, or too much by its aliases, for any configuration; write it out")
        return False

    def _find(self, path: Path, place: Place, text: str) -> None:
        self.findings.append((Finding(path=path, text=text), place))


def _plain_value(text: str) -> object:
    """Return what an unquoted scalar means by YAML 1.2's core schema, as far as a configuration needs it."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text
