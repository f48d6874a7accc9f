"""docs/getting-started.md is followed exactly, with the fakes instead of the real servers."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import sys
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from switch_proxy.demo.auth_server import SWITCH_AUDIENCE, FakeAuthorizationServer
from switch_proxy.demo.switch_api import FakeSwitchAPI
from switch_proxy.settings import parse
from tests.docs.pages import ROOT, blocks, commands
from tests.e2e.proxy_process import WITHIN, proxy_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

PAGE: Final = ROOT / "docs" / "getting-started.md"
COMMANDS: Final = tuple(commands(PAGE))
SECRET: Final = "the-secret-from-the-portal"


def typed(program: str) -> list[list[str]]:
    """Return the words of the page's commands for a program."""
    return [words[1:] for words in map(shlex.split, COMMANDS) if words[0].rpartition("/")[2] == program]


@pytest.fixture
async def auth() -> AsyncIterator[FakeAuthorizationServer]:
    [[setting]] = typed("export")
    async with FakeAuthorizationServer(client_id=setting.partition("=")[2], client_secret=SECRET) as server:
        yield server


@pytest.fixture
async def api(auth: FakeAuthorizationServer) -> AsyncIterator[FakeSwitchAPI]:
    async with FakeSwitchAPI(introspect=auth.introspect) as server:
        yield server


@pytest.fixture
def environ() -> dict[str, str]:
    [[setting]] = typed("export")
    name, _, value = setting.partition("=")
    return {**os.environ, name: value, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def config(tmp_path: Path, auth: FakeAuthorizationServer, api: FakeSwitchAPI) -> Path:
    """The example, copied and edited as the page says, with this test's own addresses."""
    [[example, own]] = typed("cp")
    path = tmp_path / own
    shutil.copy(ROOT / example, path)
    secret_file = tmp_path / "client_secret"
    secret_file.write_text(SECRET + "\n")
    text = path.read_text(encoding="utf-8")
    for written, edited in {
        "token_url: https://login.example.com/oauth/token": f"token_url: {auth.token_url}",
        "file: /var/run/secrets/switch/client_secret": f"file: {secret_file}",
        f"audience: {SWITCH_AUDIENCE}": f"audience: {SWITCH_AUDIENCE}",
        "upstream: https://api.switchmarket.se": f"upstream: {api.url}",
        "listen: 127.0.0.1:8080": "listen: 127.0.0.1:0",
        "listen: 127.0.0.1:9901": "listen: 127.0.0.1:0",
    }.items():
        assert text.count(written) == 1
        text = text.replace(written, edited)
    path.write_text(text, encoding="utf-8")
    return path


async def run_here(arguments: list[str], folder: Path, environ: Mapping[str, str]) -> tuple[int | None, str]:
    """Run the command line in a folder; return its exit code and output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "switch_proxy", *arguments),
        cwd=folder,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(WITHIN):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


@pytest.mark.parametrize("arguments", typed("switch-proxy"), ids=" ".join)
async def test_the_example_once_edited_checks_out(arguments: list[str], config: Path, environ: dict[str, str]) -> None:
    """Both checks: without network, and with one token request."""
    code, output = await run_here(arguments, config.parent, environ)

    assert code == 0, output
    assert SECRET not in output


async def test_the_example_once_edited_runs_and_answers_what_the_page_asks(
    config: Path, auth: FakeAuthorizationServer, api: FakeSwitchAPI
) -> None:
    """A client of this test sends the curl requests, to the ports of this run."""
    assert "make run CONFIG=config.yaml" in COMMANDS
    urls = [words[-1] for words in typed("curl")]
    before = f"import os; os.environ['SWITCH_CLIENT_ID'] = {auth.client_id!r}"
    async with proxy_process(config, before=before) as proxy, aiohttp.ClientSession() as session:
        await proxy.event("proxy.became_ready")
        addresses = {
            "http://127.0.0.1:9901": await proxy.url("admin"),
            "http://127.0.0.1:8080": await proxy.url("switch-api"),
        }
        for url in urls:
            host = re.match(r"http://[^/]+", url)
            assert host is not None
            async with session.get(addresses[host[0]] + url.removeprefix(host[0])) as response:
                assert response.status == 200
    [request] = api.requests
    assert auth.find(request.bearer_token) is not None


def test_the_configuration_of_two_apis_is_one() -> None:
    [text] = blocks(PAGE, "yaml")

    settings = parse(text.encode(), source=PAGE.name, environ={"SWITCH_CLIENT_ID": "one", "OPENADR_CLIENT_ID": "two"})

    assert [(route.name, route.credential) for route in settings.routes] == [
        ("switch-api", "switch"),
        ("openadr", "openadr"),
    ]
