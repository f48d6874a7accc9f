"""From settings back to plain values as they are written, for the defaults in config.schema.json and for round trips."""

from __future__ import annotations

from typing import Any, cast

from switch_proxy.core.addresses import Address, Origin, RedisAddress
from switch_proxy.core.config.models.route import LISTENER_KEYS, RouteSettings
from switch_proxy.core.path_pattern import PathPattern
from switch_proxy.core.path_prefix import PathPrefix
from switch_proxy.core.rate import Rate
from switch_proxy.core.schema.keys import fields_of


def dump_model(model: Any) -> dict[str, object]:
    """Return a model as keys with plain values; core/config/validation.py reads the same model from them."""
    values = {field.name: _plain(getattr(model, field.name)) for field in fields_of(type(model))}
    if isinstance(model, RouteSettings) and model.listener is not None:
        # These keys are refused on such a route, because its listener has them.
        for section, key in LISTENER_KEYS:
            holder = values if section is None else values[section]
            cast("dict[str, object]", holder).pop(key)
    return values


def dump_value(value: object) -> object:
    """Return one value of a model in its plain form: addresses and origins as text, models as their keys."""
    return _plain(value)


def _plain(value: object) -> object:
    match value:
        case Address() | Origin() | PathPattern() | PathPrefix() | Rate() | RedisAddress():
            return str(value)
        case None | bool() | int() | float() | str():
            return value
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case tuple():
            return [_plain(item) for item in value]
    return dump_model(value)
