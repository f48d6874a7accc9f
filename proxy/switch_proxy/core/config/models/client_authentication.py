"""How a client authenticates at the token endpoint: the methods, and the sections that say with what."""

# No postponed evaluation of annotations here: core/config/keys.py reads them.

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeAlias

from switch_proxy.core.config.keys import Key, validate
from switch_proxy.core.config.problem import About, Problem
from switch_proxy.core.config.rules import FILE, OPTIONAL_FILE, OPTIONAL_TEXT, VARIABLE, optional_one_of
from switch_proxy.core.errors import InvalidValueError

SECRET_VARIABLE: Final = "NAME_OF_THE_VARIABLE"  # noqa: S105 - no secret, but how to write one
SECRET_FORMS: Final = f"client_secret: {{file: /path/to/the/file}} or client_secret: {{env: {SECRET_VARIABLE}}}"


AuthMethod: TypeAlias = Literal[
    "client_secret_post",
    "client_secret_basic",
    "client_secret_jwt",
    "private_key_jwt",
    "tls_client_auth",
    "self_signed_tls_client_auth",
    "client_assertion",
]
"""
How the client authenticates at the token endpoint: the names of RFC 7591 §2, OpenID Connect Core §9 and RFC 8705 §2,
and `client_assertion` for a JWT that somebody else has signed (RFC 7521 §4.2).
"""

SECRET_METHODS: Final = frozenset({"client_secret_post", "client_secret_basic", "client_secret_jwt"})
SIGNING_METHODS: Final = frozenset({"client_secret_jwt", "private_key_jwt"})
TLS_METHODS: Final = frozenset({"tls_client_auth", "self_signed_tls_client_auth"})

_KEY_FORM: Final = "private_key: {file: /path/to/the/key.pem}"
_ASSERTION_FORM: Final = "client_assertion: {file: /path/to/the/token}"
_CERTIFICATE_FORM: Final = "tls: {client_certificate_file: /path/to/tls.crt, client_key_file: /path/to/tls.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSource:
    """Where a client secret is read from: a file or an environment variable."""

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
        return f"the file {self.file}" if self.file is not None else f"the environment variable {self.env}"

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
        """Find both sources given, or none."""
        given = [name for name in ("file", "env") if values.get(name, "") is not None]
        if len(given) > 1:
            yield Problem(text=f"has both file and env; keep one: {SECRET_FORMS}")
        elif not given:
            yield Problem(text=f"names no file and no variable; write {SECRET_FORMS}")


def refuse_secret_in_the_clear(value: object) -> None:
    """Raise InvalidValueError if a value is, or may be, the secret itself."""
    if value is None or isinstance(value, SecretSource):
        return
    if not isinstance(value, Mapping):
        raise InvalidValueError(f"is a secret in the clear, which does not belong in this file; write {SECRET_FORMS}")
    # The key is not named: what stands there by mistake may be the secret.
    if not value.keys() <= {"file", "env"}:
        raise InvalidValueError(f"has a key other than file and env; write {SECRET_FORMS}")


def refuse_key_in_the_clear(value: object) -> None:
    """Raise InvalidValueError if a value may be the private key itself."""
    if isinstance(value, str):
        raise InvalidValueError(f"is text where keys belong, and a key does not belong in this file; write {_KEY_FORM}")


def refuse_assertion_in_the_clear(value: object) -> None:
    """Raise InvalidValueError if a value may be the assertion itself."""
    if isinstance(value, str):
        raise InvalidValueError(f"is text where keys belong; write {_ASSERTION_FORM}")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionSource:
    """Where a client assertion is read from that somebody else signs (RFC 7521 §4.2), for `client_assertion`."""

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


def find_authentication_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Find what the method of a credential needs and lacks, and what it does not use."""
    method = values.get("auth_method")
    if method is None:
        return
    for key, form, methods in (
        ("client_secret", SECRET_FORMS, SECRET_METHODS),
        ("private_key", _KEY_FORM, frozenset({"private_key_jwt"})),
        ("client_assertion", _ASSERTION_FORM, frozenset({"client_assertion"})),
    ):
        # An invalid value is absent from the values, and is a problem of its own.
        if key not in values:
            continue
        if method in methods and values[key] is None:
            text = f"is missing, which auth_method {method} needs; write {form}"
            yield Problem(path=(key,), text=text, about=About.ABSENCE)
        elif method not in methods and values[key] is not None:
            yield _unused(key, method, sorted(methods))
    if method not in SECRET_METHODS and values.get("previous_client_secret") is not None:
        yield _unused("previous_client_secret", method, sorted(SECRET_METHODS))
    if method not in SIGNING_METHODS and values.get("assertion_audience") is not None:
        yield _unused("assertion_audience", method, sorted(SIGNING_METHODS))
    tls = values.get("tls")
    if method in TLS_METHODS and tls is not None and tls.client_certificate_file is None:
        text = f"names no client certificate, which auth_method {method} needs; write {_CERTIFICATE_FORM}"
        yield Problem(path=("tls",), text=text)


def _unused(key: str, method: str, methods: Sequence[str]) -> Problem:
    text = f"is not used with auth_method {method}; take it out, or write auth_method: {' or '.join(methods)}"
    return Problem(path=(key,), text=text)
