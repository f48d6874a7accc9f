"""`log`: what is written to standard output."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from dataclasses import dataclass
from typing import Annotated, Literal

from switch_proxy.core.schema.keys import Key, validate
from switch_proxy.core.schema.rules import one_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is written to standard output, and how."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Key(
            rule=one_of("debug", "info", "warning", "error"),
            text="The least severe level that is written.",
            why="What operators want to know; `debug` is for the proxy's developers.",
        ),
    ] = "info"
    format: Annotated[
        Literal["json", "console"],
        Key(
            rule=one_of("json", "console"),
            text="One JSON object per line, or text in colours for people.",
            why="Log collectors read JSON without a parser of their own.",
        ),
    ] = "json"
    access: Annotated[
        Literal["all", "errors", "off"],
        Key(
            rule=one_of("all", "errors", "off"),
            text="Which requests get a line: `all`, those that failed (a response of 500 or more counts), or only those that "
            "the proxy itself could not serve in full (`off`).",
            why="One line per request, as nginx writes it; lines are written in batches, so that they cost little.",
        ),
    ] = "all"

    def __post_init__(self) -> None:
        validate(self)
