"""`request_headers` and `response_headers` of a route: header lines that are set or removed."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from switch_proxy.core.schema.keys import Key, validate
from switch_proxy.core.schema.problem import Problem
from switch_proxy.core.schema.rules import FIELD_NAME, FIELD_VALUE

_HOP_BY_HOP: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        *("proxy-authenticate", "proxy-authentication-info", "proxy-authorization", "http2-settings", "content-length"),
    }
)
_IN_REQUESTS: Final = _HOP_BY_HOP | {"host", "authorization", "expect", "via", "max-forwards"}
"""What frames, routes or authenticates a message is the proxy's own affair."""

_Set = Annotated[
    dict[str, str],
    Key(
        rule=FIELD_VALUE,
        names=FIELD_NAME,
        text="Lines to set, name to text, in place of those of the same name. Not for secrets.",
        example="{X-Tenant: tenant-1}",
    ),
]
_Remove = Annotated[tuple[str, ...], Key(rule=FIELD_NAME, text="The names of lines to remove.", example="[Cookie]")]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHeaderSettings:
    """Header lines of requests that are set or removed before they are forwarded."""

    set: _Set = field(default_factory=dict)
    remove: _Remove = ()

    def __post_init__(self) -> None:
        validate(self)

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
        """Find lines that are the proxy's own, and those both set and removed."""
        yield from _find_own(values, _IN_REQUESTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHeaderSettings:
    """Header lines of responses that are set or removed before they are passed on."""

    set: _Set = field(default_factory=dict)
    remove: _Remove = ()

    def __post_init__(self) -> None:
        validate(self)

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
        """Find lines that are the proxy's own, and those both set and removed."""
        yield from _find_own(values, _HOP_BY_HOP)


def _find_own(values: Mapping[str, Any], own: frozenset[str]) -> Iterator[Problem]:
    given = [(key, name) for key in ("set", "remove") for name in values.get(key, ())]
    for key, name in given:
        if name.lower() in own:
            yield Problem(path=(key,), text=f"has {name}, which is the proxy's own affair; remove it")
    removed = {name.lower() for key, name in given if key == "remove"}
    for key, name in given:
        if key == "set" and name.lower() in removed:
            yield Problem(
                path=("remove",), text=f"has {name}, which is set beside it; a line that is set replaces others"
            )
