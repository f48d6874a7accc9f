"""The token endpoint's client against real servers on loopback, good and bad."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import struct
import threading
import traceback
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
import trustme
from aiohttp import web

from switch_proxy import __version__
from switch_proxy.core.backoff import Lane
from switch_proxy.core.config.models import CredentialSettings, SecretSource, TlsSettings
from switch_proxy.core.errors import (
    TokenEndpointUnavailableError,
    TokenFetchError,
    TokenQuotaExhaustedError,
    TokenRequestRefusedError,
    TokenResponseInvalidError,
)
from switch_proxy.core.lifecycle import lane_of
from switch_proxy.core.oauth.response import MAX_BODY
from switch_proxy.core.secret import Secret
from switch_proxy.core.tokens import TokenGrant
from switch_proxy.resolver import Resolver
from switch_proxy.tokens.client import TokenClient
from tests.manual_clock import ManualClock, until
from tests.masking import Masked, ignore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from switch_proxy.core.known_name import SocketAddress

SECRET: Final = "zebra-quilt-vortex-secret"
TOKEN: Final = "zebra.token.value"
GOOD: Final = json.dumps({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}).encode()


def _settings(url: str, **changes: Any) -> CredentialSettings:
    return CredentialSettings(
        token_url=url,
        client_id="the client",
        client_secret=SecretSource(env="X"),
        **({"audience": "https://api.switchmarket.se"} | changes),
    )


async def _fetch(url: str, **changes: Any) -> TokenGrant:
    async with TokenClient(settings=_settings(url, **changes), clock=ManualClock(), mask=ignore) as client:
        return await client.fetch(Secret(SECRET))


async def test_a_token_is_masked_before_anybody_has_it() -> None:
    masked = Masked()
    async with (
        _endpoint().serving() as endpoint,
        TokenClient(settings=_settings(endpoint.url), clock=ManualClock(), mask=masked) as client,
    ):
        grant = await client.fetch(Secret(SECRET))
    assert masked.secrets == [("token", grant.value)]


AUTH0_QUOTA: Final = "b=per_hour;q=10;r=7;t=3540,b=per_day;q=50;r=47;t=43200"
QUOTA: Final = {("per_hour", 10, 7), ("per_day", 50, 47)}


async def test_the_ration_is_read_from_a_good_response() -> None:
    async with _endpoint(Auth0_Client_Quota_Limit=AUTH0_QUOTA).serving() as endpoint:
        grant = await _fetch(endpoint.url)
    assert {(bucket.name, bucket.quota, bucket.remaining) for bucket in grant.quota} == QUOTA


@pytest.mark.parametrize("status", [200, 400, 401, 403, 429, 500])
async def test_the_ration_is_read_from_an_error(status: int) -> None:
    endpoint = _endpoint(b"{}", status=status, Auth0_Client_Quota_Limit=AUTH0_QUOTA)
    async with endpoint.serving():
        error = await _failure(endpoint.url)
    assert {(bucket.name, bucket.quota, bucket.remaining) for bucket in error.quota} == QUOTA


@pytest.mark.parametrize(
    "value",
    [b"x" * 8000, b";;==,,b=", b"b=per_hour;q=-1;r=1e999;t=NaN", b"\xff\xfe\x80", b"b=zebra-quilt-vortex;r=1;t=1"],
)
@pytest.mark.parametrize("name", [b"Auth0-Client-Quota-Limit", b"RateLimit", b"X-RateLimit-Reset"])
async def test_no_ration_however_malformed_stops_a_fetch(name: bytes, value: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(GOOD)
        writer.write(head + name + b": " + value + b"\r\n\r\n" + GOOD)
        await writer.drain()

    async with _raw_server(talk) as url:
        grant = await _fetch(url)
    assert grant.value == Secret(TOKEN)
    assert "zebra" not in "".join(bucket.name + bucket.description for bucket in grant.quota)


async def _failure(url: str, **changes: Any) -> TokenFetchError:
    """Return the error of a fetch, which shows neither secret nor token, not even in a traceback with locals."""
    with pytest.raises(TokenFetchError) as caught:
        await _fetch(url, **changes)
    error = caught.value
    assert error.__context__ is None
    stack = None if error.__traceback__ is None else error.__traceback__.tb_next
    shown = "".join(traceback.TracebackException(type(error), error, stack, capture_locals=True).format())
    assert "zebra" not in shown + repr(error)
    return error


class Endpoint:
    """A token endpoint by aiohttp, with the responses of a handler."""

    def __init__(self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        self._handler = handler
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.connections: set[object] = set()
        self.url = ""

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(request, web.Request)
        self.requests.append(request)
        self.bodies.append(await request.read())
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername"))
        return await self._handler(request)

    @asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None, host: str = "localhost") -> AsyncIterator[Endpoint]:
        application = web.Application()
        application.router.add_route("*", "/{tail:.*}", self._handle)
        runner = web.AppRunner(application, shutdown_timeout=0.05)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
            await site.start()
            scheme = "http" if tls is None else "https"
            self.url = f"{scheme}://{host}:{runner.addresses[0][1]}/oauth/token"
            yield self
        finally:
            await runner.cleanup()


def _endpoint(body: bytes = GOOD, *, status: int = 200, **head: str) -> Endpoint:
    """Return an endpoint with one response to everything; keywords are header fields, with `_` for `-`."""

    async def handle(request: web.Request) -> web.Response:
        fields = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in head.items()}
        return web.Response(status=status, body=body, headers=fields)

    return Endpoint(handle)


@asynccontextmanager
async def _raw_server(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """Serve connections with raw bytes, and yield the URL; `talk` is called once the request's head is there."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # a client that has gone
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/oauth/token"


