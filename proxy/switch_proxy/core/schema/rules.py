"""The rules of single values in a configuration: how each is parsed, and what an editor can check."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from switch_proxy.core.addresses import (
    Address,
    Origin,
    RedisAddress,
    parse_address,
    parse_endpoint,
    parse_host,
    parse_origin,
    parse_redis_address,
)
from switch_proxy.core.errors import InvalidValueError
from switch_proxy.core.path_pattern import PathPattern, parse_path_pattern
from switch_proxy.core.path_prefix import PathPrefix, parse_path_prefix
from switch_proxy.core.rate import Rate, parse_rate
from switch_proxy.core.schema.keys import Rule
from switch_proxy.core.schema.units import (
    format_duration,
    is_off,
    parse_count,
    parse_duration,
    parse_size,
    parse_switch,
)
from switch_proxy.core.upgrade_protocols import parse_protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_DAY: Final = 86400.0
_MIB: Final = 1024 * 1024

# A name becomes a label of metrics, a word of log lines and a part of messages.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")  # RFC 6749 §3.3
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110 §5.6.2
_NEVER_FORWARDED: Final = frozenset({"CONNECT", "TRACE", "TRACK"})
_OTHER_ORIGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9._-]+(?::[0-9]{1,5})?")
"""Of pages that are no web site's: a browser's extension, an app's own view."""
_REDIS_PREFIX: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
_ABSOLUTE_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9\-._~!$&'()*+,;=:@/?%\[\]]+")  # RFC 8707 §2


