"""
From plain values to Settings, or to everything that is wrong with them at once, in words for the person who wrote them.

Knows the models of core/config/models/ by what core/config/keys.py tells of them; knows nothing of files and lines. A value is
shown in a finding only where it is of a kind that can be no secret, and never where it came out of the environment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from switch_proxy.core.config.findings import Finding, Path, render_path
from switch_proxy.core.config.keys import Field, fields_of, find_faults
from switch_proxy.core.config.models import Settings
from switch_proxy.core.config.models.client_authentication import SECRET_VARIABLE
from switch_proxy.core.config.models.conflicts import find_conflicts
from switch_proxy.core.errors import InvalidValueError, SwitchProxyError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST_SHOWN: Final = 60

_UNUSABLE: Final = object()
"""Stands for a value of which a finding tells."""


class InvalidSettingsError(SwitchProxyError):
    """Values make no Settings; `findings` is all that is wrong with them."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__("\n".join(f"{render_path(finding.path)}: {finding.text}" for finding in findings))
        self.findings = findings


def read_settings(data: Mapping[str, Any], expanded: Mapping[Path, tuple[str, ...]]) -> Settings:
    """
    Return the settings that plain values say.

    `expanded` has, for each path whose value came out of `${…}`, the names of the variables. Raises InvalidSettingsError.
    """
    reader = _Reader(expanded)
    # First what is wrong between parts, for settings are only made of what fits.
    for conflict in find_conflicts(data):
        if conflict.is_about_key:
            reader.findings.append(Finding(path=conflict.path, text=conflict.complaint, is_about_key=True))
            continue
        reader.complain(conflict.path, conflict.value, InvalidValueError(conflict.complaint, may_be_shown=True))
    has_conflicts = bool(reader.findings)
    settings = reader.model(Settings, data, (), may_be_made=not has_conflicts)
    if settings is _UNUSABLE:
        raise InvalidSettingsError(tuple(reader.findings))
    return cast(Settings, settings)