async def _request(reader: asyncio.StreamReader) -> bytes:
    """Return the bytes of a whole request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return head + await reader.readexactly(int(length.partition(b":")[2]))


# --- the request ---------------------------------------------------------------------------------------------------


async def test_a_token_is_fetched() -> None:
    async with _endpoint().serving() as endpoint:
        assert await _fetch(endpoint.url) == TokenGrant(value=Secret(TOKEN), lifetime=3600.0, scope=None)
    assert endpoint.bodies == [
        (
            b"grant_type=client_credentials&client_id=the+client&client_secret=zebra-quilt-vortex-secret"
            b"&audience=https%3A%2F%2Fapi.switchmarket.se"
        )
    ]


async def test_the_request_is_this_to_the_byte() -> None:
    """One POST as the Switch API documents it; no content codings, no kept connection, nothing unintended."""
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await _request(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(GOOD), GOOD))
        await writer.drain()

    async with _raw_server(talk) as url:
        await _fetch(url + "?tenant=a%2Fb")
    (request,) = seen
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /oauth/token?tenant=a%2Fb HTTP/1.1"
    assert sorted(lines[1:]) == sorted(
        [
            b"Host: " + url.split("/")[2].encode(),
            b"Accept: application/json",
            b"Accept-Encoding: identity",
            b"Content-Type: application/x-www-form-urlencoded",
            b"Content-Length: %d" % len(body),
            b"Connection: close",
            b"User-Agent: switch-proxy/" + __version__.encode(),
        ]
    )


async def test_no_cookie_is_kept() -> None:
    async with (
        _endpoint(Set_Cookie="session=1; Path=/").serving() as endpoint,
        TokenClient(settings=_settings(endpoint.url), clock=ManualClock(), mask=ignore) as client,
    ):
        for _ in range(2):
            await client.fetch(Secret(SECRET))
    assert [request.headers.get("Cookie") for request in endpoint.requests] == [None, None]


async def test_each_fetch_has_a_connection_of_its_own() -> None:
    """A connection that was kept since the last fetch would have gone stale, and a POST is not repeated by itself."""
    async with (
        _endpoint().serving() as endpoint,
        TokenClient(settings=_settings(endpoint.url), clock=ManualClock(), mask=ignore) as client,
    ):
        for _ in range(3):
            await client.fetch(Secret(SECRET))
        assert len(endpoint.connections) == 3


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nor are passwords of a .netrc: the environment must not send the secret elsewhere."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login someone password else\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with _endpoint().serving() as other, _endpoint().serving() as endpoint:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, other.url)
        await _fetch(endpoint.url)
    assert other.requests == []
    assert "Authorization" not in endpoint.requests[0].headers


# --- responses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "head", "reason"),
    [
        pytest.param(b"<html>Sign in</html>", {"Content_Type": "text/html"}, "(text/html) is not JSON", id="HTML"),
        pytest.param(b"", {}, "is empty", id="nothing"),
        pytest.param(b"[]", {}, "is JSON, but no object", id="a list"),
        pytest.param(GOOD, {"Content_Encoding": "br"}, "content coding", id="in another coding"),
        pytest.param(b" " * (MAX_BODY + 1), {}, "larger than 64 KiB", id="a byte too much"),
        pytest.param(gzip.compress(b" " * 10**8), {"Content_Encoding": "gzip"}, "is larger", id="a bomb"),
    ],
)
async def test_an_answer_that_cannot_be_used_is_told(body: bytes, head: dict[str, Any], reason: str) -> None:
    async with _endpoint(body, **head).serving() as endpoint:
        failure = await _failure(endpoint.url)
    assert isinstance(failure, TokenResponseInvalidError)
    assert reason in failure.reason


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, TokenRequestRefusedError),
        (401, TokenRequestRefusedError),
        (403, TokenRequestRefusedError),
        (404, TokenRequestRefusedError),
        (429, TokenQuotaExhaustedError),
        (500, TokenEndpointUnavailableError),
        (503, TokenEndpointUnavailableError),
    ],
)
async def test_a_failure_has_what_the_server_says_of_it(status: int, kind: type[TokenFetchError]) -> None:
    """Error, description and Retry-After arrive; a repetition of the secret does not."""
    body = json.dumps({"error": "some_error", "error_description": "some words", "error_uri": SECRET}).encode()
    async with _endpoint(body, status=status, Retry_After="30").serving() as endpoint:
        failure = await _failure(endpoint.url)
    assert type(failure) is kind
    assert "some_error: some words" in failure.reason
    assert failure.retry_after == 30.0


async def test_a_date_to_come_back_at_is_compared_with_the_clock() -> None:
    """The manual clock's Unix time is 1 700 001 000."""
    async with _endpoint(status=503, Retry_After="Tue, 14 Nov 2023 22:31:00 GMT").serving() as endpoint:
        assert (await _failure(endpoint.url)).retry_after == 60.0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    """The secret is sent to the configured endpoint only."""
    async with (
        _endpoint().serving() as elsewhere,
        _endpoint(b"", status=status, Location=elsewhere.url).serving() as endpoint,
    ):
        failure = await _failure(endpoint.url)
    assert elsewhere.requests == []
    assert len(endpoint.requests) == 1
    assert f"to {elsewhere.url}; redirects are not followed" in failure.reason


