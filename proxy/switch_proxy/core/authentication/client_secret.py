"""The section `client_secret`, for the three methods that have a secret in common with the server."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from switch_proxy.core.authentication.method import SourcePlan
from switch_proxy.core.authentication.secret_source import (
    describe_source,
    find_source_problems,
    plan_source,
    refuse_in_the_clear,
)
from switch_proxy.core.schema.keys import Key, validate
from switch_proxy.core.schema.problem import Problem
from switch_proxy.core.schema.rules import OPTIONAL_FILE, VARIABLE

KEY: Final = "client_secret"
PREVIOUS_KEY: Final = "previous_client_secret"
CREDENTIAL_NAME: Final = "the client secret"

SECRET_VARIABLE: Final = "NAME_OF_THE_VARIABLE"  # noqa: S105 - no secret, but how to write one
FORM: Final = f"client_secret: {{file: /path/to/the/file}} or client_secret: {{env: {SECRET_VARIABLE}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSource:
    """Source of a client secret: a file or an environment variable."""

    file: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_FILE,
            text="A file with the secret and nothing else; one line end at its end is ignored.",
            why="It is watched: a new secret is used without a restart.",
            without="this or `env`",
            example="/var/run/secrets/switch/client_secret",
        ),
    ] = None
    env: Annotated[
        str | None,
        Key(
            rule=VARIABLE,
            text="The name of the environment variable with the secret.",
            why="It is read at start: a new secret needs a restart.",
            without="this or `file`",
            example="SWITCH_CLIENT_SECRET",
        ),
    ] = None

    def __post_init__(self) -> None:
        validate(self)

    def __str__(self) -> str:
        return describe_source(self)

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
        """Find both sources given, or none."""
        yield from find_source_problems(values, form=FORM)


def refuse_secret_in_the_clear(value: object) -> None:
    """Raise InvalidValueError if a value is, or may be, the secret itself."""
    refuse_in_the_clear(value, section=SecretSource, form=FORM)


def plan(section: SecretSource, *, shortest: int = 1) -> SourcePlan:
    """Return the source of a secret of at least `shortest` bytes."""
    return plan_source(section, kind="client secret", shortest=shortest)
