"""The application in this process: wired, started and stopped in order, and ended by a task that dies."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme

from switch_proxy import process
from switch_proxy.app import Application, running
from switch_proxy.clock import SystemClock
from switch_proxy.core.addresses import parse_origin
from switch_proxy.core.config.models import (
    Address,
    AdminSettings,
    CredentialSettings,
    ListenerSettings,
    LogSettings,
    MatchSettings,
    RouteSettings,
    SecretSource,
    Settings,
    ShutdownSettings,
    TlsSettings,
)
from switch_proxy.core.errors import ListenError
from switch_proxy.core.path_prefix import parse_path_prefix
from switch_proxy.core.redaction import MASK
from switch_proxy.demo import faults
from switch_proxy.demo.auth_server import SWITCH_AUDIENCE, FakeAuthorizationServer
from switch_proxy.demo.switch_api import FakeSwitchAPI
from switch_proxy.logs.log import Log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

METERS = "/api/meter?organizationId=1"
ANY_PORT = Address(host="127.0.0.1", port=0)


@pytest.fixture
async def auth() -> AsyncIterator[FakeAuthorizationServer]:
    async with FakeAuthorizationServer(client_id="app", client_secret="the-secret-of-the-app") as server:
        server.add_client("vtn", client_secret="the-secret-of-the-vtn")
        yield server


@pytest.fixture
async def api(auth: FakeAuthorizationServer) -> AsyncIterator[FakeSwitchAPI]:
    async with FakeSwitchAPI(introspect=auth.introspect) as server:
        yield server


ENVIRON = {"APP_SECRET": "the-secret-of-the-app", "VTN_SECRET": "the-secret-of-the-vtn"}


def credential(auth: FakeAuthorizationServer, client_id: str = "app") -> CredentialSettings:
    return CredentialSettings(
        token_url=auth.token_url,
        client_id=client_id,
        client_secret=SecretSource(env=f"{client_id.upper()}_SECRET"),
        audience=SWITCH_AUDIENCE,
    )


def route(
    api: FakeSwitchAPI, name: str = "switch-api", *, credential: str = "switch", listen: Address = ANY_PORT
) -> RouteSettings:
    return RouteSettings(name=name, listen=listen, upstream=parse_origin(api.url), credential=credential)


@pytest.fixture
def settings(auth: FakeAuthorizationServer, api: FakeSwitchAPI) -> Settings:
    return Settings(
        credentials={"switch": credential(auth)},
        routes=(route(api),),
        admin=AdminSettings(listen=ANY_PORT),
        shutdown=ShutdownSettings(grace_period=5.0),
    )


def changed(settings: Settings, **changes: Any) -> Settings:
    sections = {
        name: getattr(settings, name) for name in ("credentials", "listeners", "routes", "admin", "log", "shutdown")
    }
    return Settings(**{**sections, **changes})


class Told:
    """A log into a file."""

    def __init__(self, path: Path, *, level: str = "info") -> None:
        self._path = path
        with path.open("wb") as file:
            log_settings = LogSettings(level=level)  # type: ignore[arg-type]
            self.log = Log(log_settings, environ={}, wall=SystemClock().wall, descriptor=file.fileno())

    async def text(self) -> str:
        return await asyncio.to_thread(self._read)

    def _read(self) -> str:
        self.log.flush(10.0)
        return self._path.read_text(encoding="utf-8")

    async def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (await self.text()).splitlines()]

    async def names(self) -> list[str]:
        return [event["event"] for event in await self.events()]

    async def wait_for(self, name: str) -> dict[str, Any]:
        """Return the first event of this name."""
        async with asyncio.timeout(10):
            while True:
                for event in await self.events():
                    if event["event"] == name:
                        return event
                await asyncio.sleep(0.005)


@pytest.fixture
async def told(tmp_path: Path) -> AsyncIterator[Told]:
    told = Told(tmp_path / "log")
    yield told
    await asyncio.to_thread(told.log.close)


@asynccontextmanager
async def started(settings: Settings, told: Told, **parts: Any) -> AsyncIterator[Application]:
    application = Application(settings, log=told.log, **{"environ": ENVIRON, "clock": SystemClock(), **parts})
    await application.start()
    try:
        yield application
    finally:
        await application.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


def url(application: Application, name: str = "switch-api") -> str:
    host, port = application.addresses[name]
    return f"http://{host}:{port}"


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def test_a_request_on_a_route_reaches_the_api_with_that_routes_token(
    auth: FakeAuthorizationServer, api: FakeSwitchAPI, settings: Settings, told: Told
) -> None:
    two = changed(
        settings,
        credentials={"switch": credential(auth), "vtn": credential(auth, "vtn")},
        routes=(route(api), route(api, "vtn-api", credential="vtn")),
    )
    async with started(two, told) as application:
        assert (await get(url(application) + METERS))[0] == 200
        assert (await get(url(application, "vtn-api") + METERS))[0] == 200
    sent = [auth.find(request.bearer_token) for request in api.requests]
    assert [token.client_id for token in sent if token is not None] == ["app", "vtn"]


async def test_routes_that_share_a_listener_are_told_apart_by_their_paths(
    auth: FakeAuthorizationServer, api: FakeSwitchAPI, settings: Settings, told: Told
) -> None:
    def shared(name: str, credential_name: str) -> RouteSettings:
        return RouteSettings(
            name=name,
            listener="local",
            match=MatchSettings(path=parse_path_prefix(f"/{name}/")),
            strip_prefix=True,
            upstream=parse_origin(api.url),
            credential=credential_name,
        )

    two = changed(
        settings,
        credentials={"switch": credential(auth), "vtn": credential(auth, "vtn")},
        listeners={"local": ListenerSettings(listen=ANY_PORT)},
        routes=(shared("meters", "switch"), shared("events", "vtn")),
    )
    async with started(two, told) as application:
        address = url(application, "local")
        assert (await get(f"{address}/meters{METERS}"))[0] == 200
        assert (await get(f"{address}/events{METERS}"))[0] == 200
        status, text = await get(address + METERS)
        assert (status, json.loads(text)["type"]) == (404, "urn:switch-proxy:problem:route-unknown")
        _, page = await get(url(application, "admin") + "/readyz")
    assert [request.path for request in api.requests] == ["/api/meter", "/api/meter"]
    sent = [auth.find(request.bearer_token) for request in api.requests]
    assert [token.client_id for token in sent if token is not None] == ["app", "vtn"]
    assert "listener local" in [check["name"] for check in json.loads(page)["checks"]]


async def statuses(url: str, count: int) -> list[int]:
    """Send requests concurrently and return the statuses of their responses."""

    async def ask(session: aiohttp.ClientSession) -> int:
        async with session.get(url + METERS) as response:
            await response.read()
            return response.status

    async with aiohttp.ClientSession() as session:
        return await asyncio.gather(*(ask(session) for _ in range(count)))


async def test_tokens_that_are_revoked_fail_no_request_and_cost_one_fetch(
    settings: Settings, told: Told, auth: FakeAuthorizationServer
) -> None:
    """All requests that meet the 401 share the one forced refresh."""
    async with started(settings, told) as application:
        assert await statuses(url(application), 1) == [200]
        auth.revoke_all()
        assert await statuses(url(application), 20) == [200] * 20
    assert len(auth.requests) == 2


async def test_an_api_that_refuses_every_token_is_no_storm_at_the_token_endpoint(
    settings: Settings, told: Told, auth: FakeAuthorizationServer, api: FakeSwitchAPI
) -> None:
    """At any rate of requests: one fetch at the start, and one that a 401 may force within the interval."""
    async with started(settings, told) as application:
        with api.faults.during(faults.Status(code=401)):
            for _ in range(5):
                assert await statuses(url(application), 20) == [401] * 20
        assert len(auth.requests) == 2
        assert await statuses(url(application), 1) == [200]


async def test_the_admin_pages_show_the_parts_as_they_are(settings: Settings, told: Told) -> None:
    async with started(settings, told) as application:
        await get(url(application) + METERS)
        status, page = await get(url(application, "admin") + "/readyz")
        assert (status, [check["name"] for check in json.loads(page)["checks"]]) == (
            200,
            ["credential switch", "listener switch-api"],
        )
        _, metrics = await get(url(application, "admin") + "/metrics")
    assert "switch_proxy_ready 1.0" in metrics
    assert 'switch_proxy_requests_total{code="200",method="GET",route="switch-api"} 1.0' in metrics
    assert 'switch_proxy_token_fetches_total{credential="switch",outcome="ok"} 1.0' in metrics
    assert 'switch_proxy_upstream_connects_total{route="switch-api"} 1.0' in metrics


async def test_readiness_that_comes_and_goes_is_told_with_the_reason(
    auth: FakeAuthorizationServer, settings: Settings, told: Told
) -> None:
    auth.lifetime = 1.0
    async with started(settings, told):
        await told.wait_for("proxy.became_ready")
        auth.faults.add(faults.Status(code=503), times=None)
        await told.wait_for("token.refresh_failed")
        # Nobody asks /readyz.
        gone = await told.wait_for("proxy.became_unready")
        assert gone["level"] == "warning"
        assert "503" in gone["reasons"][0]


async def test_a_port_that_is_taken_is_an_error_that_leaves_nothing_open_and_asks_for_no_token(
    auth: FakeAuthorizationServer, api: FakeSwitchAPI, settings: Settings, told: Told
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        first, second = free.getsockname()[1], taken.getsockname()[1]
        free.close()
        two = changed(
            settings,
            routes=(
                route(api, listen=Address(host="127.0.0.1", port=first)),
                route(api, "other", listen=Address(host="127.0.0.1", port=second)),
            ),
        )
        application = Application(two, log=told.log, environ=ENVIRON, clock=SystemClock())
        with pytest.raises(ListenError, match="'other'"):
            await application.start()
        socket.create_server(("127.0.0.1", first)).close()
    assert application.addresses == {}
    assert not auth.requests
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_after_the_end_nothing_of_it_is_left(settings: Settings, told: Told) -> None:
    before = asyncio.all_tasks()
    async with started(settings, told) as application:
        await get(url(application) + METERS)
        places = list(application.addresses.values())
    # The fake API learns a moment later that its connection is closed.
    await until(lambda: asyncio.all_tasks() <= before)
    for place in places:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(place).close()
    assert (await told.names())[-1] == "proxy.stopped"


async def test_in_the_end_readiness_is_red_before_anything_else_and_admin_answers_to_the_last(
    settings: Settings, told: Told
) -> None:
    """During the drain delay the listeners still serve."""
    slow = changed(settings, shutdown=ShutdownSettings(drain_delay=0.1))
    application = Application(slow, log=told.log, environ=ENVIRON, clock=SystemClock())
    await application.start()
    assert (await get(url(application) + METERS))[0] == 200
    admin, served = url(application, "admin"), url(application)
    stopping = asyncio.get_running_loop().create_task(application.stop())
    await told.wait_for("proxy.draining")
    assert (await get(f"{admin}/readyz"))[0] == 503
    assert (await get(served + METERS))[0] == 200
    await stopping


class HastyClock(SystemClock):
    """A clock on which nobody sleeps long, so that files are read often."""

    async def sleep_until(self, at: float) -> None:
        await asyncio.sleep(min(0.02, at - self.now()))


async def test_tls_files_of_a_route_that_break_are_told_everywhere_until_they_are_mended(
    api: FakeSwitchAPI, settings: Settings, told: Told, tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    good = trustme.CA().cert_pem.bytes()
    path.write_bytes(good)
    upstream = dataclasses.replace(parse_origin(api.url), scheme="https")
    with_tls = RouteSettings(
        name="switch-api", listen=ANY_PORT, upstream=upstream, credential="switch", tls=TlsSettings(ca_file=str(path))
    )
    async with started(changed(settings, routes=(with_tls,)), told, clock=HastyClock()) as application:
        path.write_bytes(b"")
        broken = await told.wait_for("tls.broken")
        assert (broken["level"], broken["route"]) == ("warning", "switch-api")
        assert broken["error"] in (await get(url(application, "admin") + "/readyz"))[1]
        metrics = (await get(url(application, "admin") + "/metrics"))[1]
        assert 'switch_proxy_route_tls_usable{route="switch-api"} 0.0' in metrics
        path.write_bytes(good)
        await told.wait_for("tls.restored")
        metrics = (await get(url(application, "admin") + "/metrics"))[1]
        assert 'switch_proxy_route_tls_usable{route="switch-api"} 1.0' in metrics
        path.write_bytes(trustme.CA().cert_pem.bytes())
        assert (await told.wait_for("tls.reloaded"))["source"] == f"the file {path}"


class DyingClock(SystemClock):
    """A clock whose sleep fails: an unexpected defect."""

    async def sleep_until(self, at: float) -> None:
        if at > self.now():
            raise OSError("the clock has stopped")


async def test_a_task_that_dies_is_known_with_its_reason(settings: Settings, told: Told) -> None:
    async with started(settings, told, clock=DyingClock()) as application, asyncio.timeout(10):
        failure = await application.failure()
    assert isinstance(failure, ExceptionGroup)
    assert failure.subgroup(OSError) is not None


async def test_a_task_that_dies_ends_the_process_with_exit_code_1_and_a_clear_line(
    settings: Settings, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_SECRET", ENVIRON["APP_SECRET"])
    async with asyncio.timeout(10):
        assert await process._run(settings, log=told.log, clock=DyingClock()) == 1
    died = await told.wait_for("task.died")
    assert died["level"] == "critical"
    assert "OSError: the clock has stopped" in died["exception"]
    assert (await told.names())[-1] == "proxy.stopped"


async def test_nothing_that_is_told_holds_the_secret_or_a_token(
    auth: FakeAuthorizationServer, api: FakeSwitchAPI, settings: Settings, tmp_path: Path
) -> None:
    """Log at its most talkative, admin pages, errors and reprs, through refreshes, refusals and failures."""
    told = Told(tmp_path / "all", level="debug")
    auth.lifetime = 0.4
    texts = []
    async with started(settings, told) as application:
        texts.append((await get(url(application) + METERS))[1])
        auth.faults.add(faults.Status(code=401), times=1)
        await told.wait_for("token.refresh_failed")
        api.faults.add(faults.Reset(), times=1)
        texts.append((await get(url(application) + METERS))[1])
        texts += [(await get(f"{url(application, 'admin')}/{page}"))[1] for page in ("livez", "readyz", "metrics")]
        texts.append(repr(application))
        texts.extend(map(repr, vars(application).values()))
    texts.append(await told.text())
    await asyncio.to_thread(told.log.close)
    everything = "\n".join(texts)
    tokens = {request.bearer_token or "" for request in api.requests}
    assert tokens - {""}
    for value in (ENVIRON["APP_SECRET"], *tokens):
        assert value not in everything


async def test_what_is_live_is_masked_whether_its_event_is_logged_or_not(
    api: FakeSwitchAPI, settings: Settings, tmp_path: Path
) -> None:
    """A library's error text may hold anything."""
    told = Told(tmp_path / "errors", level="error")
    async with started(settings, told) as application:
        assert (await get(url(application) + METERS))[0] == 200
        token = api.requests[-1].bearer_token
        told.log.events.error("leak.tried", text=f"{ENVIRON['APP_SECRET']} {token}")
    assert (await told.events())[-1]["text"] == f"{MASK} {MASK}"
    await asyncio.to_thread(told.log.close)


