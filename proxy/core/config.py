"""
What can be configured: the models, their defaults with the reasons, and the rules of each value.

Knows nothing of files, YAML and the environment (proxy/settings.py does): it is given plain values whose `${…}` are
already replaced. core/validation.py turns what is wrong into findings. Each key is described here, config.schema.json
is made from it, and docs/configuration.md is held to it. A key that another's rule depends on stands before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from proxy.core.addresses import ADMIN_ADDRESS, Address, Origin, parse_address, parse_endpoint, parse_host, parse_origin
from proxy.core.errors import InvalidValueError
from proxy.core.quantities import format_duration, is_off, parse_count, parse_duration, parse_size, parse_switch

__all__ = [
    "Address",
    "AdminSettings",
    "CredentialSettings",
    "LimitSettings",
    "LogSettings",
    "Origin",
    "PoolSettings",
    "RouteSettings",
    "SecretSource",
    "Settings",
    "ShutdownSettings",
    "TimeoutSettings",
    "TlsSettings",
]

SECRET_VARIABLE: Final = "NAME_OF_THE_VARIABLE"  # noqa: S105 - no secret, but how to write one
_SECRET_FORMS: Final = f"client_secret: {{file: /path/to/the/file}} or client_secret: {{env: {SECRET_VARIABLE}}}"

_DAY: Final = 86400.0
_MIB: Final = 1024 * 1024

# A name becomes a label of metrics, a word of log lines and a part of messages.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")  # RFC 6749 §3.3
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110 §5.6.2
# Control characters and lone surrogates: what no header, file name or form can carry.
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_PARAMETERS_WITH_A_KEY: Final = frozenset({"audience", "client_id", "client_secret", "scope"})
_PARAMETERS_OF_THE_PROXY: Final = frozenset({"grant_type", "client_assertion", "client_assertion_type"})


# --- the rules of single values ------------------------------------------------------------------------------------


def _text(value: object) -> str:
    if value is None:
        raise InvalidValueError("is empty; write a value")
    if not isinstance(value, str):
        raise InvalidValueError("is not text; put it in quotes if it is meant as it stands")
    if _UNPRINTABLE.search(value):
        raise InvalidValueError("has a control character (a line end or a tab, say); write it on one line, without")
    if not value.strip():
        raise InvalidValueError("is empty; write a value")
    if value != value.strip():
        raise InvalidValueError("has a space at its start or end; leave it out")
    return value


def _text_or_none(value: object) -> str | None:
    """Take empty text for none at all, for that is what `${NAME:-}` gives where the variable is not set."""
    return None if value is None or value == "" else _text(value)


def _name(value: object) -> str:
    text = _text(value)
    if _NAME.fullmatch(text) is None:
        raise InvalidValueError(
            "is not a name; write up to 63 letters, digits, dots, hyphens and underscores, a letter or digit first"
        )
    return text


def _variable(value: object) -> str | None:
    text = _text_or_none(value)
    if text is not None and _VARIABLE.fullmatch(text) is None:
        raise InvalidValueError(
            "is not the name of an environment variable; write the name, such as SWITCH_CLIENT_SECRET, not the value"
        )
    return text


def _scope(value: object) -> str | None:
    text = _text_or_none(value)
    if text is not None and _SCOPE.fullmatch(text) is None:
        raise InvalidValueError("is not a scope; write scope names with one space between them (RFC 6749 §3.3)")
    return text


def _pseudonym(value: object) -> str | None:
    if value is None or is_off(value):
        return None
    text = _text(value)
    if _TOKEN.fullmatch(text) is None:
        raise InvalidValueError(
            "cannot stand in a Via line; write letters, digits and hyphens (RFC 9110 §7.6.3), or off"
        )
    return text


def _address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        raise InvalidValueError("is not host:port; write one such as 127.0.0.1:8080", may_be_shown=True)
    return parse_address(_text(value))


def _address_or_none(value: object) -> Address | None:
    return None if value is None or is_off(value) else _address(value)


def _origin(value: object) -> Origin:
    return value if isinstance(value, Origin) else parse_origin(_text(value))


def _host_or_none(value: object) -> str | None:
    text = _text_or_none(value)
    return None if text is None else parse_host(text)


def _section(value: object) -> object:
    """Take a section without keys (all of them comments, say) for one that is left out."""
    return {} if value is None else value


def _at_least_one(value: object) -> object:
    if value is None or (isinstance(value, (Mapping, list, tuple)) and not value):
        raise InvalidValueError("is empty; write at least one entry")
    return value


def _one_of(*words: str) -> BeforeValidator:
    def validate(value: object) -> object:
        word = "off" if is_off(value) else value
        if word not in words:
            raise InvalidValueError(
                f"is none of the words known here; write one of {', '.join(words)}", may_be_shown=True
            )
        return word

    return BeforeValidator(validate)


def _duration(lowest: float, highest: float) -> BeforeValidator:
    def validate(value: object) -> float:
        seconds = parse_duration(value)
        if not lowest <= seconds <= highest:
            raise InvalidValueError(
                f"is out of range; write a duration from {format_duration(lowest)} to {format_duration(highest)}",
                may_be_shown=True,
            )
        return seconds

    return BeforeValidator(validate)


def _whole(lowest: int, highest: int, parse: Callable[[object], int] = parse_count) -> BeforeValidator:
    def validate(value: object) -> int:
        number = parse(value)
        if not lowest <= number <= highest:
            raise InvalidValueError(f"is out of range; write a number from {lowest} to {highest}", may_be_shown=True)
        return number

    return BeforeValidator(validate)


def _json(*alternatives: dict[str, Any]) -> WithJsonSchema:
    """Return what editors check a value against: the alternatives, or text with a `${…}` in it."""
    return WithJsonSchema({"anyOf": [*alternatives, {"type": "string", "pattern": r"\$\{"}]})


_NULL: Final = {"type": "null"}
_ADDRESS_JSON: Final = {"type": "string", "pattern": r"^(\[[^\[\]]+\]|[^\[\]:]+):[0-9]{1,5}$"}
_URL_JSON: Final = {"type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://"}
_DURATION_JSON: Final = _json(
    {"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?|\.[0-9]+) ?(ms|s|m|h|d)?$"}
)
_SIZE_JSON: Final = _json(
    {"type": "integer", "minimum": 0},
    {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?|\.[0-9]+) ?(B|kB|KiB|MB|MiB)?$"},
)
_COUNT_JSON: Final = _json({"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+$"})


def _words_json(*words: str) -> WithJsonSchema:
    # Tools that read YAML 1.1 take a bare `off` for false, and write that.
    return _json({"enum": [*words, False] if "off" in words else list(words)})


Text = Annotated[str, BeforeValidator(_text)]
OptionalText = Annotated[str | None, BeforeValidator(_text_or_none)]
Name = Annotated[str, BeforeValidator(_name)]
Switch = Annotated[bool, BeforeValidator(parse_switch), _json({"type": "boolean"}, {"enum": ["true", "false"]})]
Wait = Annotated[float, _duration(0, _DAY), _DURATION_JSON]
"""A duration that may be nothing."""
Timeout = Annotated[float, _duration(0.001, _DAY), _DURATION_JSON]
"""A duration that may not: it would fail everything. One above a day is a mistaken unit."""
ListenAddress = Annotated[Address, PlainValidator(_address), PlainSerializer(str), _json(_ADDRESS_JSON)]


class _Model(BaseModel):
    """Frozen, without unknown keys, and never showing a value in an error's text."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True, arbitrary_types_allowed=True
    )


