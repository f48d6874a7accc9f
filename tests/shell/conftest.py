"""What holds for the tests of the shell: nothing of the proxy blocks the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from blockbuster import blockbuster_ctx

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _nothing_blocks_the_loop() -> Iterator[None]:
    """Fail where code of the package calls what may block while a loop runs: files, sockets, locks, sleep."""
    with blockbuster_ctx("switch_proxy"):
        yield
