"""
The demo's script: an app's requests through the proxy, step by step, each with its checks.

It knows the fakes and two URLs and nothing else, so it judges any other proxy in the same way.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from switch_proxy.demo.narration import Check

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from switch_proxy.demo.auth_server import FakeAuthorizationServer
    from switch_proxy.demo.messages import ReceivedRequest
    from switch_proxy.demo.narration import Narrator
    from switch_proxy.demo.switch_api import FakeSwitchAPI

SHORT_LIFETIME = 3.0
"""Token lifetime while the script runs, in seconds: short enough to see tokens expire, long enough for a busy machine."""

_LIFETIMES = 1.9
"""Duration of the steady requests in token lifetimes. Two refreshes fit, each at 75 to 85 % of a lifetime."""

_STEADY_PAUSE = 0.02
"""Seconds between two steady requests."""

_SERIES = 8
"""Simultaneous posts; the API accepts five a second."""

READINGS = (
    "/api/readings?organizationId=1&registerId=1&registerId=2"
    "&start=2025-11-03T15%3A51%3A44.667Z&end=2025-11-04T15%3A51%3A44.667Z&resolution=3600"
)
METERS = "/api/meter?organizationId=1"
POSTED = (
    b'{"meters":[{"id":"1","registers":[{"id":"1","values":['
    b'{"timestamp":"2025-11-03T16:00:00.000Z","periodTo":"2025-11-03T17:00:00.000Z","value":42}]}]}]}'
)

_PER_SECOND = 5
"""Posts of readings that the API accepts in a second."""

_GENERATIONS = 3
"""Tokens that must have been used. One replacement may be luck; two show the rule."""

_RATE_LIMIT = ("Retry-After", "X-Rate-Limit-Limit", "X-Rate-Limit-Remaining")

_SHOWN = 60
"""Characters of a body that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything that the demo has started."""

    auth: FakeAuthorizationServer
    api: FakeSwitchAPI
    proxy_url: str
    admin_url: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Got:
    """The app's response."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    def __str__(self) -> str:
        text = self.body.decode("utf-8", "replace")
        shown = f"{text[:_SHOWN]}... ({len(self.body)} bytes)" if len(text) > _SHOWN else text
        return f"{self.status} {self.reason}{f': {shown}' if shown else ''}"


