"""
Clients and servers as users have them, with the proxy between: Java, Node, curl; nginx, Hypercorn, Node.

Each client sends the same requests with its defaults. Each server says what it got: the token, the base path, the body.
"""

from __future__ import annotations

import hashlib
import json
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import pytest
import trustme

from tests.e2e.peers import server
from tests.e2e.proxy_process import proxy_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from switch_proxy.demo.auth_server import FakeAuthorizationServer
    from tests.e2e.conftest import Configure

    StartServer = Callable[[str], Awaitable[str]]

pytestmark = pytest.mark.timeout(180)

_BODY: Final = b"b" * 100_000

_STEPS: Final = [*["get"] * 5, "post", "chunked", "put", "delete", "head", "large", *["together"] * 20]
_METHODS: Final = {"post": "POST", "chunked": "POST", "put": "PUT", "delete": "DELETE"}
_BODIES: Final = {"post": _BODY, "chunked": _BODY, "put": b"small"}

CLIENTS: Final[dict[str, tuple[str, Callable[[str], Sequence[str]]]]] = {
    "Java's HttpClient": ("javac", lambda base: server.java("httpclient", base)),
    "Java's HttpURLConnection": ("javac", lambda base: server.java("urlconnection", base)),
    "Node's fetch": ("node", lambda base: server.node_client("fetch", base)),
    "Node's http": ("node", lambda base: server.node_client("http", base)),
    "axios": ("npm's packages", lambda base: server.node_client("axios", base)),
}
SERVERS: Final = {
    "nginx": "nginx",
    "Hypercorn": "python3",
    "Node": "node",
    "Node with ws": "npm's packages",
}


def need(what: str) -> None:
    """Skip a test by the name of what is missing."""
    is_there = server.has_node_modules() if what == "npm's packages" else server.is_installed(what)
    if not is_there:
        pytest.skip(f"{what}: not installed")


@pytest.fixture
async def start_server(tmp_path: Path) -> AsyncIterator[StartServer]:
    async with AsyncExitStack() as stack:

        async def start(name: str) -> str:
            need(SERVERS[name])
            if name == "nginx":
                (tmp_path / "nginx").mkdir()
                return await stack.enter_async_context(server.nginx(tmp_path / "nginx"))
            if name == "Hypercorn":
                return await stack.enter_async_context(server.hypercorn())
            arguments = ("with-ws",) if name == "Node with ws" else ()
            return await stack.enter_async_context(server.node(str(server.HERE / "upstream.mjs"), *arguments))

        yield start


def check(result: dict[str, Any], *, tokens: set[str], number: int) -> None:
    """Check what a client got for one step, and in it what the server got."""
    step, told = result["step"], result["body"]
    assert result["status"] == 200, result
    if step == "large":
        assert int(told) == 2**20
    elif step == "head":
        assert told is None
    else:
        query = f"?n={number}" if step in {"get", "together"} else ""
        assert told["method"] == _METHODS.get(step, "GET")
        assert told["url"] == f"/api/echo{query}"
        assert told["authorization"] in tokens
        body = _BODIES.get(step, b"")
        # nginx does not say what it got of the body.
        assert told.get("length", len(body)) == len(body), step
        assert told.get("sha256", hashlib.sha256(body).hexdigest()) == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("upstream", SERVERS)
@pytest.mark.parametrize("client", CLIENTS)
async def test_every_request_of_a_client_arrives_with_a_token_and_its_response_comes_back(
    configure: Configure, auth: FakeAuthorizationServer, start_server: StartServer, client: str, upstream: str
) -> None:
    """Also of one that offers HTTP/2 with each request, to servers that would take it or send it elsewhere."""
    program, command = CLIENTS[client]
    need(program)
    url = await start_server(upstream)
    async with proxy_process(configure(upstream=f"{url}/api")) as proxy:
        await proxy.event("proxy.became_ready")
        output = await server.output_of(*command(await proxy.url("switch-api")))
        proxy.send(signal.SIGTERM)
        assert await proxy.exit_code() == 0
    results = [json.loads(line) for line in output.splitlines()]
    assert [result["step"] for result in results] == _STEPS[: len(results)]
    assert len(results) == (11 if client == "Java's HttpURLConnection" else len(_STEPS))
    tokens = {f"Bearer {token.value}" for token in auth.issued}
    for at, result in enumerate(results):
        check(result, tokens=tokens, number=at if at < 5 else at - 11)
    assert proxy.event_names.count("request.forwarded") == len(results)
    assert "request.failed" not in proxy.event_names


