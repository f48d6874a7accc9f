"""The installed wheel beside an app that has a module `proxy` of its own: it must not break that app's tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from importlib.metadata import distribution
from typing import TYPE_CHECKING, Final

import pytest
from packaging.requirements import Requirement

from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from importlib.metadata import Distribution
    from pathlib import Path

SOURCES: Final = ("LICENSE", "README.md", "pyproject.toml", "proxy")

APP: Final = "OWNER = 'the app'\n"

TEST_OF_THE_APP: Final = """
from urllib.request import urlopen

import proxy
import switch_proxy as installed

def test_reading(switch_proxy, fake_switch_api):
    urlopen(switch_proxy.url + "/api/meter?organizationId=1", timeout=20).close()
    assert len(fake_switch_api.requests) == 1
    assert proxy.OWNER == "the app"
    assert "site-packages" in installed.__file__
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command, and return its output."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ran = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False, timeout=50)
    return f"{ran.stdout}{ran.stderr}exit code {ran.returncode}"


def requirements(*names: str) -> dict[str, Distribution]:
    """Return these distributions and all their requirements on this machine, by normalized name."""
    found: dict[str, Distribution] = {}
    left = list(names)
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name not in found:
            found[name] = distribution(name)
            needed = map(Requirement, found[name].requires or [])
            left += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Return the interpreter of an environment with only the wheel, its requirements and pytest.

    The requirements are links to the packages that are installed here, so that nothing is downloaded.
    """
    folder = tmp_path_factory.mktemp("installed")
    sources = folder / "sources"
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            sources.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, sources)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
    offline = ("--no-index", "--no-deps", "--no-build-isolation")
    built = run(*pip, "wheel", *offline, "--wheel-dir", folder, sources, cwd=folder)
    assert built.endswith("exit code 0"), built

    venv.create(folder / "environment", symlinks=True)
    interpreter = folder / "environment" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    installed = run(*pip, "--python", interpreter, "install", *offline, wheel, cwd=folder)
    assert installed.endswith("exit code 0"), installed

    (packages,) = (folder / "environment" / "lib").glob("python3*/site-packages")
    needed = requirements("switch-proxy", "pytest")
    del needed["switch-proxy"]
    for one in needed.values():
        for entry in {file.parts[0] for file in one.files or [] if file.parts[0] not in {"..", "__pycache__"}}:
            (packages / entry).symlink_to(str(one.locate_file(entry)))
    return interpreter


@pytest.mark.parametrize("module", ["proxy.py", "proxy/__init__.py"], ids=["module", "package"])
def test_the_app_s_tests_run_with_the_plugin(tmp_path: Path, python: Path, module: str) -> None:
    """The plugin loads by itself, its fixtures work, and `import proxy` is the app's."""
    (tmp_path / module).parent.mkdir(exist_ok=True)
    (tmp_path / module).write_text(APP)
    (tmp_path / "test_app.py").write_text(TEST_OF_THE_APP)

    printed = run(python, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, "-W", "error", cwd=tmp_path)

    assert "1 passed" in printed, printed
    assert re.search(r"^plugins: switch-proxy-\S+$", printed, flags=re.MULTILINE), printed
