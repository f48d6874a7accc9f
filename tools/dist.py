"""
`make dist`: builds wheel and sdist into dist/, and checks them.

    1. the files that git tracks are copied, so that no other file of the folder is included
    2. the sdist is built, and a wheel from it; the sdist contains every file that git tracks
    3. a second wheel, from another folder with other times, must be equal to the byte: the build is reproducible
    4. the wheel contains the package and nothing else
    5. twine check --strict
    6. the wheel is installed with the lock file into an empty environment: the version is right, the demo's checks pass

The time in the wheel is SOURCE_DATE_EPOCH, or that of the last commit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from tools.installation import LOCK, ROOT, ReleaseError, install, release_tool, run, version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DIST: Final = ROOT / "dist"


def tracked_files(root: Path) -> Sequence[str]:
    """Return the tracked files that exist in the folder. Raises ReleaseError outside a checkout."""
    if not (root / ".git").exists():
        raise ReleaseError(
            "releases are made from a checkout: there is no .git here; run make dist in a clone of the repository"
        )
    listed = run(["git", "ls-files", "-z"], cwd=root).split("\0")
    return [name for name in listed if name and (root / name).is_file()]


def source_date(root: Path, environ: Mapping[str, str]) -> int:
    """Return the time for the wheel in Unix seconds: SOURCE_DATE_EPOCH, or that of the last commit."""
    said = environ.get("SOURCE_DATE_EPOCH", "")
    if said:
        if not (said.isascii() and said.isdigit()):
            raise ReleaseError(f"SOURCE_DATE_EPOCH is {said!r}; write seconds since 1970, such as 1767225600")
        return int(said)
    return int(run(["git", "log", "-1", "--format=%ct"], cwd=root))


def copy_sources(names: Iterable[str], to: Path, *, modified_at: int) -> None:
    """Copy files with one time and git's two modes, because both go into the wheel."""
    for name in names:
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
        is_executable = os.access(ROOT / name, os.X_OK)
        target.chmod(0o755 if is_executable else 0o644)
        os.utime(target, (modified_at, modified_at))


def build(kinds: Sequence[str], sources: Path, into: Path, environ: Mapping[str, str]) -> None:
    """Build with the setuptools of the lock file; the result does not depend on the builder's umask."""
    command = [sys.executable, "-m", "build", "--no-isolation", *kinds, "--outdir", str(into), str(sources)]
    run(command, environ=environ, umask=0o022)


def missing_from_sdist(tracked: Iterable[str], members: Iterable[str]) -> Sequence[str]:
    """Return the tracked files that the sdist lacks; its members are in a folder named for the version."""
    held = {str(PurePosixPath(*PurePosixPath(member).parts[1:])) for member in members}
    return sorted(set(tracked) - held)


def wrong_in_wheel(tracked: Iterable[str], members: Iterable[str]) -> Sequence[str]:
    """Return the files that are missing from the wheel or too much in it: it is the tracked package and its metadata."""
    package = {name.removeprefix("proxy/") for name in tracked if name.startswith("proxy/")}
    held = {member for member in members if ".dist-info/" not in member}
    return sorted(
        [f"{name} is missing" for name in package - held] + [f"{name} is too much" for name in held - package]
    )


def same_bytes(first: Path, second: Path) -> bool:
    """Return whether two files are equal."""
    return first.read_bytes() == second.read_bytes()


def one(folder: Path, pattern: str) -> Path:
    """Return the only file of a folder that matches this pattern. Raises ReleaseError."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise ReleaseError(f"the build made {len(found)} files of the form {pattern}; it must make one")
    return found[0]


def make(folder: Path) -> Sequence[Path]:
    """Build and check in a folder; return sdist and wheel. Raises ReleaseError."""
    tracked = tracked_files(ROOT)
    date = source_date(ROOT, os.environ)
    environ = {**os.environ, "SOURCE_DATE_EPOCH": str(date), "TZ": "UTC", "PYTHONHASHSEED": "1"}

    say("building the sdist, and the wheel from it")
    copy_sources(tracked, folder / "a" / "switch-proxy", modified_at=date)
    build([], folder / "a" / "switch-proxy", folder / "built", environ)
    sdist, wheel = one(folder / "built", "*.tar.gz"), one(folder / "built", "*.whl")
    with tarfile.open(sdist) as archive:
        members = [member.name for member in archive if member.isfile()]
    if missing := missing_from_sdist(tracked, members):
        raise ReleaseError(f"the sdist lacks tracked files; add them to MANIFEST.in: {', '.join(missing)}")

    say("building the wheel again, elsewhere and at another time")
    copy_sources(tracked, folder / "another" / "place", modified_at=date + 86_400)
    elsewhere = {**environ, "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "2", "LC_ALL": "C"}
    build(["--wheel"], folder / "another" / "place", folder / "again", elsewhere)
    if not same_bytes(wheel, one(folder / "again", "*.whl")):
        raise ReleaseError(f"two builds of {wheel.name} differ: it is not reproducible")

    say("looking into them")
    with zipfile.ZipFile(wheel) as archive:
        wrong = wrong_in_wheel(tracked, archive.namelist())
    if wrong:
        raise ReleaseError(f"the wheel is not the package: {', '.join(wrong)}")
    run([release_tool("twine"), "check", "--strict", str(sdist), str(wheel)])

    say(f"installing the wheel and {LOCK.name} into an empty environment")
    python = install(folder / "environment", wheel)
    told = run([str(python.with_name("switch-proxy")), "version"], cwd=folder).strip()
    if told != f"switch-proxy {version()}":
        raise ReleaseError(f"the installed program reports the version {told!r}, not {version()}")
    say("running the demo there")
    run([str(python.with_name("switch-proxy")), "demo", "--once"], cwd=folder)
    return sdist, wheel


def say(text: str) -> None:
    """Print the current step."""
    print(f"dist: {text} …", flush=True)


def main() -> int:
    """Make dist/ again and return the exit code."""
    try:
        with tempfile.TemporaryDirectory(prefix="switch-proxy-dist-") as folder:
            made = make(Path(folder))
            DIST.mkdir(exist_ok=True)
            for old in [*DIST.glob("switch_proxy-*.whl"), *DIST.glob("switch_proxy-*.tar.gz")]:
                old.unlink()
            for file in made:
                kept = DIST / file.name
                shutil.copyfile(file, kept)
                print(f"{sha256(kept.read_bytes()).hexdigest()}  dist/{kept.name}")
    except (ReleaseError, subprocess.SubprocessError, OSError) as error:
        print(f"dist: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
