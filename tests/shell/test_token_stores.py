"""Both stores of shared tokens: the same rules for a directory and for a real Redis server."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import pytest
import trustme

from switch_proxy.clock import SystemClock
from switch_proxy.core.addresses import parse_redis_address
from switch_proxy.core.config.models import RedisSettings, TlsSettings
from switch_proxy.core.errors import TokenStoreError
from switch_proxy.core.secret import Secret
from switch_proxy.core.token_sharing import MAX_ENTRY
from switch_proxy.tokens.directory_store import DirectoryStore
from switch_proxy.tokens.redis_store import RedisStore
from tests.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from switch_proxy.tokens.sharing import TokenStore

NAME: Final = "ab" * 32
OTHER: Final = "cd" * 32
LONG: Final = 60.0


class Stores:
    """Makes stores of one place, each as another process would have it."""

    def __init__(self, make: Callable[[], TokenStore]) -> None:
        self._make = make
        self._made: list[TokenStore] = []

    def one(self) -> TokenStore:
        self._made.append(self._make())
        return self._made[-1]

    async def close(self) -> None:
        for store in self._made:
            await store.close()


@pytest.fixture(params=["directory", "Redis"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    async with AsyncExitStack() as stack:
        if request.param == "directory":
            made = Stores(lambda: DirectoryStore(str(tmp_path / "tokens")))
        else:
            server = await stack.enter_async_context(redis_server(tmp_path))
            settings = RedisSettings(url=parse_redis_address(server.url))
            made = Stores(lambda: RedisStore(settings, password=None, clock=SystemClock()))
        yield made
        await made.close()


async def _entry(store: TokenStore, name: str = NAME) -> bytes | None:
    (entry,) = (await store.read((name,))).entries
    return entry


async def test_an_entry_is_read_by_others_as_it_was_written(stores: Stores) -> None:
    writer, reader = stores.one(), stores.one()
    assert await _entry(reader) is None
    lock = await writer.lock(NAME, lease=LONG)
    await writer.write(NAME, b"\x00\xff token", number=lock.number, lifetime=LONG)
    assert (await reader.read((OTHER, NAME))).entries == (None, b"\x00\xff token")


async def test_the_largest_entry_is_read_whole_and_a_larger_one_is_seen_as_such(stores: Stores) -> None:
    store = stores.one()
    lock = await store.lock(NAME, lease=LONG)
    await store.write(NAME, bytes(MAX_ENTRY), number=lock.number, lifetime=LONG)
    assert await _entry(store) == bytes(MAX_ENTRY)
    await store.write(NAME, bytes(MAX_ENTRY + 100), number=lock.number, lifetime=LONG)
    assert len(await _entry(store) or b"") == MAX_ENTRY + 1


async def test_a_lock_has_one_holder_and_the_next_one_a_higher_number(stores: Stores) -> None:
    first, second = stores.one(), stores.one()
    lock = await first.lock(NAME, lease=LONG)
    assert lock.is_ours
    refused = await second.lock(NAME, lease=LONG)
    assert (refused.is_ours, refused.number) == (False, lock.number)
    assert (await second.lock(OTHER, lease=LONG)).is_ours

    await first.write(NAME, b"entry", number=lock.number, lifetime=LONG)
    await first.unlock(NAME, number=lock.number)
    later = await second.lock(NAME, lease=LONG)
    assert later.is_ours
    assert later.number > lock.number


async def test_a_lock_that_was_released_without_an_entry_is_free(stores: Stores) -> None:
    store = stores.one()
    lock = await store.lock(NAME, lease=LONG)
    await store.unlock(NAME, number=lock.number)
    assert (await stores.one().lock(NAME, lease=LONG)).is_ours


async def _lock_at_last(store: TokenStore, lease: float) -> int:
    async with asyncio.timeout(20):
        while not (attempt := await store.lock(NAME, lease=lease)).is_ours:  # noqa: ASYNC110 - time has no event
            await asyncio.sleep(0.02)
    return attempt.number


async def test_a_lock_ends_with_its_lease_and_its_late_holder_overwrites_nothing(stores: Stores) -> None:
    late, other, reader = stores.one(), stores.one(), stores.one()
    lock = await late.lock(NAME, lease=0.1)
    number = await _lock_at_last(other, lease=0.1)
    await other.write(NAME, b"newer", number=number, lifetime=LONG)
    await late.write(NAME, b"late", number=lock.number, lifetime=LONG)
    assert await _entry(reader) == b"newer"


async def test_a_late_holder_does_not_release_the_lock_of_the_next_one(stores: Stores) -> None:
    late, other, third = stores.one(), stores.one(), stores.one()
    lock = await late.lock(NAME, lease=0.1)
    await _lock_at_last(other, lease=LONG if isinstance(other, RedisStore) else 0.1)
    await late.unlock(NAME, number=lock.number)
    assert not (await third.lock(NAME, lease=LONG)).is_ours


async def test_only_one_of_many_gets_the_lock(stores: Stores) -> None:
    attempts = await asyncio.gather(*(stores.one().lock(NAME, lease=LONG) for _ in range(20)))
    assert sum(attempt.is_ours for attempt in attempts) == 1


async def test_only_one_of_many_gets_an_abandoned_lock(stores: Stores) -> None:
    await stores.one().lock(NAME, lease=2.0)
    await asyncio.sleep(2.1)
    attempts = await asyncio.gather(*(stores.one().lock(NAME, lease=2.0) for _ in range(20)))
    assert sum(attempt.is_ours for attempt in attempts) == 1


async def test_the_stores_clock_moves_on(stores: Stores) -> None:
    store = stores.one()
    first = (await store.read(())).at
    await asyncio.sleep(0.1)
    assert first < (await store.read(())).at < first + 20


# --- the directory -------------------------------------------------------------------------------------------------


async def test_files_are_for_this_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    store = DirectoryStore(str(folder))
    lock = await store.lock(NAME, lease=LONG)
    await store.write(NAME, b"entry", number=lock.number, lifetime=LONG)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    await store.close()


async def test_old_entries_and_locks_do_not_pile_up(tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    store = DirectoryStore(str(folder))
    for _ in range(5):
        lock = await store.lock(NAME, lease=LONG)
        await store.write(NAME, b"entry", number=lock.number, lifetime=LONG)
        await store.unlock(NAME, number=lock.number)
    assert sorted(file.name for file in folder.iterdir()) == [".clock", f"{NAME}.entry.5"]


async def test_files_that_nobody_needs_any_more_are_removed_and_files_of_others_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    folder.mkdir(mode=0o700)
    month, hour = 33 * 86400, 4000
    ages = {
        f"{OTHER}.entry.7": month,
        f"{'ef' * 32}.entry.7": hour,
        f".{'0' * 16}.new": hour,
        f".{'1' * 16}.new": 0,
        "somebody-elses.txt": month,
    }
    for name, age in ages.items():
        (folder / name).write_bytes(b"x")
        at = (folder / name).stat().st_mtime - age
        os.utime(folder / name, (at, at))
    store = DirectoryStore(str(folder))
    lock = await store.lock(NAME, lease=LONG)
    await store.write(NAME, b"entry", number=lock.number, lifetime=LONG)
    await store.unlock(NAME, number=lock.number)
    left = {file.name for file in folder.iterdir()} - {".clock", f"{NAME}.entry.1"}
    assert left == {f"{'ef' * 32}.entry.7", f".{'1' * 16}.new", "somebody-elses.txt"}


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777], ids=oct)
async def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "tokens"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(TokenStoreError, match=rf"the directory {folder} may be written by others \(mode {mode:04o}\)"):
        await DirectoryStore(str(folder)).read((NAME,))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
async def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    with pytest.raises(TokenStoreError, match="belongs to user 12345, not to this process's"):
        await DirectoryStore(str(folder)).read((NAME,))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        pytest.param("missing/tokens", "No such file or directory", id="no directory above it"),
        pytest.param("file", "Not a directory", id="a file"),
        pytest.param("a\x00b", "no directory can have this name", id="NUL in its name"),
    ],
)
async def test_a_path_that_is_no_directory_is_told(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TokenStoreError, match=f"cannot be used: {reason}"):
        await DirectoryStore(str(tmp_path / path)).read((NAME,))


async def test_an_entry_that_is_no_file_is_as_good_as_none(tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    folder.mkdir(mode=0o700)
    (folder / f"{NAME}.entry.1").mkdir()
    os.mkfifo(folder / f"{OTHER}.entry.1")
    assert (await DirectoryStore(str(folder)).read((OTHER,))).entries == (None,)


_HOLD: Final = """
import asyncio, sys
from switch_proxy.tokens.directory_store import DirectoryStore
async def main():
    attempt = await DirectoryStore(sys.argv[1]).lock(sys.argv[2], lease=60.0)
    print(attempt.number, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.mark.parametrize(("number", "is_free"), [(signal.SIGKILL, True), (signal.SIGSTOP, False)], ids=["kill", "stop"])
async def test_a_lock_ends_with_its_process_but_not_while_that_is_paused(
    tmp_path: Path, number: signal.Signals, *, is_free: bool
) -> None:
    folder = str(tmp_path / "tokens")
    holder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _HOLD, folder, NAME), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert int(await holder.stdout.readline()) == 1
        store = DirectoryStore(folder)
        assert not (await store.lock(NAME, lease=LONG)).is_ours
        holder.send_signal(number)
        if is_free:
            await holder.wait()
        assert (await store.lock(NAME, lease=LONG)).is_ours is is_free
        # Its lease ends whatever its process does.
        await asyncio.sleep(0.05)
        assert (await DirectoryStore(folder).lock(OTHER, lease=0.01)).is_ours
        await store.close()
    finally:
        if holder.returncode is None:
            holder.kill()
            await holder.wait()


