"""`admin`: the listener for probes and metrics."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from switch_proxy.core.addresses import ADMIN_ADDRESS, Address
from switch_proxy.core.config.models.exposure import AllowedHosts, AllowedOrigins, find_open_listener
from switch_proxy.core.schema.keys import Key, validate
from switch_proxy.core.schema.problem import Problem
from switch_proxy.core.schema.rules import ADDRESS_OR_OFF, SWITCH

ADMIN_LISTENER: Final = "admin"
"""The admin listener's name among the other listeners' names, in the log for example."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    """The listener for probes and metrics."""

    listen: Annotated[
        Address | None,
        Key(
            rule=ADDRESS_OR_OFF,
            text="Where `/livez`, `/readyz` and `/metrics` are served: host:port, loopback unless `allow_remote_clients` is "
            "set; `off` for nowhere.",
            why="The port is the one that Envoy's admin interface customarily has.",
            example="127.0.0.1:9901",
        ),
    ] = ADMIN_ADDRESS
    allow_remote_clients: Annotated[
        bool,
        Key(
            rule=SWITCH,
            text="Whether `listen` may be an address that can be reached from outside this pod.",
            why="A kubelet's HTTP probes and a scraper come from outside; set it for them.",
        ),
    ] = False
    allowed_hosts: AllowedHosts = ()
    allowed_origins: AllowedOrigins = ()

    def __post_init__(self) -> None:
        validate(self)

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
        """Find a listener that is open to others."""
        yield from find_open_listener(values, why="whoever reaches it can read the proxy's state")
