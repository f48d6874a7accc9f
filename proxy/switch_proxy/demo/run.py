"""
The demo: both fakes, the real proxy before them, and an app that sends requests through it.

`main` is `switch-proxy demo`. It runs the script once and then stays up to be tried by hand; with `once` it ends
after the script, with `serve` it leaves the script out and only serves.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvloop

from switch_proxy.app import running
from switch_proxy.core.addresses import Address, is_loopback_host, parse_origin
from switch_proxy.core.config.models import (
    AdminSettings,
    CredentialSettings,
    LogSettings,
    RouteSettings,
    SecretSource,
    Settings,
    ShutdownSettings,
)
from switch_proxy.core.errors import SwitchProxyError
from switch_proxy.demo.auth_server import SWITCH_AUDIENCE, FakeAuthorizationServer
from switch_proxy.demo.fake_server import reachable
from switch_proxy.demo.narration import narrator_for
from switch_proxy.demo.script import METERS, POSTED, READINGS, SHORT_LIFETIME, Script, World
from switch_proxy.demo.switch_api import FakeSwitchAPI

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from switch_proxy.demo.narration import Check, Narrator

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
"""Of a script that was not run to its end: 128 + SIGINT, as shells have it."""

_ROUTE = "switch-api"

LONG_LIFETIME = 60.0
"""Seconds that tokens live once the script is over: short enough to watch them go, on the admin page."""

_SECRET_VARIABLE = "DEMO_CLIENT_SECRET"  # noqa: S105 - the name of it
"""Handed to the proxy alone, in place of a file: the demo runs on a read-only file system too, as in a container."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where to listen; port 0 is any free one, `0.0.0.0` and `::` are all addresses there are."""

    host: str = "127.0.0.1"
    proxy: int = 0
    admin: int = 0
    auth_server: int = 0
    switch_api: int = 0


def main(
    *,
    once: bool = False,
    serve: bool = False,
    places: Places | None = None,
    client_secret: str | None = None,
    lifetime: float = LONG_LIFETIME,
    prepare: Callable[[World], None] | None = None,
) -> int:
    """
    Run the demo and return its exit code: 1 where anything was not as it must be, else 0.

    The client's secret is random unless one is given; `lifetime` (seconds) is that of tokens once there is no script,
    or no more of it. `prepare` is called with the running world before the script begins: a test makes the fakes
    misbehave there.
    """
    narrator = narrator_for(sys.stdout, os.environ)
    world = _open_world(
        client_secret=client_secret or secrets.token_urlsafe(48),
        places=places or Places(),
        lifetime=lifetime if serve else SHORT_LIFETIME,
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(world, narrator, once=once, serve=serve, lifetime=lifetime, prepare=prepare))
    except BrokenPipeError:
        # Whoever read this has seen enough (`| head`); the interpreter shall not complain of it at its end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


async def _run(
    opening: AbstractAsyncContextManager[World],
    narrator: Narrator,
    *,
    once: bool,
    serve: bool,
    lifetime: float,
    prepare: Callable[[World], None] | None,
) -> int:
    interrupted = _cancel_on_signals()
    exit_code = EXIT_INTERRUPTED if once else EXIT_OK
    try:
        async with AsyncExitStack() as stack:
            try:
                world = await stack.enter_async_context(opening)
            except (OSError, SwitchProxyError) as error:
                print(f"switch-proxy: the demo cannot start: {error}", file=sys.stderr)
                return EXIT_FAILED
            _introduce(narrator, world)
            if prepare is not None:
                prepare(world)
            if not serve:
                exit_code = _summed_up(narrator, await Script(world, narrator).run())
                world.auth.lifetime = lifetime
            if not once:
                _invite(narrator, world)
                await asyncio.Event().wait()  # until a signal comes
    except asyncio.CancelledError:
        if not interrupted.is_set():
            raise
        narrator.text("")  # the terminal has ^C on this line
    return exit_code


