"""
What can be configured: the models, their defaults with the reasons, and the rules between values.

Knows nothing of files, YAML and the environment (proxy/switch_proxy/settings.py does). Each key is described here, once:
core/config/validation.py reads by it, config.schema.json is made from it, docs/configuration.md is held to it. Models are
plain frozen dataclasses: docs/decisions/0003-configuration-without-pydantic.md tells why.
"""

# No postponed evaluation of annotations here: core/config/rules.py reads them.

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

from switch_proxy.core.addresses import ADMIN_ADDRESS, Address, Origin, parse_endpoint
from switch_proxy.core.config.rules import (
    ADDRESS,
    ADDRESS_OR_OFF,
    FIELD_NAME,
    FIELD_VALUE,
    HOST,
    ISSUER,
    NAME,
    OPTIONAL_ADDRESS,
    OPTIONAL_ENDPOINT,
    OPTIONAL_NAME,
    OPTIONAL_TEXT,
    ORIGIN,
    PATH_PREFIX,
    PSEUDONYM,
    REQUEST_HOST,
    RESOURCE,
    SCOPE,
    SWITCH,
    TEXT,
    TIMEOUT,
    VARIABLE,
    WAIT,
    Fault,
    Key,
    count,
    duration,
    fields_of,
    hold_to_rules,
    is_name,
    one_of,
    optional_one_of,
    parse_address_or_off,
    size,
)
from switch_proxy.core.errors import InvalidValueError
from switch_proxy.core.path_prefix import PathPrefix

__all__ = [
    "Address",
    "AdminSettings",
    "AssertionSource",
    "AuthMethod",
    "CredentialSettings",
    "LimitSettings",
    "ListenerLimitSettings",
    "ListenerSettings",
    "ListenerTimeoutSettings",
    "LogSettings",
    "MatchSettings",
    "Origin",
    "PathPrefix",
    "PoolSettings",
    "PrivateKeySettings",
    "RouteSettings",
    "SecretSource",
    "Settings",
    "ShutdownSettings",
    "TimeoutSettings",
    "TlsSettings",
]

SECRET_VARIABLE: Final = "NAME_OF_THE_VARIABLE"  # noqa: S105 - no secret, but how to write one
_SECRET_FORMS: Final = f"client_secret: {{file: /path/to/the/file}} or client_secret: {{env: {SECRET_VARIABLE}}}"

ADMIN_LISTENER: Final = "admin"
"""The admin listener's name among the routes' listeners, in the log and wherever they are listed."""

_PARAMETERS_WITH_A_KEY: Final = frozenset({"audience", "client_id", "client_secret", "resource", "scope"})
_PARAMETERS_OF_THE_PROXY: Final = frozenset({"grant_type", "client_assertion", "client_assertion_type"})

_FIELDS_OF_THE_PROXY: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Header fields of the token request, lower case: they frame it, or carry the client's authentication."""

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


# --- the rules between values --------------------------------------------------------------------------------------


def _plaintext(key: str, origin: Origin, values: Mapping[str, Any], *, why: str) -> Iterator[Fault]:
    # An allow_plaintext that is invalid is absent from the values, and told of by itself.
    if origin.scheme != "https" and not origin.is_loopback and values.get("allow_plaintext") is False:
        complaint = f"is not https, and {why}; write https://… or set allow_plaintext: true beside it"
        yield Fault(key=key, complaint=complaint)


def _open_to_others(values: Mapping[str, Any], *, why: str) -> Iterator[Fault]:
    address = values.get("listen")
    if address is not None and not address.is_loopback and values.get("allow_remote_clients") is False:
        complaint = (
            f"can be reached from outside this pod, and {why}; write 127.0.0.1:{address.port} or set "
            "allow_remote_clients: true beside it"
        )
        yield Fault(key="listen", complaint=complaint, may_be_shown=True)


