"""A minimal proxy to test the demo's script with: correct, or wrong in one selected way."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet
    from types import TracebackType

    from switch_proxy.demo.auth_server import FakeAuthorizationServer
    from switch_proxy.demo.switch_api import FakeSwitchAPI


class Wrong(Enum):
    """The ways in which the proxy can be wrong."""

    SENDS_NO_TOKEN = auto()
    INVENTS_A_TOKEN = auto()
    DECODES_THE_TARGET = auto()
    CHANGES_THE_BODY = auto()
    SENDS_TWICE = auto()
    HIDES_THE_RATE_LIMIT = auto()
    ANSWERS_200_FOR_204 = auto()
    KEEPS_AN_EXPIRED_TOKEN = auto()
    NEVER_KEEPS_A_TOKEN = auto()
    IS_NOT_READY = auto()
    SHOWS_ITS_TOKEN = auto()


class StandInProxy:
    """Forward requests with a token of the fake authorization server; the admin pages are at the same address."""

    def __init__(
        self, auth: FakeAuthorizationServer, api: FakeSwitchAPI, *, wrong: AbstractSet[Wrong] = frozenset()
    ) -> None:
        self._auth = auth
        self._api = api
        self._wrong = wrong
        self._token: tuple[str, float] | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._session.close()

    @property
    def url(self) -> str:
        host, port = self._runner.addresses[0]
        return f"http://{host}:{port}"

    async def _serve(self, request: web.BaseRequest) -> web.Response:
        if not request.path.startswith("/api/"):
            text = str(self._token) if Wrong.SHOWS_ITS_TOKEN in self._wrong else "fine"
            return web.Response(text=text, status=503 if Wrong.IS_NOT_READY in self._wrong else 200)
        body = await request.read()
        target = unquote(request.raw_path) if Wrong.DECODES_THE_TARGET in self._wrong else request.raw_path
        headers = dict(self._credentials(await self._fresh_token()))
        if body:
            headers["Content-Type"] = "application/json"
            if Wrong.CHANGES_THE_BODY in self._wrong:
                body = body.replace(b"42", b"43")
        for _ in range(2 if Wrong.SENDS_TWICE in self._wrong else 1):
            url = URL(self._api.url + target, encoded=True)
            async with self._session.request(request.method, url, headers=headers, data=body) as response:
                content, status = await response.read(), response.status
        passed = {name: value for name, value in response.headers.items() if name.lower() in _PASSED}
        if Wrong.HIDES_THE_RATE_LIMIT in self._wrong:
            passed.pop("Retry-After", None)
        if Wrong.ANSWERS_200_FOR_204 in self._wrong and status == 204:
            status = 200
        return web.Response(status=status, body=content, headers=passed)

    def _credentials(self, token: str) -> Iterator[tuple[str, str]]:
        if Wrong.INVENTS_A_TOKEN in self._wrong:
            token = "eyJ.e30.invented"
        if Wrong.SENDS_NO_TOKEN not in self._wrong:
            yield "Authorization", f"Bearer {token}"

    async def _fresh_token(self) -> str:
        if self._token is not None and Wrong.NEVER_KEEPS_A_TOKEN not in self._wrong:
            token, issued_for = self._token
            left = next(issued for issued in self._auth.issued if issued.value == token).expires_at
            if Wrong.KEEPS_AN_EXPIRED_TOKEN in self._wrong or self._auth_now() < left - 0.2 * issued_for:
                return token
        form = {
            "grant_type": "client_credentials",
            "client_id": self._auth.client_id,
            "client_secret": self._auth.client_secret,
            "audience": "https://api.switchmarket.se",
        }
        async with self._session.post(self._auth.token_url, data=form) as response:
            answer = await response.json()
        self._token = (answer["access_token"], answer["expires_in"])
        return self._token[0]

    def _auth_now(self) -> float:
        return self._auth._now()


_PASSED = frozenset(
    {"content-type", "retry-after", "x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset"}
)
