"""Several routes on one listener: each request goes to its own upstream, with its own token; one that has no route, nowhere."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from switch_proxy.core.config.listeners import effective_listeners
from switch_proxy.core.errors import ListenError
from switch_proxy.core.http.problems import Problem, Reject
from switch_proxy.core.policy.admission import Admission, Wait
from switch_proxy.http1.listener import Listener
from switch_proxy.http1.route import Route
from switch_proxy.settings import parse
from tests.shell.http1.raw_client import RawClient, connect
from tests.shell.http1.raw_peer import working
from tests.shell.http1.raw_upstream import RawUpstream
from tests.shell.http1.test_broken_upstreams import kind, problem
from tests.shell.http1.tokens import access_token
from tests.shell.http1.world import Records, SkippingClock, StaticTokens, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from switch_proxy.core.http.request import RequestHead

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

CONFIGURATION = """
credentials:
  switch: {token_url: "https://login.example.com/t", client_id: a, client_secret: {env: SECRET}}
  prices: {token_url: "https://login.example.com/t", client_id: b, client_secret: {env: SECRET}}
listeners:
  local: {listen: "127.0.0.1:0", allowed_hosts: ["*"], limits: {request_line: 4KiB, head: 8KiB}}
routes:
  - {name: switch-api, listener: local, match: {path: /switch/}, strip_prefix: true, upstream: "%s/v1", credential: switch}
  - {name: prices, listener: local, match: {path: /prices, host: prices.local}, upstream: "%s", credential: prices}
