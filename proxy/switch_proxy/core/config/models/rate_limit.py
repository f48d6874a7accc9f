"""`routes[N].rate_limits[N]`: how many requests a route sends in a time."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from dataclasses import dataclass
from typing import Annotated

from switch_proxy.core.path_pattern import PathPattern
from switch_proxy.core.rate import Rate
from switch_proxy.core.schema.keys import Key, validate
from switch_proxy.core.schema.rules import METHOD, PATH_PATTERN, RATE, WAIT, count, one_of


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitSettings:
    """A limit on requests, counted for all routes of the same credential that have the same limit."""

    methods: Annotated[
        tuple[str, ...] | None,
        Key(rule=METHOD, text="The methods. GET stands for HEAD too.", without="every method", example="[POST]"),
    ] = None
    paths: Annotated[
        tuple[PathPattern, ...] | None,
        Key(
            rule=PATH_PATTERN,
            text="The paths, as those of `allow`.",
            without="every path",
            example="[/api/readings]",
        ),
    ] = None
    limits: Annotated[
        tuple[Rate, ...],
        Key(
            rule=RATE,
            text="Requests in a time, such as `5/s`, `20/min` or `100/10s`; all of them hold.",
            example="[5/s, 20/min]",
        ),
    ]
    mode: Annotated[
        str,
        Key(
            rule=one_of("pace", "reject"),
            text="What becomes of a request beyond the limit: `pace` holds it until its turn, `reject` responds with 429 at once.",
            why="An app need not know the limits.",
        ),
    ] = "pace"
    max_wait: Annotated[
        float,
        Key(
            rule=WAIT,
            text="How long a request may be held; one whose turn comes later gets 429 at once, with `Retry-After`.",
            why="As long as the shortest of most clients' read timeouts.",
        ),
    ] = 60.0
    max_waiting: Annotated[
        int,
        Key(
            rule=count(0, 100_000),
            text="How many requests may be held at once; more get 429.",
            why="As `pool.max_waiting`: each holds a connection and a head.",
        ),
    ] = 1024

    def __post_init__(self) -> None:
        validate(self)
