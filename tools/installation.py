"""An empty environment with the proxy as users get it: only the lock file's packages and one wheel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT: Final = Path(__file__).parents[1]
LOCK: Final = ROOT / "requirements.lock"

_PIP: Final = ("-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet")


class ReleaseError(Exception):
    """The release has a problem; the text says which, and what to do."""


def run(
    command: Sequence[str], *, cwd: Path | None = None, environ: Mapping[str, str] | None = None, umask: int = -1
) -> str:
    """Run a command and return its output. Raises ReleaseError with the output if it fails."""
    done = subprocess.run(
        command, cwd=cwd, env=environ, umask=umask, capture_output=True, text=True, check=False, encoding="utf-8"
    )
    if done.returncode != 0:
        raise ReleaseError(f"{' '.join(command)} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return done.stdout


def release_tool(name: str) -> str:
    """Return the path of a program that is installed beside this Python."""
    return str(Path(sys.executable).with_name(name))


def version() -> str:
    """Return the package's version."""
    text = (ROOT / "proxy" / "switch_proxy" / "__init__.py").read_text(encoding="utf-8")
    [found] = re.findall(r'^__version__ = "(.+)"$', text, flags=re.MULTILINE)
    return str(found)


def install(into: Path, wheel: Path) -> Path:
    """Make an environment without pip, install the lock file's wheels and this one, and return its interpreter."""
    # pip runs from outside, so that the environment, and its bill of materials, contains only the proxy's packages.
    venv.create(into, with_pip=False, symlinks=True)
    python = into / "bin" / "python"
    pip = [sys.executable, *_PIP, "--python", str(python), "install", "--only-binary", ":all:"]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run([*pip, "--require-hashes", "--requirement", str(LOCK)], environ=environ)
    run([*pip, "--no-deps", "--no-index", str(wheel)], environ=environ)
    run([sys.executable, *_PIP, "--python", str(python), "check"], environ=environ)
    return python
