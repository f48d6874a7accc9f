"""The core does no I/O, so its tests open no socket: there is none, and so no event loop either."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


class _NoSocket(socket.socket):
    def __init__(self, *_: object, **__: object) -> None:
        pytest.fail("a test of the core opened a socket; what needs one belongs to tests/shell")


def _pair_nothing(*_: object, **__: object) -> NoReturn:
    pytest.fail("a test of the core opened a pair of sockets, as event loops do; what needs one belongs to tests/shell")


def _resolve_nothing(*_: object, **__: object) -> NoReturn:
    pytest.fail("a test of the core resolved a name; what needs that belongs to tests/shell")


@pytest.fixture(scope="module", autouse=True)
def _no_sockets() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", _NoSocket)
        patch.setattr(socket, "socketpair", _pair_nothing)
        patch.setattr(socket, "getaddrinfo", _resolve_nothing)
        yield
