"""A problem of a configuration, found by a rule, a model or the YAML tree and shown to the operator."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

Path = tuple[str | int, ...]
"""Keys and indexes from the top of the configuration to one value."""

_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A position in a file; both numbers count from 1."""

    line: int
    column: int


class About(Enum):
    """What is wrong at the path of a problem: the value, the key, or that there is none."""

    VALUE = "value"
    KEY = "key"
    ABSENCE = "absence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """
    One problem: `text` says what is wrong at `path` and what would be right.

    A model reports paths that begin at itself. If the problem is about a value, its text is a predicate: "is not a duration;
    write …". The reader adds what it alone knows: the path to the model, and before the text the value, if it
    `is_safe_to_echo` because its kind cannot be a secret. `source` and `mark` are the place in the file.
    """

    path: Path = ()
    text: str
    about: About = About.VALUE
    is_safe_to_echo: bool = False
    source: str | None = None
    mark: Mark | None = None

    def __str__(self) -> str:
        place = self.source or ""
        if self.mark is not None:
            place += f":{self.mark.line}:{self.mark.column}"
        return ": ".join(part for part in (place, render_path(self.path), self.text) if part)

    def below(self, path: Path) -> Problem:
        """Return the problem of a model that is found at `path`."""
        return replace(self, path=(*path, *self.path))


def render_path(path: Path) -> str:
    """
    Return a path as people write it: `routes[0].listen`.

    A key is cut after its first plain word, because it may hold a secret: to YAML, `{client_secret:hunter2}` is one key.
    """
    rendered = ""
    for part in path:
        if isinstance(part, int):
            rendered += f"[{part}]"
        else:
            rendered += ("." if rendered else "") + _shown_key(part)
    return rendered


def _shown_key(key: str) -> str:
    if _PLAIN_KEY.fullmatch(key):
        return key
    beginning = _PLAIN_KEY.match(key)
    return f"{beginning[0]}…" if beginning else "…"
