"""One look at a running proxy's admin listener, for container health checks: imports little, for it runs often."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.core.addresses import Address

_OK: Final = 200
_MOST_BYTES: Final = 16 * 1024
"""Of an answer: what admin says is some lines, and what another server says does not matter."""

_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here
"""What is bound on all addresses is asked on the loopback one."""


class ProbeError(Exception):
    """The proxy does not answer, or not as it should; the text says why."""


def probe(address: Address, *, path: str, timeout: float) -> str:
    """Return what the admin listener answers at `path`, waiting at most `timeout` seconds. Raises ProbeError."""
    connection = HTTPConnection(_WILDCARDS.get(address.host, address.host), address.port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        text = response.read(_MOST_BYTES).decode("utf-8", "replace").strip()
    except TimeoutError:
        raise ProbeError(f"admin on {address} did not answer within {timeout:g} seconds") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ProbeError(f"admin on {address} cannot be reached: {reason}; is the proxy running?") from None
    except HTTPException:
        raise ProbeError(f"what listens on {address} does not speak HTTP; is it the proxy's admin?") from None
    finally:
        connection.close()
    if response.status != _OK:
        raise ProbeError(text or f"admin on {address} answered {response.status}")
    return text