# --- Redis ---------------------------------------------------------------------------------------------------------


def _redis(
    url: str, *, username: str | None = None, password: str | None = None, tls: TlsSettings | None = None
) -> RedisStore:
    async def read() -> Secret:
        return Secret(password or "")

    settings = RedisSettings(url=parse_redis_address(url), tls=tls or TlsSettings())
    object.__setattr__(settings, "username", username)
    return RedisStore(settings, password=None if password is None else read, clock=SystemClock())


async def test_a_server_that_is_gone_is_told_and_used_again_once_it_is_back(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as server:
        store = _redis(server.url)
        await store.read((NAME,))
        await server.kill()
        with pytest.raises(TokenStoreError, match=f"the Redis server {server.url} cannot be used: "):
            await store.read((NAME,))
        await server.start()
        assert await _entry(store) is None
        await store.close()


@pytest.mark.parametrize(
    ("username", "password"),
    [
        pytest.param(None, None, id="none"),
        pytest.param(None, "wrong-hunter2", id="a wrong one"),
        pytest.param("nobody", "right-hunter2", id="a wrong user"),
    ],
)
async def test_a_login_that_is_refused_is_told_without_the_password(
    tmp_path: Path, username: str | None, password: str | None
) -> None:
    async with redis_server(tmp_path, "--requirepass", "right-hunter2") as server:
        store = _redis(server.url, username=username, password=password)
        with pytest.raises(TokenStoreError, match="the user or the password is wrong, or missing") as raised:
            await store.read((NAME,))
        assert "hunter2" not in str(raised.value)
        await store.close()


async def _use(store: TokenStore, name: str) -> None:
    """Do everything that a store is used for."""
    lock = await store.lock(name, lease=LONG)
    await store.write(name, b"entry", number=lock.number, lifetime=LONG)
    assert await _entry(store, name) == b"entry"
    await store.unlock(name, number=lock.number)


async def test_the_access_rule_of_the_page_is_enough_and_no_more(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as server:
        rule = ["on", ">hunter2", "resetkeys", "~switch-proxy:*", "resetchannels", "-@all"]
        commands = ["+eval", "+get", "+getrange", "+set", "+del", "+time", "+select"]
        assert (await server.command("ACL", "SETUSER", "switch-proxy", *rule, *commands)).startswith(b"+OK")
        store = _redis(server.url, username="switch-proxy", password="hunter2")
        await _use(store, NAME)
        await store.close()
        for left_out in ("+eval", "+get", "+getrange", "+set", "+del", "+time"):
            fewer = [command for command in commands if command != left_out]
            await server.command("ACL", "SETUSER", "switch-proxy", "reset", *rule, *fewer)
            store = _redis(server.url, username="switch-proxy", password="hunter2")
            with pytest.raises(TokenStoreError):
                await _use(store, OTHER)
            await store.close()


async def test_a_server_whose_memory_is_full_is_told(tmp_path: Path) -> None:
    async with redis_server(tmp_path, "--maxmemory", "100kb", "--maxmemory-policy", "noeviction") as server:
        store = _redis(server.url)
        with pytest.raises(TokenStoreError, match=r"its memory is full \(maxmemory\)"):
            await store.lock(NAME, lease=LONG)
        await store.close()


async def test_a_server_that_responds_with_something_else_is_told() -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    async with server:
        store = _redis(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(TokenStoreError, match="cannot be used: "):
            await store.read((NAME,))
        await store.close()


async def test_a_server_is_verified_by_its_certificate(tmp_path: Path) -> None:
    tls_authority = trustme.CA()
    certificate = tls_authority.issue_cert("localhost")
    files = {"cert": tmp_path / "cert.pem", "key": tmp_path / "key.pem", "ca": tmp_path / "ca.pem"}
    certificate.private_key_pem.write_to_path(str(files["key"]))
    certificate.cert_chain_pems[0].write_to_path(str(files["cert"]))
    tls_authority.cert_pem.write_to_path(str(files["ca"]))
    options = (
        *("--tls-cert-file", str(files["cert"]), "--tls-key-file", str(files["key"])),
        *("--tls-ca-cert-file", str(files["ca"]), "--tls-auth-clients", "no"),
    )
    async with redis_server(tmp_path) as plain, redis_server(tmp_path, *options) as server:
        await plain.kill()
        await server.command("CONFIG", "SET", "tls-port", str(plain.port))
        trusted = TlsSettings(ca_file=str(files["ca"]))
        store = _redis(f"rediss://localhost:{plain.port}", tls=trusted)
        assert await _entry(store) is None
        await store.close()
        for url, tls in ((f"rediss://127.0.0.1:{plain.port}", trusted), (f"rediss://localhost:{plain.port}", None)):
            store = _redis(url, tls=tls)
            with pytest.raises(TokenStoreError, match="certificate"):
                await store.read((NAME,))
            await store.close()


@pytest.mark.parametrize(
    ("before", "told"),
    [
        pytest.param("", "True", id="installed"),
        pytest.param("sys.modules['redis'] = None", "install switch-proxy[redis]", id="not installed"),
    ],
)
def test_the_redis_client_is_loaded_before_the_time_of_a_call_counts(before: str, told: str) -> None:
    """A CPU that is short makes its import take longer than a call may, and then each pod of a rollout would fetch a token."""
    script = f"""
import asyncio, sys
{before}
from switch_proxy.clock import SystemClock
from switch_proxy.core.addresses import parse_redis_address
from switch_proxy.core.config.models import RedisSettings
from switch_proxy.tokens.redis_store import RedisStore
store = RedisStore(RedisSettings(url=parse_redis_address("redis://127.0.0.1:1/0")), password=None, clock=SystemClock())
print(sys.modules.get("redis.asyncio") is not None)
try:
    asyncio.run(store.read(("a",)))
except Exception as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False)
    assert done.stderr == ""
    assert told in done.stdout
