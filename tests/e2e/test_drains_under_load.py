"""A proxy gets a signal to end while clients use it: none of their requests fails."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from tests.e2e.held_upstream import HeldUpstream
from tests.e2e.keep_alive_client import KeepAliveClient
from tests.e2e.proxy_process import proxy_process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import aiohttp

    from tests.e2e.conftest import Configure


async def wait_until(is_true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await is_true():  # noqa: ASYNC110 - it becomes true in another process
            await asyncio.sleep(0.01)


async def test_as_a_sidecar_it_answers_what_kept_connections_have_in_flight_and_lets_go_of_the_idle_ones(
    configure: Configure,
) -> None:
    """The app has ended by then, or is about to: no request that it sent is lost."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(HeldUpstream())
        proxy = await stack.enter_async_context(proxy_process(configure(upstream=upstream.url)))
        url = await proxy.url("switch-api")
        clients = [await stack.enter_async_context(KeepAliveClient(lambda: url)) for _ in range(16)]
        busy = clients[::2]
        async with asyncio.TaskGroup() as tasks:
            first = [tasks.create_task(client.get("/first")) for client in clients]
            await upstream.arrivals(len(first))
            upstream.release()
        upstream.hold()
        async with asyncio.TaskGroup() as tasks:
            in_flight = [tasks.create_task(client.get("/second")) for client in busy]
            await upstream.arrivals(len(first) + len(in_flight))
            proxy.send(signal.SIGTERM)
            await proxy.event("proxy.draining")
            upstream.release()
        assert await proxy.exit_code() == 0
    assert [task.result() for task in (*first, *in_flight)] == [(200, b"done")] * 24
    assert {client.connections for client in clients} == {1}
    assert "requests.cut" not in proxy.event_names


async def test_as_one_of_several_behind_a_service_it_hands_its_clients_over(
    configure: Configure, client: aiohttp.ClientSession
) -> None:
    """It serves until its endpoint is withdrawn, then it tells connected clients to close."""
    async with AsyncExitStack() as stack:
        fast, slow = [await stack.enter_async_context(HeldUpstream()) for _ in range(2)]
        fast.release()
        config = configure(
            shutdown={"drain_delay": "1s"},
            routes=[
                {"name": name, "listen": "127.0.0.1:0", "upstream": upstream.url, "credential": "switch"}
                for name, upstream in (("fast", fast), ("slow", slow))
            ],
        )
        ending, staying = [await stack.enter_async_context(proxy_process(config)) for _ in range(2)]
        fast_urls = [await proxy.url("fast") for proxy in (ending, staying)]
        slow_url, admin = await ending.url("slow"), await ending.url("admin")
        for proxy in (ending, staying):
            await proxy.event("proxy.became_ready")
        answers: list[tuple[int, bytes]] = []
        has_load_ended = asyncio.Event()

        async def send_requests(first: str) -> None:
            endpoint = iter([first])
            async with KeepAliveClient(lambda: next(endpoint, None) or fast_urls[-1]) as keeping:
                while not has_load_ended.is_set():
                    answers.append(await keeping.get("/load"))

        async def has_endpoint_gone() -> bool:
            async with client.get(f"{admin}/readyz") as response:
                return response.status == 503

        async def has_stopped_accepting() -> bool:
            try:
                _, writer = await asyncio.open_connection(*slow_url.removeprefix("http://").split(":"))
            except ConnectionRefusedError:
                return True
            writer.close()
            return False

        async def has_answered(count: int) -> bool:
            return len(answers) >= count

        async with asyncio.TaskGroup() as tasks:
            for number in range(8):
                tasks.create_task(send_requests(fast_urls[number % 2]))
            waiting = [await stack.enter_async_context(KeepAliveClient(lambda: slow_url)) for _ in range(4)]
            in_flight = [tasks.create_task(each.get("/slow")) for each in waiting]
            await slow.arrivals(4)
            await wait_until(lambda: has_answered(200))
            ending.send(signal.SIGTERM)
            await wait_until(has_endpoint_gone)
            await wait_until(has_stopped_accepting)
            slow.release()
            assert await ending.exit_code() == 0
            so_far = len(answers)
            await wait_until(lambda: has_answered(so_far + 200))
            has_load_ended.set()
    assert set(answers) == {(200, b"done")}
    assert [task.result() for task in in_flight] == [(200, b"done")] * 4
    assert not {"requests.cut", "request.failed"} & {*ending.event_names, *staying.event_names}