def _head_below_its_first_line(values: Mapping[str, Any]) -> Iterator[Fault]:
    request_line = values.get("request_line", 0)
    if values.get("head", request_line) < request_line:
        complaint = f"is less than request_line, which is part of it; write {request_line} or more"
        yield Fault(key="head", complaint=complaint, may_be_shown=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """
    Two parts of a configuration that do not fit together, said of the `value` at one of them, with a `complaint`.

    With `is_about_key` the complaint is about the key at the path, not about its value.
    """

    path: tuple[str | int, ...]
    value: str
    complaint: str
    is_about_key: bool = False


LISTENER_KEYS: Final = (
    (None, "allow_remote_clients"),
    ("timeouts", "request_head"),
    ("timeouts", "keep_alive"),
    ("limits", "request_line"),
    ("limits", "head"),
    ("limits", "field_lines"),
)
"""Keys (section, name) of a route that are needed before the route of a request is known: they belong to its listener."""


def find_conflicts(data: Mapping[str, Any]) -> Iterator[Conflict]:
    """Find parts that do not fit together; what is unusable in itself is passed over, because that is said elsewhere."""
    yield from _find_name_conflicts(data)
    yield from _find_address_conflicts(data)
    credentials = _mapping(data.get("credentials"))
    for index, route in _routes(data):
        credential = route.get("credential")
        if is_name(credential) and credentials and credential not in credentials:
            complaint = _unknown_name(credential, credentials, kind="credential")
            yield Conflict(path=("routes", index, "credential"), value=credential, complaint=complaint)
    yield from _find_listener_conflicts(data)


def _find_name_conflicts(data: Mapping[str, Any]) -> Iterator[Conflict]:
    names: dict[str, int] = {}
    with_own_listener: dict[str, int] = {}
    for index, route in _routes(data):
        name = route.get("name")
        if not is_name(name):
            continue
        first = names.setdefault(name, index)
        if not route.get("listener"):
            with_own_listener.setdefault(name, index)
        if name == ADMIN_LISTENER:
            complaint = "is what the log calls the admin listener; give the route another name"
            yield Conflict(path=("routes", index, "name"), value=name, complaint=complaint)
        elif first != index:
            complaint = f"is the name of routes[{first}] already; give each route a name of its own"
            yield Conflict(path=("routes", index, "name"), value=name, complaint=complaint)
    for name in _mapping(data.get("listeners")):
        if name == ADMIN_LISTENER:
            complaint = "is what the log calls the admin listener; give this one another name"
        elif name in with_own_listener:
            complaint = (
                f"is the name of routes[{with_own_listener[name]}], whose own listener is called by it; give this one "
                "another name"
            )
        else:
            continue
        yield Conflict(path=("listeners", name), value=name, complaint=complaint, is_about_key=True)


def _find_address_conflicts(data: Mapping[str, Any]) -> Iterator[Conflict]:
    taken: list[tuple[str, Address]] = []
    admin = data.get("admin")
    if admin is None or isinstance(admin, Mapping):
        taken += _usable_address("admin.listen", _mapping(admin).get("listen", ADMIN_ADDRESS))
    listeners: list[tuple[tuple[str | int, ...], str, object]] = [
        (("listeners", name, "listen"), f"listeners.{name}.listen", _mapping(listener).get("listen"))
        for name, listener in _mapping(data.get("listeners")).items()
    ]
    listeners += [
        (("routes", index, "listen"), f"routes[{index}].listen", route.get("listen")) for index, route in _routes(data)
    ]
    for path, name, listen in listeners:
        for place, address in _usable_address(name, listen):
            clash = next((other_place for other_place, other in taken if address.clashes_with(other)), None)
            if clash is not None:
                complaint = f"is taken by {clash}; give each listener a port of its own"
                yield Conflict(path=path, value=str(address), complaint=complaint)
            taken.append((place, address))


def _find_listener_conflicts(data: Mapping[str, Any]) -> Iterator[Conflict]:
    listeners = _mapping(data.get("listeners"))
    used: set[str] = set()
    matched: dict[tuple[str, object, object], int] = {}
    for index, route in _routes(data):
        listener = route.get("listener")
        if not is_name(listener):
            continue
        used.add(listener)
        if listener not in listeners:
            complaint = _unknown_name(listener, listeners, kind="listener")
            yield Conflict(path=("routes", index, "listener"), value=listener, complaint=complaint)
            continue
        for section, key in LISTENER_KEYS:
            if key in (route if section is None else _mapping(route.get(section))):
                path = ("routes", index, key) if section is None else ("routes", index, section, key)
                complaint = (
                    "is needed before the route of a request is known, so it belongs to the listener; write it under "
                    f"listeners.{'.'.join(part for part in (listener, section) if part)}"
                )
                yield Conflict(path=path, value=key, complaint=complaint, is_about_key=True)
        match = _usable_match(route.get("match"))
        first = index if match is None else matched.setdefault((listener, *match), index)
        if first != index:
            complaint = (
                f"matches the same requests as routes[{first}], on the same listener; give one of them another path or "
                "host in match"
            )
            path = ("routes", index, "match") if "match" in route else ("routes", index, "listener")
            yield Conflict(path=path, value="match", complaint=complaint, is_about_key=True)
    for name in listeners:
        if is_name(name) and name not in used:
            complaint = f"is used by no route; write listener: {name} in one, or take it out"
            yield Conflict(path=("listeners", name), value=name, complaint=complaint, is_about_key=True)


def _usable_match(match: object) -> tuple[object, object] | None:
    """Return what tells whether two matches are the same, None if this one is unusable in itself."""
    if match is not None and not isinstance(match, Mapping):
        return None
    values = _mapping(match)
    try:
        path, host = PATH_PREFIX.parse(values.get("path")), REQUEST_HOST.parse(values.get("host"))
    except InvalidValueError:
        return None
    return (path if path is not None else PathPrefix(segments=())), host


def _unknown_name(name: str, known: Mapping[str, object], *, kind: str) -> str:
    # Imported here: only for a mistake, which a start without one need not pay for.
    from difflib import get_close_matches  # noqa: PLC0415

    names = [candidate for candidate in known if is_name(candidate)]
    if close := get_close_matches(name, names, n=1):
        return f'names no {kind}; did you mean "{close[0]}"?'
    if not names:
        return (
            f"names no {kind}, and there is no {kind}s section; write it at the top level, as in docs/configuration.md"
        )
    return f"names no {kind}; write one of those in {kind}s ({', '.join(names)}), or add it there"


def _routes(data: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for index, entry in enumerate(_sequence(data.get("routes"))):
        yield index, _mapping(entry)


def _usable_address(place: str, value: object) -> list[tuple[str, Address]]:
    try:
        address = parse_address_or_off(value)
    except InvalidValueError:
        return []
    return [] if address is None else [(place, address)]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, (list, tuple)) else ()


# --- the models ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """How a server's certificate is verified, and what is shown to it (TLS 1.2 or later, always verified)."""

    ca_file: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_TEXT,
            text="A PEM file of the authorities to trust, in place of the system's.",
            example="/etc/ssl/private-ca.pem",
        ),
    ] = None
    client_certificate_file: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_TEXT,
            text="A PEM file of the certificate to show to the server (mutual TLS), with its chain.",
            example="/var/run/secrets/tls/tls.crt",
        ),
    ] = None
    client_key_file: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_TEXT,
            text="A PEM file of the certificate's private key; left out, it is in the certificate's file.",
            example="/var/run/secrets/tls/tls.key",
        ),
    ] = None
    server_name: Annotated[
        str | None,
        Key(
            rule=HOST,
            text="The name to ask for (SNI) and to verify, where it is not the host of the URL.",
            example="api.example.com",
        ),
    ] = None

    def __post_init__(self) -> None:
        hold_to_rules(self)

    @staticmethod
    def find_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
        """Find a key without a certificate."""
        if values.get("client_key_file") is not None and values.get("client_certificate_file", "") is None:
            complaint = "is a key without a certificate; write client_certificate_file beside it"
            yield Fault(key="client_key_file", complaint=complaint)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSource:
    """Where a client secret is read from: exactly one of a file and an environment variable."""

    file: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_TEXT,
            text="The file that holds the secret and nothing else. It is watched: a new secret is taken up without a restart.",
            example="/var/run/secrets/switch/client_secret",
        ),
    ] = None
    env: Annotated[
        str | None,
        Key(
            rule=VARIABLE,
            text="The environment variable that holds the secret. A new secret needs a restart: prefer a file.",
            example="SWITCH_CLIENT_SECRET",
        ),
    ] = None

    def __post_init__(self) -> None:
        hold_to_rules(self)

    def __str__(self) -> str:
        return f"the file {self.file}" if self.file is not None else f"the environment variable {self.env}"

    @staticmethod
    def find_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
        """Find both sources given, or none."""
        given = [name for name in ("file", "env") if values.get(name, "") is not None]
        if len(given) > 1:
            yield Fault(key=None, complaint=f"has both file and env; keep one: {_SECRET_FORMS}")
        elif not given:
            yield Fault(key=None, complaint=f"names no file and no variable; write {_SECRET_FORMS}")


