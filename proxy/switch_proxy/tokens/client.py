"""
The token endpoint's client: one POST, within one time limit, with a response of bounded size.

It knows aiohttp, and lets no exception of it out: every failure is a TokenFetchError that says what to check. core/oauth
decides what to send and what a response means, core/lifecycle.py when to send.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
from functools import partial
from http import HTTPStatus
from math import inf
from typing import TYPE_CHECKING, Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from switch_proxy import __version__
from switch_proxy.core.authentication.assertion import JWT, audience_of
from switch_proxy.core.authentication.method import AssertionClaims
from switch_proxy.core.authentication.registry import method_of, section_of
from switch_proxy.core.egress import find_egress_proxy
from switch_proxy.core.errors import (
    SecretUnavailableError,
    TlsFilesError,
    TokenEndpointUnavailableError,
    TokenFetchError,
    TokenRequestRefusedError,
    TokenResponseInvalidError,
)
from switch_proxy.core.oauth.discovery import METADATA_LIFETIME, metadata_urls, most_telling, parse_metadata
from switch_proxy.core.oauth.quoting import ServerWords
from switch_proxy.core.oauth.request import build_request
from switch_proxy.core.oauth.response import MAX_BODY, ServerResponse, parse_retry_after
from switch_proxy.core.oauth.token_response import parse_response
from switch_proxy.core.secret import Secret
from switch_proxy.resolver import Resolver
from switch_proxy.tls import TlsFiles, reason_of
from switch_proxy.watched_files import READING_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from switch_proxy.clock import Clock
    from switch_proxy.core.config.models import CredentialSettings
    from switch_proxy.core.egress import EgressProxy
    from switch_proxy.core.oauth.request import TokenRequest
    from switch_proxy.core.secret import Mask
    from switch_proxy.core.tokens import TokenGrant


_NOTHING: Final = Secret("")
"""Mutual TLS authenticates the client, so the request carries no credential."""

_LARGEST_LINE: Final = 64 * 1024
_MOST_FIELD_LINES: Final = 128
"""
Limits of a response's head, those of the data plane (core/config/models/limits.py). Gateways put policies of 10 KiB and more
into one line.
"""

_OTHER_PROTOCOLS: Final = (
    (r"\x00\x00", "it speaks HTTP/2 alone"),
    (r"\x15\x03", "it speaks TLS on this port; write https:// in the URL"),
)
"""What a response begins with that is not HTTP/1 (RFC 9113 §4.1, RFC 8446 §5.1), as aiohttp shows it, and its name."""

_IPV6_LENGTH: Final = 4
"""Parts of an IPv6 socket address; the last is the scope."""

_ID_BYTES: Final = 24
"""Random bytes of an assertion's id, so many that no two are the same (RFC 7519 §4.1.7)."""


