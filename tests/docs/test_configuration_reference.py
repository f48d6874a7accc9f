"""docs/configuration.md, config.example.yaml and config.schema.json agree with the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from switch_proxy.cli import ExitCode, make_parser
from switch_proxy.core.config.json_schema import configuration_schema
from switch_proxy.core.config.models import Settings
from switch_proxy.core.schema.keys import fields_of
from switch_proxy.settings import parse
from tests.docs.configuration_tables import TABLES, sections
from tests.generated_tables import generated, names

if TYPE_CHECKING:
    from switch_proxy.core.schema.keys import Field

_ROOT = Path(__file__).parents[2]
_REFERENCE = (_ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", TABLES)
def test_page_has_the_tables_that_the_code_gives(path: str) -> None:
    """`make tables` writes them."""
    place = generated(_REFERENCE, path)
    assert place is not None
    assert place[0] == TABLES[path]()


def test_page_has_each_table_once_below_its_heading() -> None:
    """Every key has one row, and no row has an unknown key."""
    assert sorted(names(_REFERENCE)) == sorted(TABLES)
    pieces = re.split(r"^#{3,4} (.*)$", _REFERENCE, flags=re.MULTILINE)
    for heading, text in zip(pieces[1::2], pieces[2::2], strict=True):
        # The page may have other sections, but no other table.
        assert names(text) in ([], [heading.replace("`", "")])


@pytest.mark.parametrize(
    "field", [pytest.param(row.field, id=f"{path}.{row.key}") for path, rows in sections().items() for row in rows]
)
def test_every_default_has_its_reason(field: Field) -> None:
    """Somebody chose each default, so it has a reason."""
    assert field.key.text.endswith(".")
    has_value = not field.is_required and field.key.rule is not None and field.default not in (None, (), {})
    assert field.key.why.endswith(".") if has_value else not field.key.why or field.key.why.endswith(".")


@pytest.mark.parametrize("code", ExitCode, ids=lambda code: code.name)
def test_every_exit_code_is_in_the_reference(code: ExitCode) -> None:
    assert f"| {code.value} | `{code.name}` |" in _REFERENCE


def test_every_command_and_option_is_in_the_reference() -> None:
    commands = next(action for action in make_parser()._actions if action.dest == "command").choices
    assert isinstance(commands, dict)
    for name, command in commands.items():
        (line,) = [line for line in _REFERENCE.splitlines() if line.startswith(f"| `switch-proxy {name}")]
        for action in command._actions:
            for option in action.option_strings:
                assert option in {"-h", "--help"} or option in line


@pytest.mark.parametrize("file", ["config.example.yaml", "docs/configuration.md"])
def test_example_is_a_configuration_with_one_variable_to_set(file: str) -> None:
    text = (_ROOT / file).read_text(encoding="utf-8")
    if file.endswith(".md"):
        text = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)[0]
    assert text.startswith("# yaml-language-server: $schema=./config.schema.json\n")
    settings = parse(text.encode(), source=file, environ={"SWITCH_CLIENT_ID": "id"})
    assert [route.name for route in settings.routes] == ["switch-api"]


def test_examples_written_as_defaults_are_the_defaults() -> None:
    """The example has the same effect as leaving the keys out."""
    text = (_ROOT / "config.example.yaml").read_text(encoding="utf-8")
    settings = parse(text.encode(), source="", environ={"SWITCH_CLIENT_ID": "id"})
    assert (settings.admin, settings.log, settings.shutdown) == tuple(
        field.default for field in fields_of(Settings) if field.name in {"admin", "log", "shutdown"}
    )


def test_committed_schema_is_the_one_that_the_command_prints() -> None:
    """`make schema` writes it."""
    committed = json.loads((_ROOT / "config.schema.json").read_text(encoding="utf-8"))
    assert committed == configuration_schema()
