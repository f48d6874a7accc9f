"""The loop of the product, and worlds to test in."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import uvloop

from tests.shell.http1.tokens import access_token
from tests.shell.http1.world import World, running_world

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Mapping

    from proxy.core.tokens import AccessToken

    from tests.shell.http1.raw_upstream import RawUpstream


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on uvloop, as the product does."""
    return {"uvloop": uvloop.new_event_loop}


class StartWorld(Protocol):
    """Starts a world with settings of its own; it ends, and is checked, after the test."""

    async def __call__(
        self,
        *,
        token: AccessToken | None = ...,
        upstream: RawUpstream | None = None,
        host: str = "127.0.0.1",
        base_path: str = "",
        **settings: Any,
    ) -> World: ...


@pytest.fixture
async def start_world() -> AsyncIterator[StartWorld]:
    valid_token = access_token()
    async with AsyncExitStack() as stack:

        async def start(
            *,
            token: AccessToken | None = valid_token,
            upstream: RawUpstream | None = None,
            host: str = "127.0.0.1",
            base_path: str = "",
            **settings: Any,
        ) -> World:
            return await stack.enter_async_context(
                running_world(token=token, upstream=upstream, host=host, base_path=base_path, **settings)
            )

        yield start


@pytest.fixture
async def world(start_world: StartWorld) -> World:
    """The world with default settings."""
    return await start_world()
