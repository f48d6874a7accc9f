"""Servers of other projects, as processes on free ports of loopback."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

HERE: Final = Path(__file__).parent
MODULES: Final = HERE / "node_modules"
"""What `make peers` installs."""

WITHIN: Final = 30.0
"""Seconds for any step before a test fails: far more than it takes, for busy machines."""

_OLDEST_NODE: Final = 20

_LARGE: Final = b"x" * 2**20

_NGINX: Final = """\
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
{user}
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port}{tls};
    {certificate}
    root {folder};
    location /api/echo {{
      default_type application/json;
      return 200 '{{"method":"$request_method","url":"$request_uri","authorization":"$http_authorization"}}';
    }}
    location /api/large {{ try_files /large =404; }}
  }}
}}
"""


def is_installed(program: str) -> bool:
    """Say whether a program can be run."""
    return shutil.which(program) is not None


def has_node_modules() -> bool:
    """Say whether the packages of npm are there, and a Node that is recent enough for them."""
    if not is_installed("node") or not (MODULES / "oidc-provider").is_dir():
        return False
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True, timeout=WITHIN).stdout
    return int(version.strip().removeprefix("v").partition(".")[0]) >= _OLDEST_NODE


async def output_of(*command: str) -> str:
    """Run a program to its end and return its standard output; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(2 * WITHIN):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, f"{command[0]} ended with {process.returncode}: {errors.decode()[-2000:]}"
    return output.decode()


@asynccontextmanager
async def _running(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def node(*arguments: str) -> AsyncIterator[str]:
    """Run a server in Node that prints its port; return its URL."""
    async with _running("node", *arguments) as process:
        assert process.stdout is not None
        async with asyncio.timeout(WITHIN):
            line = await process.stdout.readline()
        assert line.strip().isdigit(), (line + await process.stdout.read(4000)).decode()
        yield f"http://127.0.0.1:{int(line)}"


@asynccontextmanager
async def hypercorn() -> AsyncIterator[str]:
    """Run Hypercorn with asgi_app.py; return its URL."""
    port = free_port()
    command = (sys.executable, "-m", "hypercorn", "--bind", f"127.0.0.1:{port}", "asgi_app:app")
    process = await asyncio.create_subprocess_exec(
        *command, cwd=HERE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await _until_it_accepts(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def nginx(folder: Path, *, certificate: Path | None = None) -> AsyncIterator[str]:
    """Run nginx with its files in a folder; return its URL. With a certificate (and its key in one file) it offers HTTP/2."""
    port = free_port()
    (folder / "large").write_bytes(_LARGE)
    has_tls = certificate is not None
    keys = f"ssl_certificate {certificate};\n    ssl_certificate_key {certificate};" if has_tls else ""
    # As root it would give up its rights, and could not read the folder then.
    user = "" if os.geteuid() else "user root;"
    text = _NGINX.format(folder=folder, port=port, tls=" ssl http2" if has_tls else "", certificate=keys, user=user)
    (folder / "nginx.conf").write_text(text)
    async with _running("nginx", "-c", str(folder / "nginx.conf")):
        await _until_it_accepts(port)
        yield f"{'https' if has_tls else 'http'}://127.0.0.1:{port}"


def free_port() -> int:
    """Return a port that nobody listens on; for servers that cannot choose one themselves and say which."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def _until_it_accepts(port: int) -> None:
    async with asyncio.timeout(WITHIN):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


def java(kind: str, base: str) -> Sequence[str]:
    """Return the command of a client in Java."""
    return "java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", str(HERE / "Client.java"), kind, base


def node_client(kind: str, base: str) -> Sequence[str]:
    """Return the command of a client in Node."""
    return "node", str(HERE / "client.mjs"), kind, base
