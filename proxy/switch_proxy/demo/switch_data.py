"""
What the fake Switch API knows, and how its input is read: one organization's zone, resource, meters and readings.

Shapes and names are those of the API's public reference; the numbers are made up, the same ones at every run.
Posted readings are returned; a register without posts has a made-up daily curve.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_HOUR = 3600
_YEAR = 366 * 24 * _HOUR
_MAX_READINGS = 100_000
"""Values in one response: eleven years of one register by the hour, about 16 MB of JSON. More is surely a mistake."""

_MAX_VALUE = 1e15
"""The largest integer that a double holds exactly; no metered value comes near."""

_YEARS = range(1970, 2200)
"""The range of instants: enough for every reading, and far from the limits of date arithmetic."""

_CREATED = "2025-01-01T00:00:00.000Z"


class InputInvalidError(Exception):
    """The request's input is invalid; the text names the part and the reason (status 400)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A value of a register over a period."""

    start: datetime
    end: datetime
    updated_at: datetime
    value: float


class Query:
    """The parameters of a query by name. Every method raises InputInvalidError if it cannot read a parameter."""

    def __init__(self, parameters: Sequence[tuple[str, str]]) -> None:
        self._parameters = parameters

    def integers(self, name: str) -> list[int]:
        """Return the values of a parameter that must be present and may be repeated."""
        found = [_integer(value, name) for key, value in self._parameters if key == name]
        if not found:
            raise InputInvalidError(f"{name}: is required")
        return found

    def integer(self, name: str, *, default: int | None = None) -> int:
        """Return the value of a parameter that may be present once; if it is absent, the `default`, if any."""
        if default is not None and not any(key == name for key, _ in self._parameters):
            return default
        values = self.integers(name)
        if len(values) > 1:
            raise InputInvalidError(f"{name}: must not be repeated")
        return values[0]

    def period(self) -> tuple[datetime, datetime]:
        """Return `start` and `end`, the latter after the former."""
        start, end = self._instant("start"), self._instant("end")
        if end <= start:
            raise InputInvalidError("end: must be after start")
        return start, end

    def _instant(self, name: str) -> datetime:
        values = [value for key, value in self._parameters if key == name]
        if len(values) != 1:
            raise InputInvalidError(f"{name}: is required, once")
        return _instant(values[0], name)


class Readings:
    """The readings of all registers: posted ones, or made-up ones if nothing was posted."""

    def __init__(self) -> None:
        self._posted: dict[str, dict[datetime, Reading]] = {}

    def save(self, body: bytes, *, now: datetime) -> int:
        """Store the values of a `POST /api/readings` and return their number; if it raises, nothing is stored."""
        content = _object(_parsed(body), "body")
        found = [
            (register, reading)
            for meter, where in _objects(content, "meters", "")
            for register_object, register_where in _with_id(meter, where)
            for register, reading in _register_values(register_object, register_where, now=now)
        ]
        for register, reading in found:
            self._posted.setdefault(register, {})[reading.start] = reading
        return len(found)

    def select(self, query: Query) -> list[object]:
        """Return the response to `GET /api/readings`."""
        start, end = query.period()
        resolution = query.integer("resolution", default=0)
        if not 0 <= resolution <= _YEAR:
            raise InputInvalidError(f"resolution: must be 0 to {_YEAR} seconds")
        registers = query.integers("registerId")
        step = timedelta(seconds=resolution or _HOUR)
        _require_not_too_many(len(registers) * ((end - start) / step))
        return [
            {"registerId": register, "readings": [_shown(reading) for reading in self._of(register, start, end, step)]}
            for register in registers
        ]

    def select_hourly_averages(self, query: Query) -> list[object]:
        """Return the response to `GET /api/readings/average/hourly`."""
        start, end = query.period()
        registers = query.integers("registerId")
        _require_not_too_many(len(registers) * ((end - start) / timedelta(seconds=_HOUR)))
        response: list[object] = []
        for register in registers:
            hours: dict[datetime, list[Reading]] = {}
            for reading in self._of(register, start, end, timedelta(seconds=_HOUR / 4)):
                hours.setdefault(reading.start.replace(minute=0, second=0, microsecond=0), []).append(reading)
            averages = [
                Reading(
                    start=hour,
                    end=hour + timedelta(seconds=_HOUR),
                    updated_at=max(reading.updated_at for reading in readings),
                    value=round(sum(reading.value for reading in readings) / len(readings), 3),
                )
                for hour, readings in sorted(hours.items())
            ]
            response.append({"registerId": register, "readings": [_shown(average) for average in averages]})
        return response

    def _of(self, register: int, start: datetime, end: datetime, step: timedelta) -> Iterator[Reading]:
        posted = self._posted.get(str(register))
        if posted is not None:
            yield from (reading for at, reading in sorted(posted.items()) if start <= at < end)
            return
        at = start
        while at < end:
            yield Reading(start=at, end=at + step, updated_at=at + step, value=_curve(register, at))
            at += step