# --- the rules between values --------------------------------------------------------------------------------------


def _require_https(origin: Origin, info: ValidationInfo, *, why: str) -> Origin:
    # Absent from info.data: it is invalid itself, and said to be.
    if origin.scheme != "https" and not origin.is_loopback and info.data.get("allow_plaintext") is False:
        raise InvalidValueError(f"is not https, and {why}; write https://… or set allow_plaintext: true beside it")
    return origin


def _require_loopback(address: Address, info: ValidationInfo, *, why: str) -> Address:
    if not address.is_loopback and info.data.get("allow_remote_clients") is False:
        raise InvalidValueError(
            f"can be reached from outside this pod, and {why}; write 127.0.0.1:{address.port} or set "
            "allow_remote_clients: true beside it",
            may_be_shown=True,
        )
    return address


class ConflictError(ValueError):
    """Settings were made of parts that do not fit together."""

    def __init__(self, conflict: Conflict) -> None:
        super().__init__(f"{conflict.value!r} {conflict.complaint}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Two parts of a configuration that do not fit together, said of the `value` at one of them, with a `complaint`."""

    path: tuple[str | int, ...]
    value: str
    complaint: str


def find_conflicts(data: Mapping[str, Any]) -> Iterator[Conflict]:
    """Find parts that do not fit together; what is unusable in itself is passed over, for that is said elsewhere."""
    credentials = _mapping(data.get("credentials"))
    names: dict[str, int] = {}
    taken: list[tuple[str, Address]] = []
    admin = data.get("admin")
    if admin is None or isinstance(admin, Mapping):
        taken += _usable_address("admin.listen", _mapping(admin).get("listen", ADMIN_ADDRESS))
    for index, entry in enumerate(_sequence(data.get("routes"))):
        route = _mapping(entry)
        name, credential = route.get("name"), route.get("credential")
        if isinstance(name, str) and _NAME.fullmatch(name):
            first = names.setdefault(name, index)
            if first != index:
                complaint = f"is the name of routes[{first}] already; give each route a name of its own"
                yield Conflict(path=("routes", index, "name"), value=name, complaint=complaint)
        for place, address in _usable_address(f"routes[{index}].listen", route.get("listen")):
            clash = next((where for where, other in taken if address.clashes_with(other)), None)
            if clash is not None:
                complaint = f"is taken by {clash}; give each listener a port of its own"
                yield Conflict(path=("routes", index, "listen"), value=str(address), complaint=complaint)
            taken.append((place, address))
        if (
            isinstance(credential, str)
            and _NAME.fullmatch(credential)
            and credentials
            and credential not in credentials
        ):
            complaint = _unknown_credential(credential, credentials)
            yield Conflict(path=("routes", index, "credential"), value=credential, complaint=complaint)


def _unknown_credential(name: str, known: Mapping[str, object]) -> str:
    # Imported here: only for a mistake, which a start without one need not pay for.
    from difflib import get_close_matches  # noqa: PLC0415

    names = [candidate for candidate in known if _NAME.fullmatch(candidate)]
    if close := get_close_matches(name, names, n=1):
        return f'names no credential; did you mean "{close[0]}"?'
    return f"names no credential; write one of those in credentials ({', '.join(names)}), or add it there"


def _usable_address(place: str, value: object) -> list[tuple[str, Address]]:
    try:
        address = _address_or_none(value)
    except InvalidValueError:
        return []
    return [] if address is None else [(place, address)]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, (list, tuple)) else ()


