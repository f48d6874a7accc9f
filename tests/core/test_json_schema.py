"""The JSON Schema that editors check a configuration by."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given

from switch_proxy.core.config.dump import dump_model
from switch_proxy.core.config.json_schema import configuration_schema
from switch_proxy.core.config.validation import read_settings
from tests.core.configurations import configurations

_SCHEMA = configuration_schema()

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def _is_of_type(value: Any, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _conforms(value: Any, schema: dict[str, Any]) -> bool:
    """Tell whether a value conforms, by the words of JSON Schema (draft 7) that the schema uses; another one raises."""
    return all(_obeys(value, word, schema) for word in schema)


def _obeys(value: Any, word: str, schema: dict[str, Any]) -> bool:  # noqa: C901, PLR0912 - a case for each word
    said = schema[word]
    match word:
        case "$schema" | "title" | "description" | "default" | "examples":
            return True
        case "anyOf":
            return any(_conforms(value, alternative) for alternative in said)
        case "type":
            return any(_is_of_type(value, name) for name in ([said] if isinstance(said, str) else said))
        case "enum":
            return any(value == item and type(value) is type(item) for item in said)
        case "pattern":
            return not isinstance(value, str) or re.search(said, value) is not None
        case "minimum":
            return not _is_of_type(value, "number") or value >= said
        case "maximum":
            return not _is_of_type(value, "number") or value <= said
        case "required":
            return not isinstance(value, dict) or all(key in value for key in said)
        case "properties":
            return not isinstance(value, dict) or all(_conforms(value[key], said[key]) for key in said if key in value)
        case "additionalProperties":
            others = (
                [key for key in value if key not in schema.get("properties", {})] if isinstance(value, dict) else []
            )
            return not others if said is False else all(_conforms(value[key], said) for key in others)
        case "propertyNames":
            return not isinstance(value, dict) or all(_conforms(key, said) for key in value)
        case "items":
            return not isinstance(value, list) or all(_conforms(item, said) for item in value)
        case "minItems" | "minProperties":
            return not isinstance(value, (list, dict)) or len(value) >= said
    raise AssertionError(f"the schema uses {word}, which this test does not know")


@given(configurations())
def test_schema_accepts_what_can_be_read(data: dict[str, Any]) -> None:
    """An editor must not mark as wrong what the proxy takes, in the form people write or in the final one."""
    assert _conforms(data, _SCHEMA)
    assert _conforms(dump_model(read_settings(data, {})), _SCHEMA)


_ROUTE = {"name": "a", "listen": "127.0.0.1:1", "upstream": "https://a.example", "credential": "b"}
_CREDENTIAL = {"token_url": "https://a.example/t", "client_id": "c", "client_secret": {"env": "S"}}


def _file(
    *, route: dict[str, Any] | None = None, credential: dict[str, Any] | None = None, **top: Any
) -> dict[str, Any]:
    return {"credentials": {"b": {**_CREDENTIAL, **(credential or {})}}, "routes": [{**_ROUTE, **(route or {})}], **top}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_file(route={"wait_for_token": "5s", "limits": {"head": "64KiB"}}), id="units"),
        pytest.param(
            _file(route={"wait_for_token": "${WAIT}", "allow_plaintext": "${PLAINTEXT:-false}"}), id="variables"
        ),
        pytest.param(
            _file(route={"listen": "${HOST}:${PORT}", "upstream": "${UPSTREAM}"}), id="variables in addresses"
        ),
        pytest.param(_file(route={"timeouts": None}, log=None, admin={"listen": "off"}), id="sections of nothing"),
        pytest.param(_file(log={"access": False, "level": "debug"}), id="off as YAML 1.1 has it"),
    ],
)
def test_schema_accepts_every_form_of_a_value(data: dict[str, Any]) -> None:
    assert _conforms(data, _SCHEMA)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({}, id="nothing"),
        pytest.param(_file(extra=1), id="unknown key"),
        pytest.param(_file(credential={"client_secret": "hunter2"}), id="secret in the clear"),
        pytest.param(_file(credential={"token_url": "login.example.com"}), id="no URL"),
        pytest.param(_file(route={"listen": "8080"}), id="port alone"),
        pytest.param(_file(route={"name": "a b"}), id="space in a name"),
        pytest.param(_file(route={"wait_for_token": "5 parsecs"}), id="no duration"),
        pytest.param(_file(route={"pool": {"max_connections": 0}}), id="out of range"),
        pytest.param(_file(route={"allow_plaintext": "yes"}), id="no switch"),
        pytest.param(_file(log={"level": "loud"}), id="unknown word"),
        pytest.param({**_file(), "routes": []}, id="no routes"),
        pytest.param({**_file(), "credentials": {"b c": _CREDENTIAL}}, id="no name"),
    ],
)
def test_schema_refuses_what_an_editor_can_tell_to_be_wrong(data: dict[str, Any]) -> None:
    assert not _conforms(data, _SCHEMA)


def _objects(schema: dict[str, Any]) -> list[dict[str, Any]]:
    below = [*schema.get("properties", {}).values(), schema.get("items", {}), schema.get("additionalProperties") or {}]
    return [schema, *(found for part in below if part for found in _objects(part))]


def test_schema_describes_every_key() -> None:
    """It is what an editor shows beside the key."""
    for part in _objects(_SCHEMA):
        for key, said in part.get("properties", {}).items():
            assert said["description"].endswith("."), key
