"""The egress proxy between this pod and an upstream, if any: HTTPS_PROXY and NO_PROXY, read as curl does."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import unquote, urlsplit

from switch_proxy.core.addresses import is_loopback_host
from switch_proxy.core.errors import InvalidValueError
from switch_proxy.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

_Address: TypeAlias = "IPv4Address | IPv6Address"

_WITH_PORT: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]+):(?P<port>[0-9]{1,5})")
"""Host or bracketed address, and port: `2001:db8::1` has none."""

_DEFAULT_PORT: Final = 3128
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


def find_egress_proxy(*, scheme: str, host: str, port: int, environ: Mapping[str, str]) -> EgressProxy | None:
    """
    Return the egress proxy for an upstream, or None if it is reached directly.

    Only TLS upstreams use it: with a plain one, the proxy would see the token. Lower-case variables take precedence over
    upper-case ones. Raises InvalidValueError if HTTPS_PROXY cannot be used.
    """
    url = _variable(environ, "https_proxy")
    if scheme != "https" or not url or is_exempt(host, port, _variable(environ, "no_proxy")):
        return None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        proxy_port = parts.port
    except ValueError:
        raise _unusable() from None
    if parts.scheme != "http" or not parts.hostname or proxy_port == 0:
        raise _unusable()
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = Secret("Basic " + base64.b64encode(pair.encode()).decode("ascii"))
    return EgressProxy(host=parts.hostname, port=proxy_port or _DEFAULT_PORT, authorization=authorization)


def _unusable() -> InvalidValueError:
    # The variable may hold a password, so its value is not shown.
    return InvalidValueError(
        "of HTTPS_PROXY is not the address of an HTTP proxy; write http://host:port, with user:password@ if it requires them"
    )


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper(), "")


def is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """
    Return whether NO_PROXY names an upstream: its host, a domain that it is in, a network, or `*`.

    Entries are separated by commas, blanks or both (curl). One with a port is for that port alone (Go). Addresses are
    compared as addresses, however they are written; a name is not resolved. What makes no sense is ignored. Loopback is
    always exempt, because it is this pod.
    """
    if is_loopback_host(host):
        return True
    name = host.lower().rstrip(".")
    address = _address(name)
    for entry in no_proxy.lower().replace(",", " ").split():
        if entry == "*":
            return True
        place, entry_port = _split_port(entry)
        if entry_port is not None and entry_port != port:
            continue
        if address is not None:
            if _is_in(address, place):
                return True
        elif _is_under(name, place.removeprefix("*.").strip(".")):
            return True
    return False


def _split_port(entry: str) -> tuple[str, int | None]:
    """Return an entry's host, without brackets, and its port; None if it names none."""
    match = _WITH_PORT.fullmatch(entry)
    place, port = (entry, None) if match is None else (match["host"], int(match["port"]))
    return (place[1:-1] if place.startswith("[") and place.endswith("]") else place), port


def _is_under(name: str, domain: str) -> bool:
    return domain != "" and (name == domain or name.endswith("." + domain))


def _is_in(address: _Address, place: str) -> bool:
    """Return whether an address is in a network, or is the address that stands there."""
    try:
        return address in ip_network(place, strict=False) if "/" in place else address == _address(place)
    except ValueError:
        return False


def _address(text: str) -> _Address | None:
    """Return an address; one of IPv4 that is written in IPv6 is the IPv4 one. None if it is a name."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
