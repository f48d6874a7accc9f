"""The demo as a process: `switch-proxy demo` with the real proxy in it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest

from switch_proxy.cli import make_parser
from switch_proxy.demo.auth_server import SWITCH_AUDIENCE
from switch_proxy.demo.fake_server import reachable
from switch_proxy.demo.run import LONG_LIFETIME, SERVED_LIFETIME

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

FAULTY = """
import sys
from switch_proxy.demo.faults import Status
from switch_proxy.demo.run import main
sys.exit(main(once=True, prepare=lambda world: world.api.faults.add(Status(code=500), path="/api/readings")))
"""


@asynccontextmanager
async def python(*arguments: str, stdout: int = asyncio.subprocess.PIPE) -> AsyncIterator[Process]:
    """Run Python in a process; kill it if it still runs at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=stdout, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def demo(*arguments: str) -> AbstractAsyncContextManager[Process]:
    return python("-m", "switch_proxy", "demo", *arguments)


async def read_until(process: Process, marker: str) -> str:
    """Return the output of the process up to the line with the marker."""
    assert process.stdout is not None
    told = ""
    while marker not in told:
        line = await process.stdout.readline()
        assert line, f"the demo ended before it said {marker!r}:\n{told}"
        told += line.decode()
    return told


async def test_once_runs_every_check_through_and_exits_0() -> None:
    """The output of `make demo ARGS=--once` if every check passes; nothing on standard error."""
    async with demo("--once") as process:
        out, err = await process.communicate()
    told = out.decode()

    assert (process.returncode, err.decode()) == (0, ""), told
    assert re.search(r"All \d\d checks hold\.", told)
    assert "FAILED" not in told
    assert len(set(re.findall(r"token (\d+) in use", told))) >= 3
    assert "eyJ" not in told


async def test_once_exits_1_where_something_is_not_as_it_must_be() -> None:
    """An API that fails sometimes is shown as a failed check, and counted at the end."""
    async with python("-c", FAULTY) as process:
        out, _ = await process.communicate()
    told = out.decode()

    assert process.returncode == 1, told
    assert "expected: 200 with the readings of both registers" in told
    assert re.search(r"\d of \d\d checks failed:", told)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
async def test_it_stays_up_to_be_tried_until_a_signal_and_exits_0(number: signal.Signals) -> None:
    """The addresses in the printed commands respond; the end is silent."""
    async with demo("--serve") as process:
        told = await read_until(process, "/metrics'")
        urls = re.findall(r"'(http://[^']+)'", told)
        async with aiohttp.ClientSession() as session:
            answered = {}
            for url in urls:
                async with session.get(url) as response:
                    answered[url] = response.status
        process.send_signal(number)
        out, err = await process.communicate()

    read, _, past_the_proxy, ready, metrics = urls
    assert [answered[url] for url in (read, past_the_proxy, ready, metrics)] == [200, 401, 200, 200]
    assert (process.returncode, out.decode().strip(), err.decode()) == (0, "", "")


async def test_a_script_that_is_interrupted_is_no_success() -> None:
    """`--once` promises its checks: an interrupted script exits as in shells, without a traceback."""
    async with demo("--once") as process:
        await read_until(process, "token 1 in use")
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()

    assert (process.returncode, err.decode()) == (130, "")


