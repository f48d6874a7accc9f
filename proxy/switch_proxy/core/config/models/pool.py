"""`pool` of a route: the connections to its upstream."""

# No postponed evaluation of annotations here: core/config/keys.py reads them.

from dataclasses import dataclass
from typing import Annotated

from switch_proxy.core.config.keys import Key, hold_to_rules
from switch_proxy.core.config.rules import TIMEOUT, WAIT, count


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """The connections to one route's upstream."""

    # A pod is one guest of an API among many: no app of one needs more at once.
    max_connections: Annotated[int, Key(rule=count(1, 65535), text="Connections open at once.")] = 256
    # Envoy's max_pending_requests.
    max_waiting: Annotated[
        int,
        Key(
            rule=count(0, 1_000_000),
            text="Requests that may wait for a connection; further ones are answered with 503.",
        ),
    ] = 1024
    # As long as a new connection may take: past it, an overload is better told than queued.
    wait: Annotated[
        float, Key(rule=WAIT, text="How long a request may wait for a connection; then it is answered with 503.")
    ] = 5.0
    # nginx's keepalive_timeout for upstreams, and below that of most load balancers.
    idle: Annotated[float, Key(rule=TIMEOUT, text="How long an unused connection is kept.")] = 60.0
    # nginx's keepalive_time: an upstream that moves is followed within it.
    lifetime: Annotated[float, Key(rule=TIMEOUT, text="How old a connection may get; it is not used again then.")] = (
        3600.0
    )

    def __post_init__(self) -> None:
        hold_to_rules(self)
