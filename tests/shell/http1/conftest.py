"""The loop of the product, and worlds to test in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from tests.shell.http1.tokens import access_token
from tests.shell.http1.world import World, running_world

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Mapping

StartWorld = Callable[..., Awaitable[World]]
"""Takes what `running_world` takes; a valid token is the default."""


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on uvloop, as the product does."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def start_world() -> AsyncIterator[StartWorld]:
    """Start worlds with settings of their own; each ends, and is checked, after the test."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> World:
            settings.setdefault("token", access_token())
            return await stack.enter_async_context(running_world(**settings))

        yield start


@pytest.fixture
async def world(start_world: StartWorld) -> World:
    """The world with default settings."""
    return await start_world()
