"""
The fakes and the real proxy in front of them, for tests that are plain functions (or coroutines on their own loop).

    with BackgroundLoop() as loop, AuthorizationServer(loop) as auth, SwitchAPI(loop, auth) as api:
        with Proxy(loop, auth, api, folder=folder) as proxy:
            ...  # the app under test sends its requests to proxy.url

Everything runs on one event loop in one thread beside the test. In a thread, a test sets faults and reads requests with
plain calls, in the process that is being debugged; a child process would need half a second to start, and a protocol.
The loop is uvloop's, as in production. uvloop reads the time itself, so a test that freezes or patches `time` does not
stop it. Each call from the test runs on that loop while the test waits, so no object is used by two threads. The pytest
fixtures are in `switch_proxy.pytest_plugin`.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

import uvloop

from switch_proxy.app import running
from switch_proxy.clock import SystemClock
from switch_proxy.core.addresses import Address
from switch_proxy.core.config.models import ADMIN_LISTENER
from switch_proxy.core.errors import ConfigurationError
from switch_proxy.demo.auth_server import (
    SWITCH_AUDIENCE,
    TOKENS_PER_DAY,
    TOKENS_PER_HOUR,
    FakeAuthorizationServer,
)
from switch_proxy.demo.faults import Fault, TokenFault
from switch_proxy.demo.switch_api import FakeSwitchAPI
from switch_proxy.settings import parse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from switch_proxy.app import Application
    from switch_proxy.core.config.models import RouteSettings, Settings
    from switch_proxy.demo.auth_server import IssuedToken
    from switch_proxy.demo.faults import FaultScript
    from switch_proxy.demo.messages import ReceivedRequest

WITHIN: Final = 10.0
"""Seconds that an operation of milliseconds may take on a busy machine before a test fails."""

CONFIGURATION: Final = """
credentials:
  switch:
    token_url: ${SWITCH_TOKEN_URL}
    client_id: ${SWITCH_CLIENT_ID}
    client_secret: {file: "${SWITCH_CLIENT_SECRET_FILE}"}
    audience: ${SWITCH_AUDIENCE}
routes:
  - {name: switch-api, listen: "127.0.0.1:0", upstream: "${SWITCH_API_URL}", credential: switch}
admin: {listen: "127.0.0.1:0"}
log: {format: console}
shutdown: {grace_period: 1s}
"""
"""The proxy's default configuration: as in production, but on free ports."""

_POLL: Final = 0.005
"""Seconds between two checks whether the proxy is ready; short compared with its start."""

T = TypeVar("T")
F = TypeVar("F")


