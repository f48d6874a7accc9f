"""`timeouts` of a route, and of a listener that routes share."""

# No postponed evaluation of annotations here: core/config/keys.py reads them.

from dataclasses import dataclass
from typing import Annotated

from switch_proxy.core.config.keys import Key, hold_to_rules
from switch_proxy.core.config.rules import TIMEOUT

# Against clients that send a head byte by byte; servers of Go and Node are of this order.
_RequestHeadTimeout = Annotated[float, Key(rule=TIMEOUT, text="From the first to the last byte of a request's head.")]
# nginx's keepalive_timeout: longer than most clients' own, so that it is the client that closes.
_KeepAliveTimeout = Annotated[
    float, Key(rule=TIMEOUT, text="How long a client's connection may be idle between two requests.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerTimeoutSettings:
    """How long a client may take, on a listener that several routes share."""

    # The same as for a body, which this is the end of.
    idle: Annotated[
        float, Key(rule=TIMEOUT, text="How long a client may read nothing of the last bytes of a response.")
    ] = 300.0
    request_head: _RequestHeadTimeout = 10.0
    keep_alive: _KeepAliveTimeout = 75.0

    def __post_init__(self) -> None:
        hold_to_rules(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutSettings:
    """How long each step of an exchange may take. There is no limit on the whole, so streams may last."""

    # Enough for two lost SYN packets (1 s, then 2 s: RFC 6298); Envoy's default too.
    connect: Annotated[float, Key(rule=TIMEOUT, text="Name resolution and TCP connection to the upstream.")] = 5.0
    # Two round trips at most, so no more than the connection itself.
    tls_handshake: Annotated[float, Key(rule=TIMEOUT, text="The TLS handshake with the upstream.")] = 5.0
    # nginx's proxy_read_timeout: slow queries pass, and a hanging upstream is told from them.
    response_head: Annotated[
        float, Key(rule=TIMEOUT, text="From the request having been sent to the head of the response.")
    ] = 60.0
    # Envoy's stream_idle_timeout: server-sent events with a heartbeat pass.
    idle: Annotated[float, Key(rule=TIMEOUT, text="Between two bytes of a body, in either direction.")] = 300.0
    request_head: _RequestHeadTimeout = 10.0
    keep_alive: _KeepAliveTimeout = 75.0

    def __post_init__(self) -> None:
        hold_to_rules(self)
