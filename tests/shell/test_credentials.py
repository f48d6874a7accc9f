"""Client secrets from files that are swapped beneath the proxy, and from the environment."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest
from blockbuster import blockbuster_ctx

from switch_proxy.core.authentication import client_secret
from switch_proxy.core.config.models import CredentialSettings, SecretSource
from switch_proxy.core.errors import SecretUnavailableError
from switch_proxy.core.secret import Broken, Changed, Outcome, Restored, Secret, Unchanged
from switch_proxy.tokens.sources import EnvironmentSecret, client_secret_file, credentials_from, read_plan
from switch_proxy.watched_files import POLL_INTERVAL
from tests.manual_clock import ManualClock, until
from tests.masking import ignore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class KubernetesVolume:
    """A folder as the kubelet keeps it: each file a symlink through `..data`, which is swapped by a rename."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._versions = 0
        self.path = folder / "client_secret"
        self.path.symlink_to("..data/client_secret")

    def publish(self, content: bytes | None) -> None:
        """Swap a new version in; None leaves the file out of it."""
        self._versions += 1
        version = self._folder / f"..2026_11_24_{self._versions}"
        version.mkdir()
        if content is not None:
            (version / "client_secret").write_bytes(content)
        temporary = self._folder / "..data_tmp"
        temporary.symlink_to(version.name)
        temporary.rename(self._folder / "..data")


class Watch:
    """A file that is watched, and what has become of it."""

    def __init__(self, path: Path) -> None:
        self.clock = ManualClock()
        self.secret = client_secret_file(str(path), clock=self.clock, mask=ignore)
        self.outcomes: list[Outcome] = []

    async def run(self) -> None:
        while True:
            self.outcomes.append(await self.secret.wait_for_change())

    async def look(self) -> None:
        """Let the next look at the file happen, and wait for its end."""
        await until(lambda: self.clock.next_wake_at is not None)
        await self.clock.advance(POLL_INTERVAL)
        await until(lambda: self.clock.next_wake_at is not None)


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[tuple[KubernetesVolume, Watch]]:
    """Watch a file of a Kubernetes volume that holds `one`."""
    volume = KubernetesVolume(tmp_path)
    volume.publish(b"one")
    watch = Watch(volume.path)
    assert await watch.secret.load() == Changed(secret=Secret("one"))
    task = asyncio.get_running_loop().create_task(watch.run())
    yield volume, watch
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_swap_of_kubernetes_symlinks_is_seen(watched: tuple[KubernetesVolume, Watch]) -> None:
    """The file's own path, its symlink and its name stay the same; two folders up, the target changes."""
    volume, watch = watched
    volume.publish(b"two")
    await watch.look()
    assert watch.outcomes == [Changed(secret=Secret("two"))]
    assert watch.secret.current() == Secret("two")


async def test_a_swap_that_brings_the_same_secret_is_no_change(watched: tuple[KubernetesVolume, Watch]) -> None:
    """The kubelet swaps for any file of the volume."""
    volume, watch = watched
    volume.publish(b"one\n")
    await watch.look()
    await watch.look()
    assert watch.outcomes == []


async def test_a_swap_back_is_seen(watched: tuple[KubernetesVolume, Watch]) -> None:
    """A rotation that was undone is another change."""
    volume, watch = watched
    for content in (b"two", b"one"):
        volume.publish(content)
        await watch.look()
    assert watch.outcomes == [Changed(secret=Secret("two")), Changed(secret=Secret("one"))]


async def test_nothing_is_read_between_two_looks(watched: tuple[KubernetesVolume, Watch]) -> None:
    volume, watch = watched
    volume.publish(b"two")
    await until(lambda: watch.clock.next_wake_at is not None)
    await watch.clock.advance(POLL_INTERVAL - 0.001)
    assert watch.outcomes == []
    await watch.clock.advance(0.001)
    await until(lambda: watch.outcomes)


async def test_a_file_that_vanishes_leaves_the_last_good_secret_in_use(
    watched: tuple[KubernetesVolume, Watch],
) -> None:
    """It is reported once, and so is its return."""
    volume, watch = watched
    volume.publish(None)
    await watch.look()
    await watch.look()
    assert watch.outcomes == [Broken(error=f"no client secret: the file {volume.path} does not exist")]
    assert watch.secret.current() == Secret("one")
    volume.publish(b"one")
    await watch.look()
    assert watch.outcomes[1:] == [Restored()]


async def test_a_file_that_is_being_written_is_broken_and_then_changed(
    watched: tuple[KubernetesVolume, Watch],
) -> None:
    """A writer in place empties the file first; the last good secret stays in use."""
    volume, watch = watched
    volume.path.write_bytes(b"")
    await watch.look()
    assert watch.secret.current() == Secret("one")
    volume.path.write_bytes(b"two\n")
    await watch.look()
    assert [type(outcome) for outcome in watch.outcomes] == [Broken, Changed]
    assert watch.secret.current() == Secret("two")