class BackgroundLoop:
    """An event loop in its own thread, for the duration of a `with` block."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._loop = self._runner.get_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        # A daemon thread, so that the interpreter can exit even if a fake hangs.
        self._thread = threading.Thread(target=self._serve, name="switch-proxy fakes", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._loop.call_soon_threadsafe(self._ended.set_result, None)
            thread.join()

    def _serve(self) -> None:
        with self._runner as runner:
            runner.run(self._until_ended())

    async def _until_ended(self) -> None:
        await self._ended

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Await what `work` returns on the loop, and return the result. Raises what it raises."""

        async def do() -> T:
            return await work()

        if self._thread is None or threading.current_thread() is self._thread:
            raise RuntimeError("the background loop runs within its `with` block, for calls from other threads")
        future = asyncio.run_coroutine_threadsafe(do(), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C, or a timeout of the test: the result is no longer needed.
            raise

    def call(self, function: Callable[[], T]) -> T:
        """Call `function` on the loop, and return the result. Raises what it raises."""

        async def do() -> T:
            return function()

        return self.run(do)

    def __repr__(self) -> str:
        return f"<BackgroundLoop {'stopped' if self._thread is None else 'runs'}>"


class Faults(Generic[F]):
    """The faults of a fake: `switch_proxy.demo.faults.FaultScript`, for use from the test's thread."""

    def __init__(self, loop: BackgroundLoop, script: FaultScript[F]) -> None:
        self._loop = loop
        self._script = script

    def add(self, *faults: F, times: int | None = 1, method: str | None = None, path: str | None = None) -> None:
        """
        Apply these faults together to the next `times` requests; `times=None` means to all of them until `clear`.

        `method` and `path` (as sent, without a query) limit it to some requests. Raises ValueError for faults that cannot
        be combined.
        """
        self._loop.call(lambda: self._script.add(*faults, times=times, method=method, path=path))

    @contextmanager
    def during(self, *faults: F, method: str | None = None, path: str | None = None) -> Iterator[None]:
        """Apply these faults to every request within the `with` block, before any that were added earlier."""
        block = self._script.during(*faults, method=method, path=path)
        self._loop.call(block.__enter__)
        try:
            yield
        finally:
            self._loop.call(lambda: block.__exit__(None, None, None))

    def clear(self) -> None:
        """Remove all faults that are still to be applied."""
        self._loop.call(self._script.clear)

    @property
    def is_empty(self) -> bool:
        """Return whether all faults have been applied; a test can assert this at its end."""
        return self._loop.call(lambda: self._script.is_empty)

    def __repr__(self) -> str:
        return self._loop.call(lambda: repr(self._script))


class FakeClock:
    """The fakes' clock. It follows the machine's steady clock, even if a test patches `time`, and jumps on `advance`."""

    def __init__(self) -> None:
        clock = SystemClock()
        self._steady = clock.now
        self._ahead = clock.wall() - clock.now()

    def now(self) -> float:
        """Return Unix time (seconds)."""
        return self._steady() + self._ahead

    def advance(self, seconds: float) -> None:
        """Jump forward. Raises ValueError for a jump back."""
        if seconds < 0:
            raise ValueError("the fakes' clock cannot be set back; give seconds of 0 or more")
        self._ahead += seconds


class _Server(Generic[F]):
    """Behaviour shared by both fake servers."""

    def __init__(
        self, loop: BackgroundLoop, fake: FakeAuthorizationServer | FakeSwitchAPI, script: FaultScript[F]
    ) -> None:
        self._loop = loop
        self._either = fake
        self.faults = Faults(loop, script)
        """The faults to apply to coming requests."""

    def start(self) -> None:
        """Serve; after a `stop`, on the same port. Raises OSError if the address cannot be bound."""
        self._loop.run(self._either.start)

    def stop(self) -> None:
        """Stop serving, as in an outage. The recorded requests are kept."""
        self._loop.run(self._either.stop)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def requests(self) -> Sequence[ReceivedRequest]:
        """Return the requests received so far, in order."""
        return self._loop.call(lambda: tuple(self._either.requests))

    def forget_requests(self) -> None:
        """Empty `requests`, so that a test counts from here."""
        self._loop.call(self._either.requests.clear)

    def wait_for_requests(self, count: int, *, within: float = WITHIN) -> Sequence[ReceivedRequest]:
        """Return the requests once there are `count` of them. Raises TimeoutError after `within` seconds."""
        return self._loop.run(lambda: self._either.wait_for_requests(count, within=within))

    def __repr__(self) -> str:
        return self._loop.call(lambda: repr(self._either))


class AuthorizationServer(_Server[Fault | TokenFault]):
    """
    A fake authorization server on a free port of loopback: `FakeAuthorizationServer`, for use from the test's thread.

    `lifetime` (seconds) applies to new tokens. `calls_per_minute` and `lockout_after` (refusals in a row) are off by
    default. The default secret is random. The client gets `tokens_per_hour` and `tokens_per_day`, as in production by default;
    None is no limit. A token counts `quota_lag` seconds after it was granted (0 by default): real servers count with a delay.
    """

    def __init__(
        self,
        loop: BackgroundLoop,
        *,
        client_id: str = "test-client",
        client_secret: str | None = None,
        audience: str = SWITCH_AUDIENCE,
        lifetime: float = 86400.0,
        calls_per_minute: int | None = None,
        lockout_after: int | None = None,
        tokens_per_hour: int | None = TOKENS_PER_HOUR,
        tokens_per_day: int | None = TOKENS_PER_DAY,
        quota_lag: float = 0.0,
    ) -> None:
        self.audience = audience
        """The audience of the tokens."""
        self.clock = FakeClock()
        self._fake = FakeAuthorizationServer(
            client_id=client_id,
            client_secret=client_secret,
            audience=audience,
            lifetime=lifetime,
            calls_per_minute=calls_per_minute,
            lockout_after=lockout_after,
            tokens_per_hour=tokens_per_hour,
            tokens_per_day=tokens_per_day,
            quota_lag=quota_lag,
            now=self.clock.now,
        )
        super().__init__(loop, self._fake, self._fake.faults)

    @property
    def token_url(self) -> str:
        """Return the URL of the token endpoint."""
        return self._fake.token_url

    @property
    def microsoft_token_url(self) -> str:
        """Return the URL of the token endpoint that takes `scope` instead of `audience`."""
        return self._fake.microsoft_token_url

    @property
    def client_id(self) -> str:
        """Return the id of the client."""
        return self._fake.client_id

    @property
    def client_secret(self) -> str:
        """Return the client's current secret."""
        return self._loop.call(lambda: self._fake.client_secret)

    @property
    def lifetime(self) -> float:
        """Return the lifetime of new tokens (seconds)."""
        return self._fake.lifetime

    @lifetime.setter
    def lifetime(self, seconds: float) -> None:
        self._fake.lifetime = seconds

    @property
    def quota_lag(self) -> float:
        """Return the seconds from the grant of a token until it counts."""
        return self._fake.quota_lag

    @quota_lag.setter
    def quota_lag(self, seconds: float) -> None:
        self._fake.quota_lag = seconds

    @property
    def issued(self) -> Sequence[IssuedToken]:
        """Return every token issued so far, in order."""
        return self._loop.call(lambda: tuple(self._fake.issued))

    def find(self, token: str | None) -> IssuedToken | None:
        """Return the record of a token, or None if it was not issued by this server."""
        return self._loop.call(lambda: self._fake.find(token))

    def introspect(self, token: str) -> Mapping[str, object]:
        """Return the introspection response for a token (RFC 7662 §2.2)."""
        return self._loop.call(lambda: self._fake.introspect(token))

    def add_client(self, client_id: str, *, audience: str) -> str:
        """Register a second client, for a second API; return its secret."""
        return self._loop.call(lambda: self._fake.add_client(client_id, audience=audience).client_secret)

    def rotate_secret(self) -> str:
        """Replace the client's secret immediately and return the new one; tokens already issued stay valid."""
        return self._loop.call(self._fake.rotate_secret)

    def revoke_all(self) -> None:
        """Make every token issued so far invalid."""
        self._loop.call(self._fake.revoke_all)

    def use_up_quota(self) -> None:
        """
        Grant the client no more tokens until the next day of UTC begins (see `clock`), or until `reset_quota`.

        Raises ValueError if there is no quota.
        """
        self._loop.call(self._fake.use_up_quota)

    def reset_quota(self) -> None:
        """Grant the client its whole quota again. A proxy that was told the reset waits for that nevertheless."""
        self._loop.call(self._fake.reset_quota)

    def unlock(self) -> None:
        """End the lockout that refused credentials caused."""
        self._loop.call(self._fake.unlock)


class SwitchAPI(_Server[Fault]):
    """
    A fake Switch API on a free port of loopback: `FakeSwitchAPI`, for use from the test's thread.

    It accepts tokens that `auth` has issued for its audience, and shares the clock of `auth`. `organizations` are the ids
    that the client may use.
    """

    def __init__(
        self,
        loop: BackgroundLoop,
        auth: AuthorizationServer,
        *,
        audience: str = SWITCH_AUDIENCE,
        organizations: Sequence[int] = (1,),
    ) -> None:
        self.clock = auth.clock
        self._fake = FakeSwitchAPI(
            introspect=auth._fake.introspect,  # noqa: SLF001 - both run on this loop
            audience=audience,
            organizations=organizations,
            now=self.clock.now,
        )
        super().__init__(loop, self._fake, self._fake.faults)

    @property
    def url(self) -> str:
        """Return the API's origin, such as `http://127.0.0.1:40002`."""
        return self._fake.url


class Proxy:
    """
    The real proxy on free ports of loopback.

    `configuration` is the YAML of a configuration file. The variables SWITCH_TOKEN_URL, SWITCH_CLIENT_ID,
    SWITCH_CLIENT_SECRET_FILE, SWITCH_AUDIENCE and SWITCH_API_URL are set in it and point to the fakes; no others are. The
    secret's file is in `folder`. The log goes to standard output, which pytest shows with a failed test.
    """

    def __init__(
        self,
        loop: BackgroundLoop,
        auth: AuthorizationServer,
        api: SwitchAPI,
        *,
        folder: Path,
        configuration: str = CONFIGURATION,
    ) -> None:
        """Keep the arguments; the configuration is read by `start`."""
        self.secret_file = Path(folder) / "client_secret"
        """The file of the client secret. It is watched: another secret in it is used within 5 seconds."""
        self._loop = loop
        self._configuration = configuration
        self._auth = auth
        self._api = api
        self._settings: Settings | None = None
        self._stack: AsyncExitStack | None = None
        self._application: Application | None = None

    def start(self, *, is_awaited: bool = True) -> None:
        """
        Start, and wait until the proxy is ready if `is_awaited`. After a `stop` it uses the same ports.

        Raises ConfigurationError, ListenError, and TimeoutError if it is not ready within 10 seconds.
        """
        if self._stack is not None:
            raise RuntimeError("the proxy runs already")
        if self._settings is None:
            self.secret_file.write_text(self._auth.client_secret, encoding="ascii")
            self._settings = self._read()
        settings = self._settings
        self._loop.run(lambda: self._start(settings))
        if is_awaited:
            try:
                self.wait_until_ready()
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Stop, as after SIGTERM: requests in flight get a second to finish. Then the app's connections are refused."""
        stack, self._stack = self._stack, None
        if stack is not None:
            self._loop.run(stack.aclose)
        self._application = None

    def restart(self, *, is_awaited: bool = True) -> None:
        """Stop and start: a new proxy without a token, as after a deployment."""
        self.stop()
        self.start(is_awaited=is_awaited)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Return the base URL of the first route, for the app under test."""
        return next(iter(self.urls.values()))

    @property
    def urls(self) -> Mapping[str, str]:
        """Return the base URL of each route by its name; also works while the proxy is stopped."""
        settings = self._known_settings
        return {route.name: _url_of(route, settings) for route in settings.routes}

    @property
    def admin_url(self) -> str:
        """Return the base URL of /livez, /readyz and /metrics. Raises RuntimeError if `admin.listen` is off."""
        address = self._known_settings.admin.listen
        if address is None:
            raise RuntimeError("this proxy's configuration says admin.listen: off")
        return f"http://{address}"

    @property
    def is_ready(self) -> bool:
        """Return whether the proxy is ready, as /readyz does."""
        return not self._loop.call(self._reasons)

    def wait_until_ready(self, *, within: float = WITHIN) -> None:
        """Wait until the proxy is ready. Raises TimeoutError, which names what is missing, after `within` seconds."""
        self._loop.run(lambda: self._become_ready(within))

    def __repr__(self) -> str:
        return f"<Proxy {'stopped' if self._stack is None else self.url}>"

    @property
    def _known_settings(self) -> Settings:
        if self._settings is None:
            raise RuntimeError("the proxy has not been started yet, so its ports are not known")
        return self._settings

    def _read(self) -> Settings:
        variables = {
            "SWITCH_TOKEN_URL": self._auth.token_url,
            "SWITCH_CLIENT_ID": self._auth.client_id,
            "SWITCH_CLIENT_SECRET_FILE": str(self.secret_file),
            "SWITCH_AUDIENCE": self._auth.audience,
            "SWITCH_API_URL": self._api.url,
        }
        return parse(self._configuration.encode(), source="switch_proxy_configuration", environ=variables)

    async def _start(self, settings: Settings) -> None:
        async with AsyncExitStack() as stack:
            # No variables: this machine's egress proxy must not be used for the fakes.
            self._application = application = await stack.enter_async_context(running(settings, environ={}))
            self._settings = _with_addresses(settings, application.addresses)
            self._stack = stack.pop_all()

    def _reasons(self) -> Sequence[str]:
        return ("the proxy is stopped",) if self._application is None else self._application.judge_readiness().reasons

    async def _become_ready(self, within: float) -> None:
        clock = SystemClock()
        give_up_at = clock.now() + within
        while reasons := self._reasons():
            if clock.now() >= give_up_at:
                raise TimeoutError(f"the proxy is not ready after {within:g} s: {'; '.join(reasons)}")
            await asyncio.sleep(_POLL)


def _url_of(route: RouteSettings, settings: Settings) -> str:
    """Return the base URL for an app; it includes the prefix that the proxy strips."""
    listen = route.listen if route.listener is None else settings.listeners[route.listener].listen
    prefix = str(route.match.path).rstrip("/") if route.strip_prefix else ""
    return f"http://{listen}{prefix}"


def _with_addresses(settings: Settings, addresses: Mapping[str, tuple[str, int]]) -> Settings:
    """Return the settings with the ports that were bound, so that a restarted proxy uses the same ones."""

    def bound(name: str) -> Address:
        host, port = addresses[name]
        return Address(host=host, port=port)

    admin = settings.admin
    return replace(
        settings,
        listeners={name: replace(listener, listen=bound(name)) for name, listener in settings.listeners.items()},
        routes=tuple(
            route if route.listen is None else replace(route, listen=bound(route.name)) for route in settings.routes
        ),
        admin=admin if admin.listen is None else replace(admin, listen=bound(ADMIN_LISTENER)),
    )


__all__ = [
    "CONFIGURATION",
    "AuthorizationServer",
    "BackgroundLoop",
    "ConfigurationError",
    "FakeClock",
    "Faults",
    "Proxy",
    "SwitchAPI",
]