class TokenClient:
    """Requests tokens from one credential's token endpoint."""

    def __init__(
        self,
        *,
        settings: CredentialSettings,
        clock: Clock,
        mask: Mask,
        environ: Mapping[str, str] | None = None,
        known_secrets: Callable[[], Iterable[Secret]] = tuple,
        resolver: Resolver | None = None,
    ) -> None:
        """
        Take the settings; `environ` names the egress proxy. Raises InvalidValueError if that cannot be used.

        `known_secrets` returns the secrets that the server's words must not repeat, besides what is sent to it: all that were
        passed to `mask`, those of other credentials included. `resolver` is the credential's own.
        """
        self._settings = settings
        self._clock = clock
        self._mask = mask
        self._known_secrets = known_secrets
        self._environ = environ or {}
        self._url = URL(settings.token_url or settings.issuer or "", encoded=True)
        self._found: str | None = settings.token_url
        self._found_at = inf if settings.token_url is not None else -inf
        self.egress_proxy: EgressProxy | None = self._find_egress_proxy(self._url)
        self._names = _Names(resolver or Resolver(used_by="a credential", now=clock.now))
        self._session: aiohttp.ClientSession | None = None
        self._is_token_request = False
        """Whether the last request was for a token, not for metadata."""
        self._is_granted = False
        """Whether its response began with 2xx."""
        self._tls = TlsFiles(
            settings.tls,
            owner="the credential",
            new_context=partial(ssl.SSLContext, ssl.PROTOCOL_TLS_CLIENT),
            now=clock.now,
        )

    async def fetch(self, secret: Secret) -> TokenGrant:
        """
        Fetch one token with this secret, key or assertion, within the configured timeout.

        Raises TokenFetchError, or SecretUnavailableError if the key cannot sign.
        """
        client_credential = _NOTHING
        self._is_token_request = self._is_granted = False
        failure: TokenFetchError | SecretUnavailableError
        try:
            async with asyncio.timeout(self._settings.timeout):
                token_url = await self._find_token_url()
                client_credential = await self._client_credential(secret, token_url)
                request = build_request(self._settings, client_credential, token_url=token_url)
                response = await self._send("POST", self._url, request)
            grant = parse_response(
                response, settings=self._settings, words=self._words(client_credential), wall=self._clock.wall()
            )
        except (TokenFetchError, SecretUnavailableError) as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - aiohttp's, asyncio's, ssl's and the resolver's errors all become ours
            failure = self._failure_of(error)
        else:
            self._mask("token", grant.value)
            return grant
        self._doubt_token_url(failure)
        # Outside the handler, so that our error does not carry the foreign one, which holds the request.
        raise failure

    @property
    def token_url(self) -> str | None:
        """Return the token endpoint: the configured one, or what was found of the issuer's; None if none was found."""
        return self._found

    async def _find_token_url(self) -> str:
        """Return the token endpoint: the configured one, or the issuer's. Raises TokenFetchError, and as `_send` does."""
        if self._found is None:
            self._found = await self._discover()
            self._found_at = self._clock.now()
        elif self._clock.now() >= self._found_at + METADATA_LIFETIME:
            # If the metadata cannot be read again, the endpoint found before is used, so leave time for the request.
            try:
                async with asyncio.timeout(self._settings.timeout / 2):
                    self._found = await self._discover()
                self._found_at = self._clock.now()
            except Exception:  # noqa: BLE001, S110 - the request that follows reports what is wrong
                pass
        self._url = URL(self._found, encoded=True)
        return self._found

    async def _discover(self) -> str:
        """Ask every place for the issuer's metadata. Raises the most telling TokenFetchError."""
        first, last = (URL(location, encoded=True) for location in metadata_urls(self._settings.issuer or ""))
        failures: list[TokenFetchError] = []
        # A first place that hangs leaves time for the other.
        for url, limit in ((first, self._settings.timeout / 2), (last, self._settings.timeout)):
            self._url = url
            try:
                async with asyncio.timeout(limit):
                    response = await self._send("GET", url, None)
                found = parse_metadata(
                    response, settings=self._settings, words=self._words(_NOTHING), wall=self._clock.wall()
                )
            except TokenFetchError as error:
                failures.append(error)
            except Exception as error:  # noqa: BLE001 - as in `fetch`
                failures.append(self._failure_of(error, within=limit))
            else:
                if found is not None:
                    return found
        raise most_telling(failures, settings=self._settings)

    def _doubt_token_url(self, failure: Exception) -> None:
        """Read the metadata again before the next fetch, unless only the client was refused."""
        is_about_client = isinstance(failure, SecretUnavailableError) or (
            isinstance(failure, TokenRequestRefusedError) and failure.is_about_client
        )
        if self._settings.token_url is None and not is_about_client:
            self._found_at = -inf

    def _words(self, client_credential: Secret) -> ServerWords:
        return ServerWords(
            credential_name=method_of(self._settings).credential_name,
            refusal_hint=method_of(self._settings).refusal_hint,
            secret=client_credential,
            others=self._known_secrets(),
        )

    @property
    def _place(self) -> str:
        return f"{self._url.host}:{self._url.port}"

    def _find_egress_proxy(self, url: URL) -> EgressProxy | None:
        found = find_egress_proxy(scheme=url.scheme, host=url.host or "", port=url.port or 0, environ=self._environ)
        if found is not None and found.authorization is not None:
            self._mask("egress proxy", found.authorization)
        return found

    async def _client_credential(self, secret: Secret, token_url: str) -> Secret:
        """Return what the request carries to authenticate the client: the secret, or an assertion made for it alone."""
        method = method_of(self._settings)
        if method.is_by_certificate:
            return _NOTHING
        if method.sign is None:
            return secret
        claims = AssertionClaims(
            client_id=self._settings.client_id,
            audience=audience_of(self._settings, token_url),
            wall=self._clock.wall(),
            assertion_id=secrets.token_urlsafe(_ID_BYTES),
            typ=self._settings.assertion_typ or JWT,
        )
        # In a thread: the first signature imports cryptography, and a large RSA key takes milliseconds.
        assertion = await asyncio.to_thread(method.sign, section_of(self._settings), secret, claims)
        self._mask("client assertion", assertion)
        return assertion

    async def _send(self, method: str, url: URL, request: TokenRequest | None) -> ServerResponse:
        self._is_token_request, self._is_granted = request is not None, False
        session = self._open_session()
        context: ssl.SSLContext | bool = True
        if url.scheme == "https":
            # Half of the time, so that a volume that hangs is told as such.
            context = await self._tls.renew_context(within=min(READING_TIMEOUT, self._settings.timeout / 2))
        self.egress_proxy = egress = self._find_egress_proxy(url)
        secret = None if egress is None else egress.authorization
        async with session.request(
            method,
            url,
            data=None if request is None else request.body,
            headers=(("Accept", "application/json"),) if request is None else request.fields,
            ssl=context,
            proxy=None if egress is None else URL.build(scheme="http", host=egress.host, port=egress.port),
            proxy_headers=None if secret is None else {"Proxy-Authorization": secret.reveal()},
            # Secret and token are for the configured endpoint only.
            allow_redirects=False,
            server_hostname=self._settings.tls.server_name,
        ) as response:
            received_at = self._clock.now()
            self._is_granted = self._is_token_request and (
                HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES
            )
            body, is_complete = await _read_body(response)
            return ServerResponse(
                status=response.status,
                content_type=response.headers.get("Content-Type", ""),
                content_encoding=response.headers.get("Content-Encoding", ""),
                retry_after=response.headers.get("Retry-After"),
                location=response.headers.get("Location"),
                date=response.headers.get("Date"),
                fields=tuple(response.headers.items()),
                received_at=received_at,
                body=body,
                is_complete=is_complete,
            )

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # Fetches are far apart: a kept connection would be stale by the next one, and a POST that fails on it
                # must not be repeated automatically (RFC 9110 §9.2.2). For the same reason no address is cached.
                connector=aiohttp.TCPConnector(force_close=True, use_dns_cache=False, resolver=self._names),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Without content codings, the limit on the bytes read is the limit on the memory used.
                headers={"Accept-Encoding": "identity", "User-Agent": f"switch-proxy/{__version__}"},
                auto_decompress=False,
                max_line_size=_LARGEST_LINE,
                max_field_size=_LARGEST_LINE,
                max_headers=_MOST_FIELD_LINES,
                timeout=aiohttp.ClientTimeout(total=None),
                trust_env=False,
            )
        return self._session

    def _failure_of(self, error: Exception, *, within: float | None = None) -> TokenFetchError:
        """
        Return our error for an error of aiohttp, asyncio or the system; `within` is the limit that has passed.

        A response that began with 2xx and did not end, or that cannot be read at all, may have cost a token.
        """
        text = self._describe(error, within=within or self._settings.timeout)
        if text is None:
            place = f"the token endpoint {self._place}"
            return TokenFetchError(f"the request to {place} failed: unexpected {type(error).__name__}")
        is_unreadable = isinstance(error, aiohttp.ClientResponseError) and not isinstance(
            error, aiohttp.ClientHttpProxyError
        )
        if is_unreadable or self._is_granted:
            return TokenResponseInvalidError(text, may_have_cost_token=self._is_token_request)
        if isinstance(error, aiohttp.ClientHttpProxyError) and error.status == HTTPStatus.TOO_MANY_REQUESTS:
            asked_for = None if error.headers is None else error.headers.get("Retry-After")
            retry_after = parse_retry_after(asked_for, wall=self._clock.wall())
            return TokenEndpointUnavailableError(text, retry_after=retry_after, is_rate_limited=True)
        return TokenEndpointUnavailableError(text)

    def _describe(self, error: Exception, *, within: float) -> str | None:
        """Return what happened, for people; None if the error is unexpected."""
        place = f"the token endpoint {self._place}"
        match error:
            case TimeoutError():
                return self._describe_timeout(place, within)
            case TlsFilesError():
                return str(error)
            case aiohttp.ClientProxyConnectionError(os_error=cause):
                return f"no connection to the egress proxy {self.egress_proxy} could be made: {reason_of(cause)}"
            case aiohttp.ClientHttpProxyError(status=status):
                return f"the egress proxy {self.egress_proxy} responded with {status} to the request for a tunnel to {self._place}"
            case aiohttp.ClientPayloadError():
                return f"{place} broke off its response"
            case aiohttp.ClientResponseError():
                return f"{place} responded with {_describe_head(error)}"
            case aiohttp.ServerDisconnectedError():
                return f"{place} closed the connection without a response"
            case OSError():
                return _describe_connection(error, place, self._tls.trust_fault)
            case aiohttp.ClientError() | ValueError():
                return f"the request to {place} failed: {type(error).__name__}"
            case _:
                return None

    def _describe_timeout(self, place: str, limit: float) -> str:
        name = self._names.unresolved
        if name is None:
            did_not = "did not end its response" if self._is_granted else "did not respond"
            return f"{place} {did_not} within {limit:g} seconds"
        whose = place if name == self._url.host else f"the egress proxy {self.egress_proxy}"
        return f"the name of {whose} was not resolved within {limit:g} seconds: DNS does not respond"

    async def close(self) -> None:
        """Close the session."""
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


