"""How a tunnel through an egress proxy is opened: CONNECT on a fresh socket, before TLS begins (RFC 9110 §9.3.6)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from switch_proxy.core.errors import ResponseError, UpstreamConnectError
from switch_proxy.core.http.problems import Problem
from switch_proxy.core.http.response import ResponseParser

if TYPE_CHECKING:
    import socket

    from switch_proxy.core.egress import EgressProxy

_MAX_HEAD: Final = 65536
_CONTINUE: Final = 100
_FINAL: Final = 200
_SUCCESSFUL: Final = range(200, 300)


async def open_tunnel(connected: socket.socket, *, egress_proxy: EgressProxy, authority: str) -> None:
    """
    Ask the proxy at the other end of `connected` for a tunnel to `authority` (host:port).

    Raises UpstreamConnectError. Nothing of the API's token is in what is sent.
    """
    loop = asyncio.get_running_loop()
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if egress_proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {egress_proxy.authorization.reveal()}")
    try:
        await loop.sock_sendall(connected, "\r\n".join([*lines, "", ""]).encode("ascii"))
        parser = ResponseParser(max_field_lines=128)
        early = b""
        status = _CONTINUE
        while status < _FINAL:
            # Interim responses may come first (RFC 9110 §15.2). After the final one nothing comes until TLS begins.
            while b"\r\n\r\n" not in early:
                piece = await loop.sock_recv(connected, 4096)
                early += piece
                if not piece or len(early) > _MAX_HEAD:
                    raise UpstreamConnectError(
                        Problem.EGRESS_PROXY,
                        f"the egress proxy {egress_proxy} closed the connection instead of answering",
                    )
            head, _, early = early.partition(b"\r\n\r\n")
            status = parser.parse(head).status
    except OSError as error:
        raise UpstreamConnectError(
            Problem.EGRESS_PROXY, f"the egress proxy {egress_proxy} broke off: {error.strerror or error}"
        ) from None
    except ResponseError:
        raise UpstreamConnectError(
            Problem.EGRESS_PROXY, f"what answers at the egress proxy's address {egress_proxy} does not speak HTTP"
        ) from None
    if status not in _SUCCESSFUL or early:
        hint = "; are the user and password in HTTPS_PROXY right?" if status == 407 else ""  # noqa: PLR2004
        raise UpstreamConnectError(
            Problem.EGRESS_PROXY, f"the egress proxy {egress_proxy} answered {status} to CONNECT {authority}{hint}"
        )