async def test_an_endless_body_is_not_read_to_its_end() -> None:
    """Reading stops at 64 KiB, and the connection is closed; a server cannot fill the memory."""
    sent = 0
    gone = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await _request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
                await writer.drain()
                sent += 0x4000
        finally:
            gone.set()

    async with _raw_server(talk) as url:
        failure = await _failure(url)
        await asyncio.wait_for(gone.wait(), 10)
    assert failure.reason == "the token endpoint's response is larger than 64 KiB"
    # What the sockets' buffers hold goes on top; an endless reader would have gone on to the timeout.
    assert sent < 64 * 2**20


async def test_an_error_with_a_huge_body_is_told_by_its_status() -> None:
    async with _endpoint(b"x" * 10**6, status=503).serving() as endpoint:
        failure = await _failure(endpoint.url)
    assert type(failure) is TokenEndpointUnavailableError
    assert failure.reason == "the token endpoint responded with 503 Service Unavailable"


# --- connections that fail -----------------------------------------------------------------------------------------


async def _hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _stall_in_the_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-")
    await reader.read()


async def _stall_in_the_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + GOOD[:20])
    await reader.read()


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.005)


async def _close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _request(reader)


async def _close_in_the_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-")


async def _close_in_the_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + GOOD[:20])


async def _close_before_the_last_chunk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(GOOD), GOOD))


