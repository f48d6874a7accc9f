"""
The protocols of `Upgrade` (RFC 9110 §7.8): which offers of a client pass, and what an upstream may switch to.

After a switch the proxy passes bytes and reads none of them. So it never passes the offer of a protocol that carries further
requests: they would reach the upstream without an access token, outside its base path, and without a line in the log.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from switch_proxy.core.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_CARRIERS_OF_REQUESTS: Final = frozenset({b"h2c", b"h2", b"http", b"https", b"tls"})
"""RFC 7540 §3.2 and RFC 2817 §3.1 in the spellings that servers take: behind each, the connection goes on with HTTP."""

_PROTOCOL: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:/[!#$%&'*+\-.^_`|~0-9A-Za-z]+)?")


def parse_protocol(text: str) -> str:
    """Return a protocol that a configuration lets pass, in lower case. Raises InvalidValueError."""
    if _PROTOCOL.fullmatch(text) is None:
        raise InvalidValueError("is not the name of a protocol; write one such as websocket", is_safe_to_echo=True)
    protocol = text.lower()
    if _carries_requests(protocol.encode("ascii")):
        raise InvalidValueError(
            "is never passed, because the requests behind it would have no access token; remove it",
            is_safe_to_echo=True,
        )
    return protocol


def offers_that_pass(values: Sequence[bytes], *, allowed: Collection[bytes]) -> bytes | None:
    """
    Return the offers that are passed on, as a list in the client's order and spelling; None if there are none.

    `values`: those of the client's Upgrade lines. `allowed`: names in lower case; one without a version is for every version.
    """
    offers = [offer.strip(b" \t") for value in values for offer in value.split(b",")]
    return b", ".join(offer for offer in offers if _passes(offer.lower(), allowed)) or None


def is_switch_to_an_offer(switched_to: bytes, *, offers: bytes) -> bool:
    """Say whether what the upstream names in 101 is among the offers that it was sent."""
    offered = _members(offers)
    return all(protocol in offered for protocol in _members(switched_to))


def _members(value: bytes) -> list[bytes]:
    return [member.strip(b" \t") for member in value.lower().split(b",")]


def _passes(offer: bytes, allowed: Collection[bytes]) -> bool:
    is_allowed = offer in allowed or offer.partition(b"/")[0] in allowed
    return is_allowed and not _carries_requests(offer)


def _carries_requests(protocol: bytes) -> bool:
    return protocol.partition(b"/")[0] in _CARRIERS_OF_REQUESTS
