"""
`make test-image-python`: runs the whole suite on the Python of the container image, which is newer than a developer's may be.

    1. a root folder of Debian 13, which has Python 3.13, is made by debootstrap; it is kept in .venv and used again
    2. the checkout is copied into it
    3. in it, as root, in mounts of its own: make test

It needs root, debootstrap, and the package registries. Without one of them it says so and ends with success: this is an
additional check, and no part of continuous integration.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

_FOLDER: Final = ROOT / ".venv" / "debian13"
_SUITE: Final = "trixie"
# The suite runs git and ps; gcc and headers are for a development dependency without a wheel.
_PACKAGES: Final = "python3,python3-venv,python3-dev,gcc,make,git,procps,ca-certificates"
_PROGRAMS: Final = ("debootstrap", "unshare", "chroot")
_NOT_COPIED: Final = (".venv", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist")
_KEPT_VARIABLES: Final = ("LANG", "TERM", "CI")

_IN_ROOT: Final = """
set -e
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
exec chroot "$@"
"""


class MissingError(Exception):
    """The root folder cannot be made on this machine; the text says why."""


def make_root() -> None:
    """Make the folder with Debian in it unless it is there. Raises MissingError."""
    if (_FOLDER / "made").exists():
        return
    shutil.rmtree(_FOLDER, ignore_errors=True)
    unfinished = _FOLDER / "root"
    unfinished.mkdir(parents=True)
    print(f"python-root: installing Debian's {_SUITE} with Python 3.13 …", flush=True)
    command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(unfinished)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        last = (made.stdout + made.stderr).strip().splitlines()[-1:]
        raise MissingError(f"debootstrap cannot install Debian here: {' '.join(last)}")
    (_FOLDER / "made").touch()


def copy_checkout(into: Path) -> None:
    """Replace what was copied before, but keep its virtual environment: make knows what in it is out of date."""
    into.mkdir(exist_ok=True)
    for old in into.iterdir():
        if old.name != ".venv":
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    ignored = shutil.ignore_patterns(*_NOT_COPIED)
    shutil.copytree(ROOT, into, ignore=ignored, dirs_exist_ok=True, symlinks=True)


def pip_settings(root: Path) -> dict[str, str]:
    """Give pip in the root folder this machine's way to its index; return its variables."""
    environ = {
        name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.lower().endswith("_proxy")
    }
    certificates = environ.pop("PIP_CERT", None)
    if certificates is not None:
        shutil.copy(certificates, root / "etc" / "pip-authorities.pem")
        environ["PIP_CERT"] = "/etc/pip-authorities.pem"
    return environ


def run_suite(root: Path, arguments: list[str]) -> int:
    """Run make test in the root folder and return its exit code."""
    environ = {
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
        "HOME": "/root",
        "PYTHONDONTWRITEBYTECODE": "1",
        **{name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
        **pip_settings(root),
    }
    inside = ["make", "--directory=/src", "test", f"ARGS={' '.join(arguments)}"]
    command = ["unshare", "--mount", "sh", "-c", _IN_ROOT, "sh", str(root), *inside]
    return subprocess.run(
        command, env={**environ, "PATH": f"{environ['PATH']}:{os.environ['PATH']}"}, check=False
    ).returncode


def main() -> int:
    """Run the suite and return the exit code; 0 with a message if this machine cannot."""
    try:
        if os.geteuid() != 0:
            raise MissingError("only root may make a root folder and change into it")
        if missing := [program for program in _PROGRAMS if shutil.which(program) is None]:
            raise MissingError(f"no {', '.join(missing)} here: apt-get install debootstrap util-linux")
        make_root()
    except MissingError as error:
        print(f"python-root: skipped: {error}")
        return 0
    root = _FOLDER / "root"
    copy_checkout(root / "src")
    return run_suite(root, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
