"""
The fakes and the real proxy before them, for tests that are plain functions (or coroutines of a loop of their own).

    with BackgroundLoop() as loop, AuthorizationServer(loop) as auth, SwitchAPI(loop, auth) as api:
        with Proxy(loop, auth, api, folder=folder) as proxy:
            ...  # the app under test sends its requests to proxy.url

All of it runs on one event loop in one thread beside the test. A thread, because then a fault is set and a request is
looked at by a plain call, in the process that is being debugged; a child process would need half a second and a
protocol for the same. The loop is uvloop's, as in production: it reads the time itself, so a test that freezes or
patches `time` does not stop it. Each call from the test is done on that loop and waited for: nothing here is touched by
two threads. pytest's fixtures for it are in `switch_proxy.pytest_plugin`.
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
from switch_proxy.demo.auth_server import SWITCH_AUDIENCE, FakeAuthorizationServer
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
"""Seconds that something which takes milliseconds may take on a busy machine, before a test fails for it."""

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
"""What the proxy is configured with unless it is told otherwise: as in production, but on free ports."""

_POLL: Final = 0.005
"""Seconds between two looks at whether the proxy is ready: little beside the milliseconds that its start takes."""

T = TypeVar("T")
F = TypeVar("F")


class BackgroundLoop:
    """An event loop in a thread of its own, from `with` to the end of its block."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._loop = self._runner.get_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        # A daemon: an interpreter that is told to end does so, with a fake that hangs too.
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
        """Await what `work` returns on the loop, and return its result here. Raises what it raises."""

        async def do() -> T:
            return await work()

        if self._thread is None or threading.current_thread() is self._thread:
            raise RuntimeError("the background loop runs within its `with` block, for calls from other threads")
        future = asyncio.run_coroutine_threadsafe(do(), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C, or a timeout of the test's: nobody waits for it any more.
            raise

    def call(self, function: Callable[[], T]) -> T:
        """Call `function` on the loop, and return its result here. Raises what it raises."""

        async def do() -> T:
            return function()

        return self.run(do)

    def __repr__(self) -> str:
        return f"<BackgroundLoop {'stopped' if self._thread is None else 'runs'}>"


class Faults(Generic[F]):
    """How a fake is to misbehave: `switch_proxy.demo.faults.FaultScript`, from the test's thread."""

    def __init__(self, loop: BackgroundLoop, script: FaultScript[F]) -> None:
        self._loop = loop
        self._script = script

    def add(self, *faults: F, times: int | None = 1, method: str | None = None, path: str | None = None) -> None:
        """
        Let the next `times` requests meet these faults together; `times=None` means every one until cleared.

        `method` and `path` (without a query, as sent) confine it. Raises ValueError for faults that cannot go together.
        """
        self._loop.call(lambda: self._script.add(*faults, times=times, method=method, path=path))

    @contextmanager
    def during(self, *faults: F, method: str | None = None, path: str | None = None) -> Iterator[None]:
        """Let every request that comes within the `with` block meet these faults, before any added earlier."""
        block = self._script.during(*faults, method=method, path=path)
        self._loop.call(block.__enter__)
        try:
            yield
        finally:
            self._loop.call(lambda: block.__exit__(None, None, None))

    def clear(self) -> None:
        """Behave again: forget every misbehaviour that was still to come."""
        self._loop.call(self._script.clear)

    @property
    def is_empty(self) -> bool:
        """Tell whether every misbehaviour has been met, which a test may want to assert at its end."""
        return self._loop.call(lambda: self._script.is_empty)

    def __repr__(self) -> str:
        return self._loop.call(lambda: repr(self._script))


class FakeClock:
    """The fakes' clock: goes on with the machine's steady one, whatever is done to `time`, and jumps when told."""

    def __init__(self) -> None:
        clock = SystemClock()
        self._steady = clock.now
        self._ahead = clock.wall() - clock.now()

    def now(self) -> float:
        """Return Unix time (seconds)."""
        return self._steady() + self._ahead

    def advance(self, seconds: float) -> None:
        """Jump ahead. Raises ValueError for a jump back."""
        if seconds < 0:
            raise ValueError("time goes on; it cannot be set back")
        self._ahead += seconds


class _Server(Generic[F]):
    """What is the same of both fakes, each of which is handed over with its parts."""

    def __init__(
        self, loop: BackgroundLoop, fake: FakeAuthorizationServer | FakeSwitchAPI, script: FaultScript[F]
    ) -> None:
        self._loop = loop
        self._either = fake
        self.faults = Faults(loop, script)
        """How the server is to misbehave."""

    def start(self) -> None:
        """Serve, after a `stop` on the same port. Raises OSError where the address cannot be bound."""
        self._loop.run(self._either.start)

    def stop(self) -> None:
        """Stop serving: an outage. What was recorded stays."""
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
        """Return what has been received so far, in order."""
        return self._loop.call(lambda: tuple(self._either.requests))

    def forget_requests(self) -> None:
        """Let `requests` be empty, so that a test counts from here."""
        self._loop.call(self._either.requests.clear)

    def wait_for_requests(self, count: int, *, within: float = WITHIN) -> Sequence[ReceivedRequest]:
        """Return the requests once `count` have come. Raises TimeoutError after `within` seconds."""
        return self._loop.run(lambda: self._either.wait_for_requests(count, within=within))

    def __repr__(self) -> str:
        return self._loop.call(lambda: repr(self._either))


class AuthorizationServer(_Server[Fault | TokenFault]):
    """
    A fake authorization server on a free port of loopback: `FakeAuthorizationServer`, from the test's thread.

    `lifetime` (seconds) is that of the tokens to come; `calls_per_minute` and `lockout_after` (refusals in a row) are
    off unless given. A secret that is not given is random.
    """

    def __init__(
        self,
        loop: BackgroundLoop,
        *,
        client_id: str = "test-client",
        client_secret: str | None = None,
        audience: str = SWITCH_AUDIENCE,
        lifetime: float = 3600.0,
        calls_per_minute: int | None = None,
        lockout_after: int | None = None,
    ) -> None:
        self.audience = audience
        """What tokens are asked and issued for."""
        self.clock = FakeClock()
        self._fake = FakeAuthorizationServer(
            client_id=client_id,
            client_secret=client_secret,
            audience=audience,
            lifetime=lifetime,
            calls_per_minute=calls_per_minute,
            lockout_after=lockout_after,
            now=self.clock.now,
        )
        super().__init__(loop, self._fake, self._fake.faults)

    @property
    def token_url(self) -> str:
        """Return the URL of the token endpoint."""
        return self._fake.token_url

    @property
    def microsoft_token_url(self) -> str:
        """Return the URL of the token endpoint that takes `scope` in place of `audience`."""
        return self._fake.microsoft_token_url

    @property
    def client_id(self) -> str:
        """Return the id of the client."""
        return self._fake.client_id

    @property
    def client_secret(self) -> str:
        """Return the secret of the client that works now."""
        return self._loop.call(lambda: self._fake.client_secret)

    @property
    def lifetime(self) -> float:
        """Return how long the tokens to come live (seconds)."""
        return self._fake.lifetime

    @lifetime.setter
    def lifetime(self, seconds: float) -> None:
        self._fake.lifetime = seconds

    @property
    def issued(self) -> Sequence[IssuedToken]:
        """Return every token issued so far, in order."""
        return self._loop.call(lambda: tuple(self._fake.issued))

    def find(self, token: str | None) -> IssuedToken | None:
        """Return what is known of a token, or None for one that was not issued here."""
        return self._loop.call(lambda: self._fake.find(token))

    def introspect(self, token: str) -> Mapping[str, object]:
        """Tell about a token in the form of RFC 7662 §2.2."""
        return self._loop.call(lambda: self._fake.introspect(token))

    def add_client(self, client_id: str, *, audience: str) -> str:
        """Register a second client, for a second API; return its secret."""
        return self._loop.call(lambda: self._fake.add_client(client_id, audience=audience).client_secret)

    def rotate_secret(self) -> str:
        """Replace the client's secret at once and return the new one; tokens already issued go on."""
        return self._loop.call(self._fake.rotate_secret)

    def revoke_all(self) -> None:
        """Make every token issued so far invalid."""
        self._loop.call(self._fake.revoke_all)

    def unlock(self) -> None:
        """Lift the lockout that refused credentials have led to."""
        self._loop.call(self._fake.unlock)


class SwitchAPI(_Server[Fault]):
    """
    A fake Switch API on a free port of loopback: `FakeSwitchAPI`, from the test's thread.

    It takes the tokens that `auth` has issued for its audience, and shares its clock. `organizations` are the ids that
    the client may name.
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
            introspect=auth._fake.introspect,  # noqa: SLF001 - on the loop already, where both are
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

    `configuration` is that of a file, in YAML. In it SWITCH_TOKEN_URL, SWITCH_CLIENT_ID, SWITCH_CLIENT_SECRET_FILE,
    SWITCH_AUDIENCE and SWITCH_API_URL are set, to what belongs to the fakes; no other variable is. The file of the
    secret is in `folder`. Its log goes to standard output, which pytest shows with a test that failed.
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
        """Read the configuration. Raises ConfigurationError with all that is wrong with it."""
        self.secret_file = Path(folder) / "client_secret"
        """The file that the client secret is read from, and watched: within 5 seconds another one is taken up."""
        self._loop = loop
        self._configuration = configuration
        self._auth = auth
        self._api = api
        self._settings: Settings | None = None
        self._stack: AsyncExitStack | None = None
        self._application: Application | None = None

    def start(self, *, is_awaited: bool = True) -> None:
        """
        Start, and wait until it is ready unless told not to; after a `stop` on the same ports.

        Raises ConfigurationError, ListenError, and TimeoutError where it does not become ready in 10 seconds.
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
        """Stop, as after SIGTERM: requests in flight finish, for a second at most. The app meets refused connections."""
        stack, self._stack = self._stack, None
        if stack is not None:
            self._loop.run(stack.aclose)
        self._application = None

    def restart(self, *, is_awaited: bool = True) -> None:
        """Stop and start: a new process with no token, as after a new deployment."""
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
        """Return the base URL of the first route, which the app under test is given."""
        return next(iter(self.urls.values()))

    @property
    def urls(self) -> Mapping[str, str]:
        """Return the base URL of each route, by the route's name; also while the proxy is stopped."""
        settings = self._known_settings
        return {route.name: _url_of(route, settings) for route in settings.routes}

    @property
    def admin_url(self) -> str:
        """Return where /livez, /readyz and /metrics are. Raises RuntimeError where the configuration has no admin."""
        address = self._known_settings.admin.listen
        if address is None:
            raise RuntimeError("this proxy's configuration says admin.listen: off")
        return f"http://{address}"

    @property
    def is_ready(self) -> bool:
        """Tell whether it is ready, as /readyz does."""
        return not self._loop.call(self._reasons)

    def wait_until_ready(self, *, within: float = WITHIN) -> None:
        """Wait until it has all it needs. Raises TimeoutError after `within` seconds, with what is missing."""
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
            # No variables: a proxy for the way out that this machine has is none for the fakes.
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
    """Return what an app puts before its paths; a prefix that the proxy takes off is part of it."""
    listen = route.listen if route.listener is None else settings.listeners[route.listener].listen
    prefix = str(route.match.path).rstrip("/") if route.strip_prefix else ""
    return f"http://{listen}{prefix}"


def _with_addresses(settings: Settings, addresses: Mapping[str, tuple[str, int]]) -> Settings:
    """Return the settings with the ports that were found, so that a proxy that starts again is found there."""

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