def _refuse_secret_in_the_clear(value: object) -> None:
    if value is None or isinstance(value, SecretSource):
        return
    if not isinstance(value, Mapping):
        raise InvalidValueError(f"is a secret in the clear, which does not belong in this file; write {_SECRET_FORMS}")
    # The key is not named: what stands there by mistake may be the secret.
    if not value.keys() <= {"file", "env"}:
        raise InvalidValueError(f"has a key other than file and env; write {_SECRET_FORMS}")


def _refuse_key_in_the_clear(value: object) -> None:
    if isinstance(value, str):
        raise InvalidValueError(f"is text where keys belong, and a key does not belong in this file; write {_KEY_FORM}")


def _refuse_assertion_in_the_clear(value: object) -> None:
    if isinstance(value, str):
        raise InvalidValueError(f"is text where keys belong; write {_ASSERTION_FORM}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateKeySettings:
    """The key that the client signs its assertions with (RFC 7523, private_key_jwt)."""

    file: Annotated[
        str,
        Key(
            rule=TEXT,
            text="A file with the private key as PEM (without a password) or as JWK. It is watched.",
            example="/var/run/secrets/switch/key.pem",
        ),
    ]
    key_id: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_TEXT,
            text="The kid in the assertion's header; left out, the JWK's own, or none.",
            example="2026-11",
        ),
    ] = None
    # By the key: the one that servers must know for RSA (RFC 7518 §3.1), and the only one of each curve.
    algorithm: Annotated[
        Literal["RS256", "PS256", "ES256", "EdDSA"] | None,
        Key(
            rule=optional_one_of("RS256", "PS256", "ES256", "EdDSA"),
            text="The alg of the assertion; left out, the JWK's own, or by the key: RS256, ES256 or EdDSA.",
            example="PS256",
        ),
    ] = None
    certificate_file: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_TEXT,
            text="A PEM file of the key's certificate; its thumbprint goes into the assertion's header (x5t#S256).",
            example="/var/run/secrets/switch/tls.crt",
        ),
    ] = None

    def __post_init__(self) -> None:
        hold_to_rules(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionSource:
    """Where a client assertion is read from that somebody else signs: a workload's identity (RFC 7521 §4.2)."""

    file: Annotated[
        str,
        Key(
            rule=TEXT,
            text="The file that holds the JWT and nothing else. It is watched, and read anew for each fetch.",
            example="/var/run/secrets/tokens/switch",
        ),
    ]

    def __post_init__(self) -> None:
        hold_to_rules(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialSettings:
    """One way to get access tokens: a token endpoint, and who asks it (RFC 6749 §4.4)."""

    token_url: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_ENDPOINT,
            text="The token endpoint: https, without user and fragment. Or issuer.",
            example="https://login.example.com/oauth/token",
        ),
    ] = None
    issuer: Annotated[
        str | None,
        Key(
            rule=ISSUER,
            text="The authorization server's issuer identifier, by which its token endpoint is found (RFC 8414), in "
            "place of token_url.",
            example="https://login.example.com/",
        ),
    ] = None
    client_id: Annotated[str, Key(rule=TEXT, text="The client application's id.", example="${SWITCH_CLIENT_ID}")]
    # What the Switch API documents, and all servers know.
    auth_method: Annotated[
        AuthMethod,
        Key(rule=one_of(*get_args(AuthMethod)), text="How the client authenticates at the token endpoint."),
    ] = "client_secret_post"
    client_secret: Annotated[
        SecretSource | None,
        Key(
            before=_refuse_secret_in_the_clear,
            text="Where the client secret is read from; the secret itself is refused here.",
            example="{file: /var/run/secrets/switch/client_secret}",
        ),
    ] = None
    previous_client_secret: Annotated[
        SecretSource | None,
        Key(
            before=_refuse_secret_in_the_clear,
            text="Where the client secret is read from that is tried once when the first is refused. May hold nothing.",
            example="{file: /var/run/secrets/switch/previous_client_secret}",
        ),
    ] = None
    private_key: Annotated[
        PrivateKeySettings | None,
        Key(before=_refuse_key_in_the_clear, text="The key to sign with, for private_key_jwt."),
    ] = None
    client_assertion: Annotated[
        AssertionSource | None,
        Key(
            before=_refuse_assertion_in_the_clear,
            text="The signed JWT to authenticate with, for client_assertion: a Kubernetes service account token, say.",
        ),
    ] = None
    assertion_audience: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_TEXT,
            text="The aud of the assertions that the proxy signs; left out, the issuer, or else token_url.",
            example="https://login.example.com/",
        ),
    ] = None
    audience: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_TEXT,
            text="The audience parameter of the token request; Auth0-style servers need it.",
            example="https://api.switchmarket.se",
        ),
    ] = None
    scope: Annotated[
        str | None,
        Key(
            rule=SCOPE,
            text="The scope parameter of the token request, scope names with spaces between them (RFC 6749 §3.3).",
            example="https://api.example.com/.default",
        ),
    ] = None
    resource: Annotated[
        tuple[str, ...],
        Key(rule=RESOURCE, text="The resource parameters of the token request, one for each entry (RFC 8707)."),
    ] = ()
    extra_params: Annotated[
        dict[str, str],
        Key(
            rule=TEXT,
            names=TEXT,
            text="Further parameters of the token request, name to text, for servers that want more.",
            example="{organization: org-1}",
        ),
    ] = field(default_factory=dict)
    extra_headers: Annotated[
        dict[str, str],
        Key(
            rule=FIELD_VALUE,
            names=FIELD_NAME,
            text="Further header fields of the token request, name to text, for servers and gateways that want more.",
            example="{X-Tenant: tenant-1}",
        ),
    ] = field(default_factory=dict)
    # Duende AccessTokenManagement's: where it is wrong, it is so for a moment only.
    default_lifetime: Annotated[
        float, Key(rule=duration(1), text="How long a token is taken to last where the answer lacks expires_in.")
    ] = 300.0
    # Tokens are revoked by hand, so once a minute is often; an API that refuses all costs 60 token requests an hour.
    min_forced_refresh_interval: Annotated[
        float,
        Key(rule=duration(1), text="The least time between two token requests that a 401 of the API may cause."),
    ] = 60.0
    # A fetch runs in the background, so it may be patient with a slow server.
    timeout: Annotated[float, Key(rule=TIMEOUT, text="How long one token request may take, all told.")] = 10.0
    # With it, the client secret may cross the network readable to all.
    allow_plaintext: Annotated[
        bool, Key(rule=SWITCH, text="Whether token_url or issuer may be http:// on a host that is not loopback.")
    ] = False
    tls: Annotated[TlsSettings, Key(text="TLS towards the token endpoint.")] = TlsSettings()

    def __post_init__(self) -> None:
        hold_to_rules(self)

    @staticmethod
    def find_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
        """Find what authenticates missing or in vain, an endpoint in plaintext, parameters with a place of their own."""
        yield from _find_endpoint_faults(values)
        yield from _find_authentication_faults(values)
        for name in values.get("extra_headers", ()):
            if name.lower() in _FIELDS_OF_THE_PROXY:
                yield Fault(key="extra_headers", complaint=f"has {name}, which the proxy sets itself; leave it out")
        for parameter in values.get("extra_params", ()):
            if parameter == "client_secret":
                complaint = f"has a client_secret, and a secret does not belong in this file; take it out and write {_SECRET_FORMS}"
            elif parameter in _PARAMETERS_WITH_A_KEY:
                complaint = f"has {parameter}, which has a key of its own; write it beside extra_params"
            elif parameter in _PARAMETERS_OF_THE_PROXY:
                complaint = f"has {parameter}, which the proxy sets itself; leave it out"
            else:
                continue
            yield Fault(key="extra_params", complaint=complaint)


