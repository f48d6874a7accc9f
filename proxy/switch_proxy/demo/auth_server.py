"""
FakeAuthorizationServer: a token endpoint for the client-credentials grant (RFC 6749 §4.4), in the manner of Auth0.

It knows its clients and the current secret of each. It validates requests, issues tokens that look like Auth0's JWTs,
records every request, and performs faults. At `microsoft_token_url` it behaves as the Microsoft identity platform does
(`scope` instead of `audience`).
"""

from __future__ import annotations

import base64
import json
import math
import secrets
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from switch_proxy.demo import faults
from switch_proxy.demo.fake_server import FakeServer, wall_time
from switch_proxy.demo.faults import Fault, FaultScript, TokenFault
from switch_proxy.demo.rate_limit import RateLimiter, Rule
from switch_proxy.demo.token_quota import TokenQuota
from switch_proxy.demo.token_request import (
    TokenRequestRefusedError,
    error_response,
    json_response,
    read_basic_credentials,
    read_form,
    refusal,
    required,
    unauthenticated,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from switch_proxy.demo.messages import ReceivedRequest, Response

SWITCH_AUDIENCE = "https://api.switchmarket.se"
"""The audience of tokens for the Switch API."""

SWITCH_PERMISSIONS = (
    "Meter.Organization.Read Meter.Organization.ReadWrite Order.Organization.Read "
    "Organization.Organization.Read Planning.Organization.ReadWrite Resource.Organization.Read"
)
"""The permissions that the endpoints of the fake Switch API require, by their names in the API's reference."""


TOKENS_PER_HOUR = 10
TOKENS_PER_DAY = 50
"""The ration of each client in production."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Client:
    """A client application and its current secret."""

    client_id: str
    client_secret: str
    audience: str
    permissions: str

    def __repr__(self) -> str:
        return f"<Client {self.client_id} for {self.audience}>"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class IssuedToken:
    """A token that was issued; `number` counts from 1."""

    number: int
    value: str
    client_id: str
    audience: str
    scope: str
    issued_at: float
    expires_at: float
    is_revoked: bool = False

    def __repr__(self) -> str:
        revoked = ", revoked" if self.is_revoked else ""
        return f"<IssuedToken {self.number} for {self.client_id} until {self.expires_at:.3f}{revoked}>"


class FakeAuthorizationServer:
    """
    A fake authorization server; `async with` starts it on a free port of loopback.

    It has one client from the start; `add_client` adds more. `lifetime` (seconds) applies to new tokens and may be set at
    any time. `now` is the server's clock. `calls_per_minute` and `lockout_after` (refusals in a row) are off by default.

    As Auth0 does, it grants a client so many tokens in each hour and day of UTC, states in `Auth0-Client-Quota-Limit` what
    is left, and responds with 429 if nothing is; None is no limit. A token counts `quota_lag` seconds after it was granted, so that
    more may be granted in between. `microsoft_token_url` has no such ration.
    """

    def __init__(
        self,
        *,
        client_id: str = "demo-client",
        client_secret: str | None = None,
        audience: str = SWITCH_AUDIENCE,
        permissions: str = SWITCH_PERMISSIONS,
        lifetime: float = 86400.0,
        now: Callable[[], float] = wall_time,
        calls_per_minute: int | None = None,
        lockout_after: int | None = None,
        tokens_per_hour: int | None = TOKENS_PER_HOUR,
        tokens_per_day: int | None = TOKENS_PER_DAY,
        quota_lag: float = 0.0,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.lifetime = lifetime
        self.faults: FaultScript[Fault | TokenFault] = FaultScript()
        """The faults to apply to coming requests."""
        self.issued: list[IssuedToken] = []
        """Every token issued, in order."""
        self._now = now
        self._first_client = client_id
        self._clients: dict[str, Client] = {}
        self._limiter = None if calls_per_minute is None else RateLimiter(Rule(requests=calls_per_minute, period=60.0))
        self._lockout_after = lockout_after
        self._quota = TokenQuota(per_hour=tokens_per_hour, per_day=tokens_per_day, lag=quota_lag)
        self.refusals_in_a_row: Counter[str] = Counter()
        self._server = FakeServer(
            decide=self._decide,
            refuse=refusal,
            take_faults=self.faults.take,
            now=now,
            host=host,
            port=port,
            ssl_context=ssl_context,
        )
        self.add_client(client_id, client_secret=client_secret, audience=audience, permissions=permissions)

    async def start(self) -> None:
        """Bind and serve. Raises OSError if the address cannot be bound."""
        await self._server.start()

    async def stop(self) -> None:
        """Stop serving. The records are kept, and a new start uses the same port."""
        await self._server.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Return the server's origin, such as `http://127.0.0.1:40001`."""
        return self._server.url

    @property
    def token_url(self) -> str:
        """Return the URL of the token endpoint in the manner of Auth0."""
        return f"{self.url}/oauth/token"

    @property
    def microsoft_token_url(self) -> str:
        """Return the URL of the token endpoint in the manner of the Microsoft identity platform."""
        return f"{self.url}/common/oauth2/v2.0/token"

    @property
    def requests(self) -> list[ReceivedRequest]:
        """Return the list of received requests; it may be cleared."""
        return self._server.requests

    async def wait_for_requests(self, count: int, *, within: float = 5.0) -> Sequence[ReceivedRequest]:
        """Return the requests once there are `count` of them. Raises TimeoutError after `within` seconds."""
        return await self._server.wait_for_requests(count, within=within)

    @property
    def client_id(self) -> str:
        """Return the id of the first client."""
        return self._first_client

    @property
    def client_secret(self) -> str:
        """Return the first client's current secret."""
        return self._clients[self._first_client].client_secret

    def add_client(
        self,
        client_id: str,
        *,
        client_secret: str | None = None,
        audience: str = SWITCH_AUDIENCE,
        permissions: str = SWITCH_PERMISSIONS,
    ) -> Client:
        """Register a client for one audience and return it. Its default secret is random."""
        client = Client(
            client_id=client_id,
            client_secret=client_secret or secrets.token_urlsafe(48),  # as long as Auth0's
            audience=audience,
            permissions=permissions,
        )
        self._clients[client_id] = client
        return client

    def rotate_secret(self, client_id: str | None = None, *, client_secret: str | None = None) -> str:
        """
        Replace a client's secret (the first client's by default) and return the new one.

        The old one stops working immediately; tokens already issued stay valid until they expire.
        """
        client = self._clients[client_id or self._first_client]
        client = replace(client, client_secret=client_secret or secrets.token_urlsafe(48))
        self._clients[client.client_id] = client
        return client.client_secret

    def revoke_all(self) -> None:
        """Make every token issued so far invalid."""
        self.issued[:] = [replace(token, is_revoked=True) for token in self.issued]

    def unlock(self) -> None:
        """End the lockout that refused credentials caused."""
        self.refusals_in_a_row.clear()

    @property
    def quota_lag(self) -> float:
        """Return the seconds from the grant of a token until its client's quota is less; it may be set at any time."""
        return self._quota.lag

    @quota_lag.setter
    def quota_lag(self, seconds: float) -> None:
        self._quota.lag = seconds

    def use_up_quota(self, client_id: str | None = None) -> None:
        """
        Grant a client (the first by default) no more tokens until the next day of UTC begins, or until `reset_quota`.

        Raises ValueError if there is no quota.
        """
        self._quota.use_up(client_id or self._first_client, self._now())

    def reset_quota(self) -> None:
        """Grant every client its whole quota again."""
        self._quota.reset()

    def find(self, token: str | None) -> IssuedToken | None:
        """Return the record of a token, or None if it was not issued by this server."""
        return next((issued for issued in reversed(self.issued) if issued.value == token), None)

    def introspect(self, token: str) -> Mapping[str, object]:
        """
        Return the introspection response for a token (RFC 7662 §2.2).

        It is only `{"active": False}` if the token is unknown, expired or revoked.
        """
        known = self.find(token)
        if known is None or known.is_revoked or self._now() >= known.expires_at:
            return {"active": False}
        return {
            "active": True,
            "client_id": known.client_id,
            "aud": known.audience,
            "scope": known.scope,
            "exp": math.ceil(known.expires_at),
            "token_type": "Bearer",
        }

    def __repr__(self) -> str:
        state = "serves" if self._server.is_running else "stopped"
        return f"<FakeAuthorizationServer {self.url} {state}, {len(self.issued)} tokens issued>"

    def _decide(self, request: ReceivedRequest, met: tuple[object, ...]) -> Response:
        is_microsoft = request.path.endswith("/oauth2/v2.0/token")
        if request.path != "/oauth/token" and not is_microsoft:
            return error_response(
                404, "not_found", f"there is no {request.path} here; the token endpoint is /oauth/token"
            )
        if request.method != "POST":
            return error_response(405, "invalid_request", "the token endpoint takes POST").with_field("Allow", "POST")
        if self._limiter is not None and (wait := self._limiter.admit(request.peer[0], self._now())) is not None:
            response = error_response(429, "too_many_requests", "Global limit has been reached")
            return response.with_field("Retry-After", str(math.ceil(wait)))
        try:
            grant = self._judge(request, is_microsoft=is_microsoft)
        except TokenRequestRefusedError as refused:
            return refused.response
        if is_microsoft:
            return self._issue(grant, met, is_microsoft=True)
        now = self._now()
        if self._quota.take(grant.client.client_id, now):
            response = self._issue(grant, met, is_microsoft=False)
        else:
            response = error_response(429, "too_many_requests", "The client's quota of tokens is used up")
        stated = self._quota.field(grant.client.client_id, now)
        return response if stated is None else response.with_field("Auth0-Client-Quota-Limit", stated)

    def _judge(self, request: ReceivedRequest, *, is_microsoft: bool) -> _Grant:
        """Return the grant of a request. Raises TokenRequestRefusedError (RFC 6749 §5.2)."""
        form = read_form(request)
        grant_type = required(form, "grant_type")
        if grant_type != "client_credentials":
            raise TokenRequestRefusedError(400, "unsupported_grant_type", f"Unsupported grant type: {grant_type}")
        client = self._authenticated(request, form, is_microsoft=is_microsoft)
        default_scope = f"{client.audience}/.default"
        audience, scope = form.get("audience"), form.get("scope", "")
        if is_microsoft or (audience is None and scope.endswith("/.default")):
            if required(form, "scope") != default_scope:
                text = "AADSTS1002012: The provided value for scope is not valid. Client credential flows must have "
                raise TokenRequestRefusedError(
                    400, "invalid_scope", f"{text}a scope value with /.default suffixed to the resource."
                )
            return _Grant(client=client, scope=client.permissions, is_scope_told=False)
        if audience is None:
            raise TokenRequestRefusedError(400, "invalid_request", "Missing required parameter: audience")
        if audience != client.audience:
            raise TokenRequestRefusedError(403, "access_denied", f"Service not enabled within domain: {audience}")
        wanted = scope.split()
        if not set(wanted) <= set(client.permissions.split()):
            raise TokenRequestRefusedError(400, "invalid_scope", "The client is not granted every scope it asks for")
        return _Grant(client=client, scope=" ".join(wanted) or client.permissions, is_scope_told=bool(wanted))

    def _authenticated(self, request: ReceivedRequest, form: Mapping[str, str], *, is_microsoft: bool) -> Client:
        """Return the client, by either way of RFC 6749 §2.3.1. Raises TokenRequestRefusedError."""
        basic = request.values("authorization")
        if basic:
            if "client_secret" in form:
                raise TokenRequestRefusedError(
                    400, "invalid_request", "more than one way of client authentication was used"
                )
            client_id, secret = read_basic_credentials(basic)
            if form.get("client_id", client_id) != client_id:
                raise TokenRequestRefusedError(
                    400, "invalid_request", "client_id differs from the one that authenticates"
                )
        else:
            client_id, secret = required(form, "client_id"), required(form, "client_secret")
        self._refuse_locked_out(client_id)
        client = self._clients.get(client_id)
        if client is None or client.client_secret != secret:
            self.refusals_in_a_row[client_id] += 1
            if basic:
                raise unauthenticated("the client's id or secret is wrong")
            if is_microsoft:
                raise TokenRequestRefusedError(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.")
            raise TokenRequestRefusedError(401, "access_denied", "Unauthorized")
        self.refusals_in_a_row.pop(client_id, None)
        return client

    def _refuse_locked_out(self, client_id: str) -> None:
        if self._lockout_after is not None and self.refusals_in_a_row[client_id] >= self._lockout_after:
            raise TokenRequestRefusedError(
                429, "too_many_attempts", "Blocked after too many refused attempts; ask for an unlock"
            )

    def _issue(self, grant: _Grant, met: tuple[object, ...], *, is_microsoft: bool) -> Response:
        lifetime = self.lifetime
        for fault in met:
            if isinstance(fault, faults.Lifetime):
                lifetime = fault.seconds
        now = self._now()
        claims = {
            "iss": f"{self.url}/",
            "sub": f"{grant.client.client_id}@clients",
            "aud": grant.client.audience,
            "iat": math.floor(now),
            "exp": math.ceil(now + lifetime),  # whole seconds, as Auth0's; never before the real end
            "scope": grant.scope,
            "gty": "client-credentials",
            "azp": grant.client.client_id,
        }
        token = IssuedToken(
            number=len(self.issued) + 1,
            value=_jwt(claims),
            client_id=grant.client.client_id,
            audience=grant.client.audience,
            scope=grant.scope,
            issued_at=now,
            expires_at=now + lifetime,
        )
        self.issued.append(token)
        said = int(lifetime) if lifetime == int(lifetime) else lifetime
        response: dict[str, object] = {"access_token": token.value, "token_type": "Bearer", "expires_in": said}
        if is_microsoft:
            response["ext_expires_in"] = said
        if grant.is_scope_told:
            response["scope"] = grant.scope
        for fault in met:
            match fault:
                case faults.TokenField(name=name, value=value):
                    response[name] = value
                case faults.WithoutTokenField(name=name):
                    response.pop(name, None)
        return json_response(200, response)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grant:
    client: Client
    scope: str
    is_scope_told: bool


def _jwt(claims: Mapping[str, object]) -> str:
    """Return a token in the form of a JWT (RFC 7519) with a random signature: it is unique and cannot be verified."""
    header = {"alg": "RS256", "typ": "JWT", "kid": "fake"}
    parts = [json.dumps(part, separators=(",", ":")).encode() for part in (header, claims)]
    return ".".join(_base64url(part) for part in (*parts, secrets.token_bytes(256)))


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