# --- the models ----------------------------------------------------------------------------------------------------


class TlsSettings(_Model):
    """How a server's certificate is verified, and what is shown to it (TLS 1.2 or later, always verified)."""

    ca_file: OptionalText = Field(
        None,
        description="A PEM file of the authorities to trust, in place of the system's.",
        examples=["/etc/ssl/private-ca.pem"],
    )
    client_certificate_file: OptionalText = Field(
        None,
        description="A PEM file of the certificate to show to the server (mutual TLS), with its chain.",
        examples=["/var/run/secrets/tls/tls.crt"],
    )
    client_key_file: OptionalText = Field(
        None,
        description="A PEM file of the certificate's private key; left out, it is in the certificate's file.",
        examples=["/var/run/secrets/tls/tls.key"],
    )
    server_name: Annotated[str | None, BeforeValidator(_host_or_none)] = Field(
        None,
        description="The name to ask for (SNI) and to verify, where it is not the host of the URL.",
        examples=["api.example.com"],
    )

    @field_validator("client_key_file")
    @classmethod
    def _has_its_certificate(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("client_certificate_file", "") is None:
            raise InvalidValueError("is a key without a certificate; write client_certificate_file beside it")
        return value


class SecretSource(_Model):
    """Where a client secret is read from: exactly one of a file and an environment variable."""

    file: OptionalText = Field(
        None,
        description="The file that holds the secret, and nothing else. It is watched: a new secret is taken up without a restart.",
        examples=["/var/run/secrets/switch/client_secret"],
    )
    env: Annotated[str | None, BeforeValidator(_variable)] = Field(
        None,
        description="The environment variable that holds the secret. A new secret needs a restart: prefer a file.",
        examples=["SWITCH_CLIENT_SECRET"],
    )

    @model_validator(mode="after")
    def _is_exactly_one(self) -> Self:
        if self.file is not None and self.env is not None:
            raise InvalidValueError(f"has both file and env; keep one: {_SECRET_FORMS}")
        if self.file is None and self.env is None:
            raise InvalidValueError(f"names no file and no variable; write {_SECRET_FORMS}")
        return self


class CredentialSettings(_Model):
    """One way to get access tokens: a token endpoint, and who asks it (RFC 6749 §4.4)."""

    allow_plaintext: Switch = Field(
        default=False,  # The client secret would cross the network readable to all.
        description="Whether token_url may be http:// on a host that is not loopback.",
    )
    token_url: Annotated[Text, _json(_URL_JSON)] = Field(
        description="The token endpoint: https, without user and fragment.",
        examples=["https://login.example.com/oauth/token"],
    )
    client_id: Text = Field(description="The client application's id.", examples=["${SWITCH_CLIENT_ID}"])
    client_secret: SecretSource = Field(
        description="Where the client secret is read from; the secret itself is refused here.",
        examples=[{"file": "/var/run/secrets/switch/client_secret"}],
    )
    audience: OptionalText = Field(
        None,
        description="The audience parameter of the token request (Auth0-style servers need it).",
        examples=["https://api.switchmarket.se"],
    )
    scope: Annotated[str | None, BeforeValidator(_scope)] = Field(
        None,
        description="The scope parameter of the token request, scope names with spaces between them (RFC 6749 §3.3).",
        examples=["https://api.example.com/.default"],
    )
    extra_params: Annotated[dict[Text, Text], BeforeValidator(_section)] = Field(
        default_factory=dict,
        description="Further parameters of the token request, name to text, for servers that want more.",
        examples=[{"organization": "org-1"}],
    )
    default_lifetime: Annotated[float, _duration(1, _DAY), _DURATION_JSON] = Field(
        300.0,  # Duende AccessTokenManagement's: short enough to be wrong for a moment only.
        description="How long a token is taken to last where the answer lacks expires_in.",
    )
    timeout: Timeout = Field(
        10.0,  # A fetch runs in the background: patient with a slow server, but done well before the next is due.
        description="How long one token request may take, all told.",
    )
    tls: Annotated[TlsSettings, BeforeValidator(_section)] = Field(
        default_factory=TlsSettings, description="TLS towards the token endpoint."
    )

    @field_validator("token_url")
    @classmethod
    def _token_url_is_private(cls, value: str, info: ValidationInfo) -> str:
        _require_https(parse_endpoint(value), info, why="the client secret goes there")
        return value

    @field_validator("client_secret", mode="before")
    @classmethod
    def _is_not_in_the_clear(cls, value: object) -> object:
        if isinstance(value, SecretSource):
            return value
        if value is None:
            raise InvalidValueError(f"is empty; write {_SECRET_FORMS}")
        if not isinstance(value, Mapping):
            raise InvalidValueError(
                f"is a secret in the clear, which does not belong in this file; write {_SECRET_FORMS}"
            )
        # The key is not named: what stands there by mistake may be the secret.
        if not value.keys() <= SecretSource.model_fields.keys():
            raise InvalidValueError(f"has a key other than file and env; write {_SECRET_FORMS}")
        return value

    @field_validator("extra_params")
    @classmethod
    def _has_no_parameter_of_ours(cls, value: dict[str, str]) -> dict[str, str]:
        for parameter in value:
            if parameter == "client_secret":
                raise InvalidValueError(
                    "has a client_secret, and a secret does not belong in this file; take it out and write, "
                    f"beside extra_params, {_SECRET_FORMS}"
                )
            if parameter in _PARAMETERS_WITH_A_KEY:
                raise InvalidValueError(f"has {parameter}, which has a key of its own; write it beside extra_params")
            if parameter in _PARAMETERS_OF_THE_PROXY:
                raise InvalidValueError(f"has {parameter}, which the proxy sets itself; leave it out")
        return value


class TimeoutSettings(_Model):
    """How long each step of an exchange may take. There is no limit on the whole, so streams may last."""

    connect: Timeout = Field(
        5.0,  # Enough for two lost SYN packets (1 s, then 2 s; RFC 6298); Envoy's default too.
        description="Name resolution and TCP connection to the upstream.",
    )
    tls_handshake: Timeout = Field(
        5.0,  # Two round trips at most, so as generous as the connection itself.
        description="The TLS handshake with the upstream.",
    )
    response_head: Timeout = Field(
        60.0,  # nginx's proxy_read_timeout: slow queries pass, a hanging upstream is told from them.
        description="From the request being sent to the head of the response.",
    )
    idle: Timeout = Field(
        300.0,  # Envoy's stream_idle_timeout: server-sent events with a heartbeat pass.
        description="Between two bytes of a body, in either direction.",
    )
    request_head: Timeout = Field(
        10.0,  # Against clients that send a head byte by byte; Node's and Go's servers are of this order.
        description="From the first to the last byte of a request's head.",
    )
    keep_alive: Timeout = Field(
        75.0,  # nginx's keepalive_timeout: longer than most clients' own, so it is the client that closes.
        description="How long a client's connection may be idle between two requests.",
    )


class LimitSettings(_Model):
    """How large a request's or a response's head may be."""

    request_line: Annotated[int, _whole(256, _MIB, parse_size), _SIZE_JSON] = Field(
        8192,  # RFC 9112 §3 asks for 8000 at least; nginx's and Apache's limit.
        description="Bytes of the request line; longer is answered with 414.",
    )
    head: Annotated[int, _whole(256, _MIB, parse_size), _SIZE_JSON] = Field(
        65536,  # Envoy's limit is 60 KiB, Go's 1 MiB: what no real head reaches, and a connection may cost.
        description="Bytes of a whole head; larger is answered with 431 (a request) or 502 (a response).",
    )
    field_lines: Annotated[int, _whole(1, 10_000), _COUNT_JSON] = Field(
        128,  # Envoy's limit is 100; some more, for what proxies on the way add.
        description="Lines of a head; more are answered with 431 (a request) or 502 (a response).",
    )

    @field_validator("head")
    @classmethod
    def _has_room_for_the_request_line(cls, value: int, info: ValidationInfo) -> int:
        request_line = info.data.get("request_line", 0)
        if value < request_line:
            raise InvalidValueError(f"is less than request_line, which is part of it; write {request_line} or more")
        return value


class PoolSettings(_Model):
    """The connections to one route's upstream."""

    max_connections: Annotated[int, _whole(1, 65535), _COUNT_JSON] = Field(
        256,  # One pod is a guest among an API's many: no app of one needs more at once.
        description="Connections open at once.",
    )
    max_waiting: Annotated[int, _whole(0, 1_000_000), _COUNT_JSON] = Field(
        1024,  # Envoy's max_pending_requests.
        description="Requests that may wait for a connection; further ones are answered with 503.",
    )
    wait: Wait = Field(
        5.0,  # As long as for a connection: after that, an overload is better told than queued.
        description="How long a request may wait for a connection; then it is answered with 503.",
    )
    idle: Timeout = Field(
        60.0,  # nginx's keepalive_timeout for upstreams, and below that of most load balancers.
        description="How long an unused connection is kept.",
    )
    lifetime: Timeout = Field(
        3600.0,  # nginx's keepalive_time: a moved upstream is followed within it.
        description="How old a connection may get; then it is used no more.",
    )


class RouteSettings(_Model):
    """One listener for apps, and the one upstream it forwards to."""

    name: Name = Field(description="What logs and metrics call the route.", examples=["switch-api"])
    allow_remote_clients: Switch = Field(
        default=False,  # Whoever can reach the listener uses the credential.
        description="Whether listen may be an address that others than this pod can reach.",
    )
    listen: ListenAddress = Field(
        description="Where apps send their plain HTTP: host:port, loopback. Port 0 lets the system choose.",
        examples=["127.0.0.1:8080"],
    )
    allow_plaintext: Switch = Field(
        default=False,  # The access token would cross the network readable to all.
        description="Whether upstream may be http:// on a host that is not loopback.",
    )
    upstream: Annotated[Origin, PlainValidator(_origin), PlainSerializer(str), _json(_URL_JSON)] = Field(
        description="The API: https, host, port where needed, and a base path that is put before each request's own.",
        examples=["https://api.switchmarket.se"],
    )
    credential: Name = Field(description="The credential (of credentials) whose tokens are sent.", examples=["switch"])
    wait_for_token: Wait = Field(
        5.0,  # One fetch and its first repetition; longer, an app's own timeout comes first.
        description="How long a request may wait for a token where there is none; then it is answered with 503.",
    )
    via: Annotated[str | None, BeforeValidator(_pseudonym), _json({"type": "string"}, _NULL, {"const": False})] = Field(
        "switch-proxy",  # RFC 9110 §7.6.3 asks for the line; the pseudonym tells nothing of the pod.
        description="The proxy's name in Via lines; off: no such line.",
    )
    allow_trace: Switch = Field(
        default=False,  # The answer to TRACE holds the request's head, the token in it (RFC 9110 §9.3.8).
        description="Whether TRACE is forwarded.",
    )
    tls: Annotated[TlsSettings, BeforeValidator(_section)] = Field(
        default_factory=TlsSettings, description="TLS towards the upstream."
    )
    timeouts: Annotated[TimeoutSettings, BeforeValidator(_section)] = Field(
        default_factory=TimeoutSettings, description="How long each step may take."
    )
    limits: Annotated[LimitSettings, BeforeValidator(_section)] = Field(
        default_factory=LimitSettings, description="How large a head may be."
    )
    pool: Annotated[PoolSettings, BeforeValidator(_section)] = Field(
        default_factory=PoolSettings, description="The connections to the upstream."
    )

    @field_validator("listen")
    @classmethod
    def _listen_is_private(cls, value: Address, info: ValidationInfo) -> Address:
        return _require_loopback(value, info, why="whoever reaches it can use the credential")

    @field_validator("upstream")
    @classmethod
    def _upstream_is_private(cls, value: Origin, info: ValidationInfo) -> Origin:
        return _require_https(value, info, why="the access token goes there")


class AdminSettings(_Model):
    """The listener for probes and metrics."""

    allow_remote_clients: Switch = Field(
        default=False,  # A kubelet's probes and a scraper come from outside the pod: then it is set, on purpose.
        description="Whether listen may be an address that others than this pod can reach.",
    )
    listen: Annotated[
        Address | None,
        PlainValidator(_address_or_none),
        PlainSerializer(lambda address: None if address is None else str(address)),
        _json(_ADDRESS_JSON, _NULL, {"const": False}, {"const": "off"}),
    ] = Field(
        ADMIN_ADDRESS,
        description="Where /livez, /readyz and /metrics are served; off: nowhere.",
        examples=["127.0.0.1:9901"],
    )

    @field_validator("listen")
    @classmethod
    def _listen_is_private(cls, value: Address | None, info: ValidationInfo) -> Address | None:
        return value and _require_loopback(value, info, why="whoever reaches it can read the proxy's state")


class LogSettings(_Model):
    """What is written to standard output, and how."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        _one_of("debug", "info", "warning", "error"),
        _words_json("debug", "info", "warning", "error"),
    ] = Field("info", description="The least severe level that is written.")  # debug is for the proxy's developers.
    format: Annotated[Literal["json", "console"], _one_of("json", "console"), _words_json("json", "console")] = Field(
        "json",  # What log collectors of clusters read without a parser of one's own.
        description="One JSON object a line, or text in colours for people.",
    )
    access: Annotated[
        Literal["all", "errors", "off"], _one_of("all", "errors", "off"), _words_json("all", "errors", "off")
    ] = Field(
        "all",  # One line a request, as nginx; the lines are batched so that they cost little.
        description="Which requests get a line: all, those that failed (status 500 and above or cut short), or none.",
    )


class ShutdownSettings(_Model):
    """What happens between SIGTERM and the end."""

    grace_period: Wait = Field(
        25.0,  # Below the 30 s after which Kubernetes kills a pod.
        description="How long requests in flight may take to finish; then they are cut.",
    )
    drain_delay: Wait = Field(
        0.0,  # An app in the same pod needs none; behind a Service, endpoints take seconds to be withdrawn.
        description="How long to go on accepting after readiness went red. Part of the pod's own grace period.",
    )


class Settings(_Model):
    """The whole configuration of one proxy."""

    credentials: Annotated[dict[Name, CredentialSettings], BeforeValidator(_at_least_one)] = Field(
        description="The credentials, by name.",
        json_schema_extra={"minProperties": 1},
    )
    routes: Annotated[tuple[RouteSettings, ...], BeforeValidator(_at_least_one)] = Field(
        description="The routes: a listener each.",
        json_schema_extra={"minItems": 1},
    )
    admin: Annotated[AdminSettings, BeforeValidator(_section)] = Field(
        default_factory=AdminSettings, description="The listener for probes and metrics."
    )
    log: Annotated[LogSettings, BeforeValidator(_section)] = Field(
        default_factory=LogSettings, description="What is written to standard output, and how."
    )
    shutdown: Annotated[ShutdownSettings, BeforeValidator(_section)] = Field(
        default_factory=ShutdownSettings, description="What happens between SIGTERM and the end."
    )

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        for conflict in find_conflicts(
            {
                "credentials": self.credentials,
                "routes": [{"name": r.name, "listen": r.listen, "credential": r.credential} for r in self.routes],
                "admin": {"listen": self.admin.listen},
            }
        ):
            raise ConflictError(conflict)
        return self
