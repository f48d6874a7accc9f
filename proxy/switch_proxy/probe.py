"""
One look at a running proxy's admin listener, for container health checks.

A check runs every few seconds, beside the app and out of the same CPU limit, so it is one request by hand: http.client
would load TLS and the email package for it, which takes longer than all the rest.
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
"""Of an answer: what admin says is some lines, and what another server says does not matter."""

_ANSWER: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n(.*)", re.DOTALL)

_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here
"""What is bound on all addresses is asked on the loopback one."""


class ProbeError(Exception):
    """The proxy does not answer, or not as it should; the text says why."""


def probe(address: Address, *, path: str, timeout: float) -> str:
    """Return what the admin listener answers at `path`, within `timeout` seconds. Raises ProbeError."""
    try:
        answer = _ask(address, path, deadline=monotonic() + timeout)
    except TimeoutError:
        raise ProbeError(f"admin on {address} did not answer within {timeout:g} seconds") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ProbeError(f"admin on {address} cannot be reached: {reason}; is the proxy running?") from None
    match = _ANSWER.match(answer)
    if match is None:
        raise ProbeError(f"what listens on {address} does not speak HTTP; is it the proxy's admin?")
    text = match[2].decode("utf-8", "replace").strip()
    if int(match[1]) != _OK:
        raise ProbeError(f"admin on {address} answered {int(match[1])}" + (f":\n{text}" if text else ""))
    return text


def _ask(address: Address, path: str, *, deadline: float) -> bytes:
    host = _WILDCARDS.get(address.host, address.host)
    with socket.create_connection((host, address.port), timeout=_left(deadline)) as connection:
        # By HTTP/1.0 the answer is not chunked, and ends with the connection (RFC 9112 §6.3).
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode("ascii"))
        answer = b""
        while len(answer) < _MOST_BYTES:
            connection.settimeout(_left(deadline))
            piece = connection.recv(_MOST_BYTES)
            if not piece:
                break
            answer += piece
        return answer


def _left(deadline: float) -> float:
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError
    return left
