"""`token_store`: where tokens are kept for restarts and other processes."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from switch_proxy.core.addresses import RedisAddress
from switch_proxy.core.authentication.secret_source import describe_source, find_source_problems, refuse_in_the_clear
from switch_proxy.core.config.models.tls import TlsSettings
from switch_proxy.core.schema.keys import Key, validate
from switch_proxy.core.schema.problem import Problem
from switch_proxy.core.schema.rules import (
    OPTIONAL_FILE,
    OPTIONAL_TEXT,
    REDIS_ADDRESS,
    REDIS_PREFIX,
    SWITCH,
    VARIABLE,
)

SHORTEST_ENCRYPTION_KEY: Final = 32
"""Bytes: whoever reads the store can try keys at any speed, so one that a person has made up is not enough."""

_FORM: Final = "{file: /path/to/the/file} or {env: NAME_OF_THE_VARIABLE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSecretSource:
    """Source of a secret of the token store: a file or an environment variable."""

    file: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_FILE,
            text="A file with the secret and nothing else; one line end at its end is ignored.",
            why="It is read again when it is needed: a new secret is used without a restart.",
            without="this or `env`",
            example="/var/run/secrets/token-store/secret",
        ),
    ] = None
    env: Annotated[
        str | None,
        Key(
            rule=VARIABLE,
            text="The name of the environment variable with the secret.",
            without="this or `file`",
            example="TOKEN_STORE_SECRET",
        ),
    ] = None

    def __post_init__(self) -> None:
        validate(self)

    def __str__(self) -> str:
        return describe_source(self)

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
        """Find both sources given, or none."""
        yield from find_source_problems(values, form=_FORM)


def refuse_store_secret_in_the_clear(value: object) -> None:
    """Raise InvalidValueError if a value is, or may be, the secret itself."""
    refuse_in_the_clear(value, section=StoreSecretSource, form=_FORM)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """A Redis server, version 6 or later, or Valkey."""

    url: Annotated[
        RedisAddress,
        Key(
            rule=REDIS_ADDRESS,
            text="The server and the number of the database, without user and password. rediss (TLS), unless the host is "
            "loopback or `allow_plaintext` is set.",
            example="rediss://cache.example.com:6379/0",
        ),
    ]
    username: Annotated[
        str | None,
        Key(rule=OPTIONAL_TEXT, text="The user (ACL) to log in as.", without="`default`", example="switch-proxy"),
    ] = None
    password: Annotated[
        StoreSecretSource | None,
        Key(
            before=refuse_store_secret_in_the_clear,
            text="Source of the password; the password itself is refused here.",
            example="{file: /var/run/secrets/redis/password}",
        ),
    ] = None
    tls: Annotated[TlsSettings, Key(text="TLS towards the server.")] = field(default_factory=TlsSettings)
    prefix: Annotated[
        str,
        Key(
            rule=REDIS_PREFIX,
            text="What the names of all keys in the database begin with: up to 64 letters, digits and `-_.:/`. An ACL can limit the "
            "user to them.",
            why="The name of what uses them, so that other users of the database can be told apart.",
        ),
    ] = "switch-proxy:"
    allow_plaintext: Annotated[
        bool,
        Key(
            rule=SWITCH,
            text="Whether `url` may be without TLS on a host that is not loopback.",
            why="The tokens are encrypted anyway, but the password can then be read on the network.",
        ),
    ] = False

    def __post_init__(self) -> None:
        validate(self)

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
        """Find a server in plaintext, and a user without a password."""
        url = values.get("url")
        if url is not None and not url.is_tls and not url.is_loopback and values.get("allow_plaintext") is False:
            text = "is not rediss, and the password goes there; write rediss://… or set allow_plaintext: true beside it"
            yield Problem(path=("url",), text=text)
        if values.get("username") is not None and values.get("password", "") is None:
            text = "is a user without a password; write password: {file: /path/to/the/file} beside it"
            yield Problem(path=("username",), text=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStoreSettings:
    """Where tokens are kept, encrypted, for restarts and for other processes of the same client."""

    directory: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_FILE,
            text="A directory that belongs to this user alone, for processes on this machine and what shares a volume. It is made "
            "if it does not exist.",
            without="this or `redis`",
            example="/var/lib/switch-proxy/tokens",
        ),
    ] = None
    redis: Annotated[
        RedisSettings | None,
        Key(text="A server, for a fleet. It needs the extra `switch-proxy[redis]`, which the image has."),
    ] = None
    encryption_key: Annotated[
        StoreSecretSource | None,
        Key(
            before=refuse_store_secret_in_the_clear,
            text="Source of the secret, of at least 32 bytes, that the entries are encrypted with.",
            why="It is needed only by credentials without a secret of their own: those of `client_assertion`, `tls_client_auth` and "
            "`self_signed_tls_client_auth`.",
            without="the credential's own secret or key",
            example="{file: /var/run/secrets/token-store/key}",
        ),
    ] = None

    def __post_init__(self) -> None:
        validate(self)

    @property
    def is_on(self) -> bool:
        """Return whether there is a store: a section with neither is as good as none, so that an empty variable may decide."""
        return self.directory is not None or self.redis is not None

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
        """Find both stores given."""
        if all(values.get(name, "") is not None for name in ("directory", "redis")):
            yield Problem(text="has both directory and redis; keep one of them")
