"""
FakeSwitchAPI: the Switch API's endpoints as its public reference describes them, with bearer check and rate limits.

It calls `introspect` (in the form of RFC 7662) for each token it receives, so it shares no state with the authorization
server, and another judge of tokens can take its place.

The error codes are the fake's own, except 3 (Unauthorized), which the API's reference shows.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

from switch_proxy.demo import switch_data
from switch_proxy.demo.fake_server import FakeServer, wall_time
from switch_proxy.demo.faults import Fault, FaultScript
from switch_proxy.demo.messages import ReceivedRequest, Response
from switch_proxy.demo.rate_limit import RateLimiter, Rule
from switch_proxy.demo.switch_data import InputInvalidError, Query

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

_RULES = (Rule(requests=5, period=1.0), Rule(requests=20, period=60.0))
"""The limits of `POST /api/readings` for each client; no other endpoint has limits."""

_CODES = {400: 1, 401: 3, 403: 4, 404: 5, 405: 6, 429: 7}
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*\Z")
"""The characters of a bearer token (RFC 6750 §2.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A request that carries a valid token, for an endpoint that exists."""

    request: ReceivedRequest
    query: Query
    names: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Endpoint:
    method: str
    path: re.Pattern[str]
    permission: str
    respond: Callable[[_Call], object]
    is_limited: bool = False


class FakeSwitchAPI:
    """
    A fake Switch API; `async with` starts it on a free port of loopback.

    `introspect` returns a token's rights, as `FakeAuthorizationServer.introspect` does. `organizations` are the ids that
    the client may use. `now` is the server's clock (Unix time, seconds), for rate limits and instants.
    """

    def __init__(
        self,
        *,
        introspect: Callable[[str], Mapping[str, object]],
        audience: str = "https://api.switchmarket.se",
        organizations: Sequence[int] = (1,),
        now: Callable[[], float] = wall_time,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.faults: FaultScript[Fault] = FaultScript()
        """The faults to apply to coming requests."""
        self._introspect = introspect
        self._audience = audience
        self._organizations = tuple(organizations)
        self._now = now
        self._limiter = RateLimiter(*_RULES)
        self._readings = switch_data.Readings()
        self._endpoints = self._table()
        self._server = FakeServer(
            decide=lambda request, _: self._decide(request),
            refuse=self._refuse,
            take_faults=self.faults.take,
            now=now,
            host=host,
            port=port,
            ssl_context=ssl_context,
        )

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
        """Return the API's origin, such as `http://127.0.0.1:40002`."""
        return self._server.url

    @property
    def requests(self) -> list[ReceivedRequest]:
        """Return the list of received requests; it may be cleared."""
        return self._server.requests

    async def wait_for_requests(self, count: int, *, within: float = 5.0) -> Sequence[ReceivedRequest]:
        """Return the requests once there are `count` of them. Raises TimeoutError after `within` seconds."""
        return await self._server.wait_for_requests(count, within=within)

    def __repr__(self) -> str:
        state = "serves" if self._server.is_running else "stopped"
        return f"<FakeSwitchAPI {self.url} {state}, {len(self.requests)} requests received>"

    def _table(self) -> tuple[_Endpoint, ...]:
        orders = "Order.Organization.Read"
        return (
            _endpoint("GET", "/api/readings", "Meter.Organization.Read", self._get_readings),
            _endpoint("POST", "/api/readings", "Meter.Organization.ReadWrite", self._post_readings, is_limited=True),
            _endpoint("GET", "/api/readings/average/hourly", "Meter.Organization.Read", self._get_averages),
            _endpoint("GET", "/api/meter", "Meter.Organization.Read", self._get_meters),
            _endpoint("GET", "/api/grid/zone", "Organization.Organization.Read", self._get_zones),
            _endpoint(
                "GET", "/api/grid/zone/{zone}/participants", "Organization.Organization.Read", self._get_participants
            ),
            _endpoint("GET", "/api/grid/resource", "Resource.Organization.Read", self._get_resources),
            _endpoint(
                "POST",
                "/api/grid/resource/{resource}/readings/reference",
                "Planning.Organization.ReadWrite",
                self._post_reference_readings,
            ),
            _endpoint("GET", "/api/product/order/flexibility", orders, self._get_flexibility_orders),
            _endpoint(
                "GET", "/api/product/order/availability/resource/{resource}", orders, self._get_availability_orders
            ),
        )

    def _decide(self, request: ReceivedRequest) -> Response:
        client = ""
        try:
            client, scope = self._authorize(request)
            response = self._respond(request, client, scope)
        except _RefusedError as refused:
            response = refused.response
        except InputInvalidError as invalid:
            response = _error(400, str(invalid))
        return self._with_standing(response, client)

    def _refuse(self, status: int) -> Response:
        return self._with_standing(_error(status, HTTPStatus(status).phrase), client="")

    def _authorize(self, request: ReceivedRequest) -> tuple[str, str]:
        """Return the client's id and the scope it was granted. Raises _RefusedError (RFC 6750 §3)."""
        lines = request.values("authorization")
        scheme, _, token = lines[0].partition(" ") if len(lines) == 1 else ("", "", "")
        if scheme.lower() != "bearer":
            raise _RefusedError(401, "Unauthorized", ("WWW-Authenticate", "Bearer"))
        claims = self._introspect(token) if _TOKEN.match(token) else {"active": False}
        if claims.get("active") is not True:
            raise _invalid_token("The access token is unknown, expired or revoked")
        audience = claims.get("aud")
        if self._audience not in (audience if isinstance(audience, list) else [audience]):
            raise _invalid_token("The access token is for another audience")
        return str(claims.get("client_id", "")), str(claims.get("scope", ""))

    def _respond(self, request: ReceivedRequest, client: str, scope: str) -> Response:
        """Return the endpoint's response. Raises _RefusedError or InputInvalidError."""
        endpoint, names = self._route(request)
        if endpoint.permission not in scope.split():
            challenge = f'Bearer error="insufficient_scope", scope="{endpoint.permission}"'
            raise _RefusedError(403, "Forbidden", ("WWW-Authenticate", challenge))
        if endpoint.is_limited and (wait := self._limiter.admit(client, self._now())) is not None:
            # Whole seconds (RFC 9110 §10.2.3), and never too early.
            raise _RefusedError(429, "Rate limit exceeded", ("Retry-After", str(math.ceil(wait))))
        content = endpoint.respond(_Call(request=request, query=Query(request.parameters), names=names))
        return Response(status=204) if content is None else _json(200, content)

    def _route(self, request: ReceivedRequest) -> tuple[_Endpoint, Mapping[str, int]]:
        allowed = []
        for endpoint in self._endpoints:
            if found := endpoint.path.fullmatch(request.path):
                if endpoint.method in (request.method, "GET" if request.method == "HEAD" else ""):
                    return endpoint, {name: int(value) for name, value in found.groupdict().items()}
                allowed.append(endpoint.method)
        if allowed:
            raise _RefusedError(405, "Method not allowed", ("Allow", ", ".join(allowed)))
        raise _RefusedError(404, "Not found")

    def _with_standing(self, response: Response, client: str) -> Response:
        standing = self._limiter.standing(client, self._now())
        resets_at = datetime.fromtimestamp(standing.resets_at, UTC)
        response = response.with_field("X-Rate-Limit-Limit", str(standing.limit))
        response = response.with_field("X-Rate-Limit-Remaining", str(standing.remaining))
        return response.with_field("X-Rate-Limit-Reset", switch_data.instant_text(resets_at))

    def _organization(self, call: _Call) -> int:
        return self._allowed(call.query.integer("organizationId"))

    def _allowed(self, organization: int) -> int:
        if organization not in self._organizations:
            raise _RefusedError(403, "Forbidden")
        return organization

    def _utc_now(self) -> datetime:
        return datetime.fromtimestamp(self._now(), UTC)

    def _get_readings(self, call: _Call) -> object:
        self._organization(call)
        return self._readings.select(call.query)

    def _post_readings(self, call: _Call) -> None:
        _require_json(call.request)
        self._readings.save(call.request.body, now=self._utc_now())

    def _get_averages(self, call: _Call) -> object:
        self._organization(call)
        return self._readings.select_hourly_averages(call.query)

    def _get_meters(self, call: _Call) -> object:
        return switch_data.meters(self._organization(call))

    def _get_zones(self, call: _Call) -> object:
        self._organization(call)
        return switch_data.market_zones(self._organizations)

    def _get_participants(self, call: _Call) -> object:
        self._organization(call)
        return switch_data.participants(self._organizations)

    def _get_resources(self, call: _Call) -> object:
        return switch_data.resources(self._organization(call))

    def _post_reference_readings(self, call: _Call) -> None:
        _require_json(call.request)
        self._allowed(switch_data.save_reference_readings(call.request.body, now=self._utc_now()))

    def _get_flexibility_orders(self, call: _Call) -> object:
        call.query.integer("marketZoneId")
        return switch_data.flexibility_orders(self._organization(call), *call.query.period())

    def _get_availability_orders(self, call: _Call) -> object:
        return switch_data.availability_orders(self._organization(call), *call.query.period())


class _RefusedError(Exception):
    """A request is refused before its endpoint does anything."""

    def __init__(self, status: int, message: str, *fields: tuple[str, str]) -> None:
        super().__init__(message)
        response = _error(status, message)
        self.response = Response(status=status, fields=(*response.fields, *fields), body=response.body)


def _invalid_token(description: str) -> _RefusedError:
    challenge = f'Bearer error="invalid_token", error_description="{description}"'
    return _RefusedError(401, "Unauthorized", ("WWW-Authenticate", challenge))


def _endpoint(
    method: str, path: str, permission: str, respond: Callable[[_Call], object], *, is_limited: bool = False
) -> _Endpoint:
    return _Endpoint(
        method=method,
        path=re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[0-9]{1,9})", path)),
        permission=permission,
        respond=respond,
        is_limited=is_limited,
    )


def _require_json(request: ReceivedRequest) -> None:
    media_types = [value.partition(";")[0].strip().lower() for value in request.values("content-type")]
    if media_types != ["application/json"]:
        raise InputInvalidError("Content-Type: must be application/json")


def _error(status: int, message: str) -> Response:
    if status < HTTPStatus.BAD_REQUEST:
        return Response(status=status)
    return _json(status, {"errors": [{"message": message, "code": _CODES.get(status, 2)}]})


def _json(status: int, content: object) -> Response:
    body = json.dumps(content, separators=(",", ":")).encode()
    return Response(status=status, fields=(("Content-Type", "application/json; charset=utf-8"),), body=body)
