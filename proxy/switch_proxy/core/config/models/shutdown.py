"""`shutdown`: what happens between SIGTERM and the end."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from dataclasses import dataclass
from typing import Annotated

from switch_proxy.core.schema.keys import Key, validate
from switch_proxy.core.schema.rules import WAIT


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutdownSettings:
    """What happens between SIGTERM and the end."""

    grace_period: Annotated[
        float,
        Key(
            rule=WAIT,
            text="How long requests in flight may take to finish after SIGTERM; then they are cut.",
            why="Less than the 30 s after which Kubernetes kills a pod.",
        ),
    ] = 25.0
    drain_delay: Annotated[
        float,
        Key(
            rule=WAIT,
            text="How long to go on accepting after readiness went red, before `grace_period` begins.",
            why="An app in the same pod needs no delay; behind a Service, endpoints take seconds to be withdrawn.",
        ),
    ] = 0.0

    def __post_init__(self) -> None:
        validate(self)
