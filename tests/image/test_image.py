"""The container image, built and run: its metadata, its content, and that it works."""

from __future__ import annotations

import signal
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from switch_proxy.demo.auth_server import SWITCH_AUDIENCE, FakeAuthorizationServer
from switch_proxy.demo.switch_api import FakeSwitchAPI

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.image.built_image import BuiltImage

pytestmark = pytest.mark.timeout(900)

_SECRET: Final = "the-one-and-only-secret-of-the-client"

_MOST_BYTES: Final = 100 * 2**20
"""The size of all files: 90 MiB when this was written, half of it Python with its libraries."""


def files(image: BuiltImage) -> Iterator[Path]:
    return (path for path in image.root.rglob("*") if path.is_file() and not path.is_symlink())


def test_image_says_how_it_is_run(image: BuiltImage) -> None:
    config = image.config
    assert (config["Entrypoint"], config["Cmd"]) == (["switch-proxy"], ["run"])
    assert (config["User"], config["StopSignal"]) == ("65532:65532", "SIGTERM")
    assert config["Healthcheck"]["Test"] == ["CMD", "switch-proxy", "health"]
    assert config["Labels"]["org.opencontainers.image.title"] == "switch-proxy"
    assert config["Labels"]["org.opencontainers.image.version"] == "1.2.3"


@pytest.mark.parametrize("name", ["pip*", "ensurepip", "setuptools*", "*sh", "busybox", "*cc", "*-ld", "apt*", "dpkg*"])
def test_nothing_is_in_it_that_installs_compiles_or_is_a_shell(image: BuiltImage, name: str) -> None:
    programs = [
        path
        for folder in ("usr/bin", "usr/sbin", "usr/local/bin", "opt/switch-proxy/bin")
        for path in (image.root / folder).glob(name)
    ]
    packages = list(image.root.glob(f"**/*-packages/{name}"))
    assert [*programs, *packages] == []


def test_its_user_owns_and_may_change_nothing(image: BuiltImage) -> None:
    for path in image.root.rglob("*"):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (0, 0), path
        if not path.is_symlink() and path.name != "tmp":
            assert not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH | stat.S_ISUID | stat.S_ISGID), path


def test_every_module_is_byte_compiled(image: BuiltImage) -> None:
    """A read-only root has no cache, so each start would compile all of them."""
    modules = [path for path in files(image) if path.suffix == ".py" and "lib/python3" in str(path)]
    assert len(modules) > 500
    for module in modules:
        assert list((module.parent / "__pycache__").glob(f"{module.stem}.*.pyc")), module


def test_it_trusts_the_authorities_of_its_base(image: BuiltImage) -> None:
    told = image.run(
        "check", SWITCH_TOKEN_URL="https://a.example", SWITCH_CLIENT_ID="id", SWITCH_CLIENT_SECRET="secret"
    )
    assert (told.returncode, told.stderr) == (0, "")
    links = list((image.root / "etc/ssl/certs").glob("*.0"))
    assert len(links) > 100
    for link in links:
        certificate = image.root / str((link.parent / link.readlink()).readlink()).removeprefix("/")
        assert certificate.is_file()
    assert (image.root / "usr/lib/ssl/certs").readlink() == Path("/etc/ssl/certs")


def test_scanners_are_told_of_the_packages_that_its_libraries_come_from(image: BuiltImage) -> None:
    records = {path.name for path in (image.root / "var/lib/dpkg/status.d").iterdir()}
    assert {"libc6", "libssl3", "ca-certificates"} <= records
    assert not {"dpkg", "apt", "bash", "coreutils"} & records


def test_it_is_small(image: BuiltImage) -> None:
    assert sum(path.stat().st_size for path in files(image)) < _MOST_BYTES


def test_it_has_the_fakes_for_tests_of_apps(image: BuiltImage) -> None:
    """`demo --serve` of examples/compose is the same without the script; nothing is written to the read-only root."""
    told = image.run("demo", "--once")
    assert (told.returncode, told.stderr) == (0, "")
    assert "checks hold." in told.stdout


async def test_variables_alone_make_it_forward_requests_on_a_read_only_root_until_sigterm(
    image: BuiltImage, tmp_path: Path
) -> None:
    async with (
        FakeAuthorizationServer(client_id="app", client_secret=_SECRET) as auth,
        FakeSwitchAPI(introspect=auth.introspect) as api,
        image.running(
            SWITCH_TOKEN_URL=auth.token_url,
            SWITCH_CLIENT_ID="app",
            SWITCH_CLIENT_SECRET=_SECRET,
            SWITCH_AUDIENCE=SWITCH_AUDIENCE,
            SWITCH_API_URL=api.url,
            SWITCH_PROXY_LISTEN="127.0.0.1:0",
            SWITCH_PROXY_ADMIN_LISTEN="127.0.0.1:0",
        ) as proxy,
        aiohttp.ClientSession() as client,
    ):
        await proxy.event("proxy.became_ready")
        async with client.get(await proxy.url("switch-api") + "/api/meter?organizationId=1") as response:
            assert response.status == 200
        admin = (await proxy.url("admin")).removeprefix("http://")
        variables = {"SWITCH_TOKEN_URL": auth.token_url, "SWITCH_CLIENT_ID": "app", "SWITCH_CLIENT_SECRET": _SECRET}
        health = image.run("health", **variables, SWITCH_PROXY_ADMIN_LISTEN=admin)
        assert (health.returncode, health.stderr) == (0, "")
        status = Path(f"/proc/{proxy.pid}/status").read_text(encoding="ascii")  # noqa: ASYNC240 - a pseudo file
        assert "Uid:\t65532\t65532\t65532\t65532\n" in status
        assert "CapEff:\t0000000000000000\n" in status
        proxy.send(signal.SIGTERM)
        assert await proxy.exit_code() == 0
    assert proxy.errors == ""


async def test_a_container_that_restarts_finds_its_token_in_a_volume_that_kubernetes_makes(
    image: BuiltImage, tmp_path: Path
) -> None:
    """An emptyDir belongs to root, and all may write to it; the directory in it is the proxy's own."""
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    async with FakeAuthorizationServer(client_id="app", client_secret=_SECRET) as auth:
        for _ in range(3):
            async with image.running(
                volume=volume,
                SWITCH_TOKEN_URL=auth.token_url,
                SWITCH_CLIENT_ID="app",
                SWITCH_CLIENT_SECRET=_SECRET,
                SWITCH_AUDIENCE=SWITCH_AUDIENCE,
                SWITCH_PROXY_LISTEN="127.0.0.1:0",
                SWITCH_PROXY_ADMIN_LISTEN="127.0.0.1:0",
                SWITCH_PROXY_TOKEN_STORE_DIRECTORY="/tmp/tokens",
            ) as proxy:
                await proxy.event("proxy.became_ready")
                proxy.send(signal.SIGTERM)
                assert await proxy.exit_code() == 0
            assert proxy.errors == ""
        assert len(auth.issued) == 1
    made = (volume / "tokens").stat()
    assert (made.st_uid, stat.S_IMODE(made.st_mode)) == (65532, 0o700)


def test_it_has_the_client_of_the_redis_store(image: BuiltImage) -> None:
    assert list(image.root.glob("opt/switch-proxy/lib/python3*/site-packages/redis/asyncio/__init__.py"))
