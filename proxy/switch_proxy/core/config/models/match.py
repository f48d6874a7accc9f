"""`match` of a route: which requests of its listener it is for."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from dataclasses import dataclass
from typing import Annotated

from switch_proxy.core.path_prefix import PathPrefix
from switch_proxy.core.schema.keys import Key, validate
from switch_proxy.core.schema.rules import PATH_PREFIX, REQUEST_HOST


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchSettings:
    """Which requests of its listener the route is for; if several routes match, the longest path wins."""

    path: Annotated[
        PathPrefix | None,
        Key(
            rule=PATH_PREFIX,
            text="What the path of a request begins with, by whole segments: `/a` is the same as `/a/`; it matches `/a/b` "
            "but not `/ab`.",
            without="every path",
            example="/switch/",
        ),
    ] = None
    host: Annotated[
        str | None,
        Key(
            rule=REQUEST_HOST,
            text="The host of a request, in upper or lower case, without its port.",
            without="every host",
            example="switch-api.pod.local",
        ),
    ] = None

    def __post_init__(self) -> None:
        validate(self)
