"""`limits` of a route, and of a listener that routes share."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from switch_proxy.core.schema.keys import Key, validate
from switch_proxy.core.schema.problem import Problem
from switch_proxy.core.schema.rules import count, optional_count, size

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
_RequestBuffersLimit = Annotated[
    int,
    Key(
        rule=size(65536, 1024 * 1024 * 1024),
        text="Bytes of requests that are held for all clients together: unfinished heads, requests that wait their turn, bodies "
        "that wait or are kept to be sent once more. Beyond it, clients that hold more than 4 KiB are not read, and a head that "
        "is not whole in time gets 503.",
        why="512 clients with the largest head: far more than an app has, and a quarter of the sidecar's memory limit.",
    ),
]
_ClientConnectionsLimit = Annotated[
    int | None,
    Key(
        rule=optional_count(1, 1_000_000),
        text="Connections of clients open at the same time; further ones wait until one is closed.",
        without="an equal part of what RLIMIT_NOFILE leaves",
        why="The proxy's own files and connections must always be possible.",
        example="100",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLimitSettings:
    """How large the head of a request may be, and that of a response of the listener's routes; how many clients there may be."""

    client_connections: _ClientConnectionsLimit = None
    request_line: _RequestLineLimit = 8192
    head: _HeadLimit = 65536
    field_lines: _FieldLinesLimit = 128
    request_buffers: _RequestBuffersLimit = 32 * 1024 * 1024

    def __post_init__(self) -> None:
        validate(self)

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
        """Find a limit that is smaller than what it must have room for."""
        yield from _find_small_limits(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """How large the head of a request or a response may be, how much of a body is kept, how many clients there may be."""

    client_connections: _ClientConnectionsLimit = None
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
    request_buffers: _RequestBuffersLimit = 32 * 1024 * 1024

    def __post_init__(self) -> None:
        validate(self)

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
        """Find a limit that is smaller than what it must have room for."""
        yield from _find_small_limits(values)


def _find_small_limits(values: Mapping[str, Any]) -> Iterator[Problem]:
    request_line = values.get("request_line", 0)
    if values.get("head", request_line) < request_line:
        text = f"is less than request_line, which is part of it; write {request_line} or more"
        yield Problem(path=("head",), text=text, is_safe_to_echo=True)
    head = values.get("head", 0)
    if values.get("request_buffers", head) < head:
        text = f"is less than head, the largest of which must have room; write {head} or more"
        yield Problem(path=("request_buffers",), text=text, is_safe_to_echo=True)
