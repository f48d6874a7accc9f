"""
A real authorization server, built on authlib's server side and served over TLS: it verifies what the fakes only look at.

Signatures, aud, exp and jti of assertions, and the certificate of the TLS connection (RFC 8705). It knows clients of every
authentication method, and publishes its metadata (RFC 8414).
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from aiohttp import web
from authlib.oauth2.rfc6749 import AuthorizationServer, ClientMixin, InvalidClientError, OAuth2Request
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from joserfc import jwt
from joserfc.errors import JoseError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection

    import trustme


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredClient(ClientMixin):
    """A client as it was registered: how it authenticates, and what by."""

    client_id: str
    method: str
    secret: str = ""
    key: Any = None
    """The key that verifies its assertions: its own, or that of the issuer of its workload identity."""
    algorithm: str = ""
    certificate_subject: str = ""
    """The common name of its certificate, for tls_client_auth."""
    certificate: bytes = b""
    """The certificate itself in DER form, for self_signed_tls_client_auth."""
    workload: tuple[str, str] = ("", "")
    """Issuer and subject of the assertions of its workload, for client_assertion."""

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == self.method

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == self.secret

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "client_credentials"

    def get_allowed_scope(self, scope: Collection[str] | str) -> str:
        return str(scope or "")


class _Request(OAuth2Request):
    def __init__(self, uri: str, fields: dict[str, str], body: bytes, certificate: bytes) -> None:
        super().__init__("POST", uri, headers=fields)
        self._form = dict(parse_qsl(body.decode("ascii"), strict_parsing=True))
        self.payload = BasicOAuth2Payload(self._form)
        self.certificate = certificate
        self.subject = ""

    @property
    def form(self) -> dict[str, str]:
        return self._form


class _Assertion(JWTBearerClientAssertion):
    def __init__(self, server: RealAuthorizationServer, method: str) -> None:
        super().__init__(leeway=0)
        # A constant of the class to authlib's types; here there is an instance for each method.
        self.CLIENT_AUTH_METHOD = method  # type: ignore[misc]
        self._server = server

    def __call__(self, query_client: Callable[[str], RegisteredClient | None], request: _Request) -> Any:
        client = query_client(request.form.get("client_id", ""))
        # authlib's would refuse the client of another method here, in place of leaving it to that method.
        is_other = client is not None and client.method != self.CLIENT_AUTH_METHOD
        return None if is_other else super().__call__(query_client, request)  # type: ignore[no-untyped-call]

    def get_audiences(self) -> list[str]:
        return [self._server.token_url, self._server.issuer]

    def resolve_client_public_key(self, client: RegisteredClient) -> Any:
        return client

    def process_assertion_claims(self, assertion: str, resolve_key: Any) -> dict[str, Any]:
        client: RegisteredClient = resolve_key
        try:
            # Unlike authlib's, by the algorithm that the client is registered with.
            token = jwt.decode(assertion, client.key, algorithms=[client.algorithm])
        except (JoseError, ValueError) as error:
            raise InvalidClientError(description="the signature does not verify") from error
        self._server.assertions.append((token.header, token.claims))
        self.verify_claims(token.claims)
        return token.claims

    def validate_jti(self, claims: dict[str, Any], jti: str) -> bool:
        is_new = jti not in self._server.used_ids
        self._server.used_ids.add(jti)
        return is_new


class RealAuthorizationServer(AuthorizationServer):
    """An authorization server on a free port of loopback; `serving` runs it."""

    def __init__(self, *clients: RegisteredClient) -> None:
        super().__init__()
        self.clients = {client.client_id: client for client in clients}
        self.assertions: list[tuple[dict[str, Any], dict[str, Any]]] = []
        """Header and claims of each assertion whose signature was verified."""
        self.used_ids: set[str] = set()
        self.forms: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.fields: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.metadata: dict[str, Any] = {}
        """Members that replace those of the metadata."""
        self.metadata_path = "/.well-known/oauth-authorization-server"
        self.other_status = 404
        """The status of every other place for metadata."""
        self.other_document: dict[str, Any] | None = None
        """The document at every other place; None if there is none."""
        self.other_hangs = False
        self.issued = 0
        self.origin = ""
        for method in ("client_secret_jwt", "private_key_jwt"):
            self.register_client_auth_method(method, _Assertion(self, method))
        self.register_client_auth_method("client_assertion", self._authenticate_workload)
        for method in ("tls_client_auth", "self_signed_tls_client_auth"):
            self.register_client_auth_method(method, _authenticate_certificate)
        self.register_token_generator(
            "default", BearerTokenGenerator(self._make_token, expires_generator=lambda *_: 3600)
        )
        self.register_grant(_Grant)

    @property
    def issuer(self) -> str:
        return self.origin

    @property
    def token_url(self) -> str:
        return f"{self.origin}/token"

    def query_client(self, client_id: str) -> RegisteredClient | None:  # type: ignore[override]
        return self.clients.get(client_id)

    def save_token(self, token: dict[str, Any], request: OAuth2Request) -> None:
        self.issued += 1

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """Nobody listens."""

    def create_oauth2_request(self, request: _Request) -> OAuth2Request:
        return request

    def handle_response(self, status: int, body: Any, headers: Any) -> web.Response:
        return web.json_response(body, status=status)

    def _make_token(self, **_: object) -> str:
        return f"token-{self.issued + 1}"

    def _authenticate_workload(
        self, query_client: Callable[[str], RegisteredClient | None], request: _Request
    ) -> RegisteredClient | None:
        """Verify an assertion of the platform that runs the client, as federations of workload identities do."""
        client = query_client(request.form.get("client_id", ""))
        assertion = request.form.get("client_assertion")
        if client is None or assertion is None or client.method != "client_assertion":
            return None
        try:
            token = jwt.decode(assertion, client.key, algorithms=[client.algorithm])
            issuer, subject = client.workload
            jwt.JWTClaimsRegistry(
                iss={"essential": True, "value": issuer},
                sub={"essential": True, "value": subject},
                aud={"essential": True, "value": self.issuer},
                exp={"essential": True},
            ).validate(token.claims)
        except (JoseError, ValueError) as error:
            raise InvalidClientError(description="the workload's assertion does not hold") from error
        self.assertions.append((token.header, token.claims))
        return client

    @asynccontextmanager
    async def serving(self, authority: trustme.CA, *, clients: bytes = b"") -> AsyncIterator[RealAuthorizationServer]:
        """Serve at `localhost` with a certificate of this authority; `clients` (PEM) are those to take others from."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        if clients:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(cadata=clients.decode("ascii"))
        application = web.Application()
        application.router.add_post("/token", self._handle_token_request)
        application.router.add_get("/{path:.*}", self._handle_metadata_request)
        runner = web.AppRunner(application, shutdown_timeout=0.05)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
            self.origin = f"https://localhost:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()

    async def _handle_token_request(self, request: web.Request) -> web.Response:
        body = await request.read()
        assert request.transport is not None
        connection = request.transport.get_extra_info("ssl_object")
        certificate = connection.getpeercert(binary_form=True) or b""
        received = _Request(self.token_url, dict(request.headers), body, certificate)
        received.subject = _common_name(connection.getpeercert() or {})
        self.forms.append(received.form)
        self.bodies.append(body)
        self.fields.append(dict(request.headers))
        response: object = self.create_token_response(received)
        assert isinstance(response, web.Response)
        return response

    async def _handle_metadata_request(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        if request.path != self.metadata_path:
            if self.other_hangs:
                await asyncio.sleep(3600)
            if self.other_document is not None:
                return web.json_response(self.other_document)
            return web.Response(status=self.other_status, text="nothing here")
        methods = sorted({client.method for client in self.clients.values()})
        metadata = AuthorizationServerMetadata(
            issuer=self.issuer,
            token_endpoint=self.token_url,
            token_endpoint_auth_methods_supported=methods,
            response_types_supported=["none"],
        )
        metadata.validate_issuer()
        metadata.validate_token_endpoint()
        return web.json_response({**metadata, **self.metadata})


class _Grant(ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = (
        "client_secret_post",
        "client_secret_basic",
        "client_secret_jwt",
        "private_key_jwt",
        "client_assertion",
        "tls_client_auth",
        "self_signed_tls_client_auth",
    )


def _authenticate_certificate(
    query_client: Callable[[str], RegisteredClient | None], request: _Request
) -> RegisteredClient | None:
    """Compare the certificate of the connection with the registered one, or its subject (RFC 8705 §2.1.2, §2.2.2)."""
    client = query_client(request.form.get("client_id", ""))
    if client is None or not request.certificate:
        return None
    if client.method == "tls_client_auth":
        return client if request.subject == client.certificate_subject else None
    return client if sha256(request.certificate).digest() == sha256(client.certificate).digest() else None


def _common_name(certificate: dict[str, Any]) -> str:
    names = [pair for part in certificate.get("subject", ()) for pair in part]
    return next((value for name, value in names if name == "commonName"), "")
