"""All methods by name: the only place that distinguishes values of `auth_method`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from switch_proxy.core.authentication import (
    client_assertion,
    client_secret_basic,
    client_secret_jwt,
    client_secret_post,
    private_key_jwt,
    tls_client_auth,
)
from switch_proxy.core.schema.problem import About, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from switch_proxy.core.authentication.method import Method, SourcePlan

METHODS: Final[Mapping[str, Method]] = {
    method.name: method
    for method in (
        client_secret_post.METHOD,
        client_secret_basic.METHOD,
        client_secret_jwt.METHOD,
        private_key_jwt.METHOD,
        tls_client_auth.METHOD,
        tls_client_auth.SELF_SIGNED,
        client_assertion.METHOD,
    )
}
"""
The names of RFC 7591 §2, OpenID Connect Core §9 and RFC 8705 §2, and `client_assertion` for a JWT that somebody else has
signed (RFC 7521 §4.2).
"""


class HasMethod(Protocol):
    """A credential's settings, as far as they matter here; the methods' sections are among the others."""

    @property
    def auth_method(self) -> str:
        """Return the method's name."""


def method_of(settings: HasMethod) -> Method:
    """Return the method of a credential."""
    return METHODS[settings.auth_method]


def find_method(values: Mapping[str, Any]) -> Method | None:
    """Return the method of the values of a credential's keys; None if its name is invalid, and so absent."""
    return METHODS.get(values.get("auth_method", ""))


def section_of(settings: HasMethod) -> Any:
    """Return the value of the key that a credential's method needs."""
    return getattr(settings, method_of(settings).key)


def plans_of(settings: HasMethod) -> tuple[SourcePlan | None, SourcePlan | None]:
    """Return the sources of the client credential and of the previous one; None if there is no such source."""
    method = method_of(settings)
    if method.plan is None:
        return None, None
    previous = None if method.previous_key is None else getattr(settings, method.previous_key)
    return (
        method.plan(section_of(settings)),
        None if previous is None else replace(method.plan(previous), is_optional=True),
    )


def describe_credential(settings: HasMethod) -> tuple[str, str] | None:
    """Return the kind and the source of the client credential, for people; None if it is in the TLS files."""
    main, previous = plans_of(settings)
    if main is None:
        return None
    then = "" if previous is None else f", or else from {_describe_source(previous)}"
    return main.kind, f"from {_describe_source(main)}{then}"


def _describe_source(plan: SourcePlan) -> str:
    return f"the environment variable {plan.variable}" if plan.variable is not None else f"the file {plan.paths[0]}"


def find_authentication_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Find what the method of a credential needs and lacks, and what it does not use."""
    method = find_method(values)
    if method is None:
        return
    for key in _KEYS:
        # An invalid value is absent from the values, and is a problem of its own.
        if key not in values:
            continue
        value = values[key]
        if key == method.key:
            if (lack := method.find_lack(value)) is not None:
                text = f"{lack}, which auth_method {method.name} needs; write {method.form}"
                yield Problem(path=(key,), text=text, about=About.ABSENCE if value is None else About.VALUE)
        elif value is not None and key not in (*method.keys, *_KEYS_OF_ALL):
            names = " or ".join(sorted(each.name for each in METHODS.values() if key in each.keys))
            text = f"is not used with auth_method {method.name}; remove it, or write auth_method: {names}"
            yield Problem(path=(key,), text=text)


_KEYS: Final = tuple(
    dict.fromkeys(
        (
            *(method.key for method in METHODS.values()),
            *(key for method in METHODS.values() for key in method.keys),
        )
    )
)
"""The keys of a credential that some method uses; those that one needs come first."""

_KEYS_OF_ALL: Final = (tls_client_auth.METHOD.key,)
"""Every method may have TLS files."""