async def _reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _request(reader)
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _speak_something_else(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _request(reader)
    writer.write(b"220 mail.example.com ESMTP\r\n\r\n")
    await writer.drain()
    await reader.read()


async def _send_two_lengths(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello")
    await writer.drain()
    await reader.read()


async def _send_an_endless_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        writer.write(b"x" * 4096)
        await writer.drain()


@pytest.mark.parametrize(
    "talk",
    [
        pytest.param(_hang, id="before the answer"),
        pytest.param(_stall_in_the_head, id="in the head"),
    ],
)
async def test_a_server_that_stops_is_waited_for_as_long_as_configured(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> None:
    """The limit is on the whole fetch, whatever it is that takes so long."""
    async with _raw_server(talk) as url:
        failure = await _failure(url, timeout=0.08)
    assert type(failure) is TokenEndpointUnavailableError
    assert failure.reason.endswith(" did not respond within 0.08 seconds")


@pytest.mark.parametrize(
    "talk",
    [
        pytest.param(_stall_in_the_body, id="stops"),
        pytest.param(_drip, id="goes on, but ever so slowly"),
    ],
)
async def test_a_good_response_that_does_not_end_may_have_cost_a_token(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> None:
    async with _raw_server(talk) as url:
        failure = await _failure(url, timeout=0.08)
    assert lane_of(failure) is Lane.UNUSABLE
    assert failure.reason.endswith(" did not end its response within 0.08 seconds")


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        pytest.param(_close, "closed the connection without a response", id="closes"),
        pytest.param(_close_in_the_head, "closed the connection without a response", id="closes in the head"),
        pytest.param(_reset, "", id="resets"),
    ],
)
async def test_a_server_that_breaks_the_connection_is_told(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], reason: str
) -> None:
    async with _raw_server(talk) as url:
        failure = await _failure(url)
    assert type(failure) is TokenEndpointUnavailableError
    assert f"the token endpoint {url.split('/')[2]} " in failure.reason
    assert reason in failure.reason


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        pytest.param(_close_in_the_body, "broke off its response", id="in the body"),
        pytest.param(_close_before_the_last_chunk, "broke off its response", id="before the last chunk"),
    ],
)
async def test_a_good_response_that_breaks_off_may_have_cost_a_token(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], reason: str
) -> None:
    """It is not used, even if it contains the token."""
    async with _raw_server(talk) as url:
        failure = await _failure(url)
    assert lane_of(failure) is Lane.UNUSABLE
    assert f"the token endpoint {url.split('/')[2]} " in failure.reason
    assert reason in failure.reason


