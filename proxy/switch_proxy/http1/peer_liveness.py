"""
Whether a client that has ended its side has closed its connection, or still waits for its response.

Both look the same on the wire: a FIN. The clients are on this machine, and its kernel can tell them apart: a half-closed
socket still has an owning process; a closed one has none. The kernel is asked over netlink (`sock_diag(7)`) about the one
socket at the other end. If it cannot be asked (another machine, another system), the client is taken to wait (RFC 9112
§9.6), and a client that is gone shows at the first write. docs/decisions/0006 has the measured benefit.
"""

from __future__ import annotations

import select
import socket
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_NLMSG_ERROR: Final = 2
_ENOENT: Final = 2
_ALL_STATES: Final = 0xFFFFFFFF
_NO_COOKIE: Final = 0xFFFFFFFF
_NETLINK_HEADER: Final = struct.Struct("=IHHII")
_INODE_OFFSET: Final = 16 + 68
"""`idiag_inode` is the last of the 72 bytes of `struct inet_diag_msg`, after the 16 of the netlink header."""


def has_peer_closed(transport: asyncio.BaseTransport) -> bool:
    """Return whether the other end of a loopback connection has been closed, not only shut down."""
    ours = transport.get_extra_info("sockname")
    theirs = transport.get_extra_info("peername")
    family_number = getattr(socket, "AF_NETLINK", None)
    # The kernel knows the sockets of this machine only.
    if family_number is None or not ours or not theirs or not theirs[0].startswith(("127.", "::1")):
        return False
    try:
        question = _question(theirs, ours)
        with socket.socket(family_number, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
            netlink.setblocking(False)  # noqa: FBT003 - the kernel responds within `send`
            netlink.send(question)
            return _has_no_owner(netlink.recv(1024))
    except OSError:
        return False


def has_hung_up(transport: asyncio.BaseTransport) -> bool:
    """Return whether the other end has been closed, of a connection that is not read and so would not learn of it."""
    raw_socket = transport.get_extra_info("socket")
    if raw_socket is None or raw_socket.fileno() < 0:
        return False
    poller = select.poll()
    poller.register(raw_socket.fileno(), getattr(select, "POLLRDHUP", 0))
    return bool(poller.poll(0)) and has_peer_closed(transport)


def _question(local: tuple[str, int], remote: tuple[str, int]) -> bytes:
    """Ask for the one TCP socket bound to `local` and connected to `remote` (`struct inet_diag_req_v2`)."""
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    socket_id = struct.pack(
        "!HH16s16sIII",
        local[1],
        remote[1],
        socket.inet_pton(family, local[0]),
        socket.inet_pton(family, remote[0]),
        0,
        _NO_COOKIE,
        _NO_COOKIE,
    )
    body = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, _ALL_STATES) + socket_id
    size = _NETLINK_HEADER.size + len(body)
    return _NETLINK_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0) + body


def _has_no_owner(response: bytes) -> bool:
    """Read the kernel's response. No process owns a socket that does not exist or has no inode."""
    message_type: int = struct.unpack_from("=H", response, 4)[0]
    if message_type == _NLMSG_ERROR:
        return -int(struct.unpack_from("=i", response, 16)[0]) == _ENOENT
    inode: int = struct.unpack_from("=I", response, _INODE_OFFSET)[0]
    return message_type == _SOCK_DIAG_BY_FAMILY and inode == 0
