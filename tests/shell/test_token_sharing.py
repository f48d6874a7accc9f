"""Whole proxies that share a store of tokens: real requests to the rationing fake, real files, a real Redis server."""

from __future__ import annotations

import asyncio
import base64
import re
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
import yaml

from switch_proxy.app import running
from switch_proxy.demo.auth_server import SWITCH_AUDIENCE, FakeAuthorizationServer
from switch_proxy.demo.faults import Hang, Status
from switch_proxy.demo.switch_api import FakeSwitchAPI
from switch_proxy.settings import parse
from tests.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from switch_proxy.app import Application
    from switch_proxy.core.lifecycle import CredentialStatus
    from tests.redis_server import RedisServer

SECRET: Final = "zebra-quilt-vortex-secret-of-the-client"
WITHIN: Final = 20.0
READINGS: Final = "/api/readings?organizationId=1&registerId=1&start=2025-11-03T15%3A51%3A44Z&end=2025-11-04T15%3A51%3A44Z&resolution=3600"


@dataclass
class Fleet:
    """Proxies of one client that share a store, in front of the fakes."""

    auth: FakeAuthorizationServer
    api: FakeSwitchAPI
    store: dict[str, Any]
    folder: Path
    redis: RedisServer | None

    @asynccontextmanager
    async def proxy(self, *, secret: str = "client_secret", **changes: Any) -> AsyncIterator[Application]:
        """Run one more; `secret` is the name of its file, `changes` are of its credential."""
        credential = {
            "token_url": self.auth.token_url,
            "client_id": self.auth.client_id,
            "client_secret": {"file": str(self.folder / secret)},
            "audience": SWITCH_AUDIENCE,
            **changes,
        }
        settings = {
            "credentials": {"switch": credential},
            "routes": [
                {"name": "api", "listen": "127.0.0.1:0", "upstream": self.api.url, "credential": "switch"},
            ],
            "token_store": self.store,
            "admin": {"listen": "off"},
            "shutdown": {"grace_period": "1s"},
        }
        async with running(parse(yaml.safe_dump(settings).encode(), source="test", environ={})) as application:
            yield application

    async def run_once(self, **changes: Any) -> None:
        """Run one that ends as soon as it has served a request."""
        async with self.proxy(**changes) as application:
            assert await get(application) == 200

    @property
    def issued(self) -> int:
        """Return the number of tokens that have been issued."""
        return len(self.auth.issued)

    async def stored(self) -> bytes:
        """Return all that is in the store, names and contents."""
        if self.redis is None:
            files = [file for file in (self.folder / "tokens").iterdir() if file.is_file()]
            return b"\n".join(part for file in files for part in (file.name.encode(), file.read_bytes()))
        names = [name for name in (await self.redis.command("KEYS", "*")).split(b"\r\n") if name.startswith(b"switch-")]
        return b"\n".join([*names, *[await self.redis.command("GET", name.decode()) for name in names]])


@pytest.fixture(params=["directory", "Redis"])
async def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Fleet]:
    (tmp_path / "client_secret").write_text(SECRET)
    async with AsyncExitStack() as stack:
        auth = await stack.enter_async_context(FakeAuthorizationServer(client_id="app", client_secret=SECRET))
        api = await stack.enter_async_context(FakeSwitchAPI(introspect=auth.introspect))
        redis = None
        store: dict[str, Any] = {"directory": str(tmp_path / "tokens")}
        if request.param == "Redis":
            redis = await stack.enter_async_context(redis_server(tmp_path))
            store = {"redis": {"url": redis.url}}
        yield Fleet(auth=auth, api=api, store=store, folder=tmp_path, redis=redis)


async def get(application: Application) -> int:
    host, port = application.addresses["api"]
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}{READINGS}") as response:
        await response.read()
        return response.status


def status(application: Application) -> CredentialStatus:
    (credential,) = application.snapshot_health().credentials
    return credential