def save_reference_readings(body: bytes, *, now: datetime) -> int:
    """Check the body of `POST /api/grid/resource/{id}/readings/reference` and return its organization's id."""
    content = _object(_parsed(body), "body")
    for reading, where in _objects(content, "readings", ""):
        _reading(reading, where, now=now)
    organization = content.get("organizationId")
    if not isinstance(organization, int) or isinstance(organization, bool):
        raise InputInvalidError("organizationId: must be an integer")
    return organization


def market_zones(organizations: Sequence[int]) -> list[object]:
    """Return the response to `GET /api/grid/zone`."""
    return [
        {
            "id": 1,
            "createdBy": 1,
            "createdAt": _CREATED,
            "name": "Fake zone south",
            "timeResolution": 0,
            "orderQuantityResolution": 1,
            "organizationIds": list(organizations),
        }
    ]


def participants(organizations: Sequence[int]) -> object:
    """Return the response to `GET /api/grid/zone/{marketZoneId}/participants`."""
    resources = [{"resourceId": 1, "resourceName": "Fake battery"}]
    return {
        "organizations": [
            {
                "organizationId": organization,
                "organizationName": f"Fake organization {organization}",
                "resources": resources,
            }
            for organization in organizations
        ],
        "markets": [{"marketId": 1, "name": "Fake market"}],
    }


def resources(organization: int) -> list[object]:
    """Return the response to `GET /api/grid/resource`."""
    return [
        {
            "id": 1,
            "organizationId": organization,
            "marketZoneId": 1,
            "createdAt": _CREATED,
            "createdBy": 1,
            "connectedAt": _CREATED,
            "name": "Fake battery",
            "longitude": "13.0007",
            "latitude": "55.6050",
            "type": 0,
            "regulationType": 0,
            "endurance": 60,
            "cooldown": 60,
            "useZeroReference": False,
            "actualRegisterId": 1,
            "referenceRegisterId": 2,
            "isAggregate": False,
            "allowedProducts": [0],
            "pods": [],
        }
    ]


def meters(organization: int) -> object:
    """Return the response to `GET /api/meter`: one meter with two registers."""
    return {
        "meters": [
            {
                "id": 1,
                "externalId": "1",
                "name": "Fake meter",
                "type": 0,
                "longitude": "13.0007",
                "latitude": "55.6050",
                "organizationsIds": [organization],
            }
        ],
        "registers": [
            {
                "id": register,
                "externalId": str(register),
                "name": name,
                "type": 0,
                "measurementType": 0,
                "measurementPrefix": 0,
                "defaultResolution": _HOUR,
                "updateFrequency": _HOUR,
                "isVirtual": False,
                "meterId": 1,
            }
            for register, name in ((1, "actual"), (2, "reference"))
        ],
    }


def flexibility_orders(organization: int, start: datetime, end: datetime) -> list[object]:
    """Return the response to `GET /api/product/order/flexibility`: one order over the period."""
    return [
        {
            **_order(organization, start, end),
            "productType": 0,
            "flexibilityOrderGroupId": 1,
            "availabilityTransactionId": 1,
            "flexibilityScheduleId": 1,
            "availabilityScheduleTransactionId": 1,
            "targetOrganizationIds": [organization],
        }
    ]


