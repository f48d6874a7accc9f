"""
One request to a running proxy's admin listener, for container health checks and `switch-proxy refresh`.

A check runs every few seconds beside the app and shares its CPU limit, so the request is written by hand: http.client
would import TLS and the email package, which takes longer than all the rest.
"""

from __future__ import annotations

import re
import socket
from time import monotonic  # noqa: TID251 - a Clock brings asyncio, which takes longer than the probe
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from switch_proxy.core.addresses import Address

_OK: Final = 200
_MOST_BYTES: Final = 16 * 1024
"""Bytes of a response. Admin sends a few lines; what another server sends does not matter."""

_RESPONSE: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n(.*)", re.DOTALL)

_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here
"""A listener bound to all addresses is asked on loopback."""


class ProbeError(Exception):
    """The proxy did not respond, or not as expected; the text says why."""


def probe(address: Address, *, path: str, timeout: float, method: str = "GET") -> str:
    """Return the body of the admin listener's response for `path`, within `timeout` seconds. Raises ProbeError."""
    try:
        response = _request(address, f"{method} {path}", deadline=monotonic() + timeout)
    except TimeoutError:
        raise ProbeError(f"admin on {address} did not respond within {timeout:g} seconds") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ProbeError(f"admin on {address} cannot be reached: {reason}; is the proxy running?") from None
    match = _RESPONSE.match(response)
    if match is None:
        raise ProbeError(f"the server on {address} does not speak HTTP; is it the proxy's admin listener?")
    text = match[2].decode("utf-8", "replace").strip()
    if int(match[1]) != _OK:
        raise ProbeError(f"admin on {address} returned {int(match[1])}" + (f":\n{text}" if text else ""))
    return text


def _request(address: Address, method_and_path: str, *, deadline: float) -> bytes:
    host = _WILDCARDS.get(address.host, address.host)
    with socket.create_connection((host, address.port), timeout=_left(deadline)) as connection:
        # To an HTTP/1.0 request the response is not chunked, and it ends with the connection (RFC 9112 §6.3).
        connection.sendall(f"{method_and_path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode("ascii"))
        response = b""
        while len(response) < _MOST_BYTES:
            connection.settimeout(_left(deadline))
            piece = connection.recv(_MOST_BYTES)
            if not piece:
                break
            response += piece
        return response


def _left(deadline: float) -> float:
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError
    return left
