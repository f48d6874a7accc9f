"""
Events of the running proxy as values: all events of the log except those of requests.

`name` and `level` are the log's. `log_fields` returns the other fields in their order here, with floats (seconds) rounded to
milliseconds. No event holds a secret or a token.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Final, Literal, TypeAlias

Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]

_UNLESS_NONE: Final = {"log": "unless None"}
_NOT_LOGGED: Final = {"log": "never"}


# --- credentials ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRefreshed:
    """A new token is in use. `lifetime`, `refresh_in` and the fetch's `duration` in seconds."""

    name: ClassVar[str] = "token.refreshed"
    level: ClassVar[Level] = "info"
    credential: str
    generation: int
    lifetime: float
    refresh_in: float
    duration: float
    after_failures: int
    """The number of failed fetches before it, in a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFound:
    """A token that another process has fetched is in use. `usable_for` and `refresh_in` in seconds."""

    name: ClassVar[str] = "token.found"
    level: ClassVar[Level] = "info"
    credential: str
    store: str
    generation: int
    usable_for: float
    refresh_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStoreFailed:
    """The store of shared tokens cannot be used; tokens are fetched without it. Logged once, until it can be used again."""

    name: ClassVar[str] = "store.failed"
    level: ClassVar[Level] = "warning"
    credential: str
    store: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStoreRestored:
    """The store of shared tokens can be used again."""

    name: ClassVar[str] = "store.restored"
    level: ClassVar[Level] = "info"
    credential: str
    store: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStoreEntryIgnored:
    """An entry of the store is of no use; each `reason` is logged once."""

    name: ClassVar[str] = "store.entry_ignored"
    level: ClassVar[Level] = "warning"
    credential: str
    store: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenNoted:
    """A token is used although something about it is odd; each `note` is logged once."""

    name: ClassVar[str] = "token.noted"
    level: ClassVar[Level] = "warning"
    credential: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRefreshFailed:
    """A fetch failed; the token, if there is one, stays in use. `retry_in` and `duration` in seconds."""

    name: ClassVar[str] = "token.refresh_failed"
    credential: str
    outcome: str
    error: str
    retry_in: float
    duration: float
    consecutive_failures: int
    token_usable_for: float | None
    """How long the token is still usable, in seconds; None if there is no usable one."""
    refused_for: float | None = field(metadata=_UNLESS_NONE)
    """How long the client has been refused, in seconds; None if it has not been since the last success."""
    remedy: str | None = field(metadata=_UNLESS_NONE)
    """What would end the refusal, for people."""
    is_first_occurrence: bool = field(metadata=_NOT_LOGGED)
    """Whether the fetch before it did not fail, or for another reason."""

    @property
    def level(self) -> Level:
        """Return `debug` for a repetition."""
        return "warning" if self.is_first_occurrence else "debug"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretLoaded:
    """The first client secret (key, assertion) has been read from its `source`."""

    name: ClassVar[str] = "secret.loaded"
    level: ClassVar[Level] = "info"
    credential: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretReloaded:
    """Another client secret (key, assertion) has been read from its `source`."""

    name: ClassVar[str] = "secret.reloaded"
    level: ClassVar[Level] = "info"
    credential: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretBroken:
    """The client secret cannot be read from its `source`; the one that was read last, if any, stays in use."""

    name: ClassVar[str] = "secret.broken"
    level: ClassVar[Level] = "warning"
    credential: str
    source: str
    error: str
    has_last_good: bool
    """Whether a secret stays in use that the authorization server has accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRestored:
    """The `source` can be read again, and holds the secret that was in use all the time."""

    name: ClassVar[str] = "secret.restored"
    level: ClassVar[Level] = "info"
    credential: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRefused:
    """The authorization server refused the client secret from `source`, and took the previous one."""

    name: ClassVar[str] = "secret.refused"
    credential: str
    source: str
    error: str
    used_instead: str = "the previous secret"
    is_first_occurrence: bool = field(metadata=_NOT_LOGGED)
    """Whether the fetch before did not end the same way."""

    @property
    def level(self) -> Level:
        """Return `debug` for a repetition."""
        return "warning" if self.is_first_occurrence else "debug"


CredentialEvent: TypeAlias = (
    TokenRefreshed
    | TokenFound
    | TokenStoreFailed
    | TokenStoreRestored
    | TokenStoreEntryIgnored
    | TokenNoted
    | TokenRefreshFailed
    | SecretLoaded
    | SecretReloaded
    | SecretBroken
    | SecretRestored
    | SecretRefused
)

# --- routes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsReloaded:
    """The route's TLS files have changed; new connections use them."""

    name: ClassVar[str] = "tls.reloaded"
    level: ClassVar[Level] = "info"
    route: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsBroken:
    """The route's TLS files can no longer be used; the last good ones, if any, stay in use."""

    name: ClassVar[str] = "tls.broken"
    level: ClassVar[Level] = "warning"
    route: str
    source: str
    error: str
    has_last_good: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsRestored:
    """The route's TLS files can be used again, and are those that were in use all the time."""

    name: ClassVar[str] = "tls.restored"
    level: ClassVar[Level] = "info"
    route: str
    source: str


