"""docs/configuration.md, config.example.yaml and config.schema.json say what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from switch_proxy.cli import ExitCode, make_parser
from switch_proxy.core.addresses import Address
from switch_proxy.core.config.json_schema import configuration_schema
from switch_proxy.core.config.keys import Field, fields_of
from switch_proxy.core.config.models import Settings
from switch_proxy.core.config.units import parse_duration, parse_size
from switch_proxy.settings import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[2]
_REFERENCE = (_ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


_INLINE = frozenset({"client_secret", "previous_client_secret", "private_key", "client_assertion"})
"""Sections whose keys are told in the table of the section above them."""


def _sections() -> dict[str, str]:
    """Return the reference's texts by their headings, without backticks."""
    pieces = re.split(r"^#{3,4} (.*)$", _REFERENCE, flags=re.MULTILINE)
    return {heading.replace("`", ""): text for heading, text in zip(pieces[1::2], pieces[2::2], strict=True)}


def _keys(model: type[Any], heading: str, prefix: str = "") -> Iterator[tuple[str, str, Field]]:
    """Return the section of the reference, the key as it is written there, and the field, of each key there is."""
    for field in fields_of(model):
        if field.name in _INLINE:
            yield from ((heading, f"{field.name}.{inner.name}", inner) for inner in fields_of(field.model or model))
        elif field.model is None or field.name == "tls":
            yield heading, f"{prefix}{field.name}", field
        if field.model is not None and field.name not in _INLINE:
            place = f"{heading}.{field.name}" if heading else field.name
            place = f"{place}.NAME" if field.is_table else f"{place}[N]" if field.is_list else place
            yield from _keys(field.model, "TLS" if field.name == "tls" else place)


_KEYS = [pytest.param(*key, id=f"{key[0]}.{key[1]}") for key in _keys(Settings, "")]


def _row(heading: str, key: str) -> list[str]:
    for line in _sections()[heading].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == f"`{key}`":
            return cells
    pytest.fail(f"docs/configuration.md has no row for `{key}` under {heading!r}")


@pytest.mark.parametrize(("heading", "key", "field"), _KEYS)
def test_every_key_is_in_the_reference_with_its_default_and_its_reason(heading: str, key: str, field: Field) -> None:
    _, kind, default, text = _row(heading, key)
    assert text.endswith(".")
    if field.is_required:
        assert default == "required"
    elif isinstance(field.default, bool):
        assert default == f"`{str(field.default).lower()}`"
    elif kind == "duration":
        assert parse_duration(default.strip("`")) == field.default
    elif kind in {"size", "number"}:
        assert parse_size(default.strip("`")) == field.default
    elif isinstance(field.default, (str, Address)):
        assert default == f"`{field.default}`"
    else:
        assert not default.startswith("`")


def test_reference_tells_of_no_key_that_there_is_not() -> None:
    known = {(heading, key) for heading, key, _ in _keys(Settings, "")}
    for heading, text in _sections().items():
        for key in re.findall(r"^\| `([a-z_.]+)` \| ", text, flags=re.MULTILINE):
            assert (heading, key) in known


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
    """Who starts from the example gets what who leaves the keys out gets."""
    text = (_ROOT / "config.example.yaml").read_text(encoding="utf-8")
    settings = parse(text.encode(), source="", environ={"SWITCH_CLIENT_ID": "id"})
    assert (settings.admin, settings.log, settings.shutdown) == tuple(
        field.default for field in fields_of(Settings) if field.name in {"admin", "log", "shutdown"}
    )


def test_committed_schema_is_the_one_that_the_command_prints() -> None:
    """`make schema` writes it anew."""
    committed = json.loads((_ROOT / "config.schema.json").read_text(encoding="utf-8"))
    assert committed == configuration_schema()