class Script:
    """The steps of the demo, shown by a narrator. `run` returns all checks."""

    def __init__(
        self,
        world: World,
        narrator: Narrator,
        *,
        now: Callable[[], float] = time.monotonic,  # noqa: TID251 - the demo has no Clock: it shares no code with the proxy
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._world = world
        self._narrator = narrator
        self._now = now
        self._pause = pause
        self._lifetime = world.auth.lifetime
        self._checks: list[Check] = []

    async def run(self) -> Sequence[Check]:
        """Run every step, even if an earlier one failed."""
        steps: Sequence[tuple[str, Callable[[aiohttp.ClientSession], Awaitable[None]]]] = (
            ("Past the proxy: the API requires a token", self._past_the_proxy),
            ("Through the proxy: reading", self._read),
            ("Through the proxy: posting", self._post),
            ("Through the proxy: posting more than the API accepts", self._overrun),
            (f"Tokens of {self._lifetime:g} seconds, and an app that never stops", self._outlive_tokens),
            ("The proxy about itself", self._look_at_admin),
        )
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
            for number, (title, step) in enumerate(steps, start=1):
                self._narrator.title(f"{number}. {title}")
                try:
                    await step(session)
                except (aiohttp.ClientError, TimeoutError) as error:
                    self._check("a response", holds=False, seen=f"{type(error).__name__}: {error}")
        return tuple(self._checks)

    async def _past_the_proxy(self, session: aiohttp.ClientSession) -> None:
        self._narrator.fact("app sent", f"GET {METERS} to the API itself")
        got = await _send(session, "GET", self._world.api.url + METERS)
        self._narrator.fact("app got", str(got))
        self._check("401 without a token", holds=got.status == HTTPStatus.UNAUTHORIZED, seen=str(got))

    async def _read(self, session: aiohttp.ClientSession) -> None:
        self._narrator.fact("app sent", f"GET {READINGS}")
        self._narrator.fact("", "to the proxy, without a token")
        seen, got = await self._exchange(session, "GET", READINGS)
        holds = got.status == HTTPStatus.OK and _registers(got.body) == [1, 2]
        self._check("200 with the readings of both registers", holds=holds, seen=str(got))
        for request in seen:
            self._check("the target at the API, byte for byte", holds=request.target == READINGS, seen=request.target)
        self._check_token(seen)

    async def _post(self, session: aiohttp.ClientSession) -> None:
        self._narrator.fact("app sent", "POST /api/readings")
        self._narrator.fact("", POSTED.decode())
        seen, got = await self._exchange(session, "POST", "/api/readings", POSTED)
        self._check("204 without content", holds=(got.status, got.body) == (HTTPStatus.NO_CONTENT, b""), seen=str(got))
        for request in seen:
            seen_body = request.body.decode("utf-8", "replace")
            self._check("the body at the API, byte for byte", holds=request.body == POSTED, seen=seen_body)
        self._check_token(seen)

    async def _overrun(self, session: aiohttp.ClientSession) -> None:
        self._narrator.fact(
            "app sent", f"POST /api/readings, {_SERIES} times at once; the API accepts {_PER_SECOND} a second"
        )
        before = len(self._world.api.requests)
        url = f"{self._world.proxy_url}/api/readings"
        answers = await asyncio.gather(*(_send(session, "POST", url, POSTED) for _ in range(_SERIES)))
        seen = self._world.api.requests[before:]
        self._narrator.fact(
            "API saw", f"{len(seen)} requests, {sum(self._token(r) is not None for r in seen)} with a valid token"
        )
        counts = Counter(got.status for got in answers)
        self._narrator.fact("app got", ", ".join(f"{count} x {status}" for status, count in sorted(counts.items())))
        refusals = [got.headers for got in answers if got.status == HTTPStatus.TOO_MANY_REQUESTS]
        told = [{name: headers.get(name) for name in _RATE_LIMIT} for headers in refusals]
        for first in told[:1]:
            self._narrator.fact("", ", ".join(f"{name}: {value}" for name, value in first.items()))
        self._check(
            "every post at the API once, none repeated", holds=len(seen) == _SERIES, seen=f"{len(seen)} requests"
        )
        self._check(
            "204 up to the limit and 429 above it",
            holds=counts.keys() == {HTTPStatus.NO_CONTENT, HTTPStatus.TOO_MANY_REQUESTS}
            and counts[HTTPStatus.NO_CONTENT] <= _PER_SECOND,
            seen=", ".join(map(str, answers)),
        )
        self._check(
            "the API's Retry-After and rate limit passed on",
            holds=bool(told) and all(None not in fields.values() for fields in told),
            seen=str(told),
        )

    async def _outlive_tokens(self, session: aiohttp.ClientSession) -> None:
        steady_for = _LIFETIMES * self._lifetime
        self._narrator.fact("app sends", f"GET {METERS}, {1 / _STEADY_PAUSE:.0f} times a second for {steady_for:g} s")
        failures = Counter[str]()
        tokens: list[int] = []
        looked_at = len(self._world.api.requests)
        started_at, sent = self._now(), 0
        while (elapsed := self._now() - started_at) < steady_for:
            try:
                got = await _send(session, "GET", self._world.proxy_url + METERS)
            except (aiohttp.ClientError, TimeoutError) as error:
                failures[type(error).__name__] += 1
            else:
                if got.status != HTTPStatus.OK:
                    failures[str(got)] += 1
            sent += 1
            for token in filter(None, map(self._token, self._world.api.requests[looked_at:])):
                if token not in tokens:
                    self._narrator.fact(f"{elapsed:.1f} s", f"token {token} in use from request {sent} on")
                    tokens.append(token)
            looked_at = len(self._world.api.requests)
            await self._pause(max(0.0, started_at + sent * _STEADY_PAUSE - self._now()))
        self._narrator.fact("app got", f"{sent} responses, {sum(failures.values())} failures")
        self._check("no failed request", holds=not failures, seen=str(dict(failures)))
        self._check(
            "three tokens or more, one after the other", holds=len(tokens) >= _GENERATIONS, seen=f"{len(tokens)} tokens"
        )
        if tokens:
            await self._try_old_token(session, tokens[0])

    async def _try_old_token(self, session: aiohttp.ClientSession, number: int) -> None:
        """Check that the first token has expired: the API refuses it now."""
        [old] = [issued for issued in self._world.auth.issued if issued.number == number]
        got = await _send(session, "GET", self._world.api.url + METERS, token=old.value)
        self._check(
            f"token {number} refused by the API by now", holds=got.status == HTTPStatus.UNAUTHORIZED, seen=str(got)
        )

    async def _look_at_admin(self, session: aiohttp.ClientSession) -> None:
        secrets = [self._world.auth.client_secret, *(issued.value for issued in self._world.auth.issued)]
        for page in ("/readyz", "/metrics"):
            got = await _send(session, "GET", self._world.admin_url + page)
            self._narrator.fact("asked", f"GET {page}: {got.status} {got.reason}")
            self._check(f"200 at {page}", holds=got.status == HTTPStatus.OK, seen=str(got))
            leaks = sum(secret.encode() in got.body for secret in secrets)
            self._check(f"no secret and no token at {page}", holds=leaks == 0, seen=f"{leaks} of them")

    async def _exchange(
        self, session: aiohttp.ClientSession, method: str, target: str, content: bytes | None = None
    ) -> tuple[Sequence[ReceivedRequest], _Got]:
        """Send one request through the proxy; show and return what the API saw of it, and the response."""
        before = len(self._world.api.requests)
        got = await _send(session, method, self._world.proxy_url + target, content)
        seen = self._world.api.requests[before:]
        for request in seen:
            self._narrator.fact("API saw", f"{request.method} {request.target}")
            self._narrator.fact("", self._credentials(request))
        self._narrator.fact("app got", str(got))
        self._check("one request at the API", holds=len(seen) == 1, seen=f"{len(seen)} requests")
        return seen, got

    def _check_token(self, seen: Sequence[ReceivedRequest]) -> None:
        for request in seen:
            token = self._token(request)
            self._check("one bearer token that was issued", holds=token is not None, seen=self._credentials(request))

    def _token(self, request: ReceivedRequest) -> int | None:
        """Return the number of a request's token, or None if it has no token that was issued."""
        issued = self._world.auth.find(request.bearer_token)
        return issued.number if issued is not None else None

    def _credentials(self, request: ReceivedRequest) -> str:
        lines = request.values("authorization")
        number = self._token(request)
        if number is None or request.bearer_token is None:
            return f"{len(lines)} Authorization lines, without a token that was issued"
        return f"Authorization: Bearer ******** (token {number}, {len(request.bearer_token)} characters)"

    def _check(self, expectation: str, *, holds: bool, seen: str) -> None:
        check = Check(expectation=expectation, seen=seen, holds=holds)
        self._checks.append(check)
        self._narrator.check(check)


async def _send(
    session: aiohttp.ClientSession, method: str, url: str, content: bytes | None = None, *, token: str | None = None
) -> _Got:
    headers = {} if content is None else {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    # Sent as written: aiohttp would decode %3A.
    async with session.request(method, URL(url, encoded=True), data=content, headers=headers) as response:
        return _Got(
            status=response.status,
            reason=response.reason or "",
            headers=response.headers,
            body=await response.read(),
        )


def _registers(body: bytes) -> list[object]:
    """Return the ids of the registers in a response with readings; empty if it is another response."""
    try:
        return [entry["registerId"] for entry in json.loads(body)]
    except (ValueError, TypeError, KeyError):
        return []
