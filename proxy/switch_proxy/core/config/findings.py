"""What is found wrong in a configuration, by its path: the currency of core/config/yaml_tree.py and core/config/validation.py."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

Path = tuple[str | int, ...]
"""Keys and indexes from the top of the configuration to one value."""

_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    One thing that is wrong: the path of what it is about, and in `text` what is wrong and what would be right.

    `is_about_key` tells that the key itself is wrong, not its value; `is_about_absence` that nothing stands at the path.
    """

    path: Path
    text: str
    is_about_key: bool = False
    is_about_absence: bool = False


def render_path(path: Path) -> str:
    """
    Return a path as people write it: `routes[0].listen`.

    Of a key that is no plain word only the beginning is told: `{client_secret:hunter2}` is a key in YAML, and a slip.
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
