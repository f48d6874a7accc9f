"""`client_secret_jwt`: the secret signs an assertion with HS256, and is not sent (OpenID Connect Core §9)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from switch_proxy.core.authentication import assertion
from switch_proxy.core.authentication.client_secret import (
    CREDENTIAL_NAME,
    FORM,
    KEY,
    PREVIOUS_KEY,
    SecretSource,
    plan,
)
from switch_proxy.core.authentication.method import Method

if TYPE_CHECKING:
    from switch_proxy.core.authentication.method import AssertionClaims
    from switch_proxy.core.secret import Secret

_SHORTEST_KEY: Final = 32
"""Bytes of a key for HS256, at least (RFC 7518 §3.2)."""


def _sign(_: SecretSource, secret: Secret, claims: AssertionClaims) -> Secret:
    # Imported here: it brings cryptography, which the plain case does without.
    from switch_proxy.core.authentication.signing import sign_with_secret  # noqa: PLC0415

    return sign_with_secret(secret, claims)


METHOD: Final = Method(
    name="client_secret_jwt",
    credential_name=CREDENTIAL_NAME,
    key=KEY,
    form=FORM,
    previous_key=PREVIOUS_KEY,
    optional_keys=("assertion_audience", "assertion_typ"),
    plan=partial(plan, shortest=_SHORTEST_KEY),
    sign=_sign,
    encode=assertion.encode,
    refusal_hint=assertion.AUDIENCE_HINT,
)