async def test_running_logs_to_standard_output(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    async with running(settings, environ=ENVIRON) as application:
        assert (await get(url(application) + METERS))[0] == 200
    names = [json.loads(line)["event"] for line in capfd.readouterr().out.splitlines()]
    assert names[0] == "listener.started"
    assert "request.forwarded" in names
    assert names[-1] == "proxy.stopped"


async def test_a_used_up_quota_is_told_to_apps_and_probes_and_in_the_log(
    settings: Settings, told: Told, auth: FakeAuthorizationServer
) -> None:
    """With its end, apart from outages and refusals, and nothing is asked before it."""
    quota = faults.Field(name="Auth0-Client-Quota-Limit", value="b=per_hour;q=10;r=4;t=60,b=per_day;q=50;r=0;t=36000")
    midnight = faults.Field(name="Date", value="Mon, 21 Sep 2026 14:00:00 GMT")
    auth.faults.add(faults.Status(code=429), quota, midnight, times=None)
    text = "the client's quota of tokens (50 a day) is used up until 00:00 UTC"
    async with started(settings, told) as application, aiohttp.ClientSession() as session:
        event = await told.wait_for("token.refresh_failed")
        assert (event["outcome"], text in event["error"]) == ("exhausted", True)
        assert 36000 <= event["retry_in"] <= 36061
        urls = {name: f"http://{host}:{port}" for name, (host, port) in application.addresses.items()}
        async with session.get(urls["switch-api"] + METERS) as response:
            assert response.status == 503
            assert text in (await response.json(content_type=None))["detail"]
            assert 36000 - 10 <= int(response.headers["Retry-After"]) <= 36062
        async with session.get(urls["admin"] + "/readyz") as response:
            check = (await response.json(content_type=None))["checks"][0]
            assert text in check["reason"]
            assert "exhausted_until" in check
        assert len(auth.requests) == 1
