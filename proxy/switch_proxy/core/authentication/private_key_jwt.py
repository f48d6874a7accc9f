"""`private_key_jwt`: a private key signs an assertion (RFC 7523, OpenID Connect Core §9); with the section `private_key`."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final, Literal

from switch_proxy.core.authentication import assertion
from switch_proxy.core.authentication.method import AssertionClaims, Method, SourcePlan
from switch_proxy.core.errors import InvalidValueError
from switch_proxy.core.schema.keys import Key, validate
from switch_proxy.core.schema.rules import FILE, OPTIONAL_FILE, OPTIONAL_TEXT, optional_one_of
from switch_proxy.core.secret import Secret, parse_pem

_FORM: Final = "private_key: {file: /path/to/the/key.pem}"
_KIND: Final = "private key"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateKeySettings:
    """The key that the client signs its assertions with (RFC 7523), for `private_key_jwt`."""

    file: Annotated[
        str,
        Key(
            rule=FILE,
            text="A file with the private key as PEM (without a password) or as JWK. A certificate may stand beside the key.",
            example="/var/run/secrets/switch/key.pem",
        ),
    ]
    key_id: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_TEXT,
            text="The `kid` in the header of the assertion.",
            without="the JWK's own, or none",
            example="2026-11",
        ),
    ] = None
    algorithm: Annotated[
        Literal["RS256", "PS256", "ES256", "EdDSA"] | None,
        Key(
            rule=optional_one_of("RS256", "PS256", "ES256", "EdDSA"),
            text="The `alg` of the assertion.",
            why="An RSA key signs with RS256 by default, because servers must support it (RFC 7518 §3.1); a key of a curve has "
            "one algorithm only.",
            without="the JWK's own, or by the key",
            example="PS256",
        ),
    ] = None
    certificate_file: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_FILE,
            text="A PEM file of the key's certificate; its thumbprint goes into the header of the assertion (`x5t#S256`), which "
            "Microsoft wants.",
            example="/var/run/secrets/switch/tls.crt",
        ),
    ] = None

    def __post_init__(self) -> None:
        validate(self)


def refuse_key_in_the_clear(value: object) -> None:
    """Raise InvalidValueError if a value may be the private key itself."""
    if isinstance(value, str):
        raise InvalidValueError(
            f"is text instead of keys, and a private key does not belong in this file; write {_FORM}"
        )


def _plan(section: PrivateKeySettings) -> SourcePlan:
    certificate = () if section.certificate_file is None else (section.certificate_file,)
    return SourcePlan(kind=_KIND, parse=partial(_parse, section), paths=(section.file, *certificate))


def _parse(section: PrivateKeySettings, *contents: bytes, source: str) -> Secret:
    """Return the key and its certificate as one text, so that both change at once or not at all."""
    # Imported here: it brings cryptography, which the plain case does without.
    from switch_proxy.core.authentication.signing import check_private_key  # noqa: PLC0415

    sources = (source, f"the file {section.certificate_file}")
    text = "\n".join(
        parse_pem(content, source=each, kind=_KIND).reveal() for content, each in zip(contents, sources, strict=False)
    )
    check_private_key(text, key_id=section.key_id, algorithm=section.algorithm, source=source)
    return Secret(text)


def _sign(section: PrivateKeySettings, key: Secret, claims: AssertionClaims) -> Secret:
    from switch_proxy.core.authentication.signing import sign_with_key  # noqa: PLC0415 - as above

    return sign_with_key(
        key, claims, key_id=section.key_id, algorithm=section.algorithm, source=f"the file {section.file}"
    )


METHOD: Final = Method(
    name="private_key_jwt",
    credential_name="the private key",
    key="private_key",
    form=_FORM,
    optional_keys=("assertion_audience", "assertion_typ"),
    plan=_plan,
    sign=_sign,
    encode=assertion.encode,
    refusal_hint=assertion.AUDIENCE_HINT,
)
