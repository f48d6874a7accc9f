"""Problems between the sections of a configuration: names, addresses, matches."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from switch_proxy.core.addresses import ADMIN_ADDRESS, Address
from switch_proxy.core.config.models.admin import ADMIN_LISTENER
from switch_proxy.core.config.models.route import LISTENER_KEYS
from switch_proxy.core.errors import InvalidValueError
from switch_proxy.core.path_prefix import PathPrefix
from switch_proxy.core.schema.problem import About, Problem
from switch_proxy.core.schema.rules import PATH_PREFIX, REQUEST_HOST, is_name, parse_address_or_off


def find_conflicts(data: Mapping[str, Any]) -> Iterator[Problem]:
    """
    Find parts that do not fit together, in values as they are written or in their final form.

    An invalid value is skipped, because it is a problem of its own.
    """
    yield from _find_name_conflicts(data)
    yield from _find_address_conflicts(data)
    credentials = _mapping(data.get("credentials"))
    for index, route in _routes(data):
        credential = route.get("credential")
        if is_name(credential) and credentials and credential not in credentials:
            text = _unknown_name(credential, credentials, kind="credential")
            yield Problem(path=("routes", index, "credential"), text=text, is_safe_to_echo=True)
    yield from _find_listener_conflicts(data)


def _find_name_conflicts(data: Mapping[str, Any]) -> Iterator[Problem]:
    names: dict[str, int] = {}
    with_own_listener: dict[str, int] = {}
    for index, route in _routes(data):
        name = route.get("name")
        if not is_name(name):
            continue
        first = names.setdefault(name, index)
        if not route.get("listener"):
            with_own_listener.setdefault(name, index)
        if name == ADMIN_LISTENER:
            text = "is what the log calls the admin listener; give the route another name"
            yield Problem(path=("routes", index, "name"), text=text, is_safe_to_echo=True)
        elif first != index:
            text = f"is the name of routes[{first}] already; give each route a name of its own"
            yield Problem(path=("routes", index, "name"), text=text, is_safe_to_echo=True)
    for name in _mapping(data.get("listeners")):
        if name == ADMIN_LISTENER:
            text = "is what the log calls the admin listener; give this one another name"
        elif name in with_own_listener:
            text = (
                f"is the name of routes[{with_own_listener[name]}], whose own listener has that name; give this one "
                "another name"
            )
        else:
            continue
        yield Problem(path=("listeners", name), text=text, about=About.KEY)


def _find_address_conflicts(data: Mapping[str, Any]) -> Iterator[Problem]:
    taken: list[tuple[str, Address]] = []
    admin = data.get("admin")
    if admin is None or isinstance(admin, Mapping):
        taken += _usable_address("admin.listen", _mapping(admin).get("listen", ADMIN_ADDRESS))
    listeners: list[tuple[tuple[str | int, ...], str, object]] = [
        (("listeners", name, "listen"), f"listeners.{name}.listen", _mapping(listener).get("listen"))
        for name, listener in _mapping(data.get("listeners")).items()
    ]
    listeners += [
        (("routes", index, "listen"), f"routes[{index}].listen", route.get("listen")) for index, route in _routes(data)
    ]
    for path, name, listen in listeners:
        for place, address in _usable_address(name, listen):
            clash = next((other_place for other_place, other in taken if address.clashes_with(other)), None)
            if clash is not None:
                text = f"is taken by {clash}; give each listener a port of its own"
                yield Problem(path=path, text=text, is_safe_to_echo=True)
            taken.append((place, address))


def _find_listener_conflicts(data: Mapping[str, Any]) -> Iterator[Problem]:
    listeners = _mapping(data.get("listeners"))
    used: set[str] = set()
    matched: dict[tuple[str, object, object], int] = {}
    for index, route in _routes(data):
        listener = route.get("listener")
        if not is_name(listener):
            continue
        used.add(listener)
        if listener not in listeners:
            text = _unknown_name(listener, listeners, kind="listener")
            yield Problem(path=("routes", index, "listener"), text=text, is_safe_to_echo=True)
            continue
        for section, key in LISTENER_KEYS:
            if key in (route if section is None else _mapping(route.get(section))):
                path = ("routes", index, key) if section is None else ("routes", index, section, key)
                text = (
                    "is needed before the route of a request is known, so it belongs to the listener; write it under "
                    f"listeners.{'.'.join(part for part in (listener, section) if part)}"
                )
                yield Problem(path=path, text=text, about=About.KEY)
        match = _usable_match(route.get("match"))
        first = index if match is None else matched.setdefault((listener, *match), index)
        if first != index:
            text = (
                f"matches the same requests as routes[{first}], on the same listener; give one of them another path or "
                "host in match"
            )
            path = ("routes", index, "match") if "match" in route else ("routes", index, "listener")
            yield Problem(path=path, text=text, about=About.KEY)
    for name in listeners:
        if is_name(name) and name not in used:
            text = f"is used by no route; write listener: {name} in one, or remove it"
            yield Problem(path=("listeners", name), text=text, about=About.KEY)


def _usable_match(match: object) -> tuple[object, object] | None:
    """Return path and host in a form that can be compared, None if one of them is invalid."""
    if match is not None and not isinstance(match, Mapping):
        return None
    values = _mapping(match)
    try:
        path, host = PATH_PREFIX.parse(values.get("path")), REQUEST_HOST.parse(values.get("host"))
    except InvalidValueError:
        return None
    return (path if path is not None else PathPrefix(segments=())), host


def _unknown_name(name: str, known: Mapping[str, object], *, kind: str) -> str:
    # Imported here, so that a start without a mistake does not pay for it.
    from difflib import get_close_matches  # noqa: PLC0415

    names = [candidate for candidate in known if is_name(candidate)]
    if close := get_close_matches(name, names, n=1):
        return f'names no {kind}; did you mean "{close[0]}"?'
    if not names:
        return (
            f"names no {kind}, and there is no {kind}s section; write it at the top level, as in docs/configuration.md"
        )
    return f"names no {kind}; write one of those in {kind}s ({', '.join(names)}), or add it there"


def _routes(data: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for index, entry in enumerate(_sequence(data.get("routes"))):
        yield index, _mapping(entry)


def _usable_address(place: str, value: object) -> list[tuple[str, Address]]:
    try:
        address = parse_address_or_off(value)
    except InvalidValueError:
        return []
    return [] if address is None else [(place, address)]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, (list, tuple)) else ()