"""


@dataclass(slots=True)
class SharedWorld:
    """One listener, two routes and their upstreams."""

    listener: Listener
    routes: list[Route]
    switch: RawUpstream
    prices: RawUpstream
    records: Records
    clock: SkippingClock
    clients: list[RawClient]

    async def send(self, request: bytes) -> RawClient:
        client = await connect(self.listener.address)
        self.clients.append(client)
        await client.send(request)
        return client


@asynccontextmanager
async def running() -> AsyncIterator[SharedWorld]:
    switch, prices = RawUpstream(), RawUpstream()
    text = CONFIGURATION % tuple(f"http://127.0.0.1:{each.port}" for each in (switch, prices))
    settings = parse(text.encode(), source="config.yaml", environ={"SECRET": "hunter2"})
    (model,) = effective_listeners(settings)
    records, clock = Records(), SkippingClock()
    routes = [
        Route(each, tokens=StaticTokens(access_token(f"token-of-{each.settings.credential}")), clock=clock)
        for each in model.routes
    ]
    listener = Listener(model, routes=routes, observer=records, clock=clock)
    await listener.start()
    shared = SharedWorld(listener, routes, switch, prices, records, clock, [])
    try:
        yield shared
    finally:
        for client in shared.clients:
            client.socket.close()
        switch.close()
        prices.close()
        await listener.close()


@pytest.fixture
async def shared() -> AsyncIterator[SharedWorld]:
    async with running() as world:
        yield world


def get(target: bytes, host: bytes = b"switch.local") -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"


async def test_each_request_goes_to_the_upstream_of_its_route_with_the_token_of_its_credential(
    shared: SharedWorld,
) -> None:
    """On one connection, one after the other."""
    client = await shared.send(get(b"/switch/registers?x=1"))
    server = await shared.switch.accept()
    head = await server.receive_head()
    assert (head.start, head.value("Authorization")) == (b"GET /v1/registers?x=1 HTTP/1.1", b"Bearer token-of-switch")
    await server.send(OK)
    assert (await client.receive_response()).status == 200
    await client.send(get(b"/prices/today", b"Prices.Local:8080"))
    server = await shared.prices.accept()
    head = await server.receive_head()
    assert (head.start, head.value("Authorization")) == (b"GET /prices/today HTTP/1.1", b"Bearer token-of-prices")
    assert head.value("Host") == b"127.0.0.1:%d" % shared.prices.port
    await server.send(OK)
    assert (await client.receive_response()).status == 200
    assert [record.route for record in shared.records.all] == ["switch-api", "prices"]


@pytest.mark.parametrize(
    ("target", "host"), [(b"/", b"switch.local"), (b"/switches", b"prices.local"), (b"/prices", b"switch.local")]
)
async def test_what_no_route_is_for_is_a_404_that_lists_the_routes(
    shared: SharedWorld, target: bytes, host: bytes
) -> None:
    client = await shared.send(get(target, host) + get(b"/switch/"))
    response = await client.receive_response()
    assert kind(response) == (404, "route-unknown")
    detail = problem(response)["detail"]
    assert "switch-api (/switch/)" in detail
    assert "prices (/prices/ on prices.local)" in detail
    assert b"next-hop" not in (response.head.value("Proxy-Status") or b"next-hop")
    assert shared.records.all[0].route == "-"
    # The connection goes on.
    server = await shared.switch.accept()
    assert (await server.receive_head()).start == b"GET /v1/ HTTP/1.1"
    assert not shared.prices.has_connection_waiting()


@pytest.mark.parametrize("target", [b"//switch/x", b"/switch/../prices", b"/x/..%2fswitch", b"/switch;a=b"])
async def test_a_path_that_could_be_another_routes_is_a_400(shared: SharedWorld, target: bytes) -> None:
    client = await shared.send(get(target))
    assert kind(await client.receive_response()) == (400, "request-malformed")
    assert await client.receive_to_end() == b""
    assert not shared.switch.has_connection_waiting()


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", (405, "method-not-allowed")),
        (b"TRACE /x HTTP/1.1\r\nHost: a\r\n\r\n", (405, "method-not-allowed")),
        (b"GET http://a/switch/ HTTP/1.1\r\nHost: a\r\n\r\n", (421, "host-not-allowed")),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", (400, "request-malformed")),
        (b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n", (414, "request-malformed")),
    ],
)
async def test_what_is_wrong_whatever_the_route_is_refused_as_on_a_listener_of_one(
    shared: SharedWorld, request_: bytes, expected: tuple[int, str]
) -> None:
    client = await shared.send(request_)
    assert kind(await client.receive_response()) == expected


async def test_options_of_the_server_that_ends_here_needs_no_route(shared: SharedWorld) -> None:
    client = await shared.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")
    assert (await client.receive_response()).status == 200


async def test_each_route_counts_its_own_requests(shared: SharedWorld) -> None:
    await shared.send(get(b"/switch/a"))
    await (await shared.switch.accept()).receive_head()
    now = shared.listener.snapshot()
    assert (now.name, now.client_connections) == ("local", 1)
    assert {route.name: route.requests_in_flight for route in now.routes} == {"switch-api": 1, "prices": 0}


async def test_an_address_that_is_taken_is_an_error_that_names_the_listener(shared: SharedWorld) -> None:
    _, port = shared.listener.address
    text = CONFIGURATION.replace("127.0.0.1:0", f"127.0.0.1:{port}") % ("http://localhost", "http://localhost")
    settings = parse(text.encode(), source="config.yaml", environ={"SECRET": "hunter2"})
    (model,) = effective_listeners(settings)
    second = Listener(model, routes=shared.routes, observer=shared.records, clock=shared.clock)
    with pytest.raises(ListenError, match=rf"listener 'local' cannot listen on 127\.0\.0\.1:{port}"):
        await second.start()


# What a route's policy says.


async def test_a_request_that_its_policy_holds_back_waits_and_is_then_sent_with_its_body(shared: SharedWorld) -> None:
    asked = []

    def policy(head: RequestHead, target: bytes, now: float) -> Wait | None:
        asked.append(head.target)
        return Wait(until=now + 3600) if len(asked) < 3 else None

    shared.routes[0].admission = Admission(policy=policy)
    client = await shared.send(b"POST /switch/a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel")
    await client.send(b"lo")
    await until(lambda: shared.clock.sleepers == 1, lambda: "nothing is held back")
    assert not shared.switch.has_connection_waiting()
    shared.clock.skip(3600)
    await until(lambda: len(asked) == 2 and shared.clock.sleepers > 0, lambda: "it is not held back again")
    shared.clock.skip(3600)
    server = await shared.switch.accept()
    await server.receive_head()
    assert await server.receive(5) == b"hello"
    await server.send(OK)
    assert (await client.receive_response()).body == b"hi"
    assert asked == [b"/switch/a"] * 3


async def test_the_body_of_a_request_that_was_held_back_follows_on_an_idle_connection(shared: SharedWorld) -> None:
    """Reading was paused while it waited, and the quick way is taken afterwards."""
    client = await shared.send(get(b"/switch/first"))
    server = await shared.switch.accept()
    await server.receive_head()
    await server.send(OK)
    await client.receive_response()
    decisions = iter([Wait(until=shared.clock.now() + 5), None])
    shared.routes[0].admission = Admission(policy=lambda *_: next(decisions))
    body = bytes(2_000_000)
    async with working(client.send(b"PUT /switch/a HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n", body)):
        await until(lambda: shared.clock.sleepers == 1, lambda: "nothing is held back")
        shared.clock.skip(5)
        await server.receive_head()
        assert await server.receive(len(body)) == body
    await server.send(OK)
    assert (await client.receive_response()).status == 200


async def test_a_client_that_leaves_while_its_request_is_held_back_leaves_nothing_behind(shared: SharedWorld) -> None:
    shared.routes[0].admission = Admission(policy=lambda _, __, now: Wait(until=now + 3600))
    client = await shared.send(get(b"/switch/a"))
    await until(lambda: shared.clock.sleepers == 1, lambda: "nothing is held back")
    client.socket.close()
    await until(lambda: shared.clock.sleepers == 0, lambda: "it is still held back")
    assert [record.failure for record in shared.records.all] == ["client-gone"]


async def test_a_request_that_its_policy_refuses_gets_that_problem(shared: SharedWorld) -> None:
    refusal = Reject(problem=Problem.METHOD_NOT_ALLOWED, detail="not on Sundays", retry_after=60.0)
    shared.routes[0].admission = Admission(policy=lambda *_: refusal)
    client = await shared.send(get(b"/switch/a"))
    response = await client.receive_response()
    assert (problem(response)["detail"], response.head.value("Retry-After")) == ("not on Sundays", b"60")
    assert shared.records.all[0].route == "switch-api"
