"""The origins, the same for every system: nginx for downloads, the side server for uploads, streams and tokens."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import trustme
from machine import MachineError
from processes import ChildProcess, free_port

Scheme = Literal["http", "https"]
Kind = Literal["files", "side"]

# As long as the RS256 tokens of the common providers (Auth0, Entra), in the characters of RFC 6750 §2.1.
ACCESS_TOKEN = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9." + "bench-" * 120 + "." + "s" * 86
# A typical Switch reading; 174 bytes.
SMALL_JSON = (
    '[{"registerId":1,"readings":[{"periodFrom":"2025-11-03T15:51:44.667Z","periodTo":"2025-11-03T16:51:44.667Z",'
    '"updatedAt":"2025-11-03T16:52:01.002Z","value":1.2345678901234}]}]'
)
BODY_SIZES = {"64k": 64 << 10, "100m": 100 << 20}


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """An origin as in the configuration of a system under test. The certificate is for localhost and 127.0.0.1."""

    kind: Kind
    scheme: Scheme
    port: int
    ca_file: Path

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"


class Upstreams:
    """Start both servers in `folder`, pinned to `core`; use as a context manager."""

    def __init__(self, *, folder: Path, core: int, python: str) -> None:
        self._folder = folder
        self._core = core
        self._python = python
        self._children: list[ChildProcess] = []
        self._found: dict[tuple[Kind, Scheme], Upstream] = {}
        self.token_url = ""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.stop()

    def get(self, kind: Kind, scheme: Scheme) -> Upstream:
        """Return the origin of this kind and scheme."""
        return self._found[kind, scheme]

    def _start(self) -> None:
        authority = trustme.CA()
        ca_file = self._folder / "ca.pem"
        authority.cert_pem.write_to_path(str(ca_file))
        certificate = self._folder / "server.pem"
        authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))

        program = Path(__file__).with_name("side_server.py")
        side = ChildProcess(
            [self._python, str(program), "--token", ACCESS_TOKEN, "--certificate", str(certificate)],
            core=self._core,
            output=self._folder / "side.out",
        )
        self._children.append(side)
        ports = {"http": free_port(), "https": free_port()}
        nginx = ChildProcess(
            nginx_command(self._write_nginx(certificate, ports), self._folder),
            core=self._core,
            output=self._folder / "origin.out",
        )
        self._children.append(nginx)

        said = json.loads(_wait_for_line(side))
        self.token_url = f"http://127.0.0.1:{said['plain']}/oauth/token"
        side_ports = {"http": said["plain"], "https": said["tls"]}
        schemes: tuple[Scheme, Scheme] = ("http", "https")
        for scheme in schemes:
            self._found["files", scheme] = Upstream(kind="files", scheme=scheme, port=ports[scheme], ca_file=ca_file)
            self._found["side", scheme] = Upstream(kind="side", scheme=scheme, port=side_ports[scheme], ca_file=ca_file)

    def _write_nginx(self, certificate: Path, ports: dict[str, int]) -> Path:
        files = self._folder / "files"
        files.mkdir()
        block = os.urandom(64 << 10)
        for name, size in BODY_SIZES.items():
            with (files / name).open("wb") as file:
                for _ in range(size // len(block)):
                    file.write(block)
        server = f"""
            server {{
                %s
                if ($http_authorization != "Bearer {ACCESS_TOKEN}") {{ return 401; }}
                # Every response of the Switch API has these three.
                add_header X-Rate-Limit-Limit 20;
                add_header X-Rate-Limit-Remaining 19;
                add_header X-Rate-Limit-Reset 2025-11-03T15:52:00.000Z;
                location = /api/readings {{ default_type application/json; return 200 '{SMALL_JSON}'; }}
                location / {{ root {files}; }}
            }}"""
        # The server chooses the cipher, so that all systems do the same work; most servers choose AES-128.
        tls = f"""listen 127.0.0.1:{ports["https"]} ssl backlog=4096;
                ssl_certificate {certificate}; ssl_certificate_key {certificate};
                ssl_protocols TLSv1.2 TLSv1.3; ssl_prefer_server_ciphers on;
                ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384;"""
        plain = f"listen 127.0.0.1:{ports['http']} backlog=4096;"
        return write_nginx_configuration(self._folder, "origin", f"access_log off; {server % plain} {server % tls}")


def nginx_program() -> str | None:
    """Return the path of nginx, which on Debian is outside an ordinary user's PATH."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/sbin")


def nginx_command(configuration: Path, folder: Path) -> list[str]:
    """Return the command that runs nginx in the foreground with `configuration`. Raises MachineError without nginx."""
    program = nginx_program()
    if program is None:
        raise MachineError("nginx is not installed (Debian: nginx-light); it is the upstream of every measurement")
    return [program, "-p", str(folder), "-c", str(configuration), "-e", "stderr"]


def write_nginx_configuration(folder: Path, name: str, http: str) -> Path:
    """Write a configuration with one worker around the contents of the http block, and return its path."""
    path = folder / f"{name}.conf"
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{name}-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # If root starts it, the worker would become another user, who cannot read this run's folder.
    user = "user root;" if os.geteuid() == 0 else ""
    path.write_text(
        f"""{user} daemon off; worker_processes 1; worker_rlimit_nofile 16384;
        pid {folder}/{name}.pid; error_log stderr error;
        events {{ worker_connections 8192; }}
        http {{
            {temporary}
            sendfile on; tcp_nopush on; tcp_nodelay on;
            # The default closes a connection after 1,000 requests, which no other system here does.
            keepalive_requests 1000000000; keepalive_timeout 3600;
            {http}
        }}
        """
    )
    return path


def _wait_for_line(child: ChildProcess, *, timeout: float = 20.0) -> str:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and child.is_running():
        text = child.output.read_text()
        if "\n" in text:
            return text.splitlines()[0]
        time.sleep(0.01)
    raise MachineError(f"the side server did not start; {child.complaint()}")
