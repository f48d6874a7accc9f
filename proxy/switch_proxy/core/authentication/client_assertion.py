"""`client_assertion`: a JWT that somebody else signs, a workload's identity (RFC 7521 §4.2); with its section."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from dataclasses import dataclass
from typing import Annotated, Final

from switch_proxy.core.authentication import assertion
from switch_proxy.core.authentication.method import Method, SourcePlan
from switch_proxy.core.errors import InvalidValueError
from switch_proxy.core.schema.keys import Key, validate
from switch_proxy.core.schema.rules import FILE
from switch_proxy.core.secret import parse_assertion

_FORM: Final = "client_assertion: {file: /path/to/the/token}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionSource:
    """Source of a client assertion that somebody else signs (RFC 7521 §4.2), for `client_assertion`."""

    file: Annotated[
        str,
        Key(
            rule=FILE,
            text="A file with a JWT and nothing else, such as a Kubernetes service account token. It is read again for each "
            "fetch.",
            example="/var/run/secrets/tokens/switch",
        ),
    ]

    def __post_init__(self) -> None:
        validate(self)


def refuse_assertion_in_the_clear(value: object) -> None:
    """Raise InvalidValueError if a value may be the assertion itself."""
    if isinstance(value, str):
        raise InvalidValueError(f"is text instead of keys; write {_FORM}")


def _plan(section: AssertionSource) -> SourcePlan:
    return SourcePlan(kind="client assertion", parse=parse_assertion, paths=(section.file,))


METHOD: Final = Method(
    name="client_assertion",
    credential_name="the client assertion",
    key="client_assertion",
    form=_FORM,
    optional_keys=("assertion_type",),
    plan=_plan,
    encode=assertion.encode,
    is_assertion=True,
    refusal_hint="the assertion's aud, iss and sub must be what the server expects: check --online shows them",
)
