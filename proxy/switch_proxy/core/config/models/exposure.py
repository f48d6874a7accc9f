"""What is exposed only if the configuration says so: listeners beyond the pod, secrets in plaintext, bytes that are not read."""

# No postponed evaluation of annotations here: core/schema/keys.py reads them.

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from switch_proxy.core.addresses import Origin
from switch_proxy.core.schema.keys import Key
from switch_proxy.core.schema.problem import Problem
from switch_proxy.core.schema.rules import ALLOWED_HOST, ALLOWED_ORIGIN, PROTOCOL, SWITCH

AllowRemoteClients = Annotated[
    bool,
    Key(
        rule=SWITCH,
        text="Whether `listen` may be an address that can be reached from outside this pod.",
        why="Whoever reaches it can use the credentials.",
    ),
]


Upgrades = Annotated[
    tuple[str, ...],
    Key(
        rule=PROTOCOL,
        text="The protocols that a client may switch its connection to with `Upgrade`; `[]` for none. Offers of others do not "
        "pass, and those of `h2c`, `HTTP/…` and `TLS/…` never do.",
        why="What APIs use it for. Behind the switch bytes pass unread, so a protocol that carries requests would carry them "
        "without a token.",
        example="[websocket]",
    ),
]


AllowedHosts = Annotated[
    tuple[str, ...],
    Key(
        rule=ALLOWED_HOST,
        text="The hosts, without port, that a request over a loopback address may name beside `localhost`, names without a dot, loopback "
        "addresses, the host of an `upstream` and that of a `match`; `['*']` for any. Others get 421; requests over other addresses are not "
        "looked at.",
        without="no others",
        example="[switch-api.pod.local]",
    ),
]

AllowedOrigins = Annotated[
    tuple[str, ...],
    Key(
        rule=ALLOWED_ORIGIN,
        text="The origins of web pages that may send requests over a loopback address, such as `http://localhost:3000`; `['*']` "
        "for any. Those of other pages get 403.",
        without="no web pages",
        example="[http://localhost:3000]",
    ),
]


def find_plaintext(key: str, origin: Origin, values: Mapping[str, Any], *, why: str) -> Iterator[Problem]:
    """Find an origin in plaintext on a host that is not loopback; `why` says what is at stake."""
    # An invalid allow_plaintext is absent from the values, and is a problem of its own.
    if origin.scheme != "https" and not origin.is_loopback and values.get("allow_plaintext") is False:
        text = f"is not https, and {why}; write https://… or set allow_plaintext: true beside it"
        yield Problem(path=(key,), text=text)


def find_open_listener(values: Mapping[str, Any], *, why: str) -> Iterator[Problem]:
    """Find a `listen` that can be reached from outside this pod; `why` says what is at stake."""
    address = values.get("listen")
    if address is not None and not address.is_loopback and values.get("allow_remote_clients") is False:
        text = (
            f"can be reached from outside this pod, and {why}; write 127.0.0.1:{address.port} or set "
            "allow_remote_clients: true beside it"
        )
        yield Problem(path=("listen",), text=text, is_safe_to_echo=True)
