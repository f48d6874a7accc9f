"""
Addresses to listen on and origins to send to, parsed strictly and written in one form.

Knows no resolver: a name counts as loopback only if a standard says so (RFC 6761 §6.3).
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from switch_proxy.core.errors import InvalidValueError

_HIGHEST_PORT: Final = 65535
_LONGEST_NAME: Final = 253  # RFC 1035 §2.3.4, as text without the root's dot
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_REDIS_SCHEMES: Final = ("redis", "rediss")
_REDIS_PORT: Final = 6379

# RFC 1123 §2.1 with the underscore, which container networks put into names.
_NAME: Final = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*"
)
_ADDRESS: Final = re.compile(r"(?:\[(?P<bracketed>[^\[\]]*)\]|(?P<plain>[^\[\]:]*)):(?P<port>[0-9]{1,5})")
_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#(?P<fragment>.*))?",
    re.DOTALL,
)
_PATH: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")
_QUERY: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*")
_DOT_SEGMENT: Final = re.compile(r"(?:^|/)(?:\.|%2[Ee]){1,2}(?:/|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address to listen on: an IP address or a name, without brackets, and a port (0: the system chooses)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Return whether only this machine (or pod) can reach it."""
        return is_loopback_host(self.host)

    @property
    def is_of_both_families(self) -> bool:
        """Return whether it stands for all addresses, of IPv6 and IPv4 (`[::]`), as with Envoy, Go and Node."""
        try:
            return ip_address(self.host) == IPv6Address(0)
        except ValueError:
            return False

    def clashes_with(self, other: Address) -> bool:
        """Return whether the two cannot be bound together: the same port on overlapping hosts."""
        if self.port != other.port or self.port == 0:
            return False
        return any(
            mine == theirs or (mine[0] == theirs[0] and "*" in {mine[1], theirs[1]})
            for mine in _covered(self.host)
            for theirs in _covered(other.host)
        )


ADMIN_ADDRESS: Final = Address(host="127.0.0.1", port=9901)
"""The default address of the admin listener; its port is the one that Envoy's admin interface customarily has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """
    A server to send to, with the path that is put before each request's own.

    `host` is in lower case and without brackets, as DNS is asked for it: a dot at its end, the root's, is kept. `base_path` is
    empty or starts with a slash and ends without one.
    """

    scheme: str
    host: str
    port: int
    base_path: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self._with_port(self.host)}{self.base_path}"

    @property
    def server_name(self) -> str:
        """Return the host as TLS and HTTP name it: without the root's dot (RFC 6066 §3)."""
        return self.host.removesuffix(".")

    @property
    def host_header(self) -> str:
        """Return the value of Host (RFC 9110 §7.2); the port is left out if it is the scheme's own."""
        return self._with_port(self.server_name)

    def _with_port(self, name: str) -> str:
        host = f"[{name}]" if ":" in name else name
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Return whether it is on this machine (or in this pod)."""
        return is_loopback_host(self.host)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """A Redis server and the number of a database there; `host` is as in Origin."""

    host: str
    port: int
    database: int
    is_tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.is_tls else 'redis'}://{host}:{self.port}/{self.database}"

    @property
    def is_loopback(self) -> bool:
        """Return whether it is on this machine (or in this pod)."""
        return is_loopback_host(self.host)


def is_loopback_host(host: str) -> bool:
    """Return whether a host is a loopback address, `localhost` or a name under it (RFC 6761 §6.3)."""
    try:
        address = ip_address(host)
    except ValueError:
        name = host.lower().rstrip(".")
        return name == "localhost" or name.endswith(".localhost")
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def parse_address(text: str) -> Address:
    """Return the address of `host:port` or `[IPv6]:port`. Raises InvalidValueError."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        if "://" in text:
            raise InvalidValueError(
                "begins with a scheme such as http://, but is an address to listen on; write host:port alone, such as "
                "127.0.0.1:8080",
                is_safe_to_echo=True,
            )
        if text.count(":") > 1 and "[" not in text:
            raise InvalidValueError(
                "is not host:port; write an IPv6 address in brackets, such as [::1]:8080", is_safe_to_echo=True
            )
        raise InvalidValueError(
            "is not host:port; write one such as 127.0.0.1:8080 or [::1]:8080", is_safe_to_echo=True
        )
    port = int(match["port"])
    if port > _HIGHEST_PORT:
        raise InvalidValueError(
            "has a port above 65535; write one from 0 (any free one) to 65535", is_safe_to_echo=True
        )
    if match["bracketed"] is not None:
        return Address(host=_ipv6(match["bracketed"]), port=port)
    host = match["plain"]
    if not host:
        raise InvalidValueError(
            f"names no host; write 127.0.0.1:{port} for this pod alone, or 0.0.0.0:{port} for everyone "
            "(which needs allow_remote_clients: true)",
            is_safe_to_echo=True,
        )
    return Address(host=_name_or_ipv4(host), port=port)


def bind_hint(error_number: int | None) -> str:
    """Return what to do about an address that cannot be bound, to be put after the reason; empty if nothing is known."""
    match error_number:
        case errno.EADDRINUSE:
            return "; is another process using the port?"
        case errno.EACCES | errno.EPERM:
            return "; ports below 1024 are for privileged users: choose a higher one"
        case errno.EADDRNOTAVAIL:
            return "; no interface of this machine has this address"
        case _:
            return ""


def parse_host(text: str) -> str:
    """Return a host name or an IP address without brackets, in lower case. Raises InvalidValueError."""
    return _ipv6(text) if ":" in text else _name_or_ipv4(text).lower()


