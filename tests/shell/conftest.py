"""What holds for the tests of the shell: nothing of the proxy blocks the event loop, and the loop counts its work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from blockbuster import blockbuster_ctx

from tests.manual_clock import CountingLoop

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Mapping


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on a loop whose quiescence can be seen, so that manual time waits for it."""
    return {"counting": CountingLoop}


@pytest.fixture(autouse=True)
def _nothing_blocks_the_loop() -> Iterator[None]:
    """Fail if code of the package calls what may block while a loop runs: files, sockets, locks, sleep."""
    with blockbuster_ctx("switch_proxy"):
        yield
