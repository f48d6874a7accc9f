"""`timeouts` of a route, and of a listener that routes share."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from dataclasses import dataclass
from typing import Annotated

from switch_proxy.core.schema.keys import Key, validate
from switch_proxy.core.schema.rules import TIMEOUT

_RequestHeadTimeout = Annotated[
    float,
    Key(
        rule=TIMEOUT,
        text="From the first to the last byte of a request's head.",
        why="Against clients that send it byte by byte. The servers of Go and Node use values of this order.",
    ),
]
_KeepAliveTimeout = Annotated[
    float,
    Key(
        rule=TIMEOUT,
        text="How long a client's connection may be idle between two requests.",
        why="nginx's default: longer than that of most clients, so that the client closes the connection.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerTimeoutSettings:
    """How long a client may take."""

    idle: Annotated[
        float,
        Key(
            rule=TIMEOUT,
            text="How long a client may read nothing while the end of a response waits for it.",
            why="As for the body of a response.",
        ),
    ] = 300.0
    request_head: _RequestHeadTimeout = 10.0
    keep_alive: _KeepAliveTimeout = 75.0

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutSettings:
    """How long each step of an exchange may take. There is no limit on the whole, so streams may last."""

    connect: Annotated[
        float,
        Key(
            rule=TIMEOUT,
            text="Name resolution and TCP connection to the upstream.",
            why="Enough for two lost SYN packets (1 s, then 2 s: RFC 6298); Envoy's default.",
        ),
    ] = 5.0
    tls_handshake: Annotated[
        float,
        Key(
            rule=TIMEOUT,
            text="The TLS handshake with the upstream.",
            why="Two round trips at most, so no more than the connection.",
        ),
    ] = 5.0
    response_head: Annotated[
        float,
        Key(
            rule=TIMEOUT,
            text="From the end of the request to the end of the head of the response, interim responses (1xx) included.",
            why="nginx's default (`proxy_read_timeout`): slow queries pass, and an upstream that hangs is noticed.",
        ),
    ] = 60.0
    idle: Annotated[
        float,
        Key(
            rule=TIMEOUT,
            text="Between two bytes of a body, in either direction.",
            why="Envoy's default (`stream_idle_timeout`): event streams with a heartbeat pass.",
        ),
    ] = 300.0
    request_head: _RequestHeadTimeout = 10.0
    keep_alive: _KeepAliveTimeout = 75.0

    def __post_init__(self) -> None:
        validate(self)