@pytest.mark.parametrize("upstream", SERVERS)
async def test_curl_that_offers_http_2_keeps_its_connection(
    configure: Configure, auth: FakeAuthorizationServer, start_server: StartServer, upstream: str
) -> None:
    """Its Upgrade ends at the proxy: each of its requests has the token and the base path."""
    need("curl")
    url = await start_server(upstream)
    async with proxy_process(configure(upstream=f"{url}/api")) as proxy:
        await proxy.event("proxy.became_ready")
        base = await proxy.url("switch-api")
        told = ("-sS", "--http2", "-w", r"\n%{http_code} %{http_version} %{num_connects}\n")
        output = await server.output_of("curl", *told, *(f"{base}/echo?n={number}" for number in range(5)))
        posted = await server.output_of("curl", *told, "--data", "small", f"{base}/echo")
    tokens = {f"Bearer {token.value}" for token in auth.issued}
    lines = output.splitlines()
    for number in range(5):
        result = {"step": "get", "status": 200, "body": json.loads(lines[2 * number])}
        check(result, tokens=tokens, number=number)
    assert lines[1::2] == ["200 1.1 1", *["200 1.1 0"] * 4]
    assert json.loads(posted.splitlines()[0])["method"] == "POST"
    assert posted.splitlines()[1] == "200 1.1 1"


async def test_a_server_that_offers_http_2_over_tls_is_spoken_to_in_http_1_1(
    configure: Configure, auth: FakeAuthorizationServer, tmp_path: Path
) -> None:
    """By ALPN (RFC 7301): nginx chooses what the proxy offers."""
    need("nginx")
    need("curl")
    authority, folder = trustme.CA(), tmp_path / "nginx"
    folder.mkdir()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    async with server.nginx(folder, certificate=tmp_path / "server.pem") as url:
        route = {
            "name": "switch-api",
            "listen": "127.0.0.1:0",
            "upstream": f"{url}/api",
            "credential": "switch",
            "tls": {"ca_file": str(tmp_path / "ca.pem")},
        }
        async with proxy_process(configure(routes=[route])) as proxy:
            await proxy.event("proxy.became_ready")
            base = await proxy.url("switch-api")
            output = await server.output_of("curl", "-sS", *(f"{base}/echo?n={number}" for number in range(3)))
            large = await server.output_of("curl", "-sS", f"{base}/large")
    assert len(large) == 2**20
    told = json.JSONDecoder().raw_decode(output)[0]
    assert told["url"] == "/api/echo?n=0"
    assert told["authorization"] in {f"Bearer {token.value}" for token in auth.issued}


WEB_SOCKET_CLIENTS: Final[dict[str, tuple[str, Callable[[str], Sequence[str]]]]] = {
    "Java's WebSocket": ("javac", lambda base: server.java("websocket", base)),
    "ws": ("npm's packages", lambda base: server.node_client("websocket", base)),
}


@pytest.mark.parametrize("upstream", ["Hypercorn", "Node with ws"])
@pytest.mark.parametrize("client", WEB_SOCKET_CLIENTS)
async def test_a_web_socket_passes_with_the_token(
    configure: Configure, auth: FakeAuthorizationServer, start_server: StartServer, client: str, upstream: str
) -> None:
    """The first message is what the server got; two more come back, and the close with its code."""
    program, command = WEB_SOCKET_CLIENTS[client]
    need(program)
    url = await start_server(upstream)
    async with proxy_process(configure(upstream=f"{url}/api")) as proxy:
        await proxy.event("proxy.became_ready")
        base = (await proxy.url("switch-api")).replace("http://", "ws://")
        output = await server.output_of(*command(base))
    first, *others = [json.loads(line) for line in output.splitlines()]
    assert first["body"]["url"] == "/api/socket"
    assert first["body"]["authorization"] in {f"Bearer {token.value}" for token in auth.issued}
    assert others == [
        {"step": "message", "status": 101, "body": "1"},
        {"step": "message", "status": 101, "body": "2"},
        {"step": "closed", "status": 1000, "body": None},
    ]
