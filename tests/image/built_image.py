"""
The image as buildah builds it on this machine, and its program started as a container runtime would start it.

debootstrap makes a base image with the oldest supported Python in place of the registry's. The container is a chroot with a
read-only root and the image's user; its network is this machine's.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.docs.pages import ROOT
from tests.e2e.proxy_process import ProxyProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

PROGRAMS: Final = ("buildah", "debootstrap", "unshare", "chroot")

_BASE_PACKAGES: Final = "python3,python3-venv,ca-certificates"


class BuiltImage:
    """The image, its configuration and its files."""

    def __init__(self, folder: Path) -> None:
        self._store = ("--storage-driver", "vfs", "--root", str(folder / "store"), "--runroot", str(folder / "run"))
        self._folder = folder
        self._make_base()
        self._buildah(
            *("build", "--isolation", "chroot", "--format", "docker", "--tag", "switch-proxy"),
            *("--build-arg", "BASE=localhost/base", "--build-arg", "VERSION=1.2.3", str(ROOT)),
        )
        inspected = json.loads(self._buildah("inspect", "--type", "image", "localhost/switch-proxy"))
        self.config: Mapping[str, Any] = inspected["Docker"]["config"]
        container = self._buildah("from", "localhost/switch-proxy")
        self.root = Path(self._buildah("mount", container))

    def _buildah(self, command: str, *arguments: str) -> str:
        done = subprocess.run(
            ["buildah", *self._store, command, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"buildah {command}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout.strip()

    def _make_base(self) -> None:
        files = self._folder / "base"
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={_BASE_PACKAGES}", "bookworm", str(files)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"debootstrap: {done.stdout[-4000:]}{done.stderr[-4000:]}"
        container = self._buildah("from", "scratch")
        self._buildah("add", "--quiet", container, str(files), "/")
        shutil.rmtree(files)
        # pip's way to its index on this machine is not part of the image.
        for name, value in os.environ.items():
            if name in {"PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT"}:
                self._buildah("config", "--env", f"{name}={value}", container)
            if name == "PIP_CERT":
                self._buildah("copy", "--quiet", container, value, "/root/authorities.pem")
                self._buildah("config", "--env", f"{name}=/root/authorities.pem", container)
        self._buildah("commit", "--quiet", "--rm", container, "base")

    def command(self, *arguments: str, volume: Path | None = None) -> list[str]:
        """Return the command that starts the image's program as its user, with a read-only root; /tmp may be a volume."""
        root = str(self.root)
        user = ("--userspec", self.config["User"], "--groups", "")
        mounts = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && '
        if volume is not None:
            mounts += f'mount --bind {shlex.quote(str(volume))} "$1/tmp" && '
        mounts += 'shift && exec chroot "$@"'
        program = (*self.config["Entrypoint"], *(arguments or self.config["Cmd"]))
        return ["unshare", "--mount", "sh", "-c", mounts, "sh", root, *user, root, *program]

    def environ(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return the program's environment: the image's and the given variables, none of this machine's."""
        image = dict(variable.split("=", 1) for variable in self.config["Env"])
        # The image's programs must be found, and also unshare and chroot.
        return {**image, "PATH": f"{os.environ['PATH']}:{image['PATH']}", **variables}

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the image to its end."""
        command, environ = self.command(*arguments), self.environ(variables)
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)

    @asynccontextmanager
    async def running(self, *, volume: Path | None = None, **variables: str) -> AsyncIterator[ProxyProcess]:
        """Run the image's own command with these variables, as `docker run --read-only --env …` does."""
        process = await asyncio.create_subprocess_exec(
            *self.command(volume=volume),
            env=self.environ(variables),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with ProxyProcess.of(process) as proxy:
            yield proxy
