"""The description of a method: what it needs, the source of that, and what it adds to the token request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from switch_proxy.core.secret import Secret


Parser: TypeAlias = "Callable[..., Secret]"
"""
Makes a secret of what was read: takes the contents, one for each file, and `source`, what they were read from, for messages.
Raises SecretUnavailableError.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePlan:
    """
    Source of a client credential, and its parser.

    It has either `paths`, files that belong together and change together, or the environment `variable`. `kind` names the
    content in messages. If `is_optional`, it may be missing or empty; the secret is then empty.
    """

    kind: str
    parse: Parser
    paths: tuple[str, ...] = ()
    variable: str | None = None
    is_optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ClientAuthentication:
    """What authenticates the client within a token request: parameters of its body, header fields. It is in the clear."""

    parameters: tuple[tuple[str, str], ...] = ()
    fields: tuple[tuple[str, str], ...] = ()


class Client(Protocol):
    """The settings of a credential, as far as a method needs them to encode what authenticates."""

    @property
    def client_id(self) -> str:
        """Return the client's id."""

    @property
    def assertion_type(self) -> str | None:
        """Return the short name of the assertion's type, None for the usual one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionClaims:
    """
    What a signed assertion says.

    `wall` is Unix time in seconds. `assertion_id` is the jti: never the same twice. `typ` is that of the header.
    """

    client_id: str
    audience: str
    wall: float
    assertion_id: str
    typ: str = "JWT"


def _find_missing(value: object) -> str | None:
    return "is missing" if value is None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """
    One `auth_method`.

    `key` is the credential's key that it needs, and `form` how that is written; the functions take the key's value.
    `optional_keys` are keys that it uses besides. `find_lack` returns what the key's value lacks, as a predicate.
    `credential_name` is what authenticates the client, for people. `plan` is None if the TLS files are all there is.
    `sign` makes what is sent from what is read; without it, that is the same.
    """

    name: str
    credential_name: str
    key: str
    form: str
    encode: Callable[[Client, Secret], ClientAuthentication]
    plan: Callable[[Any], SourcePlan] | None = None
    previous_key: str | None = None
    optional_keys: tuple[str, ...] = ()
    sign: Callable[[Any, Secret, AssertionClaims], Secret] | None = None
    find_lack: Callable[[Any], str | None] = _find_missing
    refusal_hint: str = ""
    """What else to check if the server refuses the client."""
    is_assertion: bool = False
    """Whether what is read is an assertion that somebody else has signed, and is sent as it is."""
    is_by_certificate: bool = False
    """Whether TLS authenticates the client: the endpoint must be https, and the request carries no credential."""

    @property
    def has_lasting_secret(self) -> bool:
        """Return whether it authenticates with a text that only this client has, and for long."""
        return not self.is_assertion and not self.is_by_certificate

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys of a credential that it uses."""
        return (self.key, *(() if self.previous_key is None else (self.previous_key,)), *self.optional_keys)
