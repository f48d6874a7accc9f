"""An empty environment with the proxy in it, as its users get it: from the lock file and one wheel, and nothing else."""

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
    """Something is not as it must be to be released; the text says what, and what to do where that is not plain."""


def run(
    command: Sequence[str], *, cwd: Path | None = None, environ: Mapping[str, str] | None = None, umask: int = -1
) -> str:
    """Run a command and return what it printed. Raises ReleaseError with all of it where it fails."""
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
    """Return the version, from the one place where it stands."""
    text = (ROOT / "proxy" / "switch_proxy" / "__init__.py").read_text(encoding="utf-8")
    [found] = re.findall(r'^__version__ = "(.+)"$', text, flags=re.MULTILINE)
    return str(found)


def install(into: Path, wheel: Path) -> Path:
    """Make an environment without pip, install the lock file's wheels and this one, and return its Python."""
    # pip from outside: what is checked, and listed in the bill of materials, is the proxy's alone.
    venv.create(into, with_pip=False, symlinks=True)
    python = into / "bin" / "python"
    pip = [sys.executable, *_PIP, "--python", str(python), "install", "--only-binary", ":all:"]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run([*pip, "--require-hashes", "--requirement", str(LOCK)], environ=environ)
    run([*pip, "--no-deps", "--no-index", str(wheel)], environ=environ)
    run([sys.executable, *_PIP, "--python", str(python), "check"], environ=environ)
    return python
