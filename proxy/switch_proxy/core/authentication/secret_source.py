"""What sections that name a secret's file or environment variable have in common: its checks, its name, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from switch_proxy.core.authentication.method import SourcePlan
from switch_proxy.core.errors import InvalidValueError
from switch_proxy.core.schema.problem import Problem
from switch_proxy.core.secret import parse_secret

if TYPE_CHECKING:
    from collections.abc import Iterator


class HasSource(Protocol):
    """A section with a `file` or an `env`."""

    @property
    def file(self) -> str | None:
        """Return the path of the file with the secret, if that is the source."""

    @property
    def env(self) -> str | None:
        """Return the name of the environment variable with the secret, if that is the source."""


def describe_source(section: HasSource) -> str:
    """Return how messages name the source."""
    return f"the file {section.file}" if section.file is not None else f"the environment variable {section.env}"


def find_source_problems(values: Mapping[str, Any], *, form: str) -> Iterator[Problem]:
    """Find both sources given, or none; `form` is how the section is written."""
    given = [name for name in ("file", "env") if values.get(name, "") is not None]
    if len(given) > 1:
        yield Problem(text=f"has both file and env; keep one: {form}")
    elif not given:
        yield Problem(text=f"has neither file nor env; write {form}")


def refuse_in_the_clear(value: object, *, section: type[object], form: str) -> None:
    """Raise InvalidValueError if a value is, or may be, the secret itself instead of its `section`."""
    if value is None or isinstance(value, section):
        return
    if not isinstance(value, Mapping):
        raise InvalidValueError(f"is a secret in the clear, which does not belong in this file; write {form}")
    # The key is not named, because it may be the secret itself.
    if not value.keys() <= {"file", "env"}:
        raise InvalidValueError(f"has a key other than file and env; write {form}")


def plan_source(section: HasSource, *, kind: str, shortest: int = 1) -> SourcePlan:
    """Return how a secret of at least `shortest` bytes is read; `kind` names it in messages."""
    return SourcePlan(
        kind=kind,
        parse=partial(parse_secret, shortest=shortest, kind=kind),
        paths=() if section.file is None else (section.file,),
        variable=section.env,
    )
