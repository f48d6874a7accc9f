"""`match` of a route: which requests of its listener it is for."""

# No postponed evaluation of annotations here: core/config/keys.py reads them.

from dataclasses import dataclass
from typing import Annotated

from switch_proxy.core.config.keys import Key, hold_to_rules
from switch_proxy.core.config.rules import PATH_PREFIX, REQUEST_HOST
from switch_proxy.core.path_prefix import PathPrefix


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchSettings:
    """Which requests of a listener a route is for; of several that match, the longest path wins."""

    path: Annotated[
        PathPrefix | None,
        Key(
            rule=PATH_PREFIX,
            text="The path that a request's begins with, compared by whole segments; left out, any path.",
            example="/switch/",
        ),
    ] = None
    host: Annotated[
        str | None,
        Key(
            rule=REQUEST_HOST,
            text="The host of the request, in any case, without its port; left out, any host.",
            example="switch-api.pod.local",
        ),
    ] = None

    def __post_init__(self) -> None:
        hold_to_rules(self)
