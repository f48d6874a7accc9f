"""
What the rules of a route let through, real servers read as a path within the rules: nginx and Node, beside Python's libraries.

Each server is asked for its own reading of thousands of spellings, and of those that the rules let through none may be read
as something else. A server that is not installed is left out by name.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from yarl import URL

from switch_proxy.core.http.request import RequestParser
from switch_proxy.core.path_pattern import parse_path_pattern
from switch_proxy.core.policy.allow_rules import AllowRule, AllowRules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NGINX: Final = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
_NODE: Final = shutil.which("node")

_RULES: Final = AllowRules(
    [
        AllowRule(
            methods=("GET",),
            paths=tuple(map(parse_path_pattern, ("/api/readings", "/api/readings/**", "/api/files/*"))),
        )
    ],
    owner="route 'a'",
)
_HEAD: Final = RequestParser(max_request_line=8192, max_field_lines=9).parse(b"GET / HTTP/1.1\r\nHost: x")
_WITHIN_THE_RULES: Final = re.compile(r"/api/readings(/[^/]+)*/?|/api/files/[^/]+", re.DOTALL)
_DOTS: Final = re.compile(r"(^|/)\.{1,2}(/|$)")

_PIECES: Final = (
    *(
        "a",
        "%61",
        "admin",
        ".",
        "..",
        "%2e",
        "%2E%2e",
        "/",
        "//",
        "%2f",
        "%5c",
        "\\",
        ";",
        "%3b",
        "%252e",
        "%252f",
        "%25",
    ),
    *(
        "%00",
        "%0a",
        "%09",
        "%20",
        "%c0%ae",
        "%c0%af",
        "%e0%80%af",
        "%ef%bc%8f",
        "%e2%80%a5",
        "%23",
        "%3f",
        "?",
        "%",
        "%u002e",
    ),
    *("~", "%7e", "caf%c3%a9", "b%2Cc", "b,c", "+", "%2B", ":", "@"),
)


def _spellings() -> list[str]:
    """Return spellings below and beside the rules: all of up to two pieces, and more at random but the same each time."""
    some = random.Random(11)
    pairs = ["".join(pair) for size in (0, 1, 2) for pair in itertools.product(_PIECES, repeat=size)]
    longer = ["".join(some.choices(_PIECES, k=some.randint(3, 9))) for _ in range(2000)]
    return [
        f"{begin}{rest}"
        for begin in ("/api/readings/", "/api/files/", "/api/", "/%61pi/readings/")
        for rest in (*pairs, *longer)
    ]


def _let_through() -> list[str]:
    passed = [path for path in _spellings() if _RULES.judge(_HEAD, path.encode("ascii")) is None]
    assert len(passed) > 500, "hardly anything is let through, so that this shows nothing"
    assert any("%" in path for path in passed)
    return passed


def _assert_within(readings: dict[str, str]) -> None:
    outside = {
        path: reading
        for path, reading in readings.items()
        if not _WITHIN_THE_RULES.fullmatch(reading) or _DOTS.search(reading)
    }
    assert outside == {}


def test_python_reads_what_is_let_through_as_within_the_rules() -> None:
    passed = _let_through()
    _assert_within({path: unquote(urlsplit(path).path) for path in passed})
    _assert_within({path: URL(path).path for path in passed})
    _assert_within({path: unquote(urlsplit(urljoin("http://a/b/", path)).path) for path in passed})


@pytest.mark.skipif(_NODE is None, reason="Node is not installed")
def test_node_reads_what_is_let_through_as_within_the_rules() -> None:
    passed = _let_through()
    program = (
        "const paths = JSON.parse(require('fs').readFileSync(0)); console.log(JSON.stringify("
        "paths.map((path) => decodeURIComponent(new URL(path, 'http://a').pathname))));"
    )
    assert _NODE is not None
    output = subprocess.run(
        [_NODE, "-e", program], input=json.dumps(passed), capture_output=True, text=True, check=True
    )
    _assert_within(dict(zip(passed, json.loads(output.stdout), strict=True)))


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[int]:
    """Run an nginx that returns its reading of each path; yield the port."""
    assert _NGINX is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log;\n"
        "events {}\n"
        "http { access_log off; keepalive_requests 100000;\n"
        + "".join(
            f"  {kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + f"  server {{ listen 127.0.0.1:{port}; location / {{ default_type text/plain; return 200 $uri; }} }} }}\n"
    )
    process = subprocess.Popen([_NGINX, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")])
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def _connect(port: int) -> socket.socket:
    for _ in range(2000):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=20)
        except ConnectionRefusedError:
            time.sleep(0.01)
    raise AssertionError("nginx does not listen")


@pytest.mark.skipif(_NGINX is None, reason="nginx is not installed")
def test_nginx_reads_what_is_let_through_as_within_the_rules(nginx: int) -> None:
    readings = {}
    with _connect(nginx) as connection, connection.makefile("rb") as received:
        for path in _let_through():
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode("ascii"))
            assert received.readline() == b"HTTP/1.1 200 OK\r\n"
            length = 0
            while (line := received.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            readings[path] = received.read(length).decode()
    _assert_within(readings)


@pytest.mark.skipif(_NGINX is None, reason="nginx is not installed")
@pytest.mark.parametrize("path", ["/api/readings/%2e%2e/%2e%2e/admin", "/api/readings/..%2f..%2fadmin"])
def test_nginx_reads_some_spellings_as_outside_of_the_rules_and_those_are_refused(nginx: int, path: str) -> None:
    """Otherwise the test above would show nothing."""
    with _connect(nginx) as connection, connection.makefile("rb") as received:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode("ascii"))
        assert received.read().endswith(b"\r\n\r\n/admin")
    assert _RULES.judge(_HEAD, path.encode("ascii")) is not None
