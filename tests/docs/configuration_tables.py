"""
The tables of docs/configuration.md: each key with its type, its default and its reason, as the models have them.

`make tables` writes them into the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from switch_proxy.core.config.dump import dump_value
from switch_proxy.core.config.models import Settings
from switch_proxy.core.schema.keys import Field, fields_of
from switch_proxy.core.schema.units import format_duration
from tests.docs.pages import ROOT
from tests.generated_tables import markdown, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE: Final = ROOT / "docs" / "configuration.md"

_TLS: Final = "TLS"
"""The section of all `tls` keys: they have the same keys."""

_INLINE: Final = frozenset({"client_secret", "previous_client_secret", "private_key", "client_assertion"})
"""Sections whose keys are in the table of the section above them."""

_KIB: Final = 1024
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A key as it is written in the table of its section; `intro` is the text of a section without a table."""

    key: str
    field: Field
    intro: str = ""


def sections() -> dict[str, list[Row]]:
    """Return the rows of each section, by its path."""
    found: dict[str, list[Row]] = {}
    for path, row in _rows(Settings, ""):
        rows = found.setdefault(path, [])
        # `tls` occurs twice, with the same keys.
        if row not in rows:
            rows.append(row)
    return found


def _rows(model: type[Any], path: str) -> Iterator[tuple[str, Row]]:
    for field in fields_of(model):
        if field.model is None:
            yield path, Row(key=field.name, field=field)
            continue
        if field.name in _INLINE:
            intro = field.key.text
            for inner in fields_of(field.model):
                yield path, Row(key=f"{field.name}.{inner.name}", field=inner, intro=intro)
                intro = ""
            continue
        if field.name == "tls":
            yield path, Row(key=field.name, field=field)
        below = f"{path}.{field.name}" if path else field.name
        below = f"{below}.NAME" if field.is_table else f"{below}[N]" if field.is_list else below
        yield from _rows(field.model, _TLS if field.name == "tls" else below)


def table_of(path: str) -> str:
    """Return the table of one section, in Markdown."""
    rows = [
        [
            f"`{row.key}`",
            _kind(row.field),
            _default(row.field),
            " ".join(text for text in (row.intro, row.field.key.text, row.field.key.why) if text),
        ]
        for row in sections()[path]
    ]
    return markdown(["key", "type", "default", "what it is, and why the default"], rows)


def _kind(field: Field) -> str:
    if field.key.rule is None:
        return "keys"
    kind = field.key.rule.kind
    return f"names and {kind}" if field.is_table else f"list of {kind}s" if field.is_list else kind


def _default(field: Field) -> str:
    default = field.default
    if field.is_required:
        return "required"
    if field.key.rule is None:
        return "see [TLS](#tls)"
    if default is None or default in ((), {}):
        return field.key.without
    match field.key.rule.kind, default:
        case "duration", float():
            return f"`{format_duration(default)}`"
        case "size", int() if default and default % _MIB == 0:
            return f"`{default // _MIB}MiB`"
        case "size", int() if default % _KIB == 0:
            return f"`{default // _KIB}KiB`"
        case _, bool():
            return f"`{str(default).lower()}`"
    return f"`{dump_value(default)}`"


def _render(path: str) -> Callable[[], str]:
    return lambda: table_of(path)


TABLES: Final = {path: _render(path) for path in sections()}

if __name__ == "__main__":
    write(PAGE, TABLES)
