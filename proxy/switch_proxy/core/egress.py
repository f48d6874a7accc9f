"""The egress proxy between this pod and an upstream, if any: HTTPS_PROXY and NO_PROXY, read as curl does."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from switch_proxy.core.errors import InvalidValueError
from switch_proxy.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFAULT_PORT = 3128
"""The port if the variable names none: Squid's, which most egress proxies use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressProxy:
    """An HTTP proxy that opens tunnels with CONNECT (RFC 9110 §9.3.6)."""

    host: str
    port: int
    authorization: Secret | None
    """The value of Proxy-Authorization, if the variable has a user."""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def find_egress_proxy(*, scheme: str, host: str, environ: Mapping[str, str]) -> EgressProxy | None:
    """
    Return the egress proxy for an upstream, or None if it is reached directly.

    Only TLS upstreams use it: with a plain one, the proxy would see the token. Lower-case variables take precedence over
    upper-case ones. Raises InvalidValueError if HTTPS_PROXY cannot be used.
    """
    url = _variable(environ, "https_proxy")
    if scheme != "https" or not url or is_exempt(host, _variable(environ, "no_proxy")):
        return None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port
    except ValueError:
        raise _unusable() from None
    if parts.scheme != "http" or not parts.hostname or port == 0:
        raise _unusable()
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = Secret("Basic " + base64.b64encode(pair.encode()).decode("ascii"))
    return EgressProxy(host=parts.hostname, port=port or _DEFAULT_PORT, authorization=authorization)


def _unusable() -> InvalidValueError:
    # The variable may hold a password, so its value is not shown.
    return InvalidValueError(
        "of HTTPS_PROXY is not the address of an HTTP proxy; write http://host:port, with user:password@ if it requires them"
    )


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper(), "")


def is_exempt(host: str, no_proxy: str) -> bool:
    """
    Return whether NO_PROXY has `host`, a domain that contains it, or `*`.

    Loopback is always exempt: it is this pod.
    """
    name = host.lower().rstrip(".")
    if name == "localhost" or name.startswith("127.") or name == "::1":
        return True
    for entry in no_proxy.lower().split(","):
        domain = entry.strip().removeprefix("*.").strip(".").strip("[]")
        if entry.strip() == "*":
            return True
        if domain and (name == domain or name.endswith("." + domain)):
            return True
    return False