def availability_orders(organization: int, start: datetime, end: datetime) -> list[object]:
    """Return the response to `GET /api/product/order/availability/resource/{resourceId}`: one order over the period."""
    return [{**_order(organization, start, end), "flexibilityOrdersExpireAt": instant_text(end)}]


def instant_text(at: datetime) -> str:
    """Return an instant as the API writes it: ISO 8601, UTC, milliseconds, Z."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _order(organization: int, start: datetime, end: datetime) -> dict[str, object]:
    return {
        "id": 1,
        "createdBy": 1,
        "createdAt": _CREATED,
        "expiresAt": instant_text(start),
        "start": instant_text(start),
        "end": instant_text(end),
        "unitPrice": 100,
        "minQuantity": 1,
        "maxQuantity": 10,
        "remainingQuantity": 10,
        "organizationId": organization,
        "resourceId": 1,
    }


def _require_not_too_many(readings: float) -> None:
    if readings > _MAX_READINGS:
        raise InputInvalidError(f"end: that would be more than {_MAX_READINGS} readings; ask for less at a time")


def _curve(register: int, at: datetime) -> float:
    """Return a made-up load: lowest at midnight, highest at noon, a little more for each register."""
    share_of_day = at.timestamp() % 86_400 / 86_400
    return round(10 + register - 5 * math.cos(2 * math.pi * share_of_day), 3)


def _shown(reading: Reading) -> dict[str, object]:
    return {
        "periodFrom": instant_text(reading.start),
        "periodTo": instant_text(reading.end),
        "updatedAt": instant_text(reading.updated_at),
        "value": reading.value,
    }


def _with_id(meter: Mapping[str, object], where: str) -> Iterator[tuple[Mapping[str, object], str]]:
    _identifier(meter, where)
    yield from _objects(meter, "registers", f"{where}.")


def _register_values(register: Mapping[str, object], where: str, *, now: datetime) -> Iterator[tuple[str, Reading]]:
    identifier = _identifier(register, where)
    for value, value_where in _objects(register, "values", f"{where}."):
        yield identifier, _reading(value, value_where, now=now)


def _reading(value: Mapping[str, object], where: str, *, now: datetime) -> Reading:
    start = _instant(value.get("timestamp"), f"{where}.timestamp")
    end = start if value.get("periodTo") is None else _instant(value["periodTo"], f"{where}.periodTo")
    if end < start:
        raise InputInvalidError(f"{where}.periodTo: must not be before timestamp")
    number = value.get("value")
    if not isinstance(number, int | float) or isinstance(number, bool) or abs(number) > _MAX_VALUE:
        raise InputInvalidError(f"{where}.value: must be a number, at most {_MAX_VALUE:g} either way")
    return Reading(start=start, end=end, updated_at=now, value=number)


def _identifier(owner: Mapping[str, object], where: str) -> str:
    identifier = owner.get("id")
    if not isinstance(identifier, str) or not identifier:
        raise InputInvalidError(f"{where}.id: must be a text")
    return identifier


def _objects(owner: Mapping[str, object], name: str, where: str) -> Iterator[tuple[Mapping[str, object], str]]:
    """Iterate over the objects of a list that must not be empty, each with its place."""
    found = owner.get(name)
    if not isinstance(found, list) or not found:
        raise InputInvalidError(f"{where}{name}: must be a list that is not empty")
    for position, item in enumerate(found):
        yield _object(item, f"{where}{name}[{position}]"), f"{where}{name}[{position}]"


def _object(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise InputInvalidError(f"{where}: must be an object")
    return value


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise InputInvalidError("body: is not JSON") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON (RFC 8259 §6)")


def _instant(value: object, where: str) -> datetime:
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            if at.tzinfo is not None and at.year in _YEARS:
                return at.astimezone(UTC)
    raise InputInvalidError(f"{where}: must be an ISO 8601 instant in UTC, such as 2025-11-03T15:51:44.667Z")


def _integer(value: str, where: str) -> int:
    # int() also accepts "1_000", " 1 " and digits of other scripts.
    if not re.fullmatch(r"-?[0-9]{1,10}", value) or not -(2**31) <= int(value) < 2**31:
        raise InputInvalidError(f"{where}: must be an integer of 32 bits")
    return int(value)
