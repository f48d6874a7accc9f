"""`listeners.NAME`: an address that several routes share."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from switch_proxy.core.addresses import Address
from switch_proxy.core.config.models.exposure import (
    AllowedHosts,
    AllowedOrigins,
    AllowRemoteClients,
    Upgrades,
    find_open_listener,
)
from switch_proxy.core.config.models.limits import ListenerLimitSettings
from switch_proxy.core.config.models.timeouts import ListenerTimeoutSettings
from switch_proxy.core.schema.keys import Key, validate
from switch_proxy.core.schema.problem import Problem
from switch_proxy.core.schema.rules import ADDRESS


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """A listener that several routes share, told apart by path and host (`routes[N].match`)."""

    listen: Annotated[
        Address,
        Key(
            rule=ADDRESS,
            text="Where apps send their plain HTTP: host:port, loopback unless `allow_remote_clients` is set. Port 0 lets the "
            "system choose.",
            example="127.0.0.1:8080",
        ),
    ]
    allow_remote_clients: AllowRemoteClients = False
    upgrades: Upgrades = ("websocket",)
    allowed_hosts: AllowedHosts = ()
    allowed_origins: AllowedOrigins = ()
    timeouts: Annotated[ListenerTimeoutSettings, Key(text="How long a client may take.")] = field(
        default_factory=ListenerTimeoutSettings
    )
    limits: Annotated[ListenerLimitSettings, Key(text="How large a head may be.")] = field(
        default_factory=ListenerLimitSettings
    )

    def __post_init__(self) -> None:
        validate(self)

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
        """Find a listener that is open to others."""
        yield from find_open_listener(values, why="whoever reaches it can use the credentials of its routes")
