"""An API for Hypercorn, with a WebSocket; Hypercorn itself takes h2c."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

_LARGE = b"x" * 2**20


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Serve one request or WebSocket."""
    if scope["type"] == "http":
        await _serve(scope, receive, send)
    elif scope["type"] == "websocket":
        await _converse(scope, receive, send)


def _told(scope: dict[str, Any]) -> dict[str, Any]:
    query = scope["query_string"].decode()
    fields = {name.lower(): value.decode() for name, value in scope["headers"]}
    return {
        "url": scope["path"] + (f"?{query}" if query else ""),
        "authorization": fields.get(b"authorization"),
    }


async def _serve(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    digest, length, has_more = hashlib.sha256(), 0, True
    while has_more:
        message = await receive()
        digest.update(message.get("body", b""))
        length += len(message.get("body", b""))
        has_more = message.get("more_body", False)
    body = _LARGE
    if not scope["path"].endswith("/large"):
        told = {"method": scope["method"], **_told(scope), "length": length, "sha256": digest.hexdigest()}
        body = json.dumps(told).encode()
    fields = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _converse(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": json.dumps(_told(scope))})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
