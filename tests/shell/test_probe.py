"""The look of `switch-proxy health` at a running proxy's admin listener."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from switch_proxy.core.addresses import Address
from switch_proxy.probe import ProbeError, probe

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def _server(
    answer: bytes, *, host: str = "127.0.0.1", family: int = socket.AF_INET
) -> Iterator[tuple[int, list[bytes]]]:
    """Answer one connection's first bytes with `answer`, and yield the port and what was asked."""
    asked: list[bytes] = []
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.bind((host, 0))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                asked.append(connection.recv(65536))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1], asked
        thread.join()


def _probe(port: int, *, host: str = "127.0.0.1", timeout: float = 5.0) -> str:
    return probe(Address(host=host, port=port), path="/readyz", timeout=timeout)


def _response(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def test_answer_of_a_proxy_that_is_ready_is_returned() -> None:
    with _server(_response(b"200 OK", b"ready\n")) as (port, asked):
        assert _probe(port) == "ready"
    assert asked == [b"GET /readyz HTTP/1.0\r\nHost: 127.0.0.1:%d\r\n\r\n" % port]


def test_answer_of_a_proxy_that_is_not_ready_is_the_reason() -> None:
    answer = _response(b"503 Service Unavailable", b"not ready: credential switch has no token")
    with (
        _server(answer) as (port, _),
        pytest.raises(ProbeError, match=r"returned 503:\nnot ready: credential switch has no token$"),
    ):
        _probe(port)


def test_refusal_without_words_is_told_by_its_status() -> None:
    told = pytest.raises(ProbeError, match=r"^admin on 127\.0\.0\.1:\d+ returned 503$")
    with _server(_response(b"503 Service Unavailable", b"")) as (port, _), told:
        _probe(port)


def test_address_on_which_nobody_listens_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(ProbeError, match=r"cannot be reached: Connection refused; is the proxy running\?$"):
        _probe(port)


def test_listener_that_does_not_answer_is_given_up_in_time() -> None:
    told = pytest.raises(ProbeError, match=r"did not respond within 0\.05 seconds$")
    with socket.create_server(("127.0.0.1", 0)) as silent, told:
        _probe(silent.getsockname()[1], timeout=0.05)


def test_no_time_at_all_is_too_little() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(ProbeError, match="did not respond within 0 seconds"),
    ):
        _probe(silent.getsockname()[1], timeout=0)


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-server\r\n", b"\x00\xff", b"HTTP/1.1 200 OK\r\n", b"HTTP/2 200\r\n\r\n"],
    ids=["nothing", "SSH", "bytes", "head cut short", "another version"],
)
def test_listener_that_does_not_speak_http_is_told(answer: bytes) -> None:
    with _server(answer) as (port, _), pytest.raises(ProbeError, match="does not speak HTTP; is it the proxy's admin"):
        _probe(port)


@pytest.mark.parametrize(
    ("bound", "host", "family"),
    [
        pytest.param("127.0.0.1", "0.0.0.0", socket.AF_INET, id="IPv4"),
        pytest.param("::1", "::", socket.AF_INET6, id="IPv6"),
    ],
)
def test_listener_on_all_addresses_is_asked_on_loopback(bound: str, host: str, family: int) -> None:
    with _server(_response(b"200 OK", b"ready"), host=bound, family=family) as (port, _):
        assert _probe(port, host=host) == "ready"


def test_answer_without_end_is_not_read_to_its_end() -> None:
    with _server(_response(b"200 OK", b"x" * 100_000)) as (port, _):
        assert len(_probe(port)) <= 32 * 1024
