"""
What a request gets by fault, state of the token and method: as data, as a table, and as a world to try it in.

`python -m tests.shell.fault_matrix` writes the table into docs/token-lifecycle.md.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp

from switch_proxy.app import Application
from switch_proxy.core.addresses import Address, parse_origin
from switch_proxy.core.config.models import (
    AdminSettings,
    CredentialSettings,
    LogSettings,
    RouteSettings,
    SecretSource,
    Settings,
)
from switch_proxy.core.tokens import Freshness
from switch_proxy.demo.auth_server import SWITCH_AUDIENCE, FakeAuthorizationServer
from switch_proxy.demo.faults import (
    HTML_PAGE,
    MALFORMED_JSON,
    Close,
    Field,
    Hang,
    Reset,
    Status,
    TokenField,
    WithoutTokenField,
)
from switch_proxy.demo.switch_api import FakeSwitchAPI
from switch_proxy.logs.log import Log
from tests.core.lifecycle_tables import PAGE
from tests.generated_tables import markdown, write
from tests.manual_clock import ManualClock, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from switch_proxy.core.lifecycle import CredentialStatus
    from switch_proxy.demo import faults

LIFETIME: Final = 3600.0

MOMENTS: Final[Mapping[Freshness, float]] = {
    Freshness.FRESH: 60.0,
    Freshness.STALE: 0.85 * LIFETIME + 1,
    Freshness.EXPIRED: LIFETIME,
}
"""Seconds of the token's life at which the request comes; before, the machine has slept: nothing was done about it."""

_SHORT: Final = 0.1
"""Seconds of real time, for what waits for an authorization server that hangs."""

SERVED: Final = "served"
UNAVAILABLE: Final = "503"
PASSED_ON: Final = "401"


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A request of an app."""

    name: str
    method: str
    target: str
    body: bytes | None


def _readings(count: int) -> bytes:
    values = [
        {"timestamp": "2023-11-03T16:00:00Z", "periodTo": "2023-11-03T17:00:00Z", "value": number}
        for number in range(count)
    ]
    return json.dumps({"meters": [{"id": "1", "registers": [{"id": "7", "values": values}]}]}).encode()


METHODS: Final = (
    Method(name="GET", method="GET", target="/api/meter?organizationId=1", body=None),
    Method(name="POST", method="POST", target="/api/readings", body=_readings(1)),
    # Above 64 KiB it is no longer there when it would have to be sent again.
    Method(name="long POST", method="POST", target="/api/readings", body=_readings(1000)),
)


class World:
    """The application in manual time, between fakes that go by the same."""

    def __init__(
        self, *, clock: ManualClock, auth: FakeAuthorizationServer, api: FakeSwitchAPI, session: aiohttp.ClientSession
    ) -> None:
        self.clock = clock
        self.auth = auth
        self.api = api
        self._session = session
        self._application: Application | None = None
        self._log = Log(LogSettings(level="error", access="off"), environ={}, wall=clock.wall)

    async def start(self) -> None:
        """Start the application; its first token request is sent."""
        here = Address(host="127.0.0.1", port=0)
        settings = Settings(
            credentials={
                "switch": CredentialSettings(
                    token_url=self.auth.token_url,
                    client_id="app",
                    client_secret=SecretSource(env="APP_SECRET"),
                    audience=SWITCH_AUDIENCE,
                    timeout=_SHORT,
                )
            },
            routes=(
                RouteSettings(
                    name="api",
                    listen=here,
                    upstream=parse_origin(self.api.url),
                    credential="switch",
                    wait_for_token=20 * _SHORT,
                ),
            ),
            admin=AdminSettings(listen=None),
        )
        environ = {"APP_SECRET": "the-first-secret"}
        self._application = Application(settings, log=self._log, environ=environ, clock=self.clock)
        await self._application.start()

    async def stop(self) -> None:
        """Stop what has been started."""
        if self._application is not None:
            await self._application.stop()
        await asyncio.to_thread(self._log.close)

    async def send(self, method: Method) -> str:
        """Send a request through the proxy, and return what became of it."""
        assert self._application is not None
        host, port = self._application.addresses["api"]
        headers = {} if method.body is None else {"Content-Type": "application/json"}
        url = f"http://{host}:{port}{method.target}"
        async with self._session.request(method.method, url, data=method.body, headers=headers) as response:
            await response.read()
            if response.status == 503:
                assert int(response.headers["Retry-After"]) >= 1
            return {200: SERVED, 204: SERVED}.get(response.status, str(response.status))

    async def first_token(self) -> None:
        """Wait until there is a token, and the timer of the next one is set: time that is skipped before is not late."""
        await until(lambda: self._status.generation == 1)
        await self.clock.settle()

    async def fetch_ended(self) -> None:
        """Wait until no token request is under way."""
        await until(lambda: self._status.phase != "fetching")

    @property
    def _status(self) -> CredentialStatus:
        assert self._application is not None
        return self._application._managers["switch"].status()


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """Return a world whose application has not been started."""
    clock = ManualClock()
    async with (
        FakeAuthorizationServer(
            client_id="app", client_secret="the-first-secret", lifetime=LIFETIME, now=clock.wall
        ) as auth,
        FakeSwitchAPI(introspect=auth.introspect, now=clock.wall) as api,
    ):
        connector = aiohttp.TCPConnector(force_close=True)
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            made = World(clock=clock, auth=auth, api=api, session=session)
            try:
                yield made
            finally:
                await made.stop()


# --- the faults ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong, how it begins and ends, and what is promised meanwhile and afterwards."""

    name: str
    begin: Callable[[World], Awaitable[None]]
    end: Callable[[World], Awaitable[None]]
    without_token: str = SERVED
    """What a request gets in the states ABSENT and EXPIRED, and"""
    with_token: str = SERVED
    """in the states FRESH and STALE; but"""
    too_long: str | None = None
    """what one gets if there is a token and the request cannot be sent again."""
    recovered_within: float = 0.0
    """Seconds after its end until all is served again, at most."""
    calls: int = 1
    """Token requests that two requests cause in it, at most."""


