"""A tutorial's proxy: aiohttp.web.Application, ClientSession, a token fetched when a request finds none.

It streams in both directions and is correct for ordinary requests; the comparison shows what it lacks.
Settings come from the environment: LISTEN_PORT, UPSTREAM, TOKEN_URL, CLIENT_ID, CLIENT_SECRET, AUDIENCE, CA_FILE.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from typing import TYPE_CHECKING

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


class TokenCache:
    """The current token; the request that finds it expired fetches the next one."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._lock = asyncio.Lock()
        self._token = ""
        self._expires_at = 0.0

    async def get(self) -> str:
        """Return a token that is valid for at least a minute; fetch one if needed."""
        async with self._lock:
            if time.monotonic() > self._expires_at - 60:
                form = {
                    "grant_type": "client_credentials",
                    "client_id": os.environ["CLIENT_ID"],
                    "client_secret": os.environ["CLIENT_SECRET"],
                    "audience": os.environ["AUDIENCE"],
                }
                async with self._session.post(os.environ["TOKEN_URL"], data=form) as response:
                    response.raise_for_status()
                    answer = await response.json()
                self._token = answer["access_token"]
                self._expires_at = time.monotonic() + answer["expires_in"]
            return self._token


SESSION = web.AppKey("SESSION", ClientSession)
TOKENS = web.AppKey("TOKENS", TokenCache)


async def forward(request: web.Request) -> web.StreamResponse:
    """Send the request on with the token, and its response back, chunk by chunk."""
    headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP | {"host"}]
    headers.append(("Authorization", f"Bearer {await request.app[TOKENS].get()}"))
    async with request.app[SESSION].request(
        request.method,
        os.environ["UPSTREAM"] + request.path_qs,
        headers=headers,
        data=request.content if request.can_read_body else None,
        allow_redirects=False,
    ) as upstream:
        response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
        for name, value in upstream.headers.items():
            if name.lower() not in HOP_BY_HOP:
                response.headers.add(name, value)
        await response.prepare(request)
        async for chunk in upstream.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


async def client_session(app: web.Application) -> AsyncIterator[None]:
    """Keep one client session for the life of the application."""
    context = ssl.create_default_context(cafile=os.environ["CA_FILE"])
    # No limit of 100 connections and no total time, because 1,000 long streams must pass.
    connector = TCPConnector(ssl=context, limit=0)
    async with ClientSession(connector=connector, auto_decompress=False, timeout=ClientTimeout(total=None)) as session:
        app[SESSION] = session
        app[TOKENS] = TokenCache(session)
        yield


def main() -> None:
    """Serve until stopped."""
    app = web.Application(client_max_size=0)
    app.cleanup_ctx.append(client_session)
    app.router.add_route("*", "/{path:.*}", forward)
    web.run_app(app, host="127.0.0.1", port=int(os.environ["LISTEN_PORT"]), print=None)


if __name__ == "__main__":
    main()