@pytest.mark.parametrize(
    "talk",
    [
        pytest.param(_speak_something_else, id="another protocol"),
        pytest.param(_send_two_lengths, id="two lengths"),
    ],
)
async def test_a_server_that_does_not_speak_http_is_told(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> None:
    async with _raw_server(talk) as url:
        failure = await _failure(url)
    assert lane_of(failure) is Lane.UNUSABLE
    assert failure.reason.endswith("responded with something that is not HTTP/1.1")


@pytest.mark.parametrize(
    ("response", "name"),
    [
        pytest.param(
            b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64", "it speaks HTTP/2 alone", id="HTTP/2"
        ),
        pytest.param(
            b"\x15\x03\x03\x00\x02\x02\x46", "it speaks TLS on this port; write https:// in the URL", id="TLS"
        ),
    ],
)
async def test_a_server_of_another_protocol_is_called_what_it_speaks(response: bytes, name: str) -> None:
    """It may keep the connection open and wait."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response)
        await reader.read()

    async with _raw_server(talk) as url:
        failure = await _failure(url)
    assert failure.reason.endswith(f"responded with something that is not HTTP/1.1: {name}")


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        pytest.param(b"\x15\x03\x03\x00\x02\x02\x78", "it speaks HTTP/2 alone, and this proxy HTTP/1.1", id="HTTP/2"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", "it seems to speak plain HTTP on this port", id="plain HTTP"),
    ],
)
async def test_a_handshake_that_fails_for_the_protocol_says_so(reply: bytes, name: str) -> None:
    """RFC 7301 §3.2: the alert of a server that accepts no protocol that was offered."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(reply)
        await reader.read()

    async with _raw_server(talk) as url:
        failure = await _failure(url.replace("http://", "https://"))
    assert failure.reason.endswith(name)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip"])
async def test_an_answer_in_gzip_is_read(coding: str) -> None:
    async with _endpoint(gzip.compress(GOOD), Content_Encoding=coding).serving() as endpoint:
        assert (await _fetch(endpoint.url)).value == Secret(TOKEN)


@pytest.mark.parametrize("length", [8191, 20_000, 60_000])
async def test_a_long_field_line_is_read(length: int) -> None:
    """Gateways send policies of 10 KiB and more in one line."""
    async with _endpoint(Content_Security_Policy="x" * length).serving() as endpoint:
        assert (await _fetch(endpoint.url)).value == Secret(TOKEN)


async def _send_many_field_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"Content-Length: 0\r\n\r\n")
    await writer.drain()