@asynccontextmanager
async def _open_world(*, client_secret: str, places: Places, lifetime: float) -> AsyncIterator[World]:
    """Start the fakes and the proxy before them. Raises OSError or SwitchProxyError where one cannot start."""
    auth = FakeAuthorizationServer(
        client_id="demo-client",
        client_secret=client_secret,
        lifetime=lifetime,
        host=places.host,
        port=places.auth_server,
    )
    api = FakeSwitchAPI(introspect=auth.introspect, host=places.host, port=places.switch_api)
    environ = {**os.environ, _SECRET_VARIABLE: client_secret}
    async with auth, api, running(_settings(auth, api, places), environ=environ) as application:
        yield World(
            auth=auth,
            api=api,
            proxy_url=_url(application.addresses[_ROUTE]),
            admin_url=_url(application.addresses["admin"]),
        )


def _settings(auth: FakeAuthorizationServer, api: FakeSwitchAPI, places: Places) -> Settings:
    """Return the configuration of the proxy before the fakes: what a user would write, and less of logs."""
    is_remote = not is_loopback_host(places.host)
    return Settings(
        credentials={
            "switch": CredentialSettings(
                token_url=auth.token_url,
                client_id=auth.client_id,
                client_secret=SecretSource(env=_SECRET_VARIABLE),
                audience=SWITCH_AUDIENCE,
                allow_plaintext=is_remote,
            )
        },
        routes=(
            RouteSettings(
                name=_ROUTE,
                listen=Address(host=places.host, port=places.proxy),
                upstream=parse_origin(api.url),
                credential="switch",
                allow_remote_clients=is_remote,
                allow_plaintext=is_remote,
            ),
        ),
        admin=AdminSettings(listen=Address(host=places.host, port=places.admin), allow_remote_clients=is_remote),
        log=LogSettings(level="warning", format="console", access="off"),
        shutdown=ShutdownSettings(grace_period=2.0),
    )


def _cancel_on_signals() -> asyncio.Event:
    """Cancel this task on SIGINT and SIGTERM, once; a second signal ends the process as it always does."""
    interrupted = asyncio.Event()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    handled = (signal.SIGINT, signal.SIGTERM)

    def interrupt() -> None:
        interrupted.set()
        for number in handled:
            loop.remove_signal_handler(number)
        if task is not None:
            task.cancel()

    for number in handled:
        loop.add_signal_handler(number, interrupt)
    return interrupted


def _introduce(narrator: Narrator, world: World) -> None:
    narrator.title("switch-proxy: an app, the proxy, and fakes of what stands behind it")
    narrator.fact("app", "plain HTTP, no secret, no token")
    narrator.fact("proxy", f"{world.proxy_url}  (admin: {world.admin_url})")
    narrator.fact("Switch API", f"{world.api.url}  (fake)")
    narrator.fact("tokens", f"{world.auth.token_url}  (fake; they live {world.auth.lifetime:g} s)")


def _summed_up(narrator: Narrator, checks: Sequence[Check]) -> int:
    failed = [check for check in checks if not check.holds]
    if not failed:
        narrator.title(f"All {len(checks)} checks hold.")
        return EXIT_OK
    narrator.title(f"{len(failed)} of {len(checks)} checks failed:")
    for check in failed:
        narrator.check(check)
    return EXIT_FAILED


def _invite(narrator: Narrator, world: World) -> None:
    narrator.title("Now it is yours to try. Ctrl-C ends it.")
    narrator.text(f"From the next one on, tokens live {world.auth.lifetime:g} s.")
    narrator.command(f"curl -i '{world.proxy_url}{READINGS}'", "read, without a token")
    narrator.command(
        f"curl -i '{world.proxy_url}/api/readings' -H 'Content-Type: application/json' -d '{POSTED.decode()}'",
        "post; more than five times a second it answers 429",
    )
    narrator.command(f"curl -i '{world.api.url}{METERS}'", "past the proxy: 401")
    narrator.command(f"curl -i '{world.admin_url}/readyz'", "is it ready, and why")
    narrator.command(f"curl -s '{world.admin_url}/metrics'", "what it counts")


def _url(address: tuple[str, int]) -> str:
    host, port = address
    return f"http://{Address(host=reachable(host), port=port)}"
