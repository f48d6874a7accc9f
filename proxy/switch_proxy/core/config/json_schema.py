"""The JSON Schema of the configuration, made from the models; editors complete and check with it (config.schema.json)."""

from __future__ import annotations

from typing import Any, Final, cast

from switch_proxy.core.config.dump import dump_value
from switch_proxy.core.config.models import Settings
from switch_proxy.core.schema.keys import Field, fields_of, may_not_be_empty

_DIALECT: Final = "http://json-schema.org/draft-07/schema#"
"""The newest dialect that every YAML language server supports in full."""


def configuration_schema() -> dict[str, Any]:
    """Return the schema of a whole configuration file."""
    return {"$schema": _DIALECT, "title": "switch-proxy", **_model(Settings)}


def _model(model: type[Any]) -> dict[str, Any]:
    fields = list(fields_of(model))
    schema: dict[str, Any] = {
        "description": _plain(" ".join((model.__doc__ or "").split())),
        "type": "object",
        "additionalProperties": False,
        "properties": {field.name: _described(field) for field in fields},
    }
    if required := [field.name for field in fields if field.is_required]:
        schema["required"] = required
    return schema


def _plain(markdown: str) -> str:
    """Return a text without backticks, which an editor would show as they are."""
    return markdown.replace("`", "")


def _described(field: Field) -> dict[str, Any]:
    schema = {**_value(field), "description": _plain(field.key.text)}
    # The defaults of a section are at its keys.
    if not field.is_required and field.model is None:
        default = dump_value(field.default)
        schema["default"] = int(default) if isinstance(default, float) and default.is_integer() else default
    # An example of several keys is not JSON, and the keys have examples of their own.
    if field.key.example is not None and not field.key.example.startswith("{"):
        schema["examples"] = [field.key.example]
    return schema


def _value(field: Field) -> dict[str, Any]:
    # A key has a rule or a model.
    single = dict(field.key.rule.json) if field.key.rule else _model(cast("type[Any]", field.model))
    if field.is_list:
        return (
            {"type": "array", "items": single}
            | ({} if field.is_required else {"type": ["array", "null"]})
            | ({"minItems": 1} if may_not_be_empty(field) else {})
        )
    if field.is_table:
        table: dict[str, Any] = {"type": "object", "additionalProperties": single}
        if field.key.names is not None and field.holds_models:
            table["propertyNames"] = field.key.names.json
            table |= {"minProperties": 1} if field.is_required else {"type": ["object", "null"]}
        return table
    if field.model is not None and not field.is_required:
        single["type"] = ["object", "null"]
    return single
