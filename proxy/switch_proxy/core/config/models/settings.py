"""The whole configuration of one proxy."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from switch_proxy.core.authentication.registry import method_of
from switch_proxy.core.config.models.admin import AdminSettings
from switch_proxy.core.config.models.conflicts import find_conflicts
from switch_proxy.core.config.models.credential import CredentialSettings
from switch_proxy.core.config.models.listener import ListenerSettings
from switch_proxy.core.config.models.log import LogSettings
from switch_proxy.core.config.models.route import LISTENER_KEYS, RouteSettings
from switch_proxy.core.config.models.shutdown import ShutdownSettings
from switch_proxy.core.config.models.token_store import TokenStoreSettings
from switch_proxy.core.errors import InvalidValueError
from switch_proxy.core.schema.keys import Key, fields_of, validate
from switch_proxy.core.schema.problem import About, Problem, render_path
from switch_proxy.core.schema.rules import NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration of one proxy."""

    credentials: Annotated[dict[str, CredentialSettings], Key(names=NAME, text="The credentials, by name.")]
    listeners: Annotated[
        dict[str, ListenerSettings], Key(names=NAME, text="The listeners that several routes share, by name.")
    ] = field(default_factory=dict)
    routes: Annotated[tuple[RouteSettings, ...], Key(text="The routes: where requests come in, and where they go.")]
    token_store: Annotated[
        TokenStoreSettings | None,
        Key(text="Where tokens are kept for restarts and other processes."),
    ] = None
    admin: Annotated[AdminSettings, Key(text="The listener for probes and metrics.")] = field(
        default_factory=AdminSettings
    )
    log: Annotated[LogSettings, Key(text="What is written to standard output, and how.")] = field(
        default_factory=LogSettings
    )
    shutdown: Annotated[ShutdownSettings, Key(text="What happens between SIGTERM and the end.")] = field(
        default_factory=ShutdownSettings
    )

    def __post_init__(self) -> None:
        validate(self)
        listeners = {name: {"listen": listener.listen} for name, listener in self.listeners.items()}
        data = {
            "credentials": self.credentials,
            "listeners": listeners,
            "routes": [_as_written(route) for route in self.routes],
            "admin": {"listen": self.admin.listen},
        }
        for problem in find_conflicts(data):
            raise InvalidValueError(f"of {render_path(problem.path)} {problem.text}")

    @property
    def token_store_in_use(self) -> TokenStoreSettings | None:
        """Return the store of tokens; None if there is none, also if the section names none."""
        return self.token_store if self.token_store is not None and self.token_store.is_on else None

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
        """Find credentials whose tokens cannot be encrypted for the store, because they have no secret to derive a key from."""
        store = values.get("token_store")
        if store is None or not store.is_on or store.encryption_key is not None:
            return
        for name, credential in values.get("credentials", {}).items():
            method = method_of(credential)
            if not method.has_lasting_secret:
                text = (
                    f"is missing, and the credential {name} (auth_method {method.name}) has no secret to encrypt its tokens with; "
                    "write encryption_key: {file: /path/to/the/file}"
                )
                yield Problem(path=("token_store", "encryption_key"), text=text, about=About.ABSENCE)
                return


def _as_written(route: RouteSettings) -> dict[str, object]:
    """Return what of a route conflicts are found in; of the listener's keys, those that are not at their defaults."""
    written: dict[str, Any] = {
        "name": route.name,
        "listen": route.listen,
        "listener": route.listener,
        "match": {"path": route.match.path, "host": route.match.host},
        "credential": route.credential,
    }
    for section, key in LISTENER_KEYS:
        holder = route if section is None else getattr(route, section)
        value = getattr(holder, key)
        if value != next(field.default for field in fields_of(type(holder)) if field.name == key):
            (written if section is None else written.setdefault(section, {}))[key] = value
    return written
