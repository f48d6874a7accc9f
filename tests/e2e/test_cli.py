"""The command line as a process: its output on both streams, and its exit code."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from switch_proxy import __version__
from switch_proxy.cli import ExitCode
from switch_proxy.demo.auth_server import SWITCH_AUDIENCE, FakeAuthorizationServer

_ROOT = Path(__file__).parents[2]

_VALID = """\
credentials:
  switch:
    token_url: https://login.example.com/oauth/token
    client_id: ${SWITCH_CLIENT_ID:-the-client}
    client_secret: {env: SWITCH_CLIENT_SECRET}
routes:
  - {name: switch-api, listen: '127.0.0.1:0', upstream: https://api.switchmarket.se, credential: switch}
"""


def _environ(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SWITCH_")}
    return {**kept, "PYTHONPATH": str(_ROOT), **variables}


def _run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "switch_proxy", *arguments],
        env=_environ(**variables),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(_VALID)
    return path


@pytest.mark.parametrize("argument", ["version", "--version"])
def test_version_is_told(argument: str) -> None:
    done = _run(argument)
    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.OK, f"switch-proxy {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("frobnicate",),
        ("run", "--confg", "x"),
        ("health", "--timeout", "0"),
        ("demo", "--proxy-port", "65536"),
        ("demo", "--once", "--serve"),
    ],
    ids=["nothing", "unknown command", "unknown option", "no time to wait", "port too high", "both manners"],
)
def test_command_line_that_cannot_be_used_ends_with_its_code_and_the_usage(arguments: tuple[str, ...]) -> None:
    done = _run(*arguments)
    assert (done.returncode, done.stdout) == (ExitCode.CONFIGURATION, "")
    assert done.stderr.startswith("usage: switch-proxy")


@pytest.mark.parametrize("command", ["run", "check"])
def test_configuration_with_problems_starts_nothing_and_tells_them_all(command: str, config: Path) -> None:
    config.write_text(_VALID.replace("{env: SWITCH_CLIENT_SECRET}", "hunter2-hunter2").replace("listen:", "lisen:"))
    done = _run(command, "--config", str(config))
    assert (done.returncode, done.stdout) == (ExitCode.CONFIGURATION, "")
    places = [
        f"{config}:5:20: credentials.switch.client_secret: ",
        f"{config}:7:5: routes[0].listen: ",
        f"{config}:7:24: routes[0].lisen: ",
    ]
    lines = done.stderr.splitlines()
    assert [line[: len(place)] for line, place in zip(lines, places, strict=False)] == places
    assert lines[3:] == ["switch-proxy: 3 problems in the configuration; nothing was started"]
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("command", ["run", "check", "health"])
def test_no_configuration_named_is_told_with_both_ways(command: str) -> None:
    done = _run(command)
    assert (done.returncode, done.stdout) == (ExitCode.CONFIGURATION, "")
    assert "give --config FILE, or set SWITCH_PROXY_CONFIG to the file" in done.stderr


def test_check_explains_a_configuration_without_its_secret(config: Path) -> None:
    done = _run("check", "--config", str(config), SWITCH_CLIENT_SECRET="hunter2-hunter2")
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert done.stdout.startswith(f"{config} is valid.\n\nroute switch-api\n")
    assert "the environment variable SWITCH_CLIENT_SECRET" in done.stdout
    assert "hunter2" not in done.stdout


def _write_for(auth: FakeAuthorizationServer, config: Path, *, more: str = "") -> None:
    keys = f"{auth.token_url}\n    audience: {SWITCH_AUDIENCE}"
    config.write_text(_VALID.replace("https://login.example.com/oauth/token", keys) + more)


@pytest.mark.parametrize(
    ("secret", "code", "told"),
    [
        pytest.param("hunter2-hunter2", ExitCode.OK, "credential switch gets a token", id="right secret"),
        pytest.param("not-the-secret", ExitCode.FAILED, "credential switch gets no token", id="wrong secret"),
    ],
)
async def test_check_online_tries_each_credential_once(config: Path, secret: str, code: ExitCode, told: str) -> None:
    async with FakeAuthorizationServer(client_id="the-client", client_secret="hunter2-hunter2") as auth:
        _write_for(auth, config)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "switch_proxy", "check", "--online", "--config", str(config)),
            env=_environ(SWITCH_CLIENT_SECRET=secret),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
    assert (process.returncode, errors) == (code, b"")
    assert told in output.decode().splitlines()
    assert len(auth.requests) == 1
    assert all(piece not in output.decode() for piece in (secret, *(token.value for token in auth.issued)))


@pytest.mark.parametrize("is_on", [False, True], ids=["an empty variable", "a directory"])
async def test_check_online_tries_the_token_store_only_if_there_is_one(
    config: Path, tmp_path: Path, *, is_on: bool
) -> None:
    """The image's configuration has the section in any case, and a variable decides."""
    async with FakeAuthorizationServer(client_id="the-client", client_secret="hunter2-hunter2") as auth:
        _write_for(auth, config, more="token_store: {directory: '${TOKENS:-}'}\n")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "switch_proxy", "check", "--online", "--config", str(config)),
            env=_environ(SWITCH_CLIENT_SECRET="hunter2-hunter2", TOKENS=str(tmp_path / "tokens") if is_on else ""),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
    assert (process.returncode, errors) == (ExitCode.OK, b"")
    assert ("token store" in output.decode()) is is_on


