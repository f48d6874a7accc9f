"""
The I/O half of the configuration: reads a YAML file and the environment into Settings, or into all problems at once.

Knows files and YAML's syntax. core/config/yaml_tree.py knows what a document means, core/config/models/ which values are
valid.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import yaml
import yaml.reader

from switch_proxy.core.addresses import ADMIN_ADDRESS, Address, parse_address
from switch_proxy.core.config.yaml_tree import Node, ParsedDocument, Scalar, Sequence, Table, parse_document
from switch_proxy.core.egress import find_egress_proxy
from switch_proxy.core.errors import ConfigurationError, InvalidValueError
from switch_proxy.core.schema.problem import Mark, Problem
from switch_proxy.core.schema.units import is_off

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from switch_proxy.core.config.models import Settings

CONFIG_VARIABLE: Final = "SWITCH_PROXY_CONFIG"

_LARGEST_FILE: Final = 1024 * 1024
"""Bytes. A configuration has some lines; a device or a log named by mistake has no end."""

_HTTPS_PORT: Final = 443

_DEEPEST: Final = 50
"""Nested collections. This only bounds memory; core/config/yaml_tree.py has the limit that people meet."""

# libyaml's, if PyYAML was built with it. Only its events are used: its composer recurses, so that a file of nothing but
# brackets ends the process.
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """
    Return the settings of the file at `path`; if it is None, of the one that SWITCH_PROXY_CONFIG names.

    Raises ConfigurationError with all problems.
    """
    path = find_file(path, environ)
    return parse(_read(path), source=str(path), environ=environ)


def find_file(path: Path | None, environ: Mapping[str, str]) -> Path:
    """Return `path`; if it is None, the one that SWITCH_PROXY_CONFIG names. Raises ConfigurationError."""
    if path is not None:
        return path
    named = environ.get(CONFIG_VARIABLE, "")
    if not named:
        raise _error("configuration", f"no file is named; give --config FILE, or set {CONFIG_VARIABLE} to the file")
    return Path(named)


def parse(content: bytes, *, source: str, environ: Mapping[str, str]) -> Settings:
    """Return the settings of a file's content; `source` is its name in problems. Raises ConfigurationError."""
    document = _parse_document(content, source, environ)
    if not isinstance(document.values, dict):
        text = "must be keys with values (credentials, routes, …), as in config.example.yaml"
        raise _error(source, text, document.mark_of(()))
    settings = _settings(document, document.values, source)
    _check_egress_proxy(settings, environ)
    return settings


def _check_egress_proxy(settings: Settings, environ: Mapping[str, str]) -> None:
    """Refuse an HTTPS_PROXY that cannot be used, if a connection would go through it. Raises ConfigurationError."""
    places = [(route.upstream.scheme, route.upstream.host, route.upstream.port) for route in settings.routes]
    for credential in settings.credentials.values():
        url = urlsplit(credential.token_url or credential.issuer or "")
        places.append((url.scheme, url.hostname or "", url.port or _HTTPS_PORT))
    try:
        for scheme, host, port in places:
            find_egress_proxy(scheme=scheme, host=host, port=port, environ=environ)
    except InvalidValueError as error:
        raise _error("the environment", str(error)) from None


def load_admin_address(path: Path | None, environ: Mapping[str, str]) -> Address | None:
    """
    Return the address of the admin listener, `admin.listen` of the file; None if it is off.

    For a probe that runs every few seconds: it ignores the rest of the file and does not import the models. Raises
    ConfigurationError.
    """
    path = find_file(path, environ)
    source = str(path)
    document = _parse_document(_read(path), source, environ)
    values = document.values if isinstance(document.values, dict) else {}
    at_listen = ("admin", "listen")
    problems = tuple(replace(problem, source=source) for problem in document.problems if problem.path == at_listen)
    if problems:
        raise ConfigurationError(problems)
    admin = values.get("admin")
    listen = admin.get("listen", ADMIN_ADDRESS) if isinstance(admin, dict) else ADMIN_ADDRESS
    if isinstance(listen, Address):
        return listen
    if listen is None or is_off(listen):
        return None
    try:
        return parse_address(str(listen))
    except InvalidValueError as error:
        problem = Problem(source=source, path=at_listen, text=f"the value {error.predicate}")
        raise ConfigurationError((document.locate(problem),)) from None