def _find_endpoint_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    given = [name for name in ("token_url", "issuer") if values.get(name, "") is not None]
    if not given:
        complaint = (
            "is missing; write token_url: https://login.example.com/oauth/token, or issuer: https://login.example.com"
        )
        yield Fault(key="token_url", complaint=complaint, is_about_absence=True)
    elif len(given) > 1:
        complaint = "stands beside token_url, and finds the same; keep one of them"
        yield Fault(key="issuer", complaint=complaint)
    for name in given:
        if name in values:
            origin = parse_endpoint(values[name])
            yield from _plaintext(name, origin, values, why="what authenticates the client goes there")
            if origin.scheme != "https" and values.get("auth_method") in TLS_METHODS:
                complaint = f"is not https, and {values['auth_method']} shows its certificate in TLS; write https://…"
                yield Fault(key=name, complaint=complaint)


def _find_authentication_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    method = values.get("auth_method")
    if method is None:
        return
    for key, form, methods in (
        ("client_secret", _SECRET_FORMS, SECRET_METHODS),
        ("private_key", _KEY_FORM, frozenset({"private_key_jwt"})),
        ("client_assertion", _ASSERTION_FORM, frozenset({"client_assertion"})),
    ):
        # One that is invalid is absent from the values, and told of by itself.
        if key not in values:
            continue
        if method in methods and values[key] is None:
            complaint = f"is missing, which auth_method {method} needs; write {form}"
            yield Fault(key=key, complaint=complaint, is_about_absence=True)
        elif method not in methods and values[key] is not None:
            yield _unused(key, method, sorted(methods))
    if method not in SECRET_METHODS and values.get("previous_client_secret") is not None:
        yield _unused("previous_client_secret", method, sorted(SECRET_METHODS))
    if method not in SIGNING_METHODS and values.get("assertion_audience") is not None:
        yield _unused("assertion_audience", method, sorted(SIGNING_METHODS))
    tls = values.get("tls")
    if method in TLS_METHODS and tls is not None and tls.client_certificate_file is None:
        complaint = f"names no client certificate, which auth_method {method} needs; write {_CERTIFICATE_FORM}"
        yield Fault(key="tls", complaint=complaint)


