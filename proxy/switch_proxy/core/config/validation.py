"""
From plain values to Settings, or to all of their problems at once, in words for the person who wrote them.

Reads the models of core/config/models/ by their keys (core/schema/keys.py); knows nothing about files and lines. A problem
shows a value only if its kind cannot be a secret, and never if it came from the environment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from switch_proxy.core.authentication.client_secret import SECRET_VARIABLE
from switch_proxy.core.config.models import Settings
from switch_proxy.core.config.models.conflicts import find_conflicts
from switch_proxy.core.errors import ConfigurationError, InvalidValueError
from switch_proxy.core.schema.keys import Field, fields_of, find_problems, may_not_be_empty
from switch_proxy.core.schema.problem import About, Path, Problem
from switch_proxy.core.schema.rules import TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST_SHOWN: Final = 60

_UNUSABLE: Final = object()
"""Placeholder for a value with a reported problem."""


def read_settings(data: Mapping[str, Any], variables: Mapping[Path, tuple[str, ...]]) -> Settings:
    """
    Return the settings of plain values.

    `variables` has the names of the variables for each path whose value came from `${…}`. Raises ConfigurationError with
    every problem, still without source and mark.
    """
    reader = _Reader(data, variables)
    # Conflicts between sections first, because Settings refuses to be made with one.
    for problem in find_conflicts(data):
        reader.report(problem)
    settings = reader.model(Settings, data, (), may_be_made=not reader.problems)
    if settings is _UNUSABLE:
        raise ConfigurationError(tuple(reader.problems))
    return cast(Settings, settings)


class _Reader:
    """Reads plain values by the models, and collects the problems."""

    def __init__(self, data: Mapping[str, Any], variables: Mapping[Path, tuple[str, ...]]) -> None:
        self.problems: list[Problem] = []
        self._data = data
        self._variables = variables

    def model(self, model: type[Any], data: object, path: Path, *, may_be_made: bool = True) -> object:
        """Return the model made of `data`, _UNUSABLE if there is a problem."""
        if not isinstance(data, Mapping):
            return self._add(path, "must be keys with values, one per line and indented below it")
        fields = {field.name: field for field in fields_of(model)}
        values: dict[str, Any] = {}
        for name, field in fields.items():
            value = self._value(field, data, path)
            if value is not _UNUSABLE:
                values[name] = value
        for key in data:
            if key not in fields:
                self._add((*path, key), _unknown_key(key, fields), about=About.KEY)
                may_be_made = False
        for problem in find_problems(model, values):
            self.report(problem.below(path))
            may_be_made = False
        return model(**values) if may_be_made and len(values) == len(fields) else _UNUSABLE

    def _value(self, field: Field, data: Mapping[str, Any], above: Path) -> object:
        path = (*above, field.name)
        if field.name not in data:
            if not field.is_required:
                return field.default
            example = field.key.example
            advice = f"{field.name}: {example}" if example else f"{field.name} as in config.example.yaml"
            return self._add(path, f"is missing; write {advice}", about=About.ABSENCE)
        value = data[field.name]
        if field.is_table:
            return self._table(field, value, path)
        if field.is_list:
            return self._list(field, value, path)
        if field.model is None:
            return self._single(field, value, path)
        try:
            if field.key.before is not None:
                field.key.before(value)
        except InvalidValueError as error:
            return self._refuse(path, error)
        if value is None and field.default is None and not field.is_required:
            return None
        # A section without keys (all commented out, for example) counts as left out.
        return self.model(field.model, {} if value is None else value, path)

    def _table(self, field: Field, value: object, path: Path) -> object:
        if value is None and not field.is_required:
            return field.default
        if not isinstance(value, Mapping):
            return self._add(path, "must be names, each with its own keys, one per line and indented below it")
        if not value and field.holds_models and field.is_required:
            return self._add(path, "is empty; write at least one, as in config.example.yaml")
        table = {}
        for name, item in value.items():
            try:
                (field.key.names or TEXT).parse(name)
            except InvalidValueError as error:
                table[name] = self._add((*path, name), f"the key {error.predicate}", about=About.KEY)
            item_read = self._item(field, item, (*path, name))
            table.setdefault(name, item_read)
        return _UNUSABLE if _UNUSABLE in table.values() else table

    def _list(self, field: Field, value: object, path: Path) -> object:
        if value is None and not field.is_required:
            return field.default
        if not isinstance(value, (list, tuple)):
            return self._add(path, "must be a list; start each entry with a hyphen and a space")
        if not value and may_not_be_empty(field):
            advice = "as in config.example.yaml" if field.is_required else "or remove the key"
            return self._add(path, f"is empty; write at least one, {advice}")
        items = tuple(self._item(field, item, (*path, index)) for index, item in enumerate(value))
        return _UNUSABLE if _UNUSABLE in items else items

    def _item(self, field: Field, value: object, path: Path) -> object:
        return self._single(field, value, path) if field.model is None else self.model(field.model, value, path)

    def _single(self, field: Field, value: object, path: Path) -> object:
        try:
            return value if field.key.rule is None else field.key.rule.parse(value)
        except InvalidValueError as error:
            return self._refuse(path, error)

    def report(self, problem: Problem) -> None:
        """Add a problem that a model or a rule has found; if it is about a value, put the value before its text."""
        if problem.about is not About.VALUE:
            self.problems.append(problem)
            return
        names = self._variables.get(problem.path, ())
        value = _value_at(self._data, problem.path)
        text = f"{_subject(value, names, is_safe_to_echo=problem.is_safe_to_echo)} {problem.text}"
        if names:
            # If the variable holds the secret itself, the right form has its name.
            text = text.replace(SECRET_VARIABLE, names[0])
        self.problems.append(replace(problem, text=text))

    def _refuse(self, path: Path, error: InvalidValueError) -> object:
        self.report(Problem(path=path, text=error.predicate, is_safe_to_echo=error.is_safe_to_echo))
        return _UNUSABLE

    def _add(self, path: Path, text: str, *, about: About = About.VALUE) -> object:
        """Add a problem with a complete text, and return _UNUSABLE."""
        self.problems.append(Problem(path=path, text=text, about=about))
        return _UNUSABLE


def _value_at(data: object, path: Path) -> object:
    """Return the value at a path, None if there is none."""
    for part in path:
        if isinstance(part, int) and isinstance(data, (list, tuple)):
            data = data[part]
        else:
            data = data.get(part) if isinstance(data, Mapping) else None
    return data


def _subject(value: object, names: tuple[str, ...], *, is_safe_to_echo: bool) -> str:
    if names:
        return f"the value of {' and '.join(f'${{{name}}}' for name in names)}"
    if not is_safe_to_echo or value is None:
        return "the value"
    if isinstance(value, (Mapping, list, tuple)):
        return "a list" if not isinstance(value, Mapping) else "a set of keys"
    text = json.dumps(value, default=str)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


# --- keys that are not known ---------------------------------------------------------------------------------------


def _unknown_key(key: str, fields: Mapping[str, Field]) -> str:
    # Imported here, so that a start without a mistake does not pay for it.
    from difflib import get_close_matches  # noqa: PLC0415

    for name, field in fields.items():
        if field.key.former_name == key:
            return f"is not a key here; did you mean {name}?"
    # People write clientId, Client-Id and client_id for the same key.
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).replace("-", "_").lower()
    if close := get_close_matches(plain, fields, n=1, cutoff=0.7):
        return f"is not a key here; did you mean {close[0]}?"
    if places := [place for place, name in _places(Settings, "") if name == plain]:
        return f"is not a key here, but one of {' and of '.join(places)}; write it there"
    return f"is not a key here; the keys here are: {', '.join(fields)}"


def _places(model: type[Any], place: str) -> Iterator[tuple[str, str]]:
    """Yield every key, each with the path of its section."""
    for field in fields_of(model):
        yield place or "the top level", field.name
        if field.model is not None:
            below = f"{place}.{field.name}" if place else field.name
            yield from _places(
                field.model, f"{below}.NAME" if field.is_table else f"{below}[N]" if field.is_list else below
            )
