"""`routes[N]`: where requests come in, and the one upstream that they go to."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from switch_proxy.core.addresses import Address, Origin
from switch_proxy.core.config.models.allow import AllowSettings
from switch_proxy.core.config.models.exposure import (
    AllowedHosts,
    AllowedOrigins,
    AllowRemoteClients,
    Upgrades,
    find_open_listener,
    find_plaintext,
)
from switch_proxy.core.config.models.fields import RequestHeaderSettings, ResponseHeaderSettings
from switch_proxy.core.config.models.limits import LimitSettings
from switch_proxy.core.config.models.match import MatchSettings
from switch_proxy.core.config.models.pool import PoolSettings
from switch_proxy.core.config.models.rate_limit import RateLimitSettings
from switch_proxy.core.config.models.timeouts import TimeoutSettings
from switch_proxy.core.config.models.tls import TlsSettings
from switch_proxy.core.schema.keys import Key, validate
from switch_proxy.core.schema.problem import About, Problem
from switch_proxy.core.schema.rules import (
    NAME,
    OPTIONAL_ADDRESS,
    OPTIONAL_NAME,
    ORIGIN,
    PSEUDONYM,
    SWITCH,
    WAIT,
    one_of,
)

LISTENER_KEYS: Final = (
    (None, "allow_remote_clients"),
    (None, "upgrades"),
    (None, "allowed_hosts"),
    (None, "allowed_origins"),
    ("timeouts", "request_head"),
    ("timeouts", "keep_alive"),
    ("limits", "client_connections"),
    ("limits", "request_line"),
    ("limits", "head"),
    ("limits", "field_lines"),
)
"""Keys (section, name) of a route that are needed before the route of a request is known: they belong to its listener."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """One upstream, and the requests that go to it: all of a listener of its own, or some of one that routes share."""

    name: Annotated[
        str,
        Key(rule=NAME, text="The name of the route in logs and metrics, up to 63 characters.", example="switch-api"),
    ]
    listen: Annotated[
        Address | None,
        Key(
            rule=OPTIONAL_ADDRESS,
            text="Where apps send their plain HTTP: host:port, loopback unless `allow_remote_clients` is set. Port 0 lets the "
            "system choose.",
            without="this or `listener`",
            example="127.0.0.1:8080",
        ),
    ] = None
    listener: Annotated[
        str | None,
        Key(
            rule=OPTIONAL_NAME,
            text="Which of `listeners` the requests come from.",
            without="this or `listen`",
            example="local",
        ),
    ] = None
    match: Annotated[MatchSettings, Key(text="Which requests of its listener the route is for.")] = field(
        default_factory=MatchSettings
    )
    strip_prefix: Annotated[
        bool,
        Key(
            rule=SWITCH,
            text="Whether `match.path` is taken off a request's path before it is forwarded.",
            why="Without it, the API gets the path that the app sends.",
        ),
    ] = False
    upstream: Annotated[
        Origin,
        Key(
            rule=ORIGIN,
            text="The API: scheme, host, a port if it is not the scheme's own, and a base path that is put before the path "
            "of each request. https, unless the host is loopback or `allow_plaintext` is set: the access token goes there.",
            example="https://api.switchmarket.se",
        ),
    ]
    credential: Annotated[
        str, Key(rule=NAME, text="Which of `credentials` the access tokens come from.", example="switch")
    ]
    wait_for_token: Annotated[
        float,
        Key(
            rule=WAIT,
            text="How long a request may wait if there is no usable token; then it gets 503. `0` does not wait.",
            why="Longer than a fetch and its first repetition usually take, shorter than most apps' own timeouts, so that "
            "they learn the reason.",
        ),
    ] = 5.0
    allow_remote_clients: AllowRemoteClients = False
    upgrades: Upgrades = ("websocket",)
    allowed_hosts: AllowedHosts = ()
    allowed_origins: AllowedOrigins = ()
    allow_plaintext: Annotated[
        bool,
        Key(
            rule=SWITCH,
            text="Whether `upstream` may be http on a host that is not loopback.",
            why="The access token can then be read on the network.",
        ),
    ] = False
    allow: Annotated[
        tuple[AllowSettings, ...] | None,
        Key(text="What the route forwards: requests that meet one of these rules. The others get 403."),
    ] = None
    rate_limits: Annotated[
        tuple[RateLimitSettings, ...],
        Key(text="How many requests the route sends in a time; a request is counted by each limit that is for it."),
    ] = ()
    via: Annotated[
        str | None,
        Key(
            rule=PSEUDONYM,
            text="The name of the proxy in `Via` lines; `off` for no such line.",
            why="With the line, nginx stops compressing its responses, and a sidecar's hop is nobody's business. With it, a request "
            "that has been here before is seen: it gets 508.",
        ),
    ] = None
    authorization: Annotated[
        str,
        Key(
            rule=one_of("replace", "keep"),
            text="What becomes of an app's own `Authorization`: `replace` puts the access token in its place, `keep` passes it, and "
            "adds the token only to requests without one.",
            why="An app needs no credentials of its own, and what it sends by habit must not reach the API.",
        ),
    ] = "replace"
    rewrite_location: Annotated[
        bool,
        Key(
            rule=SWITCH,
            text="Whether a `Location` or `Content-Location` that points at the upstream's origin is led back through the proxy, as a path.",
            why="Otherwise it leads the app past the proxy, where it has no token; nginx's default too (`proxy_redirect`).",
        ),
    ] = True
    request_headers: Annotated[RequestHeaderSettings, Key(text="Header lines of requests to set or remove.")] = field(
        default_factory=RequestHeaderSettings
    )
    response_headers: Annotated[ResponseHeaderSettings, Key(text="Header lines of responses to set or remove.")] = (
        field(default_factory=ResponseHeaderSettings)
    )
    tls: Annotated[TlsSettings, Key(text="TLS towards the upstream.")] = field(default_factory=TlsSettings)
    timeouts: Annotated[TimeoutSettings, Key(text="How long each step of an exchange may take.")] = field(
        default_factory=TimeoutSettings
    )
    limits: Annotated[LimitSettings, Key(text="How large a head may be, and how much of a body is kept.")] = field(
        default_factory=LimitSettings
    )
    pool: Annotated[PoolSettings, Key(text="The connections to the upstream.")] = field(default_factory=PoolSettings)

    def __post_init__(self) -> None:
        validate(self)

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
        """Find two listeners or none, a prefix to strip that is not there, plaintext, and a listener open to others."""
        given = [name for name in ("listen", "listener") if values.get(name, "") is not None]
        if not given:
            text = "is missing; write listen: 127.0.0.1:8080, or listener: NAME for one of those in listeners"
            yield Problem(path=("listen",), text=text, about=About.ABSENCE)
        elif len(given) > 1:
            text = "is given together with listen, and a route has one listener; keep one of them"
            yield Problem(path=("listener",), text=text, is_safe_to_echo=True)
        if values.get("strip_prefix") and "match" in values and values["match"].path is None:
            text = "has no prefix to take off; write match: {path: /prefix/} beside it, or remove it"
            yield Problem(path=("strip_prefix",), text=text, is_safe_to_echo=True)
        if "upstream" in values:
            yield from find_plaintext("upstream", values["upstream"], values, why="the access token goes there")
        yield from find_open_listener(values, why="whoever reaches it can use the credential")
