"""
Collect the files that the proxy needs into a folder that becomes the image: the interpreter, the standard library, the
installed packages, the shared libraries that they load, the certificate authorities. Nothing else of the base is copied.

The Dockerfile runs it with the base's own Python: `python3 collect.py TARGET ENVIRONMENT USER`. It knows Debian's packages,
if there are any; it does not know the proxy.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

_NOT_NEEDED: Final = (
    *("test", "tests", "_test*", "_xx*", "xx*", "idlelib", "pydoc_data", "lib2to3", "__pycache__"),
    *("ensurepip", "venv", "site-packages", "dist-packages", "config-*", "sitecustomize.py"),
    *("tkinter", "_tkinter*", "turtledemo", "turtle.py", "curses", "_curses*", "readline*"),
    *("dbm", "_dbm*", "_gdbm*", "sqlite3", "_sqlite3*", "nis.*"),
)
"""Parts of the standard library: tests and tools, package installers and compilers, screens and terminals, databases."""

_SOURCES: Final = ("*.c", "*.h", "*.pyx", "*.pxd", "*.pyi", "*.hash", "include")
"""Files of packages from which their extension modules were compiled."""

_LOADED_BY_NAME: Final = ("libgcc_s.so.1", "libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2")
"""Libraries that glibc loads at run time, so that `ldd` does not list them: for the end of threads and for name look-ups."""


_AT_ONCE: Final = 1000
"""Paths in one command line: far below the kernel's limit for arguments."""


class Collection:
    """The folder that is being filled."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.sources: set[Path] = set()

    def place(self, path: Path) -> Path:
        """Return the place in the folder for a path of the base."""
        return self.target / path.relative_to("/")

    def take(self, path: Path) -> None:
        """Copy a file, or a link and its target, each to its real place."""
        path = path.parent.resolve() / path.name
        place = self.place(path)
        if path.is_dir() and not path.is_symlink():
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            if not place.is_symlink():
                place.symlink_to(path.readlink())
            self.take(path.parent / path.readlink())
        elif not place.exists():
            shutil.copy2(path, place)
        self.sources.add(path)

    def take_tree(self, path: Path, *, without: tuple[str, ...] = ()) -> None:
        """Copy a folder; links stay links."""
        ignored = shutil.ignore_patterns(*without)
        shutil.copytree(path, self.place(path), symlinks=True, ignore=ignored, dirs_exist_ok=True)
        self.sources.update(source for source in path.rglob("*") if self.place(source).is_file())

    def extension_modules(self) -> list[Path]:
        """Return the paths in the base of all extension modules in the folder."""
        return [Path("/") / path.relative_to(self.target) for path in self.target.rglob("*.so*") if path.is_file()]

    def link_like_the_base(self) -> None:
        """Make the links of the base's root folder (/lib to /usr/lib), through which programs find their loader."""
        for path in Path("/").iterdir():
            place = self.place(path)
            if path.is_symlink() and not place.exists() and self.place(path.resolve()).exists():
                place.symlink_to(path.readlink())

    def write(self, path: str, text: str) -> None:
        """Write a file that the base does not have."""
        place = self.place(Path(path))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")


def find_libraries(programs: list[Path]) -> set[Path]:
    """Return the shared libraries that programs and extension modules load. Raises SystemExit if one is missing."""
    told = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout  # noqa: S603, S607
    if missing := re.findall(r"^\t(\S+) => not found", told, flags=re.MULTILINE):
        sys.exit(f"collect.py: the base lacks {', '.join(sorted(set(missing)))}")
    return {Path(path) for path in re.findall(r"^\t(?:\S+ => )?(/\S+) \(", told, flags=re.MULTILINE)}


def list_packages(collection: Collection) -> None:
    """Copy the records of the Debian packages that files came from, so that image scanners recognize them."""
    known = Path("/var/lib/dpkg/status")
    if not known.exists():
        return
    # dpkg knows a file by the path in its package, which may be from before /lib became a link.
    asked = sorted(str(path).removeprefix(prefix) for path in collection.sources for prefix in ("", "/usr"))
    names: set[str] = set()
    for first in range(0, len(asked), _AT_ONCE):
        command = ["dpkg-query", "-S", *asked[first : first + _AT_ONCE]]
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
        names.update(re.findall(r"^([^:\s]+)(?::\w+)?: /", told, flags=re.MULTILINE))
    for record in known.read_text(encoding="utf-8").split("\n\n"):
        if (name := re.match(r"Package: (\S+)", record)) and name[1] in names:
            collection.write(f"/var/lib/dpkg/status.d/{name[1]}", record.strip() + "\n")


def take_python(collection: Collection, environment: Path) -> None:
    """Copy the standard library, the environment, and the interpreter that it links to."""
    for library in {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}:
        collection.take_tree(library, without=_NOT_NEEDED)
    collection.take_tree(environment, without=("activate*", "Activate*", "__pycache__", *_SOURCES))
    for path in sorted(environment.rglob("*")):
        if path.is_symlink():
            collection.take(path)


def take_libraries(collection: Collection) -> None:
    """Copy the shared libraries that the interpreter and all modules load, and the loader's configuration."""
    libraries = find_libraries([Path(sys.executable).resolve(), *collection.extension_modules()])
    (libc,) = (path for path in libraries if path.name.startswith("libc."))
    by_name = (libc.parent / name for name in _LOADED_BY_NAME)
    for library in sorted({*libraries, *(path for path in by_name if path.exists())}):
        collection.take(library)
    if Path("/etc/ld.so.cache").exists():
        collection.take(Path("/etc/ld.so.cache"))
    collection.link_like_the_base()


def take_authorities(collection: Collection) -> None:
    """Copy the certificate authorities that the base trusts to OpenSSL's folder."""
    for folder in (
        Path(ssl.get_default_verify_paths().openssl_capath),
        Path("/etc/ssl/certs"),
        Path("/usr/share/ca-certificates"),
    ):
        if folder.is_symlink():
            collection.take(folder)
        elif folder.exists():
            collection.take_tree(folder)


def write_accounts(collection: Collection, user: str) -> None:
    """Name the user, configure the look-up of host names, and make a folder for temporary files."""
    number, _, group = user.partition(":")
    collection.write("/etc/passwd", f"root:x:0:0::/:/none\nswitch-proxy:x:{number}:{group}::/:/none\n")
    collection.write("/etc/group", f"root:x:0:\nswitch-proxy:x:{group}:\n")
    collection.write("/etc/nsswitch.conf", "hosts: files dns\n")
    temporary = collection.place(Path("/tmp"))  # noqa: S108 - programs of a debug container need it
    temporary.mkdir(exist_ok=True)
    temporary.chmod(0o1777)


def byte_compile(collection: Collection, library: Path) -> None:
    """Compile every module, without a check against its source at each start: the root may be read-only."""
    if not compileall.compile_dir(
        collection.place(library),
        quiet=1,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        stripdir=str(collection.target),
        prependdir="/",
        workers=0,
    ):
        sys.exit(f"collect.py: not all of {library} could be compiled")


def main(target: Path, environment: Path, user: str) -> None:
    """Fill the folder."""
    collection = Collection(target)
    take_python(collection, environment)
    take_libraries(collection)
    take_authorities(collection)
    write_accounts(collection, user)
    list_packages(collection)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for library in (Path(sysconfig.get_path("stdlib")).resolve(), environment / "lib" / version):
        byte_compile(collection, library)


if __name__ == "__main__":
    os.umask(0o022)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
