"""
Host names to addresses, for one route, one credential, or the listeners.

Each of them has a resolver of its own, and each name its own threads (shared_call.py), so that a name for which DNS does not
respond holds up nobody else. Nothing is cached: each connection asks anew, so that a server that moves is followed. The last
addresses are kept in case that DNS fails, for as long as core/known_name.py says.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from switch_proxy.core.events import NameResolved, NameUnresolved
from switch_proxy.core.known_name import PATIENCE, KnownName
from switch_proxy.shared_call import CallHangsError, SharedCall

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import TypeAlias

    from switch_proxy.core.events import NameEvent
    from switch_proxy.core.known_name import SocketAddress

    LookUp: TypeAlias = Callable[[str], tuple[SocketAddress, ...]]
    AddressInfo: TypeAlias = tuple[int, int, int, str, SocketAddress]

_MOST_NAMES: Final = 4
"""Names of one resolver: an issuer's, its token endpoint's, an egress proxy's. Metadata may name ever other endpoints."""

_DENIALS: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
"""Errors that are DNS's response: there is no such name, or it has no addresses."""

_IPV6_LENGTH: Final = 4


def look_up(host: str) -> tuple[SocketAddress, ...]:
    """Ask the system for a name's addresses. Blocks: for a thread. Raises gaierror."""
    return _ask_system(host, flags=0)


class _Name:
    """One name: what is known of it, and the call that asks for its addresses."""

    def __init__(
        self, host: str, *, look_up: LookUp, now: Callable[[], float], on_changed: Callable[[_Name], None]
    ) -> None:
        self.host = host
        self.known = KnownName()
        self.call = SharedCall(partial(look_up, host), now=now, on_done=self._learn)
        self._now = now
        self._on_changed = on_changed

    def note_hang(self) -> None:
        """Learn that DNS has let a caller wait in vain."""
        if self.known.error is None:
            self._set(self.known.failed(f"DNS has not responded for {PATIENCE:g} seconds"))

    def _learn(self, done: asyncio.Future[tuple[SocketAddress, ...]]) -> None:
        error = done.exception()
        if error is None:
            self._set(self.known.found(done.result(), self._now()))
        elif isinstance(error, socket.gaierror) and error.errno in _DENIALS:
            self._set(self.known.denied(str(error.strerror)))
        else:
            self._set(self.known.failed(getattr(error, "strerror", None) or type(error).__name__))

    def _set(self, known: KnownName) -> None:
        before, self.known = self.known, known
        if (before.error is None) is not (known.error is None):
            self._on_changed(self)


class Resolver:
    """Resolves the names of one user."""

    def __init__(
        self,
        *,
        used_by: str,
        now: Callable[[], float],
        observe: Callable[[NameEvent], None] = lambda _: None,
        look_up: LookUp = look_up,
    ) -> None:
        """
        Take for whom it is ("route 'api'") and who is told of what fails; `now` returns seconds.

        `look_up` returns a name's addresses, or raises OSError; it runs in a thread and may hang.
        """
        self._used_by = used_by
        self._now = now
        self._observe = observe
        self._look_up = look_up
        self._names: dict[str, _Name] = {}

    async def resolve(self, host: str, port: int) -> list[AddressInfo]:
        """
        Return the addresses of a name, as getaddrinfo does, or those found before if DNS fails or does not respond.

        If there are none it waits for as long as DNS takes: the caller has a time limit. Raises gaierror.
        """
        numeric = _find_numeric(host)
        return _with_port(numeric or await self._find(host), port)

    async def _find(self, host: str) -> tuple[SocketAddress, ...]:
        name = self._name_of(host)
        # If the last look-up failed, one begun now is for the next connection.
        is_failing = name.known.error is not None and name.known.usable(self._now())
        try:
            return await name.call.result(within=0 if is_failing else PATIENCE)
        except CallHangsError:
            name.note_hang()
        except OSError:
            # Not after a denial: nothing is usable then.
            if not name.known.usable(self._now()):
                raise
        return name.known.usable(self._now()) or await name.call.result()

    def _name_of(self, host: str) -> _Name:
        name = self._names.get(host)
        if name is None:
            if len(self._names) >= _MOST_NAMES:
                self._forget_one()
            name = self._names[host] = _Name(host, look_up=self._look_up, now=self._now, on_changed=self._report)
        return name

    def _forget_one(self) -> None:
        oldest = next((name for name in self._names.values() if not name.call.is_under_way), None)
        if oldest is None:
            raise socket.gaierror(socket.EAI_AGAIN, f"DNS has not responded for {_MOST_NAMES} other names")
        del self._names[oldest.host]

    def _report(self, name: _Name) -> None:
        error = name.known.error
        if error is None:
            self._observe(NameResolved(host=name.host, used_by=self._used_by))
            return
        has_last_good = bool(name.known.usable(self._now()))
        self._observe(NameUnresolved(host=name.host, used_by=self._used_by, error=error, has_last_good=has_last_good))

    def __repr__(self) -> str:
        return f"<Resolver of {self._used_by} {list(self._names)}>"


def _find_numeric(host: str) -> tuple[SocketAddress, ...] | None:
    """Return the one address that `host` is itself, for which nobody need be asked; None if it is a name."""
    try:
        return _ask_system(host, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return None


def _ask_system(host: str, *, flags: int) -> tuple[SocketAddress, ...]:
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=flags)
    except UnicodeError:
        raise socket.gaierror(socket.EAI_NONAME, "a part of it is empty or longer than 63 characters") from None
    return tuple(cast("SocketAddress", each[4]) for each in found)


def _with_port(addresses: tuple[SocketAddress, ...], port: int) -> list[AddressInfo]:
    found: list[AddressInfo] = []
    for address in addresses:
        if len(address) == _IPV6_LENGTH:
            host, _, flow, scope = address
            found.append((socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, flow, scope)))
        else:
            found.append((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address[0], port)))
    return found