def is_name(value: object) -> TypeGuard[str]:
    """Return whether a value can be the name of a credential, a listener or a route."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def parse_address_or_off(value: object) -> Address | None:
    """Return the address of a value, None if it is off. Raises InvalidValueError."""
    return None if value is None or is_off(value) else _address(value)


def parse_name(value: object) -> str:
    """Return the name of a credential, a listener or a route. Raises InvalidValueError."""
    text = parse_text(value)
    if not is_name(text):
        raise InvalidValueError(
            "is not a name; write up to 63 letters, digits, dots, hyphens and underscores, a letter or digit first"
        )
    return text


def parse_text(value: object) -> str:
    """Return one line of text without spaces around it. Raises InvalidValueError."""
    if value is None:
        raise InvalidValueError("is empty; write a value")
    if not isinstance(value, str):
        raise InvalidValueError("is not text; put it in quotes if it is the value you mean")
    if not value.isprintable():
        raise InvalidValueError("has an invisible character (a line end, a tab or a special space); remove it")
    if not value.strip():
        raise InvalidValueError("is empty; write a value")
    if value != value.strip():
        raise InvalidValueError("has a space at its start or end; remove it")
    return value


def _text_or_none(value: object) -> str | None:
    """Return text, None if it is empty: `${NAME:-}` is empty if the variable is not set."""
    return None if value is None or value == "" else parse_text(value)


def _variable(value: object) -> str | None:
    text = _text_or_none(value)
    if text is not None and _VARIABLE.fullmatch(text) is None:
        raise InvalidValueError(
            "is not the name of an environment variable; write the name, such as SWITCH_CLIENT_SECRET, not the value"
        )
    return text


def _scope(value: object) -> str | None:
    text = _text_or_none(value)
    if text is not None and _SCOPE.fullmatch(text) is None:
        raise InvalidValueError("is not a scope; write scope names with one space between them (RFC 6749 §3.3)")
    return text


def _pseudonym(value: object) -> str | None:
    if value is None or is_off(value):
        return None
    text = parse_text(value)
    if _TOKEN.fullmatch(text) is None:
        raise InvalidValueError(
            "cannot be used in a Via line; write letters, digits and hyphens (RFC 9110 §7.6.3), or off"
        )
    return text


def _address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        raise InvalidValueError("is not host:port; write one such as 127.0.0.1:8080", is_safe_to_echo=True)
    return parse_address(parse_text(value))


def _address_or_none(value: object) -> Address | None:
    return None if value is None or value == "" else _address(value)


def _name_or_none(value: object) -> str | None:
    return None if value is None or value == "" else parse_name(value)


def _path_prefix_or_none(value: object) -> PathPrefix | None:
    if isinstance(value, PathPrefix):
        return value
    text = _text_or_none(value)
    return None if text is None else parse_path_prefix(text)


def _path_pattern(value: object) -> PathPattern:
    return value if isinstance(value, PathPattern) else parse_path_pattern(parse_text(value))


def _rate(value: object) -> Rate:
    return value if isinstance(value, Rate) else parse_rate(parse_text(value))


def _method(value: object) -> str:
    text = parse_text(value)
    if _TOKEN.fullmatch(text) is None or text != text.upper():
        raise InvalidValueError("is not a method; write it in capitals, such as GET", is_safe_to_echo=True)
    if text in _NEVER_FORWARDED:
        raise InvalidValueError("is a method that is never forwarded; remove it", is_safe_to_echo=True)
    return text


def _request_host_or_none(value: object) -> str | None:
    text = _text_or_none(value)
    if text is None:
        return None
    if re.search(r"(\]|^[^:]*):[0-9]*$", text):
        raise InvalidValueError("has a port; remove it, because hosts are compared without ports", is_safe_to_echo=True)
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    return parse_host(host).removesuffix(".")


def _allowed_host(value: object) -> str:
    text = parse_text(value)
    return text if text == "*" else (_request_host_or_none(text) or text)


def _allowed_origin(value: object) -> str:
    text = parse_text(value)
    if text == "*":
        return text
    if text == "null":
        raise InvalidValueError(
            "is the origin of every sandboxed page, of whoever it is; write one such as http://localhost:3000",
            is_safe_to_echo=True,
        )
    scheme, separator, _ = text.partition("://")
    if separator and scheme.lower() not in {"http", "https"} and _OTHER_ORIGIN.fullmatch(text):
        return text.lower()
    origin = parse_origin(text)
    if origin.base_path:
        raise InvalidValueError(
            "has a path, which an origin has not; write scheme, host and port alone", is_safe_to_echo=True
        )
    return str(origin)


def _origin(value: object) -> Origin:
    return value if isinstance(value, Origin) else parse_origin(parse_text(value))


def _redis_address(value: object) -> RedisAddress:
    return value if isinstance(value, RedisAddress) else parse_redis_address(parse_text(value))


def _redis_prefix(value: object) -> str:
    text = parse_text(value)
    if _REDIS_PREFIX.fullmatch(text) is None:
        raise InvalidValueError("is not a prefix; write up to 64 letters, digits and -_.:/", is_safe_to_echo=True)
    return text


def _endpoint(value: object) -> str:
    text = parse_text(value)
    parse_endpoint(text)
    return text


def _issuer(value: object) -> str | None:
    text = _text_or_none(value)
    if text is not None:
        parse_endpoint(text)
        if "?" in text:
            raise InvalidValueError("has a query (from the ?), which an issuer never has (RFC 8414 §2); remove it")
    return text


def _endpoint_or_none(value: object) -> str | None:
    return None if value is None or value == "" else _endpoint(value)


def _resource(value: object) -> str:
    text = parse_text(value)
    if _ABSOLUTE_URI.fullmatch(text) is None:
        raise InvalidValueError("is not an absolute URI without fragment; write one such as https://api.example.com")
    return text


def _protocol(value: object) -> str:
    return parse_protocol(parse_text(value))


def _field_name(value: object) -> str:
    text = parse_text(value)
    if _TOKEN.fullmatch(text) is None:
        raise InvalidValueError(
            "is not the name of a header field; write letters, digits and hyphens", is_safe_to_echo=True
        )
    return text


def _field_value(value: object) -> str:
    text = parse_text(value)
    if not text.isascii():
        raise InvalidValueError("has a character outside ASCII, which a header field may not have; remove it")
    return text


def _host_or_none(value: object) -> str | None:
    text = _text_or_none(value)
    return None if text is None else parse_host(text)


# --- with what an editor can check ------------------------------------------------------------------------------


def _rule(parse: Callable[[object], object], kind: str, *alternatives: Mapping[str, Any]) -> Rule:
    """Return a rule whose values match one of the alternatives, or contain `${…}`."""
    if _STRING not in alternatives:
        alternatives = (*alternatives, {"type": "string", "pattern": r"\$\{"})
    return Rule(
        parse=parse, kind=kind, json=alternatives[0] if len(alternatives) == 1 else {"anyOf": list(alternatives)}
    )


_NULL: Final = {"type": "null"}
_STRING: Final = {"type": "string"}
_OFF: Final = {"enum": ["off", False]}  # Tools that read YAML 1.1 take a bare `off` for false, and write that.
_ADDRESS: Final = {"type": "string", "pattern": r"^(\[[^\[\]]+\]|[^\[\]:]+):[0-9]{1,5}$"}
_URL: Final = {"type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://"}


def duration(lowest: float, highest: float = _DAY) -> Rule:
    """Return the rule of a duration in seconds, within these bounds. More than a day is a wrong unit."""

    def parse(value: object) -> float:
        seconds = parse_duration(value)
        if not lowest <= seconds <= highest:
            raise InvalidValueError(
                f"is out of range; write a duration from {format_duration(lowest)} to {format_duration(highest)}",
                is_safe_to_echo=True,
            )
        return seconds

    number = {"type": "number", "minimum": lowest, "maximum": highest}
    return _rule(
        parse, "duration", number, {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?|\.[0-9]+) ?(ms|s|m|h|d)?$"}
    )


def count(lowest: int, highest: int) -> Rule:
    """Return the rule of a whole number within these bounds."""
    number = {"type": "integer", "minimum": lowest, "maximum": highest}
    return _rule(_between(lowest, highest, parse_count), "number", number, {"type": "string", "pattern": "^[0-9]+$"})


def optional_count(lowest: int, highest: int) -> Rule:
    """Return the rule of a whole number within these bounds, or none."""
    parse_number = _between(lowest, highest, parse_count)

    def parse(value: object) -> int | None:
        # `${NAME:-}` is empty if the variable is not set.
        return None if value is None or value == "" else parse_number(value)

    number = {"type": "integer", "minimum": lowest, "maximum": highest}
    return _rule(parse, "number", number, {"type": "string", "pattern": "^[0-9]*$"}, _NULL)


def size(lowest: int, highest: int = _MIB) -> Rule:
    """Return the rule of a number of bytes within these bounds."""
    pattern = r"^([0-9]+(\.[0-9]+)?|\.[0-9]+) ?(B|kB|KiB|MB|MiB)?$"
    number = {"type": "integer", "minimum": lowest, "maximum": highest}
    return _rule(_between(lowest, highest, parse_size), "size", number, {"type": "string", "pattern": pattern})


def _between(lowest: int, highest: int, parse: Callable[[object], int]) -> Callable[[object], int]:
    def parse_between(value: object) -> int:
        number = parse(value)
        if not lowest <= number <= highest:
            raise InvalidValueError(f"is out of range; write a number from {lowest} to {highest}", is_safe_to_echo=True)
        return number

    return parse_between


def one_of(*words: str) -> Rule:
    """Return the rule of a value that is one of these words, in any case."""
    by_case = {word.casefold(): word for word in words}

    def parse(value: object) -> object:
        word = by_case.get("off" if is_off(value) else value.casefold() if isinstance(value, str) else "")
        if word is None:
            raise InvalidValueError(
                f"is not one of the values allowed here; write one of {', '.join(words)}", is_safe_to_echo=True
            )
        return word

    return _rule(parse, _listed(words), {"enum": [*words, False] if "off" in words else list(words)})


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def optional_one_of(*words: str) -> Rule:
    """Return the rule of a value that is one of these words, or left out."""
    rule = one_of(*words)

    def parse(value: object) -> object:
        return None if value is None or value == "" else rule.parse(value)

    return _rule(parse, _listed(words), {"enum": list(words)}, _NULL)


TEXT: Final = _rule(parse_text, "text", _STRING)
OPTIONAL_TEXT: Final = _rule(_text_or_none, "text", _STRING, _NULL)
FILE: Final = _rule(parse_text, "file", _STRING)
OPTIONAL_FILE: Final = _rule(_text_or_none, "file", _STRING, _NULL)
NAME: Final = _rule(parse_name, "name", {"type": "string", "pattern": f"^{_NAME.pattern}$"})
VARIABLE: Final = _rule(_variable, "name", {"type": "string", "pattern": f"^({_VARIABLE.pattern})?$"}, _NULL)
SCOPE: Final = _rule(_scope, "text", _STRING, _NULL)
PSEUDONYM: Final = _rule(_pseudonym, "word", _STRING, _NULL, _OFF)
HOST: Final = _rule(_host_or_none, "host", _STRING, _NULL)
REQUEST_HOST: Final = _rule(_request_host_or_none, "host", _STRING, _NULL)
ALLOWED_HOST: Final = _rule(_allowed_host, "host", _STRING)
ALLOWED_ORIGIN: Final = _rule(_allowed_origin, "origin", _STRING)
OPTIONAL_NAME: Final = _rule(_name_or_none, "name", {"type": "string", "pattern": f"^({_NAME.pattern})?$"}, _NULL)
PATH_PREFIX: Final = _rule(_path_prefix_or_none, "path", {"type": "string", "pattern": "^/[^?#;]*$"}, _NULL)
PATH_PATTERN: Final = _rule(_path_pattern, "path", {"type": "string", "pattern": "^/[^?#;]*$"})
RATE: Final = _rule(_rate, "rate", {"type": "string", "pattern": "^[0-9]+ ?/ ?[0-9]* ?(s|min|m|h|d)$"})
METHOD: Final = _rule(_method, "method", {"type": "string", "pattern": "^[^a-z]+$"})
ADDRESS: Final = _rule(_address, "address", _ADDRESS)
OPTIONAL_ADDRESS: Final = _rule(_address_or_none, "address", _ADDRESS, _NULL)
ADDRESS_OR_OFF: Final = _rule(parse_address_or_off, "address", _ADDRESS, _NULL, _OFF)
ORIGIN: Final = _rule(_origin, "URL", _URL)
OPTIONAL_ENDPOINT: Final = _rule(_endpoint_or_none, "URL", _URL, _NULL)
ISSUER: Final = _rule(_issuer, "URL", _URL, _NULL)
REDIS_ADDRESS: Final = _rule(_redis_address, "URL", {"type": "string", "pattern": "^[Rr][Ee][Dd][Ii][Ss]{1,2}://"})
REDIS_PREFIX: Final = _rule(_redis_prefix, "text", {"type": "string", "pattern": f"^{_REDIS_PREFIX.pattern}$"})
RESOURCE: Final = _rule(_resource, "URI", {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9+.-]*:[^#]+$"})
PROTOCOL: Final = _rule(_protocol, "word", _STRING)
FIELD_NAME: Final = _rule(_field_name, "text", {"type": "string", "pattern": f"^{_TOKEN.pattern}$"})
FIELD_VALUE: Final = _rule(_field_value, "text", _STRING)
SWITCH: Final = _rule(parse_switch, "switch", {"type": "boolean"}, {"enum": ["true", "false"]})
WAIT: Final = duration(0)
TIMEOUT: Final = duration(0.001)
"""At least a millisecond: with zero, every step would fail."""