RouteEvent: TypeAlias = TlsReloaded | TlsBroken | TlsRestored

# --- names ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NameUnresolved:
    """A host name cannot be resolved any more, or DNS does not respond; addresses found earlier are used for a while."""

    name: ClassVar[str] = "dns.failed"
    level: ClassVar[Level] = "warning"
    host: str
    used_by: str
    error: str
    has_last_good: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NameResolved:
    """A host name can be resolved again."""

    name: ClassVar[str] = "dns.restored"
    level: ClassVar[Level] = "info"
    host: str
    used_by: str


NameEvent: TypeAlias = NameUnresolved | NameResolved

# --- the process ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerStarted:
    """A listener is bound."""

    name: ClassVar[str] = "listener.started"
    level: ClassVar[Level] = "info"
    listener: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerFull:
    """A listener has all the client connections that it may have; further clients wait until one is closed."""

    name: ClassVar[str] = "listener.full"
    level: ClassVar[Level] = "warning"
    listener: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DescriptorsExhausted:
    """The process has run out of file descriptors: something could not be opened. `limit` is RLIMIT_NOFILE, None if unlimited."""

    name: ClassVar[str] = "descriptors.exhausted"
    level: ClassVar[Level] = "error"
    limit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminRequestMalformed:
    """The admin listener received something that is not HTTP: a port scanner, a TLS client."""

    name: ClassVar[str] = "listener.request_malformed"
    level: ClassVar[Level] = "debug"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyStarted:
    """Everything runs. `loop` is uvloop, or asyncio if the platform has no uvloop."""

    name: ClassVar[str] = "proxy.started"
    level: ClassVar[Level] = "info"
    version: str
    python: str
    loop: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyStartFailed:
    """The proxy could not start."""

    name: ClassVar[str] = "proxy.start_failed"
    level: ClassVar[Level] = "error"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyBecameReady:
    """Requests are served from now on."""

    name: ClassVar[str] = "proxy.became_ready"
    level: ClassVar[Level] = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyBecameUnready:
    """Requests are refused from now on."""

    name: ClassVar[str] = "proxy.became_unready"
    level: ClassVar[Level] = "warning"
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalReceived:
    """The process was asked to end (SIGTERM, SIGINT, SIGQUIT), to refresh (SIGHUP), or sent a signal that does nothing."""

    name: ClassVar[str] = "signal.received"
    level: ClassVar[Level] = "info"
    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyDraining:
    """The end has begun. Both in seconds."""

    name: ClassVar[str] = "proxy.draining"
    level: ClassVar[Level] = "info"
    drain_delay: float
    grace_period: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestsCut:
    """So many requests were not finished within the grace period, in seconds."""

    name: ClassVar[str] = "requests.cut"
    level: ClassVar[Level] = "warning"
    count: int
    grace_period: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyStopped:
    """Everything is closed."""

    name: ClassVar[str] = "proxy.stopped"
    level: ClassVar[Level] = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyAborted:
    """A second signal ended the process at once."""

    name: ClassVar[str] = "proxy.aborted"
    level: ClassVar[Level] = "warning"
    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDied:
    """A task that must not end has failed; the proxy ends."""

    name: ClassVar[str] = "task.died"
    level: ClassVar[Level] = "critical"
    exc_info: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopErrorCaught:
    """A callback or a task without owner failed: a defect that may have affected one request."""

    name: ClassVar[str] = "loop.error_caught"
    level: ClassVar[Level] = "error"
    message: str
    exc_info: BaseException | None


ProcessEvent: TypeAlias = (
    ListenerStarted
    | ListenerFull
    | DescriptorsExhausted
    | AdminRequestMalformed
    | ProxyStarted
    | ProxyStartFailed
    | ProxyBecameReady
    | ProxyBecameUnready
    | SignalReceived
    | ProxyDraining
    | RequestsCut
    | ProxyStopped
    | ProxyAborted
    | TaskDied
    | LoopErrorCaught
)

# --- the log itself ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryReported:
    """A library used the standard library's logging; `exc_info` is as there."""

    name: ClassVar[str] = "library.reported"
    library: str
    message: str
    exc_info: Any
    is_error: bool = field(metadata=_NOT_LOGGED)

    @property
    def level(self) -> Level:
        """Return the nearest level to the library's."""
        return "error" if self.is_error else "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesDropped:
    """So many lines of the log could not be written, for this reason."""

    name: ClassVar[str] = "log.lines_dropped"
    level: ClassVar[Level] = "warning"
    count: int
    reason: str


LogEvent: TypeAlias = LibraryReported | LinesDropped

# --- all -----------------------------------------------------------------------------------------------------------

Event: TypeAlias = CredentialEvent | RouteEvent | NameEvent | ProcessEvent | LogEvent


def log_fields(event: Event) -> dict[str, object]:
    """Return an event's fields as the log has them."""
    found: dict[str, object] = {}
    for each in fields(event):
        value = getattr(event, each.name)
        rule = each.metadata.get("log")
        if rule != "never" and not (rule == "unless None" and value is None):
            found[each.name] = round(value, 3) if isinstance(value, float) else value
    return found
