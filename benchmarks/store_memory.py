"""
Measures what a token store costs in resident memory: real processes of the proxy, with and without one, in the same rounds.

    .venv/bin/python benchmarks/store_memory.py [ROUNDS]

Each process starts with an empty store, fetches a token of the fake authorization server, and serves some requests. The Redis server
is a real one, with TLS: it needs redis-server.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
import trustme

from switch_proxy.demo.auth_server import SWITCH_AUDIENCE, FakeAuthorizationServer
from switch_proxy.demo.switch_api import FakeSwitchAPI

SECRET = "the-secret-of-the-app"
REQUESTS = 50
SETTLED_AFTER = 3.0
IDLE_CLIENTS = 1000


async def measure(
    store: dict[str, Any], auth: FakeAuthorizationServer, api: FakeSwitchAPI, folder: Path
) -> tuple[float, float]:
    """Return the resident memory of one process when it is idle again, and with many clients that idle, in MiB."""
    config = folder / "config.json"
    config.write_text(
        json.dumps(
            {
                "credentials": {
                    "switch": {
                        "token_url": auth.token_url,
                        "client_id": auth.client_id,
                        "client_secret": {"env": "CLIENT_SECRET"},
                        "audience": SWITCH_AUDIENCE,
                    }
                },
                "routes": [{"name": "api", "listen": "127.0.0.1:0", "upstream": api.url, "credential": "switch"}],
                "token_store": store,
                "admin": {"listen": "127.0.0.1:0"},
            }
        )
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "switch_proxy", "run", "--config", str(config)),
        env={**os.environ, "CLIENT_SECRET": SECRET},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        url = ""
        while line := await process.stdout.readline():
            event = json.loads(line)
            assert event["event"] != "store.failed", event
            if event["event"] == "listener.started" and event["listener"] == "api":
                url = f"http://{event['address']}"
            if event["event"] == "proxy.became_ready":
                break
        async with aiohttp.ClientSession() as client:
            for _ in range(REQUESTS):
                async with client.get(f"{url}/api/meter?organizationId=1") as response:
                    assert response.status == 200
        await asyncio.sleep(SETTLED_AFTER)
        idle = resident(process.pid)
        host, _, port = url.removeprefix("http://").partition(":")
        clients = []
        for _ in range(IDLE_CLIENTS):
            reader, writer = await asyncio.open_connection(host, int(port))
            clients.append(writer)
            writer.write(b"GET /api/meter?organizationId=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 200 " in await reader.readline()
        connected = resident(process.pid)
        for writer in clients:
            writer.close()
        return idle, connected
    finally:
        process.kill()
        await process.communicate()


def resident(pid: int) -> float:
    """Return the resident memory of a process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (kibibytes,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(kibibytes) / 1024


async def main(rounds: int) -> None:
    """Print the median of each configuration, and its difference from none."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("redis-server is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found: dict[str, list[tuple[float, float]]] = {"none": [], "directory": [], "redis": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        server = await asyncio.create_subprocess_exec(
            *(program, "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", name),
            *("--tls-cert-file", f"{name}/server.pem", "--tls-key-file", f"{name}/server.pem"),
            *("--tls-ca-cert-file", f"{name}/ca.pem", "--tls-auth-clients", "no"),
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            async with (
                FakeAuthorizationServer(
                    client_id="app", client_secret=SECRET, tokens_per_hour=None, tokens_per_day=None
                ) as auth,
                FakeSwitchAPI(introspect=auth.introspect) as api,
            ):
                for number in range(rounds):
                    stores: dict[str, dict[str, Any]] = {
                        "none": {},
                        "directory": {"directory": str(folder / f"tokens-{number}")},
                        "redis": {
                            "redis": {
                                "url": f"rediss://127.0.0.1:{port}/0",
                                "prefix": f"{number}:",
                                "tls": {"ca_file": f"{name}/ca.pem"},
                            }
                        },
                    }
                    for kind, store in stores.items():
                        found[kind].append(await measure(store, auth, api, folder))
                assert len(auth.issued) == 3 * rounds
        finally:
            server.kill()
            await server.wait()
    print(f"resident memory in MiB: median, least and most of {rounds} rounds; Python {sys.version.split()[0]}")
    for kind, figures in found.items():
        idle, connected = zip(*figures, strict=True)
        print(f"{kind:<10} idle {_spread(idle)}; with {IDLE_CLIENTS} idle clients {_spread(connected)}")


def _spread(figures: tuple[float, ...]) -> str:
    return f"{statistics.median(figures):.1f} ({min(figures):.1f} to {max(figures):.1f})"


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
