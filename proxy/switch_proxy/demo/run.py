"""
The demo: both fakes, the real proxy in front of them, and an app that sends requests through it.

`main` is `switch-proxy demo`. It runs the script once and then keeps running, so that people can try it by hand. With
`once` it ends after the script; with `serve` it only serves, without the script.
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
from switch_proxy.demo.auth_server import (
    SWITCH_AUDIENCE,
    TOKENS_PER_DAY,
    TOKENS_PER_HOUR,
    FakeAuthorizationServer,
)
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
"""The script was interrupted: 128 + SIGINT, as in shells."""

_ROUTE = "switch-api"

LONG_LIFETIME = 60.0
"""Token lifetime after the script, in seconds: short enough to watch tokens expire on the admin page."""

SERVED_LIFETIME = 86400.0
"""Token lifetime with `serve`, in seconds: that of production."""

_SECRET_VARIABLE = "DEMO_CLIENT_SECRET"  # noqa: S105 - its name
"""The proxy's secret, in a variable and not in a file: the demo also runs on a read-only file system, as in a container."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where to listen. Port 0 is any free port; `0.0.0.0` and `::` are all addresses of the machine."""

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
    lifetime: float | None = None,
    has_quota: bool = True,
    quota_lag: float = 0.0,
    prepare: Callable[[World], None] | None = None,
) -> int:
    """
    Run the demo and return its exit code: 0 if every check passes, else 1.

    The default client secret is random. `lifetime` (seconds) is the token lifetime after the script, or without it; by
    default LONG_LIFETIME or SERVED_LIFETIME. With `serve` tokens are rationed as in production if it `has_quota`; the script's
    tokens live too short for that. A token counts `quota_lag` seconds after it was granted.
    `prepare` is called with the running world before the script begins; tests add faults there.
    """
    narrator = narrator_for(sys.stdout, os.environ)
    if lifetime is None:
        lifetime = SERVED_LIFETIME if serve else LONG_LIFETIME
    world = _open_world(
        client_secret=client_secret or secrets.token_urlsafe(48),
        places=places or Places(),
        lifetime=lifetime if serve else SHORT_LIFETIME,
        has_quota=serve and has_quota,
        quota_lag=quota_lag,
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(world, narrator, once=once, serve=serve, lifetime=lifetime, prepare=prepare))
    except BrokenPipeError:
        # The reader of the output is gone (`| head`). The interpreter must not fail on it at exit either.
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
async def _open_world(
    *, client_secret: str, places: Places, lifetime: float, has_quota: bool, quota_lag: float
) -> AsyncIterator[World]:
    """Start the fakes and the proxy in front of them. Raises OSError or SwitchProxyError if one cannot start."""
    auth = FakeAuthorizationServer(
        client_id="demo-client",
        client_secret=client_secret,
        lifetime=lifetime,
        tokens_per_hour=TOKENS_PER_HOUR if has_quota else None,
        tokens_per_day=TOKENS_PER_DAY if has_quota else None,
        quota_lag=quota_lag,
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
    """Return the proxy's configuration: what a user would write, with fewer log lines."""
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
    """Cancel this task on the first SIGINT or SIGTERM. A second signal has its default effect."""
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
    narrator.title("switch-proxy: an app, the proxy, and fakes of the servers behind it")
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
    narrator.title("Now try it yourself. Ctrl-C ends it.")
    narrator.text(f"New tokens live {world.auth.lifetime:g} s.")
    narrator.command(f"curl -i '{world.proxy_url}{READINGS}'", "read, without a token")
    narrator.command(
        f"curl -i '{world.proxy_url}/api/readings' -H 'Content-Type: application/json' -d '{POSTED.decode()}'",
        "post; above five a second the API returns 429",
    )
    narrator.command(f"curl -i '{world.api.url}{METERS}'", "past the proxy: 401")
    narrator.command(f"curl -i '{world.admin_url}/readyz'", "whether the proxy is ready, and why")
    narrator.command(f"curl -s '{world.admin_url}/metrics'", "its metrics")


def _url(address: tuple[str, int]) -> str:
    host, port = address
    return f"http://{Address(host=reachable(host), port=port)}"