@pytest.mark.parametrize("place", ["proxy", "admin", "auth-server", "switch-api"])
async def test_a_port_that_is_taken_is_said_in_one_line(place: str) -> None:
    """No process is left."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with demo("--serve", f"--{place}-port", str(port)) as process:
            out, err = await process.communicate()

    assert (process.returncode, out) == (1, b"")
    assert err.decode().startswith("switch-proxy: the demo cannot start: ")
    assert str(port) in err.decode()
    assert len(err.decode().splitlines()) == 1


async def test_a_reader_that_has_seen_enough_ends_it_without_a_traceback() -> None:
    """`switch-proxy demo --once | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    async with python("-m", "switch_proxy", "demo", "--once", stdout=writing) as process:
        os.close(writing)
        _, err = await process.communicate()

    assert (process.returncode, err.decode()) == (1, "")


async def test_the_fakes_import_nothing_else_of_the_package() -> None:
    """The fakes share no code with what they judge."""
    code = (
        "import sys, switch_proxy.demo.auth_server, switch_proxy.demo.switch_api, switch_proxy.demo.script;"
        "print(*(name for name in sys.modules if name.startswith('switch_proxy')))"
    )
    async with python("-c", code) as process:
        out, _ = await process.communicate()

    assert all(name == "switch_proxy" or name.startswith("switch_proxy.demo") for name in out.decode().split())


@pytest.mark.parametrize(
    ("host", "reached"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("localhost", "localhost|127.0.0.1|[::1]")],
    ids=["IPv4", "IPv6", "a name"],
)
async def test_it_prints_addresses_that_can_be_reached_whatever_it_listens_on(host: str, reached: str) -> None:
    """The addresses have the form of URLs."""
    async with demo("--serve", "--host", host) as process:
        told = await read_until(process, "(fake; they live")

    hosts = re.findall(r"http://(.*):\d+", " ".join(told.split()).replace(" ", "\n"))
    assert len(hosts) == 4
    assert set(hosts) <= set(reached.split("|"))


@pytest.mark.parametrize(
    ("listened", "told"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("192.0.2.1", "192.0.2.1")], ids=str
)
def test_all_addresses_are_reached_at_loopback(listened: str, told: str) -> None:
    """A wildcard address, as in a container, is not an address to connect to."""
    assert reachable(listened) == told


async def test_another_proxy_can_be_put_before_its_fakes() -> None:
    """Secret and lifetime are those of the arguments."""
    async with demo("--serve", "--client-secret", "made-up", "--lifetime", "5m") as process:
        told = await read_until(process, "/metrics'")
        [token_url] = re.findall(r"http://\S+/oauth/token", told)
        form = {
            "grant_type": "client_credentials",
            "client_id": "demo-client",
            "client_secret": "made-up",
            "audience": SWITCH_AUDIENCE,
        }
        async with aiohttp.ClientSession() as session, session.post(token_url, data=form) as response:
            answer = await response.json()

    assert (response.status, answer["expires_in"]) == (200, 300)


async def test_it_needs_no_folder_to_write_to(tmp_path: Path) -> None:
    """The root file system of a container may be read-only."""
    missing = str(tmp_path / "nowhere")
    program = "import os, sys, tempfile; tempfile.tempdir = sys.argv.pop(); from switch_proxy.demo.run import main; sys.exit(main(serve=True))"
    async with python("-c", program, missing) as process:
        await read_until(process, "Now try it yourself")


def test_the_command_line_tells_the_lifetimes_that_the_demo_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_parser().parse_args(["demo"]).lifetime is None
    with pytest.raises(SystemExit):
        make_parser().parse_args(["demo", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert f"({LONG_LIFETIME:g}s after it, {SERVED_LIFETIME / 3600:g}h with --serve)" in told


@pytest.mark.parametrize(("arguments", "rationed"), [(("--serve",), True), (("--serve", "--no-quota"), False)])
async def test_what_is_served_rations_tokens_as_production_does(arguments: Sequence[str], *, rationed: bool) -> None:
    """The proxy has taken one."""
    stated = await stated_of_served(arguments)
    assert ("b=per_hour;q=10;" in stated and "b=per_day;q=50;" in stated) is rationed


async def test_what_is_served_may_count_tokens_late() -> None:
    assert "b=per_hour;q=10;r=10;" in await stated_of_served(("--serve", "--quota-lag", "3600"))


async def stated_of_served(arguments: Sequence[str]) -> str:
    """Return what the response to a token request states of the quota."""
    async with demo(*arguments, "--client-secret", "made-up") as process:
        told = await read_until(process, "/metrics'")
        [token_url] = re.findall(r"http://\S+/oauth/token", told)
        form = {
            "grant_type": "client_credentials",
            "client_id": "demo-client",
            "client_secret": "made-up",
            "audience": SWITCH_AUDIENCE,
        }
        async with aiohttp.ClientSession() as session, session.post(token_url, data=form) as response:
            answer, stated = await response.json(), response.headers.get("Auth0-Client-Quota-Limit", "")

    assert (response.status, answer["expires_in"]) == (200, 86400)
    return stated