def test_variable_names_the_configuration_where_no_option_does(config: Path) -> None:
    done = _run("check", SWITCH_PROXY_CONFIG=str(config))
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert done.stdout.startswith(f"{config} is valid.")


def test_example_can_be_checked_as_it_tells() -> None:
    done = _run("check", "--config", str(_ROOT / "config.example.yaml"), SWITCH_CLIENT_ID="my-client")
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")


def test_schema_is_printed_as_it_is_committed() -> None:
    done = _run("schema")
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert done.stdout == (_ROOT / "config.schema.json").read_text(encoding="utf-8")
    assert json.loads(done.stdout)["title"] == "switch-proxy"


@pytest.mark.parametrize("exists", [True, False])
def test_file_name_that_is_not_utf_8_can_be_told(tmp_path: Path, exists: bool) -> None:
    name = os.fsencode(tmp_path) + b"/\xff.yaml"
    if exists:
        Path(os.fsdecode(name)).write_text(_VALID)
    done = subprocess.run(
        [sys.executable, "-m", "switch_proxy", "check", "--config", name],
        env=_environ(),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == (ExitCode.OK if exists else ExitCode.CONFIGURATION)
    assert b"\\udcff.yaml" in (done.stdout if exists else done.stderr)


def test_reader_that_goes_away_ends_the_output_quietly() -> None:
    """As in `switch-proxy schema | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "switch_proxy", "schema"],
            env=_environ(),
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (ExitCode.FAILED, b"")


def test_interrupt_ends_a_command_without_a_traceback(tmp_path: Path) -> None:
    pipe = tmp_path / "config.yaml"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "switch_proxy", "check", "--config", str(pipe)]
    with subprocess.Popen(
        command, env=_environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        writer = _open_once_it_is_read(pipe, process)
        process.send_signal(signal.SIGINT)
        # If the signal came just before the read began, Python notices it when the read ends.
        os.close(writer)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (ExitCode.INTERRUPTED, "", "\n")


def _open_once_it_is_read(pipe: Path, process: subprocess.Popen[str]) -> int:
    """Open a pipe for writing, which works only after the process has opened it for reading."""
    while process.poll() is None:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            time.sleep(0.01)
    pytest.fail("the process ended before it read its configuration")


def test_health_of_a_proxy_that_does_not_run_is_a_failure(config: Path) -> None:
    config.write_text(f"{_VALID}admin: {{listen: '127.0.0.1:1'}}\n")
    done = _run("health", "--config", str(config))
    assert (done.returncode, done.stdout) == (ExitCode.FAILED, "")
    assert (
        done.stderr
        == "switch-proxy: admin on 127.0.0.1:1 cannot be reached: Connection refused; is the proxy running?\n"
    )


def test_health_without_an_admin_listener_tells_that_there_is_nothing_to_ask(config: Path) -> None:
    config.write_text(f"{_VALID}admin: {{listen: off}}\n")
    done = _run("health", "--config", str(config))
    assert (done.returncode, done.stdout) == (ExitCode.CONFIGURATION, "")
    assert "admin.listen is off" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "unneeded"),
    [
        pytest.param(["version"], "aiohttp asyncio yaml ssl http.client switch_proxy.core.config.models", id="version"),
        pytest.param(["health"], "aiohttp asyncio ssl switch_proxy.core.config.models", id="health"),
        pytest.param(["check"], "aiohttp uvloop structlog authlib prometheus_client", id="check"),
        pytest.param(["schema"], "aiohttp asyncio yaml", id="schema"),
    ],
)
def test_command_loads_only_what_it_needs(arguments: list[str], unneeded: str, config: Path) -> None:
    """Commands that run every few seconds, or in an editor, must start quickly."""
    script = f"import sys; from switch_proxy.cli import main; main({arguments!r}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=_environ(SWITCH_PROXY_CONFIG=str(config)),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert set(unneeded.split()).isdisjoint(done.stderr.split())
