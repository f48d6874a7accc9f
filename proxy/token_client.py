"""
The token endpoint's client: one POST, within one time limit, with an answer of bounded size.

Knows aiohttp, and lets nothing of it out: every failure is a TokenFetchError that says what to look at. What to send
and what an answer means is core/oauth.py's business, when to ask core/lifecycle.py's.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import TYPE_CHECKING, Self

import aiohttp
from yarl import URL

from proxy import __version__
from proxy.core.errors import TokenEndpointUnavailableError, TokenFetchError, TokenResponseInvalidError
from proxy.core.oauth import MAX_BODY, TokenRequest, TokenResponse, build_request, parse_response

if TYPE_CHECKING:
    from types import TracebackType

    from proxy.clock import Clock
    from proxy.core.config import CredentialSettings, TlsSettings
    from proxy.core.secret import Secret
    from proxy.core.tokens import TokenGrant


class TokenClient:
    """Asks one credential's token endpoint for tokens."""

    def __init__(self, *, settings: CredentialSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._url = URL(settings.token_url, encoded=True)
        self._place = f"{self._url.host}:{self._url.port}"
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, secret: Secret) -> TokenGrant:
        """Fetch one token with this client secret, within the configured timeout. Raises TokenFetchError."""
        try:
            async with asyncio.timeout(self._settings.timeout):
                response = await self._send(build_request(self._settings, secret))
        except Exception as error:  # noqa: BLE001 - aiohttp's, asyncio's, ssl's and the resolver's: all become ours
            failure = self._failure_of(error)
        else:
            return parse_response(response, settings=self._settings, secret=secret, wall=self._clock.wall())
        # Outside of the handler, so that the foreign exception, which holds the request, goes no further.
        raise failure

    async def _send(self, request: TokenRequest) -> TokenResponse:
        session = await self._open_session()
        async with session.post(
            self._url,
            data=request.body,
            headers=request.fields,
            # The secret, and the token, are for the configured endpoint and no other.
            allow_redirects=False,
            server_hostname=self._settings.tls.server_name,
        ) as response:
            body, is_complete = await _read_body(response)
            return TokenResponse(
                status=response.status,
                content_type=response.headers.get("Content-Type", ""),
                content_encoding=response.headers.get("Content-Encoding", ""),
                retry_after=response.headers.get("Retry-After"),
                location=response.headers.get("Location"),
                body=body,
                is_complete=is_complete,
            )

    async def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            context: ssl.SSLContext | bool = True
            if self._url.scheme == "https":
                # Reading the system's certificates takes some 20 ms, in which the loop has other things to do.
                context = await asyncio.to_thread(_make_tls_context, self._settings.tls)
            self._session = aiohttp.ClientSession(
                # Fetches are far apart: a connection that was kept would be stale by the next one, and a POST that fails
                # on it may not be sent again by itself (RFC 9110 §9.2.2). For the same reason no address is remembered.
                connector=aiohttp.TCPConnector(ssl=context, force_close=True, use_dns_cache=False),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Without codings, the limit on what is read is the limit on what is held in memory.
                headers={"Accept-Encoding": "identity", "User-Agent": f"switch-proxy/{__version__}"},
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),
                trust_env=False,
            )
        return self._session

    def _failure_of(self, error: Exception) -> TokenFetchError:
        """Return our error for one of aiohttp's, asyncio's or the system's."""
        place = f"the token endpoint {self._place}"
        match error:
            case TimeoutError():
                text = f"{place} did not answer within {self._settings.timeout:g} seconds"
            case _TlsFilesError():
                text = f"the TLS files of the credential cannot be used: {error}"
            case aiohttp.ClientPayloadError():
                text = f"{place} broke its answer off"
            case aiohttp.ClientResponseError():
                return TokenResponseInvalidError(f"{place} answered with something that is not HTTP/1.1")
            case aiohttp.ServerDisconnectedError():
                text = f"{place} closed the connection without an answer"
            case OSError():
                text = _describe_connection(error, place)
            case aiohttp.ClientError() | ValueError():
                text = f"{place} could not be asked: {type(error).__name__}"
            case _:
                return TokenFetchError(f"{place} could not be asked: unexpected {type(error).__name__}")
        return TokenEndpointUnavailableError(text)

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<TokenClient {self._place}>"


class _TlsFilesError(Exception):
    pass


def _describe_connection(error: OSError, place: str) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError(certificate_error=cause):
            reason = getattr(cause, "verify_message", None) or type(cause).__name__
            return f"{place} shows a certificate that cannot be trusted: {reason}"
        case aiohttp.ClientConnectorSSLError(os_error=cause):
            return f"no TLS connection to {place} could be made: {_reason(cause)}"
        case aiohttp.ClientConnectorDNSError(os_error=cause):
            return f"the name of {place} could not be resolved: {_reason(cause)}"
        case aiohttp.ClientConnectorError(os_error=cause):
            return f"no connection to {place} could be made: {_reason(cause)}"
        case _:
            return f"the connection to {place} broke: {_reason(error)}"


def _make_tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """Return a context that verifies certificate and host name, at TLS 1.2 or later."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    path = settings.ca_file
    try:
        if path is None:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        else:
            context.load_verify_locations(cafile=path)
        path = settings.client_certificate_file
        if path is not None:
            # Without a password of its own, OpenSSL would ask the terminal for that of an encrypted key.
            context.load_cert_chain(path, settings.client_key_file, password="")
    except OSError as error:
        problem = f"{path}: {_reason(error)}"
    else:
        return context
    raise _TlsFilesError(problem)


async def _read_body(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """Return the body and True, or as much of it as may be, and False."""
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > MAX_BODY:
            return bytes(body[:MAX_BODY]), False
    return bytes(body), True


def _reason(error: OSError) -> str:
    """Return what the system says of an error, in its own words: event loops put it in different ones."""
    match error:
        case ssl.SSLError(reason=str(reason)):
            return reason.replace("_", " ").lower()
        case socket.gaierror(strerror=str(reason)):
            return reason
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number)
        case _:
            return str(error) or type(error).__name__