def _parse_document(content: bytes, source: str, environ: Mapping[str, str]) -> ParsedDocument:
    root = _compose(_decode(content, source), source)
    if root is None or (isinstance(root, Scalar) and root.is_plain and not root.text):
        raise _error(source, "is empty; write credentials and routes, as in config.example.yaml")
    document = parse_document(root, environ)
    if document.excess is not None:
        # Alone: most other problems would follow from it.
        raise ConfigurationError((replace(document.excess, source=source),))
    return document


def _settings(document: ParsedDocument, values: Mapping[str, object], source: str) -> Settings:
    # Imported here: a probe does not need the models.
    from switch_proxy.core.config.validation import read_settings  # noqa: PLC0415

    found = list(document.problems)
    settings = None
    try:
        settings = read_settings(values, document.variables)
    except ConfigurationError as error:
        # A value that cannot be read breaks its rule as well; one problem is enough.
        found += [document.locate(problem) for problem in error.problems if problem.path not in document.unreadable]
    if settings is None or found:
        found.sort(key=lambda problem: (problem.mark.line, problem.mark.column) if problem.mark else (0, 0))
        raise ConfigurationError(tuple(replace(problem, source=source) for problem in found))
    return settings


# --- from a file to a tree -----------------------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except FileNotFoundError:
        raise _error(str(path), "there is no such file; check the path and the mount") from None
    except IsADirectoryError:
        raise _error(str(path), "is a directory; name the file in it") from None
    except PermissionError:
        raise _error(str(path), "may not be read by this user; check the owner and the mode of the file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no file can have this name"
        raise _error(str(path), f"cannot be read: {reason}; name a file that can") from None
    if len(content) > _LARGEST_FILE:
        raise _error(str(path), "is larger than 1 MiB, so it is not a configuration; name the right file")
    return content


def _decode(content: bytes, source: str) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig", "replace")
        raise _error(source, "is not UTF-8 from here on; save the file as UTF-8", _end_of(before)) from None
    if match := yaml.reader.Reader.NON_PRINTABLE.search(text):
        words = f"has the character U+{ord(match[0]):04X}, which YAML does not allow; remove it"
        raise _error(source, words, _end_of(text[: match.start()]))
    return text


def _end_of(text: str) -> Mark:
    return Mark(line=text.count("\n") + 1, column=len(text) - text.rfind("\n"))


def _compose(text: str, source: str) -> Node | None:
    """Return the one document of a file, None if there is none."""
    try:
        return _Composer(text, source).document()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, source) from None
    except (yaml.YAMLError, ValueError) as error:
        # An escape beyond the end of Unicode makes PyYAML's own scanner raise a ValueError.
        raise _error(source, f"is not valid YAML ({type(error).__name__}); check its quotes and escapes") from None


class _Composer:
    """Builds the tree of one document from YAML's events, with a stack of its own."""

    def __init__(self, text: str, source: str) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_Loader)
        self._source = source
        self._anchors: dict[str | None, Node] = {}

    def document(self) -> Node | None:
        root: Node | None = None
        # Of each open collection, the event that began it and what it holds so far.
        stack: list[tuple[yaml.CollectionStartEvent, list[Node]]] = []
        for event in self._events:
            match event:
                case yaml.CollectionStartEvent():
                    if len(stack) >= _DEEPEST:
                        raise _error(self._source, "is nested too deeply; write it flatter", _mark(event))
                    stack.append((event, []))
                    continue
                case yaml.CollectionEndEvent():
                    node = self._collection(*stack.pop())
                case yaml.ScalarEvent():
                    node = Scalar(mark=_mark(event), tag=event.tag, text=event.value, is_plain=not event.style)
                    self._anchor(event, node)
                case yaml.AliasEvent():
                    node = self._aliased(event)
                case yaml.DocumentStartEvent() if root is not None:
                    raise _error(self._source, "begins a second document (---); keep one in a file", _mark(event))
                case _:
                    continue
            if stack:
                stack[-1][1].append(node)
            else:
                root = node
        return root

    def _collection(self, event: yaml.CollectionStartEvent, nodes: list[Node]) -> Node:
        node: Node
        if isinstance(event, yaml.SequenceStartEvent):
            node = Sequence(mark=_mark(event), tag=event.tag, items=tuple(nodes))
        else:
            node = Table(mark=_mark(event), tag=event.tag, entries=tuple(zip(nodes[::2], nodes[1::2], strict=True)))
        self._anchor(event, node)
        return node

    def _anchor(self, event: yaml.NodeEvent, node: Node) -> None:
        if event.anchor is not None:
            self._anchors[event.anchor] = node

    def _aliased(self, event: yaml.AliasEvent) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            # Not named, because a value that begins with an asterisk may be a secret.
            text = "is an alias (*) without an anchor (&) before it; put a value that begins with * in quotes"
            raise _error(self._source, text, _mark(event))
        return node


