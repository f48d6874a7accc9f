"""One thing that is wrong with a configuration: found by a rule, a model or the YAML tree, and shown to the operator."""

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
    """What at the path of a problem is wrong."""

    VALUE = "value"
    KEY = "key"
    ABSENCE = "absence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """
    One problem: the `path` of what is wrong, and in `text` what is wrong and what would be right.

    A model finds problems with paths that begin at itself, and about a value with a text that goes on after the value:
    "is not a duration; write …". The reader puts in front of both what it alone knows: the path to the model, and the value,
    if it `is_safe_to_echo`, because it is of a kind that cannot be a secret. `source` and `mark` are of the file.
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

    A key that is no plain word is cut where it stops being one: `{client_secret:hunter2}` is a key in YAML, and a slip.
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
