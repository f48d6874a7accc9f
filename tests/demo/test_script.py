"""The demo's script judges a proxy: a right one passes every check, a wrong one fails the check that is about it."""

from __future__ import annotations

import io
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest

from proxy.demo.auth_server import FakeAuthorizationServer
from proxy.demo.faults import MALFORMED_JSON, Reset, Status
from proxy.demo.narration import Check, Narrator
from proxy.demo.script import Script, World
from proxy.demo.switch_api import FakeSwitchAPI
from tests.demo.stand_in_proxy import StandInProxy, Wrong

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


@asynccontextmanager
async def world_with(*wrong: Wrong, lifetime: float = 60.0) -> AsyncIterator[World]:
    auth = FakeAuthorizationServer(lifetime=lifetime)
    api = FakeSwitchAPI(introspect=auth.introspect)
    async with auth, api, StandInProxy(auth, api, wrong=frozenset(wrong)) as proxy:
        yield World(auth=auth, api=api, proxy_url=proxy.url, admin_url=proxy.url)


async def take(step: str, world: World) -> Sequence[Check]:
    """Take one step of the script and return its checks."""
    script = Script(world, Narrator(io.StringIO(), width=None, has_colour=False))
    async with aiohttp.ClientSession() as session:
        await getattr(script, step)(session)
    return script._checks


def failed(checks: Sequence[Check]) -> list[str]:
    return [check.expectation for check in checks if not check.holds]


async def test_a_right_proxy_passes_every_check_and_the_story_is_told() -> None:
    """The whole script, with tokens that end within it."""
    told = io.StringIO()
    async with world_with(lifetime=0.6) as world:
        checks = await Script(world, Narrator(told, width=None, has_colour=False)).run()
        secrets = [world.auth.client_secret, *(issued.value for issued in world.auth.issued)]

    assert failed(checks) == []
    assert len(checks) > 15
    assert "token 1 in use" in told.getvalue()
    assert "token 3 in use" in told.getvalue()
    assert not any(secret in told.getvalue() for secret in secrets)


@pytest.mark.parametrize(
    ("step", "wrong", "expectation"),
    [
        pytest.param("_read", Wrong.SENDS_NO_TOKEN, "one bearer token on it, of those issued", id="no token"),
        pytest.param("_read", Wrong.INVENTS_A_TOKEN, "one bearer token on it, of those issued", id="invented token"),
        pytest.param("_read", Wrong.DECODES_THE_TARGET, "the target at the API, byte for byte", id="decoded target"),
        pytest.param("_read", Wrong.SENDS_TWICE, "one request at the API", id="sent twice"),
        pytest.param("_post", Wrong.CHANGES_THE_BODY, "the body at the API, byte for byte", id="changed body"),
        pytest.param("_post", Wrong.ANSWERS_200_FOR_204, "204 without content", id="another status"),
        pytest.param("_post", Wrong.SENDS_NO_TOKEN, "204 without content", id="post without token"),
        pytest.param("_overrun", Wrong.SENDS_TWICE, "every post at the API once, none repeated", id="repeated posts"),
        pytest.param("_overrun", Wrong.ANSWERS_200_FOR_204, "204 up to the limit and 429 above it", id="other counts"),
        pytest.param("_overrun", Wrong.HIDES_THE_RATE_LIMIT, "the API's word on when to come back", id="hidden limit"),
        pytest.param("_outlive_tokens", Wrong.KEEPS_AN_EXPIRED_TOKEN, "no failed request", id="expired token kept"),
        pytest.param("_look_at_admin", Wrong.IS_NOT_READY, "200 at /readyz", id="not ready"),
        pytest.param("_look_at_admin", Wrong.SHOWS_ITS_TOKEN, "no secret and no token at /metrics", id="shown token"),
    ],
)
async def test_a_wrong_proxy_fails_the_check_that_is_about_it(step: str, wrong: Wrong, expectation: str) -> None:
    """No check of the demo holds whatever happens."""
    async with world_with(wrong, lifetime=0.3 if step == "_outlive_tokens" else 60.0) as world:
        await take("_post", world)  # so that there is a token
        checks = await take(step, world)

    assert expectation in failed(checks)


async def test_one_token_that_never_ends_is_not_taken_for_a_refresh() -> None:
    """The step is about tokens that go and come: it fails where none did."""
    async with world_with(lifetime=0.3) as world:
        world.auth.lifetime = 60.0
        script = Script(world, Narrator(io.StringIO(), width=None, has_colour=False))
        script._lifetime = 0.1
        async with aiohttp.ClientSession() as session:
            await script._outlive_tokens(session)

    assert "three tokens or more, one after the other" in failed(script._checks)
    assert "token 1 refused by the API by now" in failed(script._checks)


async def test_an_api_that_asks_for_no_token_is_noticed() -> None:
    """Else all that follows would prove nothing."""
    async with world_with() as world:
        world.api.faults.add(Status(code=200))
        checks = await take("_past_the_proxy", world)

    assert failed(checks) == ["401 without a token"]


async def test_an_answer_that_cannot_be_read_is_a_failed_check() -> None:
    """Not an error of the demo."""
    async with world_with() as world:
        world.api.faults.add(MALFORMED_JSON)
        checks = await take("_read", world)

    assert failed(checks) == ["200 with the readings of both registers"]


async def test_a_step_without_an_answer_fails_and_the_next_one_is_taken() -> None:
    """The demo tells everything that is wrong, not the first thing alone."""
    told = io.StringIO()
    async with world_with(lifetime=0.1) as world:
        async with StandInProxy(world.auth, world.api) as gone:
            url = gone.url
        nobody = World(auth=world.auth, api=world.api, proxy_url=url, admin_url=world.admin_url)
        world.api.faults.add(Reset(), times=None)
        checks = await Script(nobody, Narrator(told, width=None, has_colour=False)).run()

    assert "an answer" in failed(checks)
    assert "6. The proxy about itself" in told.getvalue()
    assert [check.holds for check in checks if check.expectation == "200 at /readyz"] == [True]
