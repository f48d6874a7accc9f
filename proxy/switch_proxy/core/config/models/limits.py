"""`limits` of a route, and of a listener that routes share."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from switch_proxy.core.schema.keys import Key, validate
from switch_proxy.core.schema.problem import Problem
from switch_proxy.core.schema.rules import count, size

_RequestLineLimit = Annotated[
    int,
    Key(
        rule=size(256),
        text="Bytes of a request line; a longer one gets 414.",
        why="nginx's and Apache's default; RFC 9112 §3 asks for at least 8000.",
    ),
]
_HeadLimit = Annotated[
    int,
    Key(
        rule=size(256),
        text="Bytes of a whole head; a larger one gets 431, and in a response 502.",
        why="Envoy's default is 60 KiB, Go's 1 MiB: no real head is that large, and a connection may cost as much.",
    ),
]
_FieldLinesLimit = Annotated[
    int,
    Key(
        rule=count(1, 10_000),
        text="Lines of a head; more get 431, and in a response 502.",
        why="Envoy allows 100; some more for what proxies on the way add.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLimitSettings:
    """How large the head of a request may be, and that of a response of the listener's routes."""

    request_line: _RequestLineLimit = 8192
    head: _HeadLimit = 65536
    field_lines: _FieldLinesLimit = 128

    def __post_init__(self) -> None:
        validate(self)

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
        """Find a head that has no room for its first line."""
        yield from _find_small_head(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """How large the head of a request or a response may be, and how much of a body is kept."""

    request_line: _RequestLineLimit = 8192
    head: _HeadLimit = 65536
    field_lines: _FieldLinesLimit = 128
    replay_buffer: Annotated[
        int,
        Key(
            rule=size(0),
            text="Bytes of a request's body that are kept to send it once more: after a 401 with a newer token, or if a "
            "pooled connection had been closed. A request with a larger body is sent once.",
            why="Holds a batch of readings, and costs a connection no more than a head may.",
            former_name="kept_body",
        ),
    ] = 65536

    def __post_init__(self) -> None:
        validate(self)

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
        """Find a head that has no room for its first line."""
        yield from _find_small_head(values)


def _find_small_head(values: Mapping[str, Any]) -> Iterator[Problem]:
    request_line = values.get("request_line", 0)
    if values.get("head", request_line) < request_line:
        text = f"is less than request_line, which is part of it; write {request_line} or more"
        yield Problem(path=("head",), text=text, is_safe_to_echo=True)
