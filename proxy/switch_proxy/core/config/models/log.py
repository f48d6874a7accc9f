"""`log`: what is written to standard output."""

# No postponed evaluation of annotations here: core/config/keys.py reads them.

from dataclasses import dataclass
from typing import Annotated, Literal

from switch_proxy.core.config.keys import Key, hold_to_rules
from switch_proxy.core.config.rules import one_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is written to standard output, and how."""

    # What an operator wants to know; debug is for the proxy's developers.
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Key(rule=one_of("debug", "info", "warning", "error"), text="The least severe level that is written."),
    ] = "info"
    # What clusters' log collectors read without a parser of their own.
    format: Annotated[
        Literal["json", "console"],
        Key(rule=one_of("json", "console"), text="One JSON object a line, or text in colours for people."),
    ] = "json"
    # One line a request, as nginx has it; lines are batched, so that they cost little.
    access: Annotated[
        Literal["all", "errors", "off"],
        Key(
            rule=one_of("all", "errors", "off"),
            text="Which requests get a line: all, those that failed (an answer of 500 or more counts), or only those "
            "that the proxy itself could not serve in full (off).",
        ),
    ] = "all"

    def __post_init__(self) -> None:
        hold_to_rules(self)