async def _nothing(_: World) -> None:
    return


async def _stop_auth(it: World) -> None:
    await it.auth.stop()


async def _start_auth(it: World) -> None:
    await it.auth.start()


async def _rotate(it: World) -> None:
    it.auth.rotate_secret(client_secret="the-second-secret")


async def _rotate_back(it: World) -> None:
    it.auth.rotate_secret(client_secret="the-first-secret")


async def _revoke(it: World) -> None:
    it.auth.revoke_all()


async def _revoke_in_an_outage(it: World) -> None:
    it.auth.revoke_all()
    await it.auth.stop()


async def _refuse_all(it: World) -> None:
    it.api.faults.add(Status(code=401), times=None)


async def _accept_again(it: World) -> None:
    it.api.faults.clear()


def _token_endpoint(name: str, *misbehaviour: faults.Fault | faults.TokenFault, within: float = 1.0) -> Fault:
    async def begin(it: World) -> None:
        it.auth.faults.add(*misbehaviour, times=None)

    async def end(it: World) -> None:
        it.auth.faults.clear()

    return Fault(name=name, begin=begin, end=end, without_token=UNAVAILABLE, recovered_within=within)


_REFUSED: Final = 60.0 * 1.25
"""Seconds: the first wait of the slow lane, with all of its random part."""

_UNUSABLE: Final = 10.0 * 1.25
"""Seconds: the first wait after a response that may have cost a token."""

FAULTS: Final = (
    Fault(name="none", begin=_nothing, end=_nothing),
    Fault(
        name="token endpoint: down",
        begin=_stop_auth,
        end=_start_auth,
        without_token=UNAVAILABLE,
        recovered_within=1.0,
    ),
    _token_endpoint("token endpoint: hangs", Hang()),
    _token_endpoint("token endpoint: resets connections", Reset()),
    _token_endpoint("token endpoint: closes connections", Close()),
    _token_endpoint("token endpoint: 503", Status(code=503)),
    _token_endpoint("token endpoint: 429, Retry-After: 20", Status(code=429, retry_after=20), within=41.0),
    _token_endpoint(
        "token endpoint: the hour's quota is used up",
        Status(code=429),
        Field(name="Auth0-Client-Quota-Limit", value="b=per_hour;q=10;r=0;t=1200,b=per_day;q=50;r=40;t=36000"),
        within=1200.0 + 61.0,
    ),
    _token_endpoint("token endpoint: an HTML page", HTML_PAGE),
    _token_endpoint("token endpoint: malformed JSON", MALFORMED_JSON, within=_UNUSABLE),
    _token_endpoint("token endpoint: no `access_token`", WithoutTokenField(name="access_token"), within=_UNUSABLE),
    _token_endpoint(
        "token endpoint: another `token_type`", TokenField(name="token_type", value="mac"), within=_UNUSABLE
    ),
    _token_endpoint("token endpoint: 403", Status(code=403), within=_REFUSED),
    Fault(
        name="client secret: rotated, not here yet",
        begin=_rotate,
        end=_rotate_back,
        without_token=UNAVAILABLE,
        recovered_within=_REFUSED,
    ),
    Fault(name="API: 401, the token is revoked", begin=_revoke, end=_nothing, too_long=PASSED_ON),
    Fault(
        name="API: 401, the token is revoked; token endpoint: down",
        begin=_revoke_in_an_outage,
        end=_start_auth,
        without_token=UNAVAILABLE,
        with_token=PASSED_ON,
        too_long=PASSED_ON,
        recovered_within=1.0,
    ),
    Fault(
        name="API: 401 to every token",
        begin=_refuse_all,
        end=_accept_again,
        without_token=PASSED_ON,
        with_token=PASSED_ON,
        too_long=PASSED_ON,
        calls=2,
    ),
)


def expected(fault: Fault, state: Freshness, method: Method) -> str:
    """Return what a request gets that comes in this state of the token."""
    if state in (Freshness.ABSENT, Freshness.EXPIRED):
        return fault.without_token
    if method is METHODS[-1] and fault.too_long is not None:
        return fault.too_long
    return fault.with_token


def table() -> str:
    """Return the matrix in Markdown."""
    rows = [
        [fault.name, *(_cell(fault, state) for state in Freshness), _recovery(fault.recovered_within)]
        for fault in FAULTS
    ]
    return markdown(["what goes wrong", *(state.name for state in Freshness), "afterwards served within"], rows)


def _cell(fault: Fault, state: Freshness) -> str:
    outcomes = {method.name: expected(fault, state, method) for method in METHODS}
    usual = outcomes["GET"]
    return "; ".join([usual, *(f"{name}: {outcome}" for name, outcome in outcomes.items() if outcome != usual)])


def _recovery(seconds: float) -> str:
    return f"{seconds:g} s" if seconds else "at once"


if __name__ == "__main__":
    write(PAGE, {"fault matrix": table})