def parse_origin(text: str) -> Origin:
    """Return the origin and base path of an http or https URL without user, query and fragment. Raises InvalidValueError."""
    scheme, host, port, match = _parse_url(text, example="https://api.example.com")
    if match["query"] is not None:
        raise InvalidValueError(
            "has a query (from the ?); write scheme, host and base path alone: each request brings its own query"
        )
    path = match["path"].rstrip("/")
    if _PATH.fullmatch(path) is None:
        raise InvalidValueError(
            "has a character in its path that a URL may not have there; percent-encode it (RFC 3986 §2.1)"
        )
    if _DOT_SEGMENT.search(path):
        raise InvalidValueError("has a . or .. segment in its path; write the path without it")
    return Origin(scheme=scheme, host=host, port=port, base_path=path)


def parse_endpoint(text: str) -> Origin:
    """
    Check the URL of an endpoint, query allowed (RFC 6749 §3.2), and return its origin without the query.

    Raises InvalidValueError.
    """
    scheme, host, port, match = _parse_url(text, example="https://login.example.com/oauth/token")
    if _PATH.fullmatch(match["path"]) is None or _QUERY.fullmatch(match["query"] or "") is None:
        raise InvalidValueError("has a character that a URL may not have there; percent-encode it (RFC 3986 §2.1)")
    return Origin(scheme=scheme, host=host, port=port, base_path=match["path"])


def parse_redis_address(text: str) -> RedisAddress:
    """Return the server and database of a redis or rediss URL. Raises InvalidValueError."""
    example = "rediss://cache.example.com:6379/0"
    match = _URL.fullmatch(text)
    scheme = "" if match is None else match["scheme"].lower()
    if match is None or scheme not in _REDIS_SCHEMES:
        raise InvalidValueError(f"is not the URL of a Redis server; write one such as {example}")
    if "@" in match["authority"]:
        raise InvalidValueError("has a user or password before the host; write username and password beside url")
    if match["query"] is not None or match["fragment"] is not None:
        raise InvalidValueError(f"has options (from the ? or #); remove them, as in {example}")
    if not match["authority"]:
        raise InvalidValueError(f"names no host; write one such as {example}")
    database = re.fullmatch(r"/?([0-9]{0,4})", match["path"])
    if database is None:
        raise InvalidValueError(f"has a path that is not the number of a database; write one such as {example}")
    host, port = _host_and_port(match["authority"], _REDIS_PORT)
    return RedisAddress(host=host, port=port, database=int(database[1] or 0), is_tls=scheme == "rediss")


def _parse_url(text: str, *, example: str) -> tuple[str, str, int, re.Match[str]]:
    match = _URL.fullmatch(text)
    if match is None:
        raise InvalidValueError(f"is not a URL; write one such as {example}")
    scheme = match["scheme"].lower()
    if scheme not in _DEFAULT_PORTS:
        raise InvalidValueError(f"has a scheme other than https and http; write one such as {example}")
    authority = match["authority"]
    if "@" in authority:
        raise InvalidValueError(f"has a user or password before the host; remove it, as in {example}")
    if match["fragment"] is not None:
        raise InvalidValueError("has a fragment (from the #), which is never sent; remove it")
    if not authority:
        raise InvalidValueError(f"names no host; write one such as {example}")
    host, port = _host_and_port(authority, _DEFAULT_PORTS[scheme])
    return scheme, host, port, match


def _host_and_port(authority: str, default_port: int) -> tuple[str, int]:
    with_port = (
        authority if re.search(r":[0-9]+\Z", authority) and not _is_ipv6(authority) else f"{authority}:{default_port}"
    )
    match = _ADDRESS.fullmatch(with_port)
    if match is None:
        if _is_ipv6(authority):
            raise InvalidValueError("has an IPv6 address without brackets; write it as in https://[2001:db8::1]:8443")
        raise InvalidValueError(
            "has no valid host and port; write a host, and a port from 1 to 65535 after a colon if it is not the scheme's own"
        )
    port = int(match["port"])
    if not 0 < port <= _HIGHEST_PORT:
        raise InvalidValueError("has no valid port; write one from 1 to 65535, or none for the scheme's own")
    bracketed = match["bracketed"]
    if bracketed is None:
        return _name_or_ipv4(match["plain"]).lower(), port
    if "%" in bracketed:
        raise InvalidValueError("has an IPv6 zone, which is of this machine alone; write an address without %")
    return _ipv6(bracketed), port


def _name_or_ipv4(host: str) -> str:
    if re.fullmatch(r"[0-9.]+", host):
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise InvalidValueError(
                "has no valid IPv4 address; write four numbers from 0 to 255, such as 127.0.0.1", is_safe_to_echo=True
            ) from None
    name = host.removesuffix(".")
    if len(name) > _LONGEST_NAME or _NAME.fullmatch(name) is None:
        if not host.isascii():
            raise InvalidValueError("has a host name with letters outside ASCII; write its xn--… form (RFC 5891)")
        raise InvalidValueError(
            "has no valid host name; write letters, digits, hyphens and dots, such as api.example.com"
        )
    return host


def _ipv6(host: str) -> str:
    if not _is_ipv6(host):
        raise InvalidValueError(
            "has no valid IPv6 address in its brackets; write one such as [::1]", is_safe_to_echo=True
        )
    return str(IPv6Address(host))


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True


def _covered(host: str) -> tuple[tuple[int, str], ...]:
    """Return (IP version, address) of what a host covers, without resolving it; version 0 is a name, `*` every address."""
    try:
        address = ip_address(host)
    except ValueError:
        if is_loopback_host(host):
            return ((4, "127.0.0.1"), (6, "::1"))
        return ((0, host.lower().rstrip(".")),)
    if address.version == 6 and address.is_unspecified:  # noqa: PLR2004
        # It is bound for both families.
        return ((4, "*"), (6, "*"))
    return ((address.version, "*" if address.is_unspecified else str(address)),)
