"""
From plain values to Settings, or to everything that is wrong with them at once, in words for the person who wrote them.

Knows the models of core/config.py and pydantic's kinds of errors; knows nothing of files and lines. A value is shown
in a finding only where it is of a kind that can be no secret, and never where it came out of the environment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from proxy.core.config import (
    SECRET_VARIABLE,
    AdminSettings,
    ConflictError,
    CredentialSettings,
    LimitSettings,
    LogSettings,
    PoolSettings,
    RouteSettings,
    SecretSource,
    Settings,
    ShutdownSettings,
    TimeoutSettings,
    TlsSettings,
    find_conflicts,
)
from proxy.core.errors import InvalidValueError, SwitchProxyError
from proxy.core.findings import Finding, Path, render_path

_LONGEST_SHOWN: Final = 60

_CHOSEN_KEYS: Final = (("credentials", "NAME"), ("credentials", "NAME", "extra_params", "NAME"))
"""Where keys are a person's choice."""

_PLACES: Final[tuple[tuple[str, type[BaseModel]], ...]] = (
    ("the top level", Settings),
    ("credentials.NAME", CredentialSettings),
    ("credentials.NAME.client_secret", SecretSource),
    ("routes[N]", RouteSettings),
    ("routes[N].timeouts", TimeoutSettings),
    ("routes[N].limits", LimitSettings),
    ("routes[N].pool", PoolSettings),
    ("tls", TlsSettings),
    ("admin", AdminSettings),
    ("log", LogSettings),
    ("shutdown", ShutdownSettings),
)


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
    findings: list[Finding] = []
    settings = None
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            findings.extend(_findings_of(details, expanded))
    for conflict in find_conflicts(data):
        subject = _subject(conflict.value, expanded.get(conflict.path, ()), may_be_shown=True)
        findings.append(Finding(path=conflict.path, text=f"{subject} {conflict.complaint}"))
    if settings is None or findings:
        raise InvalidSettingsError(tuple(findings))
    return settings


def _findings_of(details: Mapping[str, Any], expanded: Mapping[Path, tuple[str, ...]]) -> Iterator[Finding]:
    path: Path = details["loc"]
    match details["type"]:
        case "value_error":
            error = details["ctx"]["error"]
            if isinstance(error, ConflictError):
                return  # find_conflicts says it too, and says all of them
            if _is_about_key(path):
                yield Finding(path=path[:-1], text=f"the key {_complaint(error)}", is_about_key=True)
                return
            names = expanded.get(path, ())
            text = f"{_subject(details['input'], names, may_be_shown=_may_be_shown(error))} {_complaint(error)}"
            if names and path[-1] == "client_secret":
                text = text.replace(SECRET_VARIABLE, names[0])
            yield Finding(path=path, text=text)
        case "missing":
            yield Finding(path=path, text=f"is missing; write {_example(path)}", is_about_absence=True)
        case "extra_forbidden":
            yield Finding(path=path, text=_unknown_key(path), is_about_key=True)
        case "model_type" | "model_attributes_type" | "dict_type" | "mapping_type":
            yield Finding(path=path, text=f"must be keys with values, one a line; write {_example(path)}")
        case "tuple_type" | "list_type":
            yield Finding(path=path, text="must be a list; begin each of its entries with a hyphen and a space")
        case _:
            # None is known to come here; pydantic's own words hold no value (hide_input_in_errors).
            yield Finding(path=path, text=str(details["msg"]))


def _is_about_key(path: Path) -> bool:
    """Tell whether pydantic means a key that a person chose: to the path of its value it adds a word then."""
    return path[-1:] == ("[key]",) and len(path) in {len(chosen) + 1 for chosen in _CHOSEN_KEYS}


def _complaint(error: Exception) -> str:
    return error.complaint if isinstance(error, InvalidValueError) else f"cannot be used: {error}"


def _may_be_shown(error: Exception) -> bool:
    return isinstance(error, InvalidValueError) and error.may_be_shown


def _subject(value: object, names: tuple[str, ...], *, may_be_shown: bool) -> str:
    if names:
        return f"the value of {' and '.join(f'${{{name}}}' for name in names)}"
    match value:
        case Mapping():
            return "a set of keys"
        case list() | tuple():
            return "a list"
        case None:
            return "an empty value"
    return _shown(value) if may_be_shown else "the value"


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 2]}…"


# --- keys ----------------------------------------------------------------------------------------------------------


def _unknown_key(path: Path) -> str:
    # Imported here: only for a mistake, which a start without one need not pay for.
    from difflib import get_close_matches  # noqa: PLC0415

    model = _model_at(path[:-1])
    keys = list(model.model_fields) if model is not None else []
    # clientId, Client-Id and client_id are one key to the person who wrote it.
    key = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(path[-1])).replace("-", "_").lower()
    if close := get_close_matches(key, keys, n=1, cutoff=0.7):
        return f"is not a key here; did you mean {close[0]}?"
    if places := [place for place, other in _PLACES if key in other.model_fields]:
        return f"is not a key here, but one of {' and of '.join(places)}; write it there"
    return f"is not a key here; those that are: {', '.join(keys)}"


def _example(path: Path) -> str:
    model = _model_at(path[:-1])
    field = model.model_fields.get(str(path[-1])) if model is not None and path else None
    examples = (field.examples if field is not None else None) or []
    return f"{path[-1]}: {_flow(examples[0])}" if examples else "its entries below it, as in config.example.yaml"


def _flow(value: object) -> str:
    """Return a value as YAML's flow style writes it."""
    match value:
        case Mapping():
            return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_flow, value)) + "]"
    return str(value)


def _model_at(path: Path) -> type[BaseModel] | None:
    """Return the model whose keys stand at a path; None where keys are free."""
    current: Any = Settings
    for part in path:
        if _is_model(current):
            field = current.model_fields.get(str(part))
            current = None if field is None else field.annotation
        else:
            current = next((argument for argument in get_args(current) if _is_model(argument)), None)
    return current if _is_model(current) else None


def _is_model(candidate: object) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)