def _unused(key: str, method: str, methods: Sequence[str]) -> Fault:
    complaint = f"is not used with auth_method {method}; take it out, or write auth_method: {' or '.join(methods)}"
    return Fault(key=key, complaint=complaint)


# The keys of a client's side: a listener has them, and a route that listens for itself.

# Against clients that send a head byte by byte; servers of Go and Node are of this order.
_RequestHeadTimeout = Annotated[float, Key(rule=TIMEOUT, text="From the first to the last byte of a request's head.")]
# nginx's keepalive_timeout: longer than most clients' own, so that it is the client that closes.
_KeepAliveTimeout = Annotated[
    float, Key(rule=TIMEOUT, text="How long a client's connection may be idle between two requests.")
]
# RFC 9112 §3 asks for 8000 at least; nginx's and Apache's limit.
_RequestLineLimit = Annotated[
    int, Key(rule=size(256), text="Bytes of the request line; a longer one is answered with 414.")
]
# Envoy's is 60 KiB, Go's 1 MiB: no real head reaches it, and a connection may cost it.
_HeadLimit = Annotated[
    int,
    Key(rule=size(256), text="Bytes of a whole head; a larger one is answered with 431, and in a response with 502."),
]
# Envoy's is 100; some more, for what proxies on the way add.
_FieldLinesLimit = Annotated[
    int, Key(rule=count(1, 10_000), text="Lines of a head; more are answered with 431, and in a response with 502.")
]
# Whoever reaches the listener uses the credential.
_AllowRemoteClients = Annotated[
    bool, Key(rule=SWITCH, text="Whether listen may be an address that others than this pod can reach.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerTimeoutSettings:
    """How long a client may take, on a listener that several routes share."""

    # The same as for a body, which this is the end of.
    idle: Annotated[
        float, Key(rule=TIMEOUT, text="How long a client may read nothing of the last bytes of a response.")
    ] = 300.0
    request_head: _RequestHeadTimeout = 10.0
    keep_alive: _KeepAliveTimeout = 75.0

    def __post_init__(self) -> None:
        hold_to_rules(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLimitSettings:
    """How large the head of a request or a response may be, on a listener that several routes share."""

    request_line: _RequestLineLimit = 8192
    head: _HeadLimit = 65536
    field_lines: _FieldLinesLimit = 128

    def __post_init__(self) -> None:
        hold_to_rules(self)

    @staticmethod
    def find_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
        """Find a head that has no room for its first line."""
        yield from _head_below_its_first_line(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """A listener for apps that routes share: they are told apart by path and host (`routes[N].match`)."""

    listen: Annotated[
        Address,
        Key(
            rule=ADDRESS,
            text="Where apps send their plain HTTP: host:port, loopback. Port 0 lets the system choose.",
            example="127.0.0.1:8080",
        ),
    ]
    allow_remote_clients: _AllowRemoteClients = False
    timeouts: Annotated[ListenerTimeoutSettings, Key(text="How long a client may take.")] = ListenerTimeoutSettings()
    limits: Annotated[ListenerLimitSettings, Key(text="How large a head may be.")] = ListenerLimitSettings()

    def __post_init__(self) -> None:
        hold_to_rules(self)

    @staticmethod
    def find_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
        """Find a listener that is open to others."""
        yield from _open_to_others(values, why="whoever reaches it can use the credentials of its routes")


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchSettings:
    """Which requests of a listener a route is for; of several that match, the longest path wins."""

    path: Annotated[
        PathPrefix | None,
        Key(
            rule=PATH_PREFIX,
            text="The path that a request's begins with, compared by whole segments; left out, any path.",
            example="/switch/",
        ),
    ] = None
    host: Annotated[
        str | None,
        Key(
            rule=REQUEST_HOST,
            text="The host of the request, in any case, without its port; left out, any host.",
            example="switch-api.pod.local",
        ),
    ] = None

    def __post_init__(self) -> None:
        hold_to_rules(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutSettings:
    """How long each step of an exchange may take. There is no limit on the whole, so streams may last."""

    # Enough for two lost SYN packets (1 s, then 2 s: RFC 6298); Envoy's default too.
    connect: Annotated[float, Key(rule=TIMEOUT, text="Name resolution and TCP connection to the upstream.")] = 5.0
    # Two round trips at most, so no more than the connection itself.
    tls_handshake: Annotated[float, Key(rule=TIMEOUT, text="The TLS handshake with the upstream.")] = 5.0
    # nginx's proxy_read_timeout: slow queries pass, and a hanging upstream is told from them.
    response_head: Annotated[
        float, Key(rule=TIMEOUT, text="From the request having been sent to the head of the response.")
    ] = 60.0
    # Envoy's stream_idle_timeout: server-sent events with a heartbeat pass.
    idle: Annotated[float, Key(rule=TIMEOUT, text="Between two bytes of a body, in either direction.")] = 300.0
    request_head: _RequestHeadTimeout = 10.0
    keep_alive: _KeepAliveTimeout = 75.0

    def __post_init__(self) -> None:
        hold_to_rules(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """How large the head of a request or a response may be, and what is kept of a body."""

    request_line: _RequestLineLimit = 8192
    head: _HeadLimit = 65536
    field_lines: _FieldLinesLimit = 128
    # Holds what an API of readings is sent, and costs a connection no more than a head does.
    kept_body: Annotated[
        int,
        Key(
            rule=size(0),
            text="Bytes of a request's body that are kept to send it once more: after a 401 with a newer token, or where "
            "a pooled connection had been closed. A request with a larger body is sent once.",
        ),
    ] = 65536

    def __post_init__(self) -> None:
        hold_to_rules(self)

    @staticmethod
    def find_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
        """Find a head that has no room for its first line."""
        yield from _head_below_its_first_line(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """The connections to one route's upstream."""

    # A pod is one guest of an API among many: no app of one needs more at once.
    max_connections: Annotated[int, Key(rule=count(1, 65535), text="Connections open at once.")] = 256
    # Envoy's max_pending_requests.
    max_waiting: Annotated[
        int,
        Key(
            rule=count(0, 1_000_000),
            text="Requests that may wait for a connection; further ones are answered with 503.",
        ),
    ] = 1024
    # As long as a new connection may take: past it, an overload is better told than queued.
    wait: Annotated[
        float, Key(rule=WAIT, text="How long a request may wait for a connection; then it is answered with 503.")
    ] = 5.0
    # nginx's keepalive_timeout for upstreams, and below that of most load balancers.
    idle: Annotated[float, Key(rule=TIMEOUT, text="How long an unused connection is kept.")] = 60.0
    # nginx's keepalive_time: an upstream that moves is followed within it.
    lifetime: Annotated[float, Key(rule=TIMEOUT, text="How old a connection may get; it is not used again then.")] = (
        3600.0
    )

    def __post_init__(self) -> None:
        hold_to_rules(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """One upstream, and which requests are forwarded to it: all of its own listener, or some of one that routes share."""

    name: Annotated[str, Key(rule=NAME, text="What logs and metrics call the route.", example="switch-api")]
    listen: Annotated[
        Address | None,
        Key(
            rule=OPTIONAL_ADDRESS,
            text="Where apps send their plain HTTP: host:port, loopback. Port 0 lets the system choose. Or listener.",
            example="127.0.0.1:8080",
        ),
    ] = None
    listener: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_NAME,
            text="The listener (one of listeners) whose requests it takes, in place of listen.",
            example="local",
        ),
    ] = None
    match: Annotated[MatchSettings, Key(text="Which requests of the listener the route is for.")] = MatchSettings()
    # What the app sends is what the API gets, unless somebody says otherwise.
    strip_prefix: Annotated[
        bool, Key(rule=SWITCH, text="Whether match.path is taken off the path before it is forwarded.")
    ] = False
    upstream: Annotated[
        Origin,
        Key(
            rule=ORIGIN,
            text="The API: https, host, port where needed, and a base path that is put before each request's own.",
            example="https://api.switchmarket.se",
        ),
    ]
    credential: Annotated[
        str, Key(rule=NAME, text="The credential (one of credentials) whose tokens are sent.", example="switch")
    ]
    # Longer than a fetch and its first repetition mostly take, shorter than apps' own timeouts mostly are.
    wait_for_token: Annotated[
        float,
        Key(
            rule=WAIT, text="How long a request may wait for a token where there is none; then it is answered with 503."
        ),
    ] = 5.0
    allow_remote_clients: _AllowRemoteClients = False
    # With it, the access token may cross the network readable to all.
    allow_plaintext: Annotated[
        bool, Key(rule=SWITCH, text="Whether upstream may be http:// on a host that is not loopback.")
    ] = False
    # RFC 9110 §7.6.3 asks for the line; the word tells nothing of the pod.
    via: Annotated[str | None, Key(rule=PSEUDONYM, text="The proxy's name in Via lines; off for no such line.")] = (
        "switch-proxy"
    )
    tls: Annotated[TlsSettings, Key(text="TLS towards the upstream.")] = TlsSettings()
    timeouts: Annotated[TimeoutSettings, Key(text="How long each step of an exchange may take.")] = TimeoutSettings()
    limits: Annotated[LimitSettings, Key(text="How large a head may be.")] = LimitSettings()
    pool: Annotated[PoolSettings, Key(text="The connections to the upstream.")] = PoolSettings()

    def __post_init__(self) -> None:
        hold_to_rules(self)

    @staticmethod
    def find_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
        """Find two listeners or none, a prefix to strip that is not there, plaintext, and a listener open to others."""
        given = [name for name in ("listen", "listener") if values.get(name, "") is not None]
        if not given:
            complaint = "is missing; write listen: 127.0.0.1:8080, or listener: NAME for one of those in listeners"
            yield Fault(key="listen", complaint=complaint, is_about_absence=True)
        elif len(given) > 1:
            complaint = "stands beside listen, and a route has one listener; keep one of them"
            yield Fault(key="listener", complaint=complaint, may_be_shown=True)
        if values.get("strip_prefix") and "match" in values and values["match"].path is None:
            complaint = "has no prefix to take off; write match: {path: /prefix/} beside it, or take it out"
            yield Fault(key="strip_prefix", complaint=complaint, may_be_shown=True)
        if "upstream" in values:
            yield from _plaintext("upstream", values["upstream"], values, why="the access token goes there")
        yield from _open_to_others(values, why="whoever reaches it can use the credential")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    """The listener for probes and metrics."""

    listen: Annotated[
        Address | None,
        Key(
            rule=ADDRESS_OR_OFF,
            text="Where /livez, /readyz and /metrics are served: host:port, loopback; off for nowhere.",
            example="127.0.0.1:9901",
        ),
    ] = ADMIN_ADDRESS
    # A kubelet's probes and a scraper come from outside the pod: then it is set, on purpose.
    allow_remote_clients: Annotated[
        bool, Key(rule=SWITCH, text="Whether listen may be an address that others than this pod can reach.")
    ] = False

    def __post_init__(self) -> None:
        hold_to_rules(self)

    @staticmethod
    def find_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
        """Find a listener that is open to others."""
        yield from _open_to_others(values, why="whoever reaches it can read the proxy's state")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is written to standard output, and how."""

    # What an operator wants to know; debug is for the proxy's developers.
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Key(rule=one_of("debug", "info", "warning", "error"), text="The least severe level that is written."),
    ] = "info"
    # What clusters' log collectors read without a parser of their own.
    format: Annotated[
        Literal["json", "console"],
        Key(rule=one_of("json", "console"), text="One JSON object a line, or text in colours for people."),
    ] = "json"
    # One line a request, as nginx has it; lines are batched, so that they cost little.
    access: Annotated[
        Literal["all", "errors", "off"],
        Key(
            rule=one_of("all", "errors", "off"),
            text="Which requests get a line: all, those that failed (an answer of 500 or more counts), or only those "
            "that the proxy itself could not serve in full (off).",
        ),
    ] = "all"

    def __post_init__(self) -> None:
        hold_to_rules(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutdownSettings:
    """What happens between SIGTERM and the end."""

    # Below the 30 s after which Kubernetes kills a pod.
    grace_period: Annotated[
        float, Key(rule=WAIT, text="How long requests in flight may take to finish; then they are cut.")
    ] = 25.0
    # An app in the same pod needs none; behind a Service, endpoints take seconds to be withdrawn.
    drain_delay: Annotated[
        float, Key(rule=WAIT, text="How long to go on accepting after readiness went red, before grace_period begins.")
    ] = 0.0

    def __post_init__(self) -> None:
        hold_to_rules(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration of one proxy."""

    credentials: Annotated[dict[str, CredentialSettings], Key(names=NAME, text="The credentials, by name.")]
    listeners: Annotated[
        dict[str, ListenerSettings], Key(names=NAME, text="The listeners that several routes share, by name.")
    ] = field(default_factory=dict)
    routes: Annotated[tuple[RouteSettings, ...], Key(text="The routes: where requests come in, and where they go.")]
    admin: Annotated[AdminSettings, Key(text="The listener for probes and metrics.")] = AdminSettings()
    log: Annotated[LogSettings, Key(text="What is written to standard output, and how.")] = LogSettings()
    shutdown: Annotated[ShutdownSettings, Key(text="What happens between SIGTERM and the end.")] = ShutdownSettings()

    def __post_init__(self) -> None:
        hold_to_rules(self)
        listeners = {name: {"listen": listener.listen} for name, listener in self.listeners.items()}
        data = {
            "credentials": self.credentials,
            "listeners": listeners,
            "routes": [_as_written(route) for route in self.routes],
            "admin": {"listen": self.admin.listen},
        }
        for conflict in find_conflicts(data):
            subject = ".".join(map(str, conflict.path)) if conflict.is_about_key else repr(conflict.value)
            raise InvalidValueError(f"{subject} {conflict.complaint}")


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