def _mark(event: yaml.Event) -> Mark:
    mark = event.start_mark
    return Mark(line=1, column=1) if mark is None else Mark(line=mark.line + 1, column=mark.column + 1)


# --- syntax errors --------------------------------------------------------------------------------------------------

_SYNTAX: Final = (
    (
        r"mapping values are not allowed",
        "has a colon where no key can end; check the indentation, and put a value with a colon and a space in quotes",
    ),
    (
        r"could not find expected ':'",
        "is not a key with a value; write key: value, with a space after the colon, and check the indentation",
    ),
    (
        r"flow (mapping|sequence|node)",
        "breaks off inside braces or brackets; close them, and put values with ${…}, braces or commas in quotes there",
    ),
    (r"quoted scalar.*end of stream", "opens a quote that is never closed; close it"),
    (r"block (collection|mapping|scalar)", "does not fit what is above it; check the indentation"),
    (r"escape", "has an unknown escape; in double quotes write a backslash twice, or use single quotes"),
    (r" tag|tag ", "has a YAML tag (from the !) that cannot be read; put a value that begins with ! in quotes"),
    (
        r"anchor|alias",
        "has a YAML anchor (&) or alias (*) that cannot be read; put a value that begins with one in quotes",
    ),
    (r"directive", "begins with %, which YAML keeps for itself; put such a value in quotes"),
)
"""Parts of the messages of either of PyYAML's parsers, and the texts that replace them."""

_RESERVED: Final = "begins with a character that YAML keeps for itself (@, ` or %); put the value in quotes"
_SHOWN_AT_ITS_START: Final = re.compile("simple key|quoted scalar.*end of stream")


def _syntax_error(error: yaml.MarkedYAMLError, text: str, source: str) -> ConfigurationError:
    """Return a syntax error in words of our own, because the parser's message may quote a secret."""
    said = f"{error.context or ''}: {error.problem or ''}"
    # For some errors, the parser's last position is far behind the place to look at.
    began = error.context_mark if _SHOWN_AT_ITS_START.search(said) else None
    mark = began or error.problem_mark or error.context_mark
    if mark is None:
        return _error(source, "cannot be read as YAML; check its quotes and indentation")
    line = text.splitlines()[mark.line] if mark.line < len(text.splitlines()) else ""
    if re.match(r" *\t", line):
        # The parser took the line as a part of the value above, and complains about what it met in it.
        tab = Mark(line=mark.line + 1, column=line.index("\t") + 1)
        return _error(source, "has a tab where YAML allows none; indent with spaces", tab)
    words = next((ours for pattern, ours in _SYNTAX if re.search(pattern, said)), "cannot be read as YAML here")
    if "cannot start any token" in said:
        is_tab = text[mark.index : mark.index + 1] == "\t"
        words = "has a tab where YAML allows none; indent with spaces" if is_tab else _RESERVED
    return _error(source, words, Mark(line=mark.line + 1, column=mark.column + 1))


def _error(source: str, text: str, mark: Mark | None = None) -> ConfigurationError:
    return ConfigurationError((Problem(source=source, mark=mark, text=text),))
