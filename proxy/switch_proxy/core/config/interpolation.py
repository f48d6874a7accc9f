"""
`${NAME}`, `${NAME:-default}` and `${NAME:+text}` in the values of a configuration, replaced from the environment.

`:-` supplies a default if the variable is unset or empty; `:+` substitutes text if it is set and not empty, as in a shell.
Unlike in a shell, an unset variable without a default is an error, and references inside the value of a variable are not
replaced. `$${` is `${` itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from switch_proxy.core.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Mapping

_REFERENCE: Final = re.compile(
    r"(?P<escaped>\$\$\{)"
    r"|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<operator>[-+])(?P<word>(?:(?!\$\{)[^}])*))?\}"
    r"|(?P<stray>\$\{)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpolation:
    """A text with its references replaced, and the names of the variables that it refers to."""

    text: str
    names: tuple[str, ...]


def interpolate(text: str, environ: Mapping[str, str]) -> Interpolation:
    """Replace the references in `text`. Raises InvalidValueError, which names every unset variable."""
    if "${" not in text:
        return Interpolation(text=text, names=())
    names: list[str] = []
    unset: list[str] = []

    def replacement(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "${"
        if match["stray"]:
            raise InvalidValueError(
                "has a ${ that begins no reference; write ${NAME} or ${NAME:-default}, or $${ for the characters themselves"
            )
        name, word = match["name"], match["word"]
        names.append(name)
        value = environ.get(name)
        if match["operator"] == "-":
            return value or word
        if match["operator"] == "+":
            return word if value else ""
        if value is None:
            unset.append(name)
            return ""
        return value

    replaced = _REFERENCE.sub(replacement, text)
    if unset:
        missing = list(dict.fromkeys(unset))
        listed = " and ".join(missing)
        raise InvalidValueError(
            f"needs the environment variable{'s' if len(missing) > 1 else ''} {listed}, which "
            f"{'are' if len(missing) > 1 else 'is'} not set; set {'them' if len(missing) > 1 else 'it'}, or write "
            f"${{{missing[0]}:-default}}"
        )
    return Interpolation(text=replaced, names=tuple(names))
