"""Shared by the tests of the process: the fakes behind it, its configuration, and a client without kept connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
import pytest
import yaml

from switch_proxy.demo.auth_server import SWITCH_AUDIENCE, FakeAuthorizationServer
from switch_proxy.demo.switch_api import FakeSwitchAPI

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CLIENT_SECRET = "the-one-and-only-secret-of-the-client"


class Configure(Protocol):
    """Writes a configuration file."""

    def __call__(self, **changes: Any) -> Path:
        """Return the file; `changes` replace whole sections, `upstream` and `listen` those keys of the route."""


@pytest.fixture
async def auth() -> AsyncIterator[FakeAuthorizationServer]:
    async with FakeAuthorizationServer(client_id="app", client_secret=CLIENT_SECRET) as server:
        yield server


@pytest.fixture
async def api(auth: FakeAuthorizationServer) -> AsyncIterator[FakeSwitchAPI]:
    async with FakeSwitchAPI(introspect=auth.introspect) as server:
        yield server


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "client_secret"
    path.write_text(CLIENT_SECRET)
    return path


@pytest.fixture
def wrong_secret(secret_file: Path) -> None:
    secret_file.write_text("a-secret-that-has-been-rotated-away")


@pytest.fixture
def configure(tmp_path: Path, auth: FakeAuthorizationServer, api: FakeSwitchAPI, secret_file: Path) -> Configure:
    def write(*, upstream: str = api.url, listen: str = "127.0.0.1:0", **sections: Any) -> Path:
        settings = {
            "credentials": {
                "switch": {
                    "token_url": auth.token_url,
                    "client_id": auth.client_id,
                    "client_secret": {"file": str(secret_file)},
                    "audience": SWITCH_AUDIENCE,
                }
            },
            "routes": [{"name": "switch-api", "listen": listen, "upstream": upstream, "credential": "switch"}],
            "admin": {"listen": "127.0.0.1:0"},
            **sections,
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    return write


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    # Every request has its own connection, because aiohttp repeats requests that fail on a kept one.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session
