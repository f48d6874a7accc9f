"""The demo's script judges a proxy: a correct one passes every check, a wrong one fails the check for its defect."""

from __future__ import annotations

import io
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest

from switch_proxy.demo.auth_server import FakeAuthorizationServer
from switch_proxy.demo.faults import MALFORMED_JSON, Reset, Status
from switch_proxy.demo.narration import Check, Narrator
from switch_proxy.demo.script import Script, World
from switch_proxy.demo.switch_api import FakeSwitchAPI
from tests.demo.settable_time import SettableTime
from tests.demo.stand_in_proxy import StandInProxy, Wrong

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


NOW = 1_762_185_104.0


@asynccontextmanager
async def world_with(
    *wrong: Wrong, lifetime: float = 60.0, told: io.StringIO | None = None
) -> AsyncIterator[tuple[World, Script]]:
    """Start the fakes with such a proxy in front of them, on a clock that the script's pauses move."""
    now = SettableTime(NOW)
    auth = FakeAuthorizationServer(lifetime=lifetime, now=now)
    api = FakeSwitchAPI(introspect=auth.introspect, now=now)
    async with auth, api, StandInProxy(auth, api, wrong=frozenset(wrong)) as proxy:
        world = World(auth=auth, api=api, proxy_url=proxy.url, admin_url=proxy.url)
        yield world, script_for(world, now, told)


def script_for(world: World, now: SettableTime, told: io.StringIO | None = None) -> Script:
    async def pause(seconds: float) -> None:
        now.at += seconds

    narrator = Narrator(told or io.StringIO(), width=None, has_colour=False)
    return Script(world, narrator, now=now, pause=pause)


async def take(step: str, script: Script) -> Sequence[Check]:
    """Take one step of the script and return its checks."""
    async with aiohttp.ClientSession() as session:
        await getattr(script, step)(session)
    return script._checks


def failed(checks: Sequence[Check]) -> list[str]:
    return [check.expectation for check in checks if not check.holds]


async def test_a_right_proxy_passes_every_check_and_the_story_is_told() -> None:
    """The whole script, with tokens that expire during it."""
    told = io.StringIO()
    async with world_with(lifetime=2.0, told=told) as (world, script):
        checks = await script.run()
        secrets = [world.auth.client_secret, *(issued.value for issued in world.auth.issued)]

    assert failed(checks) == []
    assert len(checks) > 15
    assert "token 1 in use from request 1 on" in told.getvalue()
    assert "token 2 in use from request 81 on" in told.getvalue()
    assert "token 3 in use from request 161 on" in told.getvalue()
    assert not any(secret in told.getvalue() for secret in secrets)


@pytest.mark.parametrize(
    ("step", "wrong", "expectation"),
    [
        pytest.param("_read", Wrong.SENDS_NO_TOKEN, "one bearer token that was issued", id="no token"),
        pytest.param("_read", Wrong.INVENTS_A_TOKEN, "one bearer token that was issued", id="invented token"),
        pytest.param("_read", Wrong.DECODES_THE_TARGET, "the target at the API, byte for byte", id="decoded target"),
        pytest.param("_read", Wrong.SENDS_TWICE, "one request at the API", id="sent twice"),
        pytest.param("_post", Wrong.CHANGES_THE_BODY, "the body at the API, byte for byte", id="changed body"),
        pytest.param("_post", Wrong.ANSWERS_200_FOR_204, "204 without content", id="another status"),
        pytest.param("_post", Wrong.SENDS_NO_TOKEN, "204 without content", id="post without token"),
        pytest.param("_overrun", Wrong.SENDS_TWICE, "every post at the API once, none repeated", id="repeated posts"),
        pytest.param("_overrun", Wrong.ANSWERS_200_FOR_204, "204 up to the limit and 429 above it", id="other counts"),
        pytest.param(
            "_overrun", Wrong.HIDES_THE_RATE_LIMIT, "the API's Retry-After and rate limit passed on", id="hidden limit"
        ),
        pytest.param("_outlive_tokens", Wrong.KEEPS_AN_EXPIRED_TOKEN, "no failed request", id="expired token kept"),
        pytest.param("_look_at_admin", Wrong.IS_NOT_READY, "200 at /readyz", id="not ready"),
        pytest.param("_look_at_admin", Wrong.SHOWS_ITS_TOKEN, "no secret and no token at /metrics", id="shown token"),
    ],
)
async def test_a_wrong_proxy_fails_the_check_that_is_about_it(step: str, wrong: Wrong, expectation: str) -> None:
    """No check of the demo passes regardless of the proxy."""
    async with world_with(wrong, lifetime=2.0) as (_, script):
        await take("_post", script)  # fetches a token
        before = len(script._checks)
        checks = (await take(step, script))[before:]

    assert expectation in failed(checks)


async def test_one_token_that_never_ends_is_not_taken_for_a_refresh() -> None:
    """The step requires that tokens are replaced: it fails if none was."""
    async with world_with(lifetime=2.0) as (world, script):
        world.auth.lifetime = 60.0
        checks = await take("_outlive_tokens", script)

    assert failed(checks) == ["three tokens or more, one after the other", "token 1 refused by the API by now"]


async def test_an_api_that_asks_for_no_token_is_noticed() -> None:
    """Otherwise the following checks would prove nothing."""
    async with world_with() as (world, script):
        world.api.faults.add(Status(code=200))
        checks = await take("_past_the_proxy", script)

    assert failed(checks) == ["401 without a token"]


async def test_an_answer_that_cannot_be_read_is_a_failed_check() -> None:
    """It is not an error of the demo."""
    async with world_with() as (world, script):
        world.api.faults.add(MALFORMED_JSON)
        checks = await take("_read", script)

    assert failed(checks) == ["200 with the readings of both registers"]


async def test_a_step_without_an_answer_fails_and_the_next_one_is_taken() -> None:
    """The demo shows every failure, not only the first."""
    async with world_with(lifetime=2.0) as (world, _):
        async with StandInProxy(world.auth, world.api) as gone:
            url = gone.url
        nobody = World(auth=world.auth, api=world.api, proxy_url=url, admin_url=world.admin_url)
        world.api.faults.add(Reset(), times=None)
        told = io.StringIO()
        checks = await script_for(nobody, SettableTime(NOW), told).run()

    assert "a response" in failed(checks)
    assert "6. The proxy about itself" in told.getvalue()
    assert [check.holds for check in checks if check.expectation == "200 at /readyz"] == [True]