async def test_a_rewrite_without_a_trace_is_seen(watched: tuple[KubernetesVolume, Watch]) -> None:
    """In place, with the same size and the same times: only the content differs."""
    volume, watch = watched
    before = volume.path.stat()
    volume.path.write_bytes(b"two")
    os.utime(volume.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = volume.path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
    await watch.look()
    assert watch.outcomes == [Changed(secret=Secret("two"))]


async def test_a_file_that_was_not_there_at_first_is_found(tmp_path: Path) -> None:
    secret = client_secret_file(str(tmp_path / "late"), clock=ManualClock(), mask=ignore)
    outcome = await secret.load()
    assert outcome == Broken(error=f"no client secret: the file {tmp_path / 'late'} does not exist")
    with pytest.raises(SecretUnavailableError, match="does not exist"):
        secret.current()
    (tmp_path / "late").write_bytes(b"value")
    assert await secret.load() == Changed(secret=Secret("value"))
    assert secret.current() == Secret("value")


def test_a_secret_that_has_not_been_read_is_none() -> None:
    with pytest.raises(SecretUnavailableError, match="the file /x has not been read yet"):
        client_secret_file("/x", clock=ManualClock(), mask=ignore).current()


async def _fault_of(path: object) -> str:
    outcome = await client_secret_file(str(path), clock=ManualClock(), mask=ignore).load()
    assert isinstance(outcome, Broken)
    return outcome.error


async def test_a_folder_is_no_secret(tmp_path: Path) -> None:
    assert await _fault_of(tmp_path) == f"no client secret: the file {tmp_path} cannot be read: Is a directory"


async def test_a_pipe_is_no_secret_and_is_not_waited_for(tmp_path: Path) -> None:
    """Opening a pipe for reading waits for a writer."""
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in await _fault_of(tmp_path / "pipe")


async def test_a_loop_of_symlinks_is_told(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert "cannot be read: Too many levels of symbolic links" in await _fault_of(tmp_path / "loop")


async def test_a_path_that_is_none_is_told() -> None:
    assert "NUL" in await _fault_of("/x\0y")


async def test_a_path_that_cannot_be_printed_is_told() -> None:
    assert (await _fault_of("/no/such/\udcff")).isprintable()


def test_a_file_that_may_not_be_read_is_told_with_the_user(tmp_path: Path) -> None:
    """A volume's mode and owner that do not fit the container's user are the usual mistake."""
    path = tmp_path / "secret"
    path.write_bytes(b"value")
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read everything
    try:
        with pytest.raises(SecretUnavailableError) as caught:
            read_plan(client_secret.plan(SecretSource(file=str(path))))
    finally:
        os.seteuid(user)
    assert str(caught.value).startswith(f"no client secret: the file {path} may not be read by this process (user ")


async def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(10 * 2**30)
    assert "more than 64 KiB" in await _fault_of(path)


async def test_reading_does_not_block_the_loop(tmp_path: Path) -> None:
    """A volume that hangs must not hold up requests."""
    (tmp_path / "secret").write_bytes(b"value")
    secret = client_secret_file(str(tmp_path / "secret"), clock=ManualClock(), mask=ignore)
    with blockbuster_ctx():
        assert await secret.load() == Changed(secret=Secret("value"))


# --- the environment -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["value", "value\n"], ids=["as it is", "with a newline at its end"])
async def test_a_variable_is_a_secret(value: str) -> None:
    secret = EnvironmentSecret(mask=ignore, variable="SWITCH_CLIENT_SECRET", environ={"SWITCH_CLIENT_SECRET": value})
    assert await secret.load() == Changed(secret=Secret("value"))
    assert secret.current() == Secret("value")
    assert await secret.load() == Unchanged()


@pytest.mark.parametrize(
    ("environ", "fault"),
    [
        pytest.param({}, "is not set", id="not set"),
        pytest.param({"S": ""}, "is empty", id="empty"),
        pytest.param({"S": "\n"}, "is empty", id="blank"),
        pytest.param({"S": "a\nb"}, "more than one line", id="two lines"),
        pytest.param({"S": "a\udcff"}, "not UTF-8", id="bytes that are no UTF-8"),
    ],
)
async def test_a_variable_without_a_secret_is_told_by_name(environ: dict[str, str], fault: str) -> None:
    """A missing variable never becomes an empty secret."""
    secret = EnvironmentSecret(mask=ignore, variable="S", environ=environ)
    outcome = await secret.load()
    assert isinstance(outcome, Broken)
    assert outcome.error.startswith("no client secret: the environment variable S ")
    assert fault in outcome.error
    with pytest.raises(SecretUnavailableError, match=fault):
        secret.current()


async def test_a_variable_does_not_change() -> None:
    """A process does not see changes of its environment; the wait for one costs nothing."""
    secret = EnvironmentSecret(mask=ignore, variable="S", environ={"S": "value"})
    await secret.load()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await secret.wait_for_change()


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        pytest.param(SecretSource(file="/x"), "<WatchedFile /x>", id="a file"),
        pytest.param(SecretSource(env="S"), "<EnvironmentSecret S>", id="a variable"),
    ],
)
def test_the_source_is_made_from_the_configuration(source: SecretSource, shown: str) -> None:
    settings = CredentialSettings(token_url="https://a.example/t", client_id="c", client_secret=source)
    made = credentials_from(settings, environ={"S": "value"}, clock=ManualClock(), mask=ignore)
    assert repr(made) == shown
