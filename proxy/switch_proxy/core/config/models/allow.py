"""`routes[N].allow[N]`: a rule of what a route forwards."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from switch_proxy.core.path_pattern import PathPattern
from switch_proxy.core.schema.keys import Key, validate
from switch_proxy.core.schema.problem import Problem
from switch_proxy.core.schema.rules import METHOD, PATH_PATTERN


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowSettings:
    """Methods and the paths at which they are allowed; a request must meet one of the route's rules."""

    methods: Annotated[
        tuple[str, ...] | None,
        Key(rule=METHOD, text="The methods. GET allows HEAD too.", without="every method", example="[GET]"),
    ] = None
    paths: Annotated[
        tuple[PathPattern, ...] | None,
        Key(
            rule=PATH_PATTERN,
            text="The paths, below `upstream` and without `match.path` if `strip_prefix` takes it off: `*` stands for one segment, "
            "`**` at the end for one or more. A slash at the end counts.",
            without="every path",
            example="[/api/readings, /api/readings/**]",
        ),
    ] = None

    def __post_init__(self) -> None:
        validate(self)

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
        """Find a rule that is for everything."""
        if values.get("methods", "") is None and values.get("paths", "") is None:
            text = "allows everything, so that the other rules mean nothing; write methods, paths or both"
            yield Problem(path=(), text=text, is_safe_to_echo=True)
