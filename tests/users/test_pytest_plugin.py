"""The plugin in users' test suites: pytest processes in a folder apart from this project."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.docs.pages import ROOT, blocks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PAGE: Final = ROOT / "docs" / "testing-your-app.md"

TWO_WORLDS: Final = """
from urllib.request import urlopen

import pytest

@pytest.mark.parametrize("turn", range(4))
def test_reading(turn, switch_proxy, fake_switch_api):
    urlopen(switch_proxy.url + "/api/meter?organizationId=1", timeout=20).close()
    assert len(fake_switch_api.requests) == 1
"""


ASYNCIO: Final = ("-o", "asyncio_default_fixture_loop_scope=function", "-o", "asyncio_mode=auto")
"""Options without which pytest-asyncio warns."""


def run(folder: Path, *arguments: str, plugins: Sequence[str] | None = None) -> str:
    """
    Run pytest in a folder, with warnings as errors, and return its output.

    With `plugins`, only those are loaded, and not the others that are installed for this project's tests.
    """
    alone = ASYNCIO if plugins is None else [word for plugin in plugins for word in ("-p", plugin)]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, "-W", "error", *alone, *arguments],
        cwd=folder,
        env={**os.environ} if plugins is None else {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    return f"{ran.stdout}{ran.stderr}exit code {ran.returncode}"


def write(folder: Path, text: str, name: str = "test_app.py") -> None:
    (folder / name).write_text(text, encoding="utf-8")


def test_the_complete_example_of_the_page_passes(tmp_path: Path) -> None:
    """The first block, saved and run as the page says, with every plugin that is installed here."""
    write(tmp_path, next(blocks(PAGE, "python")), "test_send_reading.py")

    told = run(tmp_path, "-q")

    assert "3 passed" in told
    assert told.endswith("exit code 0")


def test_it_needs_no_other_plugin(tmp_path: Path) -> None:
    """A suite needs no plugin for event loops."""
    write(tmp_path, next(blocks(PAGE, "python")), "test_send_reading.py")

    assert "3 passed" in run(tmp_path, "-q", plugins=["switch_proxy.pytest_plugin"])


def test_it_goes_with_xdist_and_random_order(tmp_path: Path) -> None:
    """Each worker has its own loop and uses free ports."""
    write(tmp_path, TWO_WORLDS)

    told = run(tmp_path, "-n", "2", "--randomly-seed=5")

    assert "4 passed" in told
    assert "Using --randomly-seed=5" in told


def test_a_suite_that_does_not_use_it_pays_nothing(tmp_path: Path) -> None:
    """Only the plugin's module is imported; no thread, fixture, option or marker is added."""
    text = """
        import sys
        import threading

        def test_nothing(request):
            loaded = {name for name in sys.modules if name.split(".")[0] in {"switch_proxy", "aiohttp", "uvloop", "yaml"}}
            assert loaded == {"switch_proxy", "switch_proxy.pytest_plugin"}
            assert threading.active_count() == 1
            assert not [name for name in request.fixturenames if "switch" in name]
            plugin = request.config.pluginmanager.get_plugin("switch_proxy.pytest_plugin")
            assert not [name for name in vars(plugin) if name.startswith("pytest_")]
    """
    write(tmp_path, "\n".join(line.removeprefix(" " * 8) for line in text.splitlines()))

    assert "1 passed" in run(tmp_path, "-q", plugins=["switch_proxy.pytest_plugin"])


def test_a_program_that_imports_the_package_and_then_runs_pytest_is_not_warned(tmp_path: Path) -> None:
    """The warning is about assertions that can no longer be rewritten; this package has none. pytest checks installed packages only."""
    package = tmp_path / "site" / "switch_proxy"
    package.mkdir(parents=True)
    for name in ("__init__.py", "pytest_plugin.py"):
        (package / name).write_bytes((ROOT / "proxy" / "switch_proxy" / name).read_bytes())
    described = tmp_path / "site" / "installed-1.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 1\n")
    (described / "RECORD").write_text("switch_proxy/__init__.py,,\nswitch_proxy/pytest_plugin.py,,\n")
    (described / "entry_points.txt").write_text("[pytest11]\ninstalled = switch_proxy.pytest_plugin\n")
    write(tmp_path, "def test_nothing(): pass\n")
    program = "import sys, switch_proxy, pytest; sys.exit(pytest.main(['-q', '-W', 'error', *sys.argv[1:]]))"
    ran = subprocess.run(
        [sys.executable, "-c", program, "-p", "no:cacheprovider", "-p", "no:switch-proxy", *ASYNCIO, "test_app.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )

    assert "1 passed" in ran.stdout, ran.stdout + ran.stderr


def test_fixtures_are_told_of_by_pytest_itself(tmp_path: Path) -> None:
    """`pytest --fixtures` has a sentence for each fixture, and the page a row."""
    told = run(tmp_path, "--fixtures", plugins=["switch_proxy.pytest_plugin"])
    page = PAGE.read_text(encoding="utf-8")

    for name in (
        "switch_proxy",
        "fake_authorization_server",
        "fake_switch_api",
        "switch_proxy_configuration",
        "switch_background_loop",
    ):
        assert f"\n{name} " in told
        assert f"| `{name}` |" in page
    assert "no docstring available" not in told


def test_the_log_of_the_proxy_is_shown_with_a_test_that_failed(tmp_path: Path) -> None:
    """It is not shown with tests that passed."""
    write(tmp_path, TWO_WORLDS.replace("== 1", "== 1 + turn // 3"))

    told = run(tmp_path, "-q", plugins=["switch_proxy.pytest_plugin"])

    assert "1 failed, 3 passed" in told
    assert told.count("proxy.started") == 1


def test_a_configuration_that_cannot_be_used_is_told_with_its_line(tmp_path: Path) -> None:
    """It is an error of the fixture, so the test does not run."""
    write(tmp_path, TWO_WORLDS)
    write(
        tmp_path,
        "import pytest\n\n@pytest.fixture\ndef switch_proxy_configuration():\n    return 'routes: 5'\n",
        "conftest.py",
    )

    told = run(tmp_path, "-q", plugins=["switch_proxy.pytest_plugin"])

    assert "4 errors" in told
    assert "switch_proxy_configuration:1:" in told


@pytest.mark.parametrize(
    "plugins",
    [["pytest_asyncio.plugin"], ["pytest_asyncio.plugin", "pytest_aiohttp.plugin"]],
    ids=["asyncio", "aiohttp"],
)
def test_coroutines_use_it_with_the_plugins_that_run_them(tmp_path: Path, plugins: list[str]) -> None:
    """Their loop is not that of the fakes; they wait in a thread, as the page says."""
    write(
        tmp_path,
        """
import asyncio

import aiohttp

from switch_proxy.demo.faults import Status

async def test_reading(switch_proxy, fake_switch_api):
    fake_switch_api.faults.add(Status(code=500))
    async with aiohttp.ClientSession() as session:
        async with session.get(switch_proxy.url + "/api/meter?organizationId=1") as response:
            assert response.status == 500
    assert len(await asyncio.to_thread(fake_switch_api.wait_for_requests, 1)) == 1
""",
    )
    assert "1 passed" in run(tmp_path, "-q", *ASYNCIO, plugins=["switch_proxy.pytest_plugin", *plugins])
