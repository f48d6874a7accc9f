"""A headless Chromium that opens one page, and is ended with everything it has started."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_PROGRAM: Final = shutil.which("chromium") or shutil.which("chromium-browser")

needs_chromium: Final = pytest.mark.skipif(_PROGRAM is None, reason="Chromium is not installed (apt install chromium)")

ATTACKER: Final = "attacker.test"
"""A host of its own for the browser, on loopback like everything here."""
REBOUND: Final = "rebound.test"

_HOSTS: Final = (
    f"MAP {ATTACKER} 127.0.0.1, MAP {REBOUND} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"
)

_OPTIONS: Final = (
    # Its own sandbox needs rights that a container seldom has; it opens nothing but the pages of the test.
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    f"--host-resolver-rules={_HOSTS}",
    # A later defence of its own, which asks the user; without it the test shows what all browsers let through.
    "--disable-features=LocalNetworkAccessChecks",
)


@asynccontextmanager
async def open_page(url: str, *, profile: Path) -> AsyncIterator[None]:
    """Open a page for as long as the context lasts; `profile` is an empty folder."""
    assert _PROGRAM is not None
    process = await asyncio.create_subprocess_exec(
        *(_PROGRAM, *_OPTIONS, f"--user-data-dir={profile}", url),
        env={**os.environ, "HOME": str(profile)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        # A group of its own, so that its helpers end with it.
        start_new_session=True,
    )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