class _Names(AbstractResolver):
    """The credential's resolver, as aiohttp asks it."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self.unresolved: str | None = None
        """The name that is being resolved, or was when the caller gave up."""

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        self.unresolved = host
        try:
            found = await self._resolver.resolve(host, port)
        except OSError:
            self.unresolved = None
            raise
        self.unresolved = None
        return [
            ResolveResult(
                hostname=host,
                host=f"{address[0]}%{address[3]}" if len(address) == _IPV6_LENGTH and address[3] else address[0],
                port=port,
                family=own_family,
                proto=proto,
                flags=socket.AI_NUMERICHOST,
            )
            for own_family, _, proto, _, address in found
            if family in {socket.AF_UNSPEC, own_family}
        ]

    async def close(self) -> None:
        """Do nothing: the resolver holds nothing open."""


def _describe_head(error: aiohttp.ClientResponseError) -> str:
    """Return why a response's head cannot be read. aiohttp tells it by the text alone, which may hold a secret."""
    if error.message.startswith(("Got more than", "Too many headers")):
        return f"a head that is too large: a line may have {_LARGEST_LINE // 1024} KiB, and a head {_MOST_FIELD_LINES} lines"
    for opening, name in _OTHER_PROTOCOLS:
        if f" b'{opening}" in error.message:
            return f"something that is not HTTP/1.1: {name}"
    return "something that is not HTTP/1.1"


def _describe_connection(error: OSError, place: str, trust_fault: str | None) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError(certificate_error=cause):
            reason = getattr(cause, "verify_message", None) or type(cause).__name__
            hint = f"; {trust_fault}" if trust_fault else ""
            return f"{place} shows a certificate that cannot be trusted: {reason}{hint}"
        case aiohttp.ClientConnectorSSLError(os_error=cause):
            return f"no TLS connection to {place} could be made: {reason_of(cause)}"
        case aiohttp.ClientConnectorDNSError(os_error=cause, host=name):
            # The place's own, or the egress proxy's.
            whose = place if f" {name}:" in place else f"the egress proxy {name}"
            return f"the name of {whose} could not be resolved: {reason_of(cause)}"
        case aiohttp.ClientConnectorError(os_error=cause):
            return f"no connection to {place} could be made: {reason_of(cause)}"
        case _:
            return f"the connection to {place} broke: {reason_of(error)}"


async def _read_body(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """Return the body and True, or its first MAX_BODY bytes and False."""
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > MAX_BODY:
            return bytes(body[:MAX_BODY]), False
    return bytes(body), True