@pytest.mark.parametrize(
    "talk",
    [
        pytest.param(_send_an_endless_head, id="an endless line"),
        pytest.param(_send_many_field_lines, id="many lines"),
    ],
)
async def test_a_head_that_is_too_large_is_told_as_such(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> None:
    async with _raw_server(talk) as url:
        failure = await _failure(url)
    assert type(failure) is TokenResponseInvalidError
    assert "responded with a head that is too large: a line may have 64 KiB" in failure.reason


async def test_a_token_of_another_credential_is_not_shown() -> None:
    """The server may quote what it has logged."""
    body = json.dumps({"error": "server_error", "error_description": "zebra-of-another-credential"}).encode()
    async with (
        _endpoint(body, status=503).serving() as endpoint,
        TokenClient(
            settings=_settings(endpoint.url),
            clock=ManualClock(),
            mask=ignore,
            known_secrets=lambda: [Secret("zebra-of-another-credential")],
        ) as client,
    ):
        with pytest.raises(TokenEndpointUnavailableError, match="it repeats a token or another secret"):
            await client.fetch(Secret(SECRET))


async def test_a_port_where_nobody_listens_is_told() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        failure = await _failure(f"http://127.0.0.1:{port}/token")
    assert type(failure) is TokenEndpointUnavailableError
    assert failure.reason == f"no connection to the token endpoint 127.0.0.1:{port} could be made: Connection refused"


@pytest.mark.parametrize(
    ("environ", "name", "whose"),
    [
        pytest.param({}, "login.example.com", "the token endpoint login.example.com:443", id="token endpoint"),
        pytest.param(
            {"https_proxy": "http://egress.example.com:3128"},
            "egress.example.com",
            "the egress proxy egress.example.com:3128",
            id="egress proxy",
        ),
    ],
)
async def test_a_name_for_which_dns_does_not_respond_is_told_as_such(
    environ: dict[str, str], name: str, whose: str
) -> None:
    """Neither server is to blame."""
    asked: list[str] = []
    responds = threading.Event()

    def hang(host: str) -> tuple[SocketAddress, ...]:
        asked.append(host)
        responds.wait()
        return ()

    settings = _settings("https://login.example.com/token", timeout=3.0)
    resolver = Resolver(used_by="credential switch", now=lambda: 0.0, look_up=hang)
    async with TokenClient(
        settings=settings, clock=ManualClock(), mask=ignore, environ=environ, resolver=resolver
    ) as client:
        with pytest.raises(TokenEndpointUnavailableError) as raised:
            await client.fetch(Secret(SECRET))
    assert str(raised.value) == f"the name of {whose} was not resolved within 3 seconds: DNS does not respond"
    assert asked == [name]
    responds.set()


@pytest.mark.parametrize(
    ("environ", "whose"),
    [
        pytest.param({}, "the token endpoint login.example.com:443", id="token endpoint"),
        pytest.param(
            {"https_proxy": "http://egress.example.com:3128"}, "the egress proxy egress.example.com", id="egress proxy"
        ),
    ],
)
async def test_a_name_that_dns_denies_is_told_with_whose_it_is(environ: dict[str, str], whose: str) -> None:
    def deny(_: str) -> tuple[SocketAddress, ...]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    settings = _settings("https://login.example.com/token")
    resolver = Resolver(used_by="credential switch", now=lambda: 0.0, look_up=deny)
    async with TokenClient(
        settings=settings, clock=ManualClock(), mask=ignore, environ=environ, resolver=resolver
    ) as client:
        with pytest.raises(TokenEndpointUnavailableError) as raised:
            await client.fetch(Secret(SECRET))
    assert str(raised.value) == f"the name of {whose} could not be resolved: Name or service not known"


def test_a_name_that_cannot_be_resolved_is_told() -> None:
    """The resolver is the network's, so its failure is made by hand here."""
    client = TokenClient(settings=_settings("https://login.example.com/token"), clock=ManualClock(), mask=ignore)
    key = aiohttp.client_reqrep.ConnectionKey("login.example.com", 443, True, True, None, None, None)  # noqa: FBT003
    failure = client._failure_of(aiohttp.ClientConnectorDNSError(key, socket.gaierror(-2, "Name or service not known")))
    assert type(failure) is TokenEndpointUnavailableError
    assert failure.reason == (
        "the name of the token endpoint login.example.com:443 could not be resolved: Name or service not known"
    )


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        pytest.param(ValueError(SECRET), TokenEndpointUnavailableError, "ValueError", id="a value that cannot be sent"),
        pytest.param(aiohttp.ClientError(SECRET), TokenEndpointUnavailableError, "ClientError", id="aiohttp's"),
        pytest.param(RuntimeError(SECRET), TokenFetchError, "unexpected RuntimeError", id="that nobody foresaw"),
    ],
)
def test_any_other_exception_is_told_by_its_kind(error: Exception, kind: type[TokenFetchError], told: str) -> None:
    """Its text may hold anything."""
    client = TokenClient(settings=_settings("https://login.example.com/token"), clock=ManualClock(), mask=ignore)
    failure = client._failure_of(error)
    assert type(failure) is kind
    assert failure.reason == f"the request to the token endpoint login.example.com:443 failed: {told}"


async def test_after_a_failure_the_next_fetch_is_good() -> None:
    """One client serves for the whole life of a credential."""
    statuses = [503, 200]

    async def handle(request: web.Request) -> web.Response:
        return web.Response(status=statuses.pop(0), body=GOOD)

    async with (
        Endpoint(handle).serving() as endpoint,
        TokenClient(settings=_settings(endpoint.url), clock=ManualClock(), mask=ignore) as client,
    ):
        with pytest.raises(TokenEndpointUnavailableError):
            await client.fetch(Secret(SECRET))
        assert (await client.fetch(Secret(SECRET))).value == Secret(TOKEN)


