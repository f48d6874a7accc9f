"""The tests of the core are held to what they say of themselves."""

from __future__ import annotations

import socket

import pytest


def test_a_test_of_the_core_cannot_open_a_socket() -> None:
    with pytest.raises(pytest.fail.Exception, match="belongs to tests/shell"):
        socket.socket()


def test_a_test_of_the_core_cannot_run_an_event_loop() -> None:
    """A loop needs a pair of sockets to wake itself up."""
    with pytest.raises(pytest.fail.Exception, match="belongs to tests/shell"):
        socket.socketpair()


def test_a_test_of_the_core_cannot_resolve_a_name() -> None:
    with pytest.raises(pytest.fail.Exception, match="belongs to tests/shell"):
        socket.getaddrinfo("localhost", 80)
