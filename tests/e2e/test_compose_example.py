"""examples/compose: valid by the compose schema, consistent in its parts, and run without docker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from switch_proxy.cli import make_parser
from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = ROOT / "examples" / "compose"
FILE: Final = FOLDER / "compose.yaml"
_DOCKERFILE: Final = (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture
def services() -> Any:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]


def test_it_is_a_compose_file_by_the_specification() -> None:
    """By the schema of the specification, which check-jsonschema contains."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_image_is_built_from_this_repository_and_serves_the_fakes(services: Any) -> None:
    switch = services["switch"]
    assert (FOLDER / switch["build"]).resolve() == ROOT
    options = make_parser().parse_args(switch["command"])
    assert options.serve
    assert options.host == "0.0.0.0"


def test_app_is_told_where_the_proxy_is(services: Any) -> None:
    options = make_parser().parse_args(services["switch"]["command"])
    ports = [options.proxy_port, options.admin_port, options.auth_server_port, options.switch_api_port]
    assert services["tests"]["environment"]["SWITCH_API_URL"] == f"http://switch:{options.proxy_port}"
    assert 0 not in ports
    assert len(set(ports)) == len(ports)


def test_app_waits_until_the_image_finds_itself_ready(services: Any) -> None:
    """By the image's own check, on its admin port."""
    assert services["tests"]["depends_on"] == {"switch": {"condition": "service_healthy"}}
    program, *check = yaml.safe_load(re.findall(r"HEALTHCHECK.* CMD (\[.*\])", _DOCKERFILE)[0])
    assert services["switch"]["healthcheck"]["test"] == ["CMD", program, *check]
    options = make_parser().parse_args(services["switch"]["command"])
    carried = (ROOT / "docker" / "config.yaml").read_text(encoding="utf-8")
    assert f"${{SWITCH_PROXY_ADMIN_LISTEN:-127.0.0.1:{options.admin_port}}}" in carried


def test_what_is_mounted_is_there(services: Any) -> None:
    [volume] = services["tests"]["volumes"]
    source, target, mode = volume.split(":")
    assert (FOLDER / source).is_dir()
    assert (target, mode) == (services["tests"]["working_dir"], "ro")


@contextmanager
def started(command: list[str]) -> Iterator[tuple[str, str]]:
    """Start the command of the image on free ports of loopback; return the URLs of the proxy and of admin."""
    words = [re.sub(r"^--host=.*", "--host=127.0.0.1", re.sub(r"-port=\d+$", "-port=0", word)) for word in command]
    assert words != command
    with subprocess.Popen([sys.executable, "-m", "switch_proxy", *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.search(r"proxy +(http://\S+) +\(admin: (http://\S+)\)", line):
                    yield found[1], found[2]
                    break
        finally:
            process.terminate()
            process.communicate(timeout=20)


def test_apps_tests_pass_against_what_the_command_starts(services: Any) -> None:
    """Health check and tests with the commands of the file; only ports and addresses differ from containers."""
    [program, *tests] = services["tests"]["command"]
    [_, image_program, *check] = services["switch"]["healthcheck"]["test"]
    assert (program, image_program) == ("python", "switch-proxy")
    with started(services["switch"]["command"]) as (url, admin_url):
        environ = {
            **os.environ,
            **services["tests"]["environment"],
            "SWITCH_API_URL": url,
            "SWITCH_PROXY_CONFIG": str(ROOT / "docker" / "config.yaml"),
            "SWITCH_PROXY_ADMIN_LISTEN": admin_url.removeprefix("http://"),
        }
        health = [sys.executable, "-m", "switch_proxy", *check, "--timeout", "20"]
        while subprocess.run(health, env=environ, capture_output=True, check=False, timeout=50).returncode:
            pass
        ran = subprocess.run(
            [sys.executable, *tests],
            cwd=FOLDER / "app",
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )

    assert ran.returncode == 0, ran.stderr
    assert "Ran 2 tests" in ran.stderr