async def test_a_fetch_that_is_cancelled_leaves_no_connection() -> None:
    opened, closed = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        opened.set()
        await reader.read()
        closed.set()

    async with (
        _raw_server(talk) as url,
        TokenClient(settings=_settings(url), clock=ManualClock(), mask=ignore) as client,
    ):
        fetch = asyncio.get_running_loop().create_task(client.fetch(Secret(SECRET)))
        await asyncio.wait_for(opened.wait(), 10)
        fetch.cancel()
        await asyncio.gather(fetch, return_exceptions=True)
        assert fetch.cancelled()
        await asyncio.wait_for(closed.wait(), 10)


async def test_a_client_can_be_closed_without_having_been_used() -> None:
    async with TokenClient(
        settings=_settings("https://login.example.com/token"), clock=ManualClock(), mask=ignore
    ) as client:
        assert repr(client) == "<TokenClient login.example.com:443>"


# --- TLS -----------------------------------------------------------------------------------------------------------


class Authority:
    """A certificate authority, and a server that shows a certificate of it for `localhost`."""

    def __init__(self, folder: Path, *, name: str = "localhost") -> None:
        self._authority = trustme.CA()
        self.file = str(folder / "ca.pem")
        self._authority.cert_pem.write_to_path(self.file)
        self._certificate = self._authority.issue_cert(name)

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._certificate.configure_cert(context)
        return context

    def require_client_certificate(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.verify_mode = ssl.CERT_REQUIRED
        self._authority.configure_trust(context)
        return context

    def issue_to(self, folder: Path) -> tuple[str, str]:
        """Return the files of a client's certificate and key."""
        issued = self._authority.issue_cert("client")
        certificate, key = str(folder / "client.pem"), str(folder / "client.key")
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return certificate, key


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_a_certificate_of_the_configured_authority_is_trusted(authority: Authority) -> None:
    async with _endpoint().serving(authority.server_context()) as endpoint:
        assert (await _fetch(endpoint.url, tls=TlsSettings(ca_file=authority.file))).value == Secret(TOKEN)


async def test_a_certificate_of_an_unknown_authority_is_not_trusted(authority: Authority) -> None:
    """And nothing has been sent."""
    async with _endpoint().serving(authority.server_context()) as endpoint:
        failure = await _failure(endpoint.url)
    assert type(failure) is TokenEndpointUnavailableError
    assert "shows a certificate that cannot be trusted: " in failure.reason
    assert "certificate" in failure.reason.rpartition(": ")[2]
    assert endpoint.requests == []


async def test_an_authority_that_stands_below_another_is_enough(tmp_path: Path) -> None:
    """As with curl and Go: who is in ca_file is trusted, without its root."""
    root = trustme.CA()
    issuing = root.create_child_ca()
    issuing.cert_pem.write_to_path(str(tmp_path / "issuing.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuing.issue_cert("localhost").configure_cert(context)
    async with _endpoint().serving(context) as endpoint:
        grant = await _fetch(endpoint.url, tls=TlsSettings(ca_file=str(tmp_path / "issuing.pem")))
    assert grant.value == Secret(TOKEN)


async def test_a_variable_that_names_no_authorities_is_told_with_the_certificate(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL says only that the issuer is unknown."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/authorities.pem")
    async with _endpoint().serving(authority.server_context()) as endpoint:
        failure = await _failure(endpoint.url)
    assert "cannot be trusted" in failure.reason
    assert failure.reason.endswith(
        "; the variable SSL_CERT_FILE names the file /nowhere/authorities.pem, which does not exist"
    )


async def test_a_certificate_for_another_name_is_not_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path, name="login.example.com")
    async with _endpoint().serving(authority.server_context()) as endpoint:
        failure = await _failure(endpoint.url, tls=TlsSettings(ca_file=authority.file))
    assert "cannot be trusted: Hostname mismatch" in failure.reason
    assert endpoint.requests == []


async def test_the_name_to_verify_can_be_configured(tmp_path: Path) -> None:
    """It is also the name in the handshake (SNI)."""
    authority = Authority(tmp_path, name="login.example.com")
    names: list[str | None] = []
    context = authority.server_context()
    context.sni_callback = lambda _, name, __: names.append(name)
    async with _endpoint().serving(context) as endpoint:
        tls = TlsSettings(ca_file=authority.file, server_name="login.example.com")
        assert (await _fetch(endpoint.url, tls=tls)).value == Secret(TOKEN)
    assert names == ["login.example.com"]


async def test_a_client_certificate_is_shown(authority: Authority, tmp_path: Path) -> None:
    context = authority.require_client_certificate(authority.server_context())
    certificate, key = authority.issue_to(tmp_path)
    async with _endpoint().serving(context) as endpoint:
        tls = TlsSettings(ca_file=authority.file, client_certificate_file=certificate, client_key_file=key)
        assert (await _fetch(endpoint.url, tls=tls)).value == Secret(TOKEN)


async def test_a_client_certificate_that_is_missing_is_told(authority: Authority) -> None:
    context = authority.require_client_certificate(authority.server_context())
    async with _endpoint().serving(context) as endpoint:
        failure = await _failure(endpoint.url, tls=TlsSettings(ca_file=authority.file))
    assert type(failure) is TokenEndpointUnavailableError
    assert "TLS" in failure.reason or "connection" in failure.reason
    assert endpoint.requests == []


async def test_a_server_without_tls_1_2_is_refused(authority: Authority) -> None:
    context = authority.server_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with _endpoint().serving(context) as endpoint:
        failure = await _failure(endpoint.url, tls=TlsSettings(ca_file=authority.file))
    assert type(failure) is TokenEndpointUnavailableError
    assert "connection to the token endpoint localhost:" in failure.reason
    assert endpoint.requests == []


async def test_a_server_that_speaks_no_tls_is_told() -> None:
    async with _endpoint().serving() as endpoint:
        failure = await _failure(endpoint.url.replace("http://", "https://"))
    assert type(failure) is TokenEndpointUnavailableError
    assert failure.reason.startswith("no TLS connection to the token endpoint localhost:")
    assert endpoint.requests == []


async def test_a_file_of_authorities_that_is_missing_is_told_and_looked_for_again(
    authority: Authority, tmp_path: Path
) -> None:
    """What is mended is taken up without a restart."""
    path = tmp_path / "mounted" / "ca.pem"
    async with (
        _endpoint().serving(authority.server_context()) as endpoint,
        TokenClient(
            settings=_settings(endpoint.url, tls=TlsSettings(ca_file=str(path))), clock=ManualClock(), mask=ignore
        ) as client,
    ):
        with pytest.raises(TokenEndpointUnavailableError) as caught:
            await client.fetch(Secret(SECRET))
        assert caught.value.reason == (f"tls.ca_file of the credential cannot be used: the file {path} does not exist")
        path.parent.mkdir()
        (tmp_path / "ca.pem").rename(path)
        assert (await client.fetch(Secret(SECRET))).value == Secret(TOKEN)


async def test_a_key_with_a_password_is_told_and_no_terminal_is_asked(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "broken.pem").write_text("no certificate", encoding="utf-8")
    tls = TlsSettings(ca_file=authority.file, client_certificate_file=str(tmp_path / "broken.pem"))
    failure = await _failure("https://localhost:1/token", tls=tls)
    assert failure.reason.startswith("tls.client_certificate_file of the credential cannot be used: ")
    assert "broken.pem" in failure.reason


async def test_nothing_stays_open() -> None:
    """After the end there are as many descriptors as before."""
    import os  # noqa: PLC0415

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    async with _endpoint().serving() as endpoint:
        before = descriptors()
        for _ in range(5):
            await _fetch(endpoint.url)
        await until(lambda: descriptors() <= before)