async def until(application: Application, holds: Callable[[CredentialStatus], object]) -> CredentialStatus:
    async with asyncio.timeout(WITHIN):
        while not holds(status(application)):  # noqa: ASYNC110 - a status has no event
            await asyncio.sleep(0.01)
    return status(application)


# --- one token per life --------------------------------------------------------------------------------------------


async def test_pods_that_start_one_after_the_other_need_one_token(fleet: Fleet) -> None:
    """Eleven in an hour are one more than the ration has tokens."""
    for _ in range(11):
        await fleet.run_once()
    assert fleet.issued == 1


async def test_a_container_that_restarts_finds_its_token_in_a_volume_that_all_may_write(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Kubernetes makes an emptyDir so; the proxy makes a directory of its own in it (k8s/component)."""
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    fleet.store = {"directory": str(volume / "tokens")}
    for _ in range(3):
        async with fleet.proxy() as application:
            assert await get(application) == 200
            store = status(application).store
            assert store is not None
            assert store.error is None
    assert fleet.issued == 1
    assert (volume / "tokens").stat().st_mode & 0o777 == 0o700


async def test_a_store_without_a_place_is_as_good_as_none(fleet: Fleet) -> None:
    fleet.store = {"directory": ""}
    for _ in range(2):
        async with fleet.proxy() as application:
            assert await get(application) == 200
            assert status(application).store is None
    assert fleet.issued == 2


async def test_pods_that_start_at_once_need_one_token_and_serve_at_once(fleet: Fleet) -> None:
    async with AsyncExitStack() as stack:
        pods = [await stack.enter_async_context(fleet.proxy()) for _ in range(40)]
        assert set(await asyncio.gather(*(get(pod) for pod in pods))) == {200}
    assert fleet.issued == 1


async def test_credentials_that_differ_do_not_share(fleet: Fleet) -> None:
    fleet.auth.add_client("other", audience=SWITCH_AUDIENCE, client_secret="the-secret-of-another-client")
    (fleet.folder / "other_secret").write_text("the-secret-of-another-client")
    await fleet.run_once()
    await fleet.run_once(client_id="other", secret="other_secret")
    await fleet.run_once(auth_method="client_secret_basic")
    assert fleet.issued == 3
    await fleet.run_once()
    assert fleet.issued == 3


async def test_a_token_that_was_found_says_so(fleet: Fleet) -> None:
    async with fleet.proxy() as first, fleet.proxy() as second:
        await until(first, lambda each: each.is_usable)
        found = await until(second, lambda each: each.is_usable)
        assert {status(first).is_found, found.is_found} == {False, True}
        store = status(first if status(first).is_found else second).store
        assert store is not None
        assert (store.found, store.error, store.errors, store.ignored) == (1, None, 0, {})


# --- refused tokens, refused clients -------------------------------------------------------------------------------


async def test_a_revoked_token_costs_one_token_for_all(fleet: Fleet) -> None:
    async with AsyncExitStack() as stack:
        pods = [await stack.enter_async_context(fleet.proxy()) for _ in range(10)]
        await asyncio.gather(*(get(pod) for pod in pods))
        fleet.auth.revoke_all()
        for _ in range(3):
            assert set(await asyncio.gather(*(get(pod) for pod in pods))) == {200}
    assert fleet.issued == 2


async def test_the_budget_for_tokens_that_a_401_may_cost_is_that_of_all(fleet: Fleet) -> None:
    """An API that refuses every token: one pod has forced a fetch, and nobody forces another within the minute."""
    with fleet.api.faults.during(Status(code=401)):
        async with AsyncExitStack() as stack:
            pods = [await stack.enter_async_context(fleet.proxy()) for _ in range(5)]
            for _ in range(3):
                assert set(await asyncio.gather(*(get(pod) for pod in pods))) == {401}
        # Nor after a restart of each.
        for _ in range(3):
            async with fleet.proxy() as pod:
                assert await get(pod) == 401
    assert fleet.issued == 2


async def test_a_wrong_secret_is_tried_once_for_all_who_have_it(fleet: Fleet) -> None:
    (fleet.folder / "client_secret").write_text("a-wrong-secret-that-all-pods-have")
    async with AsyncExitStack() as stack:
        pods = [await stack.enter_async_context(fleet.proxy()) for _ in range(10)]
        refused = [await until(pod, lambda each: each.last_error) for pod in pods]
        assert len(fleet.auth.requests) == 1
        assert len({each.last_error for each in refused}) == 1
        assert all(each.refused_since is not None for each in refused)
        # Who has another secret is not held up by it.
        (fleet.folder / "right").write_text(SECRET)
        await fleet.run_once(secret="right")
    assert len(fleet.auth.requests) == 2


async def test_a_used_up_quota_is_met_once_for_all(fleet: Fleet) -> None:
    fleet.auth.use_up_quota()
    async with AsyncExitStack() as stack:
        pods = [await stack.enter_async_context(fleet.proxy()) for _ in range(10)]
        told = [await until(pod, lambda each: each.last_error) for pod in pods]
        assert all(each.is_exhausted for each in told)
        resets = [each.exhausted_until or 0.0 for each in told]
        assert max(resets) - min(resets) < 1.0
    assert len(fleet.auth.requests) == 1


async def test_a_rotated_secret_costs_one_token_for_all_and_fails_nothing(fleet: Fleet) -> None:
    async with AsyncExitStack() as stack:
        pods = [await stack.enter_async_context(fleet.proxy()) for _ in range(10)]
        assert set(await asyncio.gather(*(get(pod) for pod in pods))) == {200}
        (fleet.folder / "client_secret").write_text(fleet.auth.rotate_secret())
        for pod in pods:
            pod.refresh_credentials()
        await asyncio.gather(*(until(pod, lambda each: each.generation == 2) for pod in pods))
        assert set(await asyncio.gather(*(get(pod) for pod in pods))) == {200}
    assert fleet.issued == 2


async def test_after_a_rotation_the_old_entry_is_read_with_the_previous_secret(fleet: Fleet) -> None:
    await fleet.run_once()
    (fleet.folder / "previous").write_text(SECRET)
    (fleet.folder / "client_secret").write_text(fleet.auth.rotate_secret())
    await fleet.run_once(previous_client_secret={"file": str(fleet.folder / "previous")})
    assert fleet.issued == 1
    await fleet.run_once()
    assert fleet.issued == 2


async def test_with_an_encryption_key_the_entry_outlives_the_secret(fleet: Fleet) -> None:
    (fleet.folder / "key").write_text("k" * 32)
    fleet = replace(fleet, store={**fleet.store, "encryption_key": {"file": str(fleet.folder / "key")}})
    await fleet.run_once()
    (fleet.folder / "client_secret").write_text(fleet.auth.rotate_secret())
    await fleet.run_once()
    assert fleet.issued == 1
    (fleet.folder / "key").write_text("another" * 32)
    await fleet.run_once()
    assert fleet.issued == 2


# --- nothing readable ----------------------------------------------------------------------------------------------


async def test_nothing_secret_is_in_the_store_or_in_the_log(fleet: Fleet, capfd: pytest.CaptureFixture[str]) -> None:
    await fleet.run_once()
    await fleet.run_once()
    (fleet.folder / "wrong").write_text("vortex-zebra-another-secret")
    async with fleet.proxy(secret="wrong") as refused:
        await until(refused, lambda each: each.last_error)
    written = await fleet.stored() + capfd.readouterr().out.encode()
    assert b"token.found" in written
    token = fleet.auth.issued[0].value
    for text in (SECRET, token, token.split(".")[2], "vortex-zebra-another-secret", fleet.auth.token_url):
        raw = text.encode()
        if raw == fleet.auth.token_url.encode():
            # Its address is in the log, but not in the store.
            assert raw not in await fleet.stored()
            continue
        for shape in (
            raw,
            base64.b64encode(raw).rstrip(b"="),
            base64.urlsafe_b64encode(raw).rstrip(b"="),
            raw.hex().encode(),
        ):
            assert shape not in written


# --- a store that fails --------------------------------------------------------------------------------------------


async def _break(fleet: Fleet, how: str) -> None:
    if fleet.redis is None:
        _break_directory(fleet.folder / "tokens", how)
    elif how == "away":
        await fleet.redis.kill()
    elif how == "hung":
        fleet.redis.send(signal.SIGSTOP)
    else:
        for name in (await fleet.redis.command("KEYS", "*:entry")).split(b"\r\n"):
            if name.startswith(b"switch-proxy:"):
                await fleet.redis.command("SET", name.decode(), "0000000000000001SPT\x01 no ciphertext of ours at all")


def _break_directory(folder: Path, how: str) -> None:
    if how == "away":
        if folder.exists():
            folder.rename(folder.with_name("elsewhere"))
        folder.write_text("no directory")
    elif how == "hung":
        # No local file system hangs; a directory that others may write to is refused.
        folder.chmod(0o777)
    else:
        for file in folder.glob("*.entry.*"):
            file.write_bytes(b"SPT\x01" + bytes(100))


@pytest.mark.parametrize("how", ["away", "hung", "corrupted"])
async def test_a_store_that_fails_costs_a_token_and_fails_nothing(fleet: Fleet, how: str) -> None:
    await fleet.run_once()
    await _break(fleet, how)
    async with fleet.proxy() as pod:
        assert await get(pod) == 200
        store = status(pod).store
        assert store is not None
        if how == "corrupted":
            # Once for each look: it looks again while it waits for a lock that the one before may have left behind.
            assert set(store.ignored) == {"encrypted with another key"}
        else:
            assert store.error is not None
            assert pod.judge_readiness().is_ok
    assert fleet.issued == 2


async def test_a_store_that_comes_back_is_used_again(fleet: Fleet) -> None:
    await _break(fleet, "away")
    async with fleet.proxy() as pod:
        assert await get(pod) == 200
        if fleet.redis is None:
            (fleet.folder / "tokens").unlink()
        else:
            await fleet.redis.start()
        # The next fetch stores its token.
        fleet.auth.revoke_all()
        assert await get(pod) == 200
        await until(pod, lambda each: each.store is not None and each.store.error is None)
        assert fleet.issued == 2
        await fleet.run_once()
    assert fleet.issued == 2


async def test_a_fetch_that_hangs_keeps_the_others_waiting_for_the_lock_only(fleet: Fleet) -> None:
    """The lock of the first ends after two seconds, within the time that a request waits for a token."""
    fleet.auth.faults.add(Hang())
    async with fleet.proxy() as first:
        await fleet.auth.wait_for_requests(1)
        async with fleet.proxy() as second:
            assert await get(second) == 200
        assert not status(first).is_usable
    assert fleet.issued == 1


async def test_without_a_ration_the_store_being_away_causes_no_request_that_is_in_vain(fleet: Fleet) -> None:
    fleet.auth.use_up_quota()
    async with fleet.proxy() as pod:
        await until(pod, lambda each: each.is_exhausted)
        await _break(fleet, "away")
        pod.refresh_credentials()
        await asyncio.sleep(0.1)
        assert status(pod).is_exhausted
    assert len(fleet.auth.requests) == 1


@pytest.mark.parametrize("how", ["full", "read-only"])
async def test_a_store_that_cannot_be_written_to_fails_nothing(fleet: Fleet, how: str) -> None:
    async with AsyncExitStack() as stack:
        if fleet.redis is None:
            await _mount(stack, fleet.folder / "tokens", "size=4k" if how == "full" else "ro")
        elif how == "full":
            await fleet.redis.command("CONFIG", "SET", "maxmemory", "100kb")
        else:
            await fleet.redis.command("REPLICAOF", "127.0.0.1", "1")
        pod = await stack.enter_async_context(fleet.proxy())
        assert await get(pod) == 200
        assert await get(pod) == 200
        told = await until(pod, lambda each: each.store is not None and each.store.error)
        assert told.store is not None
        reasons = ("No space left on device", "Read-only file system", "its memory is full", "it is a replica")
        assert any(reason in (told.store.error or "") for reason in reasons)
    assert fleet.issued == 1


async def _mount(stack: AsyncExitStack, folder: Path, options: str) -> None:
    """Mount a small file system that is full, or may not be written to. Skips the test if this process may not."""
    folder.mkdir(mode=0o700)  # noqa: ASYNC240 - before anything runs
    command = ("mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "tmpfs", str(folder))
    mounted = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    if await mounted.wait() != 0:
        pytest.skip("this process may not mount a file system")
    stack.push_async_callback(_unmount, folder)
    if options != "ro":
        (folder / "filler").write_bytes(bytes(4096))


async def _unmount(folder: Path) -> None:
    await (await asyncio.create_subprocess_exec("umount", "--lazy", str(folder))).wait()


async def test_a_job_that_ends_as_soon_as_it_is_served_leaves_its_token_and_no_lock(fleet: Fleet) -> None:
    """Its shutdown waits until the token is stored: otherwise each run of the job would fetch one."""
    for _ in range(5):
        async with fleet.proxy() as job:
            await until(job, lambda each: each.is_usable)
    assert fleet.issued == 1
    assert re.search(rb"[.:]lock", await fleet.stored()) is None


async def test_a_process_that_ends_during_its_fetch_holds_up_nobody(fleet: Fleet) -> None:
    fleet.auth.faults.add(Hang())
    async with fleet.proxy():
        await fleet.auth.wait_for_requests(1, within=WITHIN)
    assert re.search(rb"[.:]lock", await fleet.stored()) is None


async def test_an_encryption_key_that_cannot_be_read_fails_nothing(fleet: Fleet) -> None:
    fleet = replace(fleet, store={**fleet.store, "encryption_key": {"file": str(fleet.folder / "missing")}})
    async with fleet.proxy() as pod:
        assert await get(pod) == 200
        store = status(pod).store
        assert store is not None
        assert "no encryption key: the file" in (store.error or "")
    assert fleet.issued == 1


async def test_credentials_of_one_process_use_the_store_at_once(fleet: Fleet) -> None:
    """Each waits for the other's call, and neither goes on without the store."""
    credentials = {}
    for number in range(8):
        secret = f"the-secret-of-the-client-number-{number}"
        fleet.auth.add_client(f"app-{number}", audience=SWITCH_AUDIENCE, client_secret=secret)
        (fleet.folder / f"secret-{number}").write_text(secret)
        credentials[f"switch-{number}"] = {
            "token_url": fleet.auth.token_url,
            "client_id": f"app-{number}",
            "client_secret": {"file": str(fleet.folder / f"secret-{number}")},
            "audience": SWITCH_AUDIENCE,
        }
    route = {"name": "api", "listen": "127.0.0.1:0", "upstream": fleet.api.url, "credential": "switch-0"}
    settings = {
        "credentials": credentials,
        "routes": [route],
        "token_store": fleet.store,
        "admin": {"listen": "off"},
        "shutdown": {"grace_period": "1s"},
    }
    for issued in (8, 8):
        async with running(parse(yaml.safe_dump(settings).encode(), source="test", environ={})) as application:
            async with asyncio.timeout(WITHIN):
                while not all(each.is_usable for each in application.snapshot_health().credentials):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            stores = [each.store for each in application.snapshot_health().credentials]
            assert [store.errors for store in stores if store is not None] == [0] * 8
        assert fleet.issued == issued
