"""
How a model says what it holds: each field is annotated with a Key, and the Key has the Rule of its value.

Keys are read by core/config/validation.py and described by core/config/json_schema.py. A model that is made in code holds
itself to them with `validate`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, get_args, get_origin

from switch_proxy.core.errors import InvalidValueError
from switch_proxy.core.schema.problem import render_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from switch_proxy.core.schema.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    What one value may be.

    `parse` returns the value in its final form, takes that form too, and raises InvalidValueError. `kind` is its type in a
    word for documentation, `json` what an editor can check of it (JSON Schema).
    """

    parse: Callable[[object], object]
    kind: str
    json: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """
    One key of a model: what it is for, and the rule of its value.

    `text` is complete by itself, because editors show it alone; `why` is the reason for the default, for the reference.
    `without` says what is used if the key is left out and its default is not a value. All three are Markdown.

    `rule` is None if the value is a model, or holds models. In a table it is the rule of each value, and `names` that of
    the names. `before` looks at the value of a section before its keys are read and raises InvalidValueError. `example` is
    a value as it is written in YAML. `former_name` is a name that the key once had.
    """

    text: str
    why: str = ""
    without: str = "none"
    rule: Rule | None = None
    names: Rule | None = None
    before: Callable[[object], None] | None = None
    example: str | None = None
    former_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A key of a model, with what its annotation says: the model that the value is or holds, and whether it is a table or list."""

    name: str
    key: Key
    model: type[Any] | None
    is_table: bool
    is_list: bool
    is_required: bool
    default: Any

    @property
    def holds_models(self) -> bool:
        """Return whether the value is a table or a list of models."""
        return self.model is not None and (self.is_table or self.is_list)


def fields_of(model: type[Any]) -> Iterator[Field]:
    """Yield the keys of a model in their order."""
    for field in dataclasses.fields(model):
        # The models have their annotations evaluated, so this is an Annotated, not a text.
        kind, key = get_args(field.type)[:2]
        factory = field.default_factory
        # A list that may be left out is `tuple[…] | None`: it is not the same as an empty one.
        kind = next((each for each in get_args(kind) if get_origin(each) is tuple), kind)
        models = [] if key.rule else [part for part in (kind, *get_args(kind)) if dataclasses.is_dataclass(part)]
        yield Field(
            name=field.name,
            key=key,
            model=cast("type[Any] | None", next(iter(models), None)),
            is_table=get_origin(kind) is dict,
            is_list=get_origin(kind) is tuple,
            is_required=field.default is dataclasses.MISSING and factory is dataclasses.MISSING,
            default=field.default if factory is dataclasses.MISSING else factory(),
        )


def validate(instance: Any) -> None:
    """Check a model that was made in code. Raises InvalidValueError at the first value that breaks its rule."""
    model = type(instance)
    values = {field.name: getattr(instance, field.name) for field in fields_of(model)}
    for field in fields_of(model):
        value = values[field.name]
        try:
            if field.key.before is not None:
                field.key.before(value)
            if not value and value is not None and may_not_be_empty(field):
                raise InvalidValueError("is empty; give at least one")
            for name, item in _items(field, value):
                if field.key.names is not None:
                    field.key.names.parse(name)
                if field.key.rule is not None:
                    field.key.rule.parse(item)
        except InvalidValueError as error:
            raise InvalidValueError(f"of {field.name} {error.predicate}") from None
    for problem in find_problems(model, values):
        raise InvalidValueError(f"of {render_path(problem.path) or model.__name__} {problem.text}")


def may_not_be_empty(field: Field) -> bool:
    """Return whether a table or list needs an entry: if it may be left out, that means something else than an empty one."""
    if field.is_list:
        return field.is_required or field.default is None
    return field.holds_models and field.is_required


def _items(field: Field, value: Any) -> Iterable[tuple[object, object]]:
    if field.is_table:
        return cast("Iterable[tuple[object, object]]", value.items())
    if field.is_list:
        return [(None, item) for item in value or ()]
    return [(None, value)]


def find_problems(model: type[Any], values: Mapping[str, Any]) -> Iterable[Problem]:
    """Return the problems between the values of a model's keys; an invalid value is absent from `values`."""
    finder: Callable[[Mapping[str, Any]], Iterable[Problem]] | None = getattr(model, "find_problems", None)
    return () if finder is None else finder(values)
