"""`pool` of a route: the connections to its upstream."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from dataclasses import dataclass
from typing import Annotated

from switch_proxy.core.schema.keys import Key, validate
from switch_proxy.core.schema.rules import TIMEOUT, WAIT, count


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """The connections to the upstream."""

    max_connections: Annotated[
        int,
        Key(
            rule=count(1, 65535),
            text="Connections open at the same time.",
            why="A pod is one client of the API among many; no app in one needs more.",
        ),
    ] = 256
    max_waiting: Annotated[
        int,
        Key(
            rule=count(0, 1_000_000),
            text="Requests that may wait for a connection; further ones get 503.",
            why="Envoy's default (`max_pending_requests`).",
        ),
    ] = 1024
    acquire_timeout: Annotated[
        float,
        Key(
            rule=WAIT,
            text="How long a request may wait for a connection; then it gets 503.",
            why="As long as a new connection may take: after that, reporting the overload is better than queueing.",
            former_name="wait",
        ),
    ] = 5.0
    idle_timeout: Annotated[
        float,
        Key(
            rule=TIMEOUT,
            text="How long an unused connection is kept.",
            why="nginx's default, and less than that of most load balancers.",
            former_name="idle",
        ),
    ] = 60.0
    lifetime: Annotated[
        float,
        Key(
            rule=TIMEOUT,
            text="How old a connection may get; then it is not used again.",
            why="nginx's default (`keepalive_time`): an upstream that moves to another address is followed in that time.",
        ),
    ] = 3600.0

    def __post_init__(self) -> None:
        validate(self)