class _Reader:
    """Reads plain values by the models, and collects what is wrong with them."""

    def __init__(self, expanded: Mapping[Path, tuple[str, ...]]) -> None:
        self.findings: list[Finding] = []
        self._expanded = expanded

    def model(self, model: type[Any], data: object, path: Path, *, may_be_made: bool = True) -> object:
        """Return the model that `data` says, _UNUSABLE where it says none."""
        if not isinstance(data, Mapping):
            self.findings.append(Finding(path=path, text="must be keys with values, one a line, indented below it"))
            return _UNUSABLE
        fields = {field.name: field for field in fields_of(model)}
        values: dict[str, Any] = {}
        for name, field in fields.items():
            value = self._value(field, data, path)
            if value is not _UNUSABLE:
                values[name] = value
        for key in data:
            if key not in fields:
                text = _unknown_key(key, fields)
                self.findings.append(Finding(path=(*path, key), text=text, is_about_key=True))
                may_be_made = False
        for fault in find_faults(model, values):
            at = path if fault.key is None else (*path, fault.key)
            if fault.is_about_absence:
                self.findings.append(Finding(path=at, text=fault.complaint, is_about_absence=True))
                may_be_made = False
                continue
            value = data if fault.key is None else data.get(fault.key)
            self.complain(at, value, InvalidValueError(fault.complaint, may_be_shown=fault.may_be_shown))
            may_be_made = False
        return model(**values) if may_be_made and len(values) == len(fields) else _UNUSABLE

    def _value(self, field: Field, data: Mapping[str, Any], above: Path) -> object:
        path = (*above, field.name)
        if field.name not in data:
            if not field.is_required:
                return field.default
            example = field.key.example
            advice = f"{field.name}: {example}" if example else f"{field.name} as in config.example.yaml"
            self.findings.append(Finding(path=path, text=f"is missing; write {advice}", is_about_absence=True))
            return _UNUSABLE
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
            return self.complain(path, value, error)
        if value is None and field.default is None and not field.is_required:
            return None
        # A section without keys (all of them comments, say) is one that is left out.
        return self.model(field.model, {} if value is None else value, path)

    def _table(self, field: Field, value: object, path: Path) -> object:
        if value is None and not field.is_required:
            return field.default
        if not isinstance(value, Mapping):
            self.findings.append(
                Finding(path=path, text="must be names with what they name, one a line, indented below it")
            )
            return _UNUSABLE
        if not value and field.holds_models and field.is_required:
            self.findings.append(Finding(path=path, text="is empty; write at least one, as in config.example.yaml"))
            return _UNUSABLE
        table = {}
        for name, item in value.items():
            try:
                if field.key.names is not None:
                    field.key.names.parse(name)
            except InvalidValueError as error:
                finding = Finding(path=(*path, name), text=f"the key {error.complaint}", is_about_key=True)
                self.findings.append(finding)
                table[name] = _UNUSABLE
            item_read = self._item(field, item, (*path, name))
            table.setdefault(name, item_read)
        return _UNUSABLE if _UNUSABLE in table.values() else table

    def _list(self, field: Field, value: object, path: Path) -> object:
        if value is None and not field.is_required:
            return field.default
        if not isinstance(value, (list, tuple)):
            text = "must be a list; begin each of its entries with a hyphen and a space"
            self.findings.append(Finding(path=path, text=text))
            return _UNUSABLE
        if not value and field.is_required:
            self.findings.append(Finding(path=path, text="is empty; write at least one, as in config.example.yaml"))
            return _UNUSABLE
        items = tuple(self._item(field, item, (*path, index)) for index, item in enumerate(value))
        return _UNUSABLE if _UNUSABLE in items else items

    def _item(self, field: Field, value: object, path: Path) -> object:
        return self._single(field, value, path) if field.model is None else self.model(field.model, value, path)

    def _single(self, field: Field, value: object, path: Path) -> object:
        try:
            return value if field.key.rule is None else field.key.rule.parse(value)
        except InvalidValueError as error:
            return self.complain(path, value, error)

    def complain(self, path: Path, value: object, error: InvalidValueError) -> object:
        """Add a finding about a value, and return what stands for that value."""
        names = self._expanded.get(path, ())
        text = f"{_subject(value, names, may_be_shown=error.may_be_shown)} {error.complaint}"
        if names:
            # A secret that is taken from a variable here tells how it is to be taken.
            text = text.replace(SECRET_VARIABLE, names[0])
        self.findings.append(Finding(path=path, text=text))
        return _UNUSABLE


def _subject(value: object, names: tuple[str, ...], *, may_be_shown: bool) -> str:
    if names:
        return f"the value of {' and '.join(f'${{{name}}}' for name in names)}"
    if not may_be_shown or value is None:
        return "the value"
    if isinstance(value, (Mapping, list, tuple)):
        return "a list" if not isinstance(value, Mapping) else "a set of keys"
    text = json.dumps(value, default=str)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


# --- keys that are not known ---------------------------------------------------------------------------------------


def _unknown_key(key: str, fields: Mapping[str, Field]) -> str:
    # Imported here: only for a mistake, which a start without one need not pay for.
    from difflib import get_close_matches  # noqa: PLC0415

    # clientId, Client-Id and client_id are one key to the person who wrote it.
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).replace("-", "_").lower()
    if close := get_close_matches(plain, fields, n=1, cutoff=0.7):
        return f"is not a key here; did you mean {close[0]}?"
    if places := [place for place, name in _places(Settings, "") if name == plain]:
        return f"is not a key here, but one of {' and of '.join(places)}; write it there"
    return f"is not a key here; those that are: {', '.join(fields)}"


def _places(model: type[Any], place: str) -> Iterator[tuple[str, str]]:
    """Return all keys there are, each with the place it belongs to as people write it."""
    for field in fields_of(model):
        yield place or "the top level", field.name
        if field.model is not None:
            below = f"{place}.{field.name}" if place else field.name
            yield from _places(
                field.model, f"{below}.NAME" if field.is_table else f"{below}[N]" if field.is_list else below
            )
