"""How the address of a listener is bound: a socket for it, or for each address that its name has."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final

from switch_proxy.core.addresses import bind_hint
from switch_proxy.core.errors import ListenError
from switch_proxy.tls import reason_of

if TYPE_CHECKING:
    from switch_proxy.core.addresses import Address
    from switch_proxy.resolver import Resolver

_NAME_TIMEOUT: Final = 10.0
"""Seconds for the name of a listener to be resolved; usually it stands in /etc/hosts."""


async def bind(listen: Address, *, backlog: int, described: str, resolver: Resolver) -> list[socket.socket]:
    """
    Return listening sockets, on which the kernel holds up to `backlog` connections until they are accepted.

    `described` is whose they are, for errors. Raises ListenError, with nothing left open.
    """
    bound: list[socket.socket] = []
    try:
        async with asyncio.timeout(_NAME_TIMEOUT):
            addresses = await resolver.resolve(listen.host, listen.port)
        for family, _, _, _, address in dict.fromkeys(addresses):
            is_dual = listen.is_of_both_families and socket.has_dualstack_ipv6()
            place = (str(address[0]), address[1])
            bound.append(
                socket.create_server(
                    place, family=socket.AddressFamily(family), backlog=backlog, dualstack_ipv6=is_dual
                )
            )
    except TimeoutError:
        # The system's own has a number, and none comes from binding.
        reason = f"the name was not resolved within {_NAME_TIMEOUT:g} seconds: DNS does not respond"
    except OSError as error:
        reason = f"{reason_of(error)}{bind_hint(error.errno)}"
    else:
        return bound
    for each in bound:
        each.close()
    raise ListenError(f"{described} cannot listen on {listen}: {reason}")
