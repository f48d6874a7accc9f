"""The manager of one credential's token: tasks, waiting requests and time, with a controlled fetcher and source."""

from __future__ import annotations

import asyncio
import itertools
import traceback
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from switch_proxy.core.config.models import CredentialSettings, SecretSource
from switch_proxy.core.errors import (
    SecretUnavailableError,
    TokenEndpointUnavailableError,
    TokenFetchError,
    TokenRequestRefusedError,
    TokenResponseInvalidError,
    TokenUnavailableError,
)
from switch_proxy.core.events import (
    CredentialEvent,
    SecretBroken,
    SecretLoaded,
    SecretRefused,
    SecretReloaded,
    SecretRestored,
    TokenNoted,
    TokenRefreshed,
    TokenRefreshFailed,
)
from switch_proxy.core.secret import Outcome, Secret, SourceState, take_reading
from switch_proxy.core.tokens import Freshness, TokenGrant
from switch_proxy.tokens.directory_store import DirectoryStore
from switch_proxy.tokens.manager import TokenManager
from switch_proxy.tokens.sharing import TokenSharing
from tests.manual_clock import ManualClock, until
from tests.masking import ignore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from switch_proxy.tokens.sharing import TokenStore

SECRET: Final = "zebra-quilt-vortex-secret"
TOKEN: Final = "zebra-token-"

DOWN = TokenEndpointUnavailableError("the token endpoint is down")
REFUSED = TokenRequestRefusedError("the token endpoint refused")


class Fetcher:
    """A token endpoint that responds immediately with `answers`, or else when the test decides."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.secrets: list[str] = []
        self.began_at: list[float] = []
        self.answers: list[float | BaseException] = []
        """The outcomes of the next fetches: a lifetime in seconds, or an exception."""
        self.always: float | BaseException | None = None
        """The outcome of every fetch for which there is nothing in `answers`."""
        self._pending: asyncio.Future[float] | None = None
        self.cancelled = 0
        self.notes: tuple[str, ...] = ()
        self.valid_in = 0.0

    @property
    def calls(self) -> int:
        return len(self.secrets)

    @property
    def is_asked(self) -> bool:
        return self._pending is not None

    async def fetch(self, secret: Secret) -> TokenGrant:
        assert self._pending is None, "there is a fetch in flight already"
        self.secrets.append(secret.reveal())
        self.began_at.append(self._clock.now())
        number = self.calls
        answer = self.answers.pop(0) if self.answers else self.always
        if answer is None:
            self._pending = asyncio.get_running_loop().create_future()
            try:
                answer = await self._pending
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            finally:
                self._pending = None
        if isinstance(answer, BaseException):
            raise answer
        return TokenGrant(
            value=Secret(f"{TOKEN}{number}"), lifetime=answer, scope=None, valid_in=self.valid_in, notes=self.notes
        )

    async def answer(self, answer: float | BaseException) -> None:
        """End the fetch in flight with this outcome."""
        assert self._pending is not None, "there is no fetch in flight"
        if isinstance(answer, BaseException):
            self._pending.set_exception(answer)
        else:
            self._pending.set_result(answer)
        await self._clock.settle()


class CancellingError(Exception):
    """What a reading finds that ends in a CancelledError of something below it."""


class Source:
    """A secret's source that reads what the test puts there."""

    source = "the file /secret"
    remedy = "another content of the file /secret"

    def __init__(self, reading: Secret | str) -> None:
        self.content: Secret | str | Exception = reading
        """What a reading at a fetch finds."""
        self.other: Secret | None = None
        """The previous secret."""
        self._state = SourceState()
        self._changes: asyncio.Queue[Secret | str | Exception] = asyncio.Queue()

    def put(self, reading: Secret | str | Exception) -> None:
        """Let the watch see this next; a text is why the source is broken, an exception comes out of the watch."""
        self._changes.put_nowait(reading)

    def current(self) -> Secret:
        if self._state.last_good is None:
            raise SecretUnavailableError(self._state.error or "not read yet")
        return self._state.last_good

    def previous(self) -> Secret | None:
        return self.other

    async def load(self) -> Outcome:
        if isinstance(self.content, CancellingError):
            raise asyncio.CancelledError
        if isinstance(self.content, Exception):
            raise self.content
        return self._take(self.content)

    async def wait_for_change(self) -> Outcome:
        reading = await self._changes.get()
        if isinstance(reading, Exception):
            raise reading
        self.content = reading
        return self._take(reading)

    def _take(self, reading: Secret | str) -> Outcome:
        self._state, outcome = take_reading(self._state, reading)
        return outcome


class World:
    """A manager between a fetcher, a source, a clock and an observer, all in the test's hands."""

    def __init__(
        self,
        *,
        secret: Secret | str = Secret(SECRET),  # noqa: B008
        jitter: float = 0.5,
        store: TokenStore | None = None,
        **changes: Any,
    ) -> None:
        self.clock = ManualClock()
        self.fetcher = Fetcher(self.clock)
        self.source = Source(secret)
        self.events: list[CredentialEvent] = []
        self.peeked_at_event: list[int | None] = []
        self.observer_fails = False
        settings = CredentialSettings(
            token_url="https://login.example.com/token",
            client_id="client",
            client_secret=SecretSource(env="X"),
            **changes,
        )
        sharing = None
        if store is not None:
            sharing = TokenSharing(
                name="switch",
                settings=settings,
                store=store,
                encryption_key=None,
                clock=self.clock,
                mask=ignore,
                observe=self.on_event,
            )
        self.manager = TokenManager(
            name="switch",
            settings=settings,
            fetcher=self.fetcher,
            credential_source=self.source,
            clock=self.clock,
            random=lambda: jitter,
            observer=self,
            sharing=sharing,
        )

    def on_event(self, event: CredentialEvent) -> None:
        self.events.append(event)
        self.peeked_at_event.append(self.generation)
        if self.observer_fails:
            raise RuntimeError(SECRET)

    @property
    def generation(self) -> int | None:
        """The generation of the token that a request gets at once."""
        token = self.manager.peek()
        return None if token is None else token.generation

    def told(self, kind: type[CredentialEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def refused(self, *, timeout: float = 0.01, newer_than: int = 0) -> TokenUnavailableError:  # noqa: ASYNC109
        """Return the error of a request for a token that is not available."""
        with pytest.raises(TokenUnavailableError) as caught:
            await self.manager.acquire(timeout, newer_than=newer_than)
        return caught.value

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the manager; at the end it must stop cleanly, with no task left."""
        others = asyncio.all_tasks()
        task = asyncio.get_running_loop().create_task(self.manager.run())
        await self.clock.settle()
        try:
            yield
            assert not task.done(), "the manager's task has ended by itself"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert asyncio.all_tasks() <= others


# --- the ordinary life ---------------------------------------------------------------------------------------------


async def test_the_first_token_is_fetched_at_the_start() -> None:
    world = World()
    async with world.running():
        assert world.fetcher.is_asked
        assert world.manager.peek() is None
        await world.fetcher.answer(1000.0)
        token = world.manager.peek()
        assert token is not None
        assert token.authorization_line == f"Authorization: Bearer {TOKEN}1\r\n".encode()
        assert await world.manager.acquire(0) is token
    assert world.fetcher.secrets == [SECRET]


async def test_a_token_is_refreshed_in_time_and_serves_meanwhile() -> None:
    """At 80 % of a life of 1000 s, with a jitter in the middle; the old one until the new one is there."""
    world = World()
    async with world.running():
        await world.fetcher.answer(1000.0)
        await world.clock.advance(799.9)
        assert world.fetcher.calls == 1
        await world.clock.advance(0.1)
        assert world.fetcher.calls == 2
        assert world.generation == 1
        await world.clock.advance(5.0)
        await world.fetcher.answer(1000.0)
        assert world.generation == 2
        # 800 s after the second request was sent, not after its response.
        await world.clock.advance(794.9)
        assert world.fetcher.calls == 2
        await world.clock.advance(0.1)
        assert world.fetcher.calls == 3


@pytest.mark.parametrize(
    ("after", "generation"),
    [
        pytest.param(989.999, 1, id="just before its last ten seconds"),
        pytest.param(990.0, None, id="in its last ten seconds"),
        pytest.param(1000.0, None, id="at its end"),
    ],
)
async def test_a_token_is_not_handed_out_in_its_last_moments(after: float, generation: int | None) -> None:
    world = World()
    async with world.running():
        await world.fetcher.answer(1000.0)
        world.clock.skip(after)
        assert world.generation == generation


async def test_a_day_of_hourly_tokens_costs_thirty_fetches() -> None:
    """24 hours, each token replaced after 48 minutes, no request without one."""
    world = World()
    world.fetcher.always = 3600.0
    async with world.running():
        for _ in range(24 * 60):
            assert world.generation is not None
            await world.clock.advance(60.0)
    assert world.fetcher.calls == 1 + 24 * 60 // 48


async def test_each_token_is_told_before_it_is_in_use() -> None:
    world = World()
    async with world.running():
        await world.fetcher.answer(1000.0)
        await world.clock.advance(800.0)
        await world.clock.advance(2.0)
        await world.fetcher.answer(500.0)
    (first, second) = world.told(TokenRefreshed)
    assert (first.generation, first.lifetime, first.refresh_in, first.duration) == (1, 1000.0, 800.0, 0.0)
    assert (second.generation, second.lifetime, second.refresh_in, second.duration) == (2, 500.0, 398.0, 2.0)
    assert world.peeked_at_event == [None, None, 1]
    assert world.events[0] == SecretLoaded(credential="switch", source="the file /secret")


# --- waiting -------------------------------------------------------------------------------------------------------


async def test_five_hundred_requests_cause_one_token_request() -> None:
    world = World()
    async with world.running(), asyncio.TaskGroup() as tasks:
        requests = [tasks.create_task(world.manager.acquire(5)) for _ in range(500)]
        await world.clock.settle()
        assert world.fetcher.calls == 1
        await world.fetcher.answer(1000.0)
    assert {request.result().generation for request in requests} == {1}
    assert world.fetcher.calls == 1


async def test_five_hundred_requests_after_the_end_of_a_token_cause_one_token_request() -> None:
    """The machine slept, the timer is late: the first request begins what is due."""
    world = World()
    async with world.running():
        await world.fetcher.answer(1000.0)
        world.clock.skip(2000.0)
        async with asyncio.TaskGroup() as tasks:
            requests = [tasks.create_task(world.manager.acquire(5)) for _ in range(500)]
            await world.clock.settle()
            assert world.fetcher.calls == 2
            await world.fetcher.answer(1000.0)
        assert {request.result().generation for request in requests} == {2}
        await world.clock.advance(0.0)
        assert world.fetcher.calls == 2


async def test_who_waits_too_long_is_told_and_the_fetch_goes_on() -> None:
    world = World()
    async with world.running():
        error = await world.refused(timeout=0.01)
        assert error.credential == "switch"
        assert error.reason == "no access token within 0.01 seconds: the token request is still under way"
        assert error.retry_after == 1.0
        assert world.fetcher.cancelled == 0
        await world.fetcher.answer(1000.0)
        assert world.generation == 1
    assert world.fetcher.calls == 1


async def test_who_waits_too_long_is_told_why_the_fetch_before_failed() -> None:
    world = World()
    world.fetcher.answers = [DOWN]
    async with world.running():
        await world.clock.advance(0.5)
        assert world.fetcher.is_asked
        error = await world.refused()
        assert error.reason.endswith("still under way; the one before it failed: the token endpoint is down")


async def test_who_gives_up_waiting_takes_nothing_from_the_others() -> None:
    """CancellingError one request neither ends the fetch nor the wait of another."""
    world = World()
    async with world.running():
        one, other = (asyncio.get_running_loop().create_task(world.manager.acquire(5)) for _ in range(2))
        await world.clock.settle()
        one.cancel()
        await world.clock.settle()
        assert one.cancelled()
        assert world.fetcher.cancelled == 0
        await world.fetcher.answer(1000.0)
        assert (await other).generation == 1
    assert world.fetcher.calls == 1


async def test_who_waits_is_told_at_once_when_the_fetch_fails() -> None:
    world = World()
    async with world.running():
        request = asyncio.get_running_loop().create_task(world.manager.acquire(5))
        await world.clock.settle()
        await world.fetcher.answer(REFUSED)
        with pytest.raises(TokenUnavailableError) as caught:
            await request
    assert str(caught.value) == "credential 'switch': the last fetch failed: the token endpoint refused"
    assert caught.value.retry_after == 67.5


async def test_who_comes_while_a_failure_is_waited_out_is_told_what_is_left() -> None:
    world = World()
    world.fetcher.answers = [REFUSED]
    async with world.running():
        await world.clock.advance(20.0)
        assert (await world.refused(timeout=5)).retry_after == 47.5
        await world.clock.advance(47.0)
        assert (await world.refused(timeout=5)).retry_after == 1.0
    assert world.fetcher.calls == 1


async def test_before_the_manager_runs_requests_wait() -> None:
    world = World()
    assert (await world.refused()).retry_after == 1.0
    request = asyncio.get_running_loop().create_task(world.manager.acquire(5))
    world.fetcher.always = 1000.0
    async with world.running():
        assert (await request).generation == 1


# --- failures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "outcome", "delay"),
    [
        pytest.param(DOWN, "unavailable", 0.5, id="an outage"),
        pytest.param(TokenEndpointUnavailableError("busy", retry_after=30.0), "unavailable", 30.5, id="Retry-After"),
        pytest.param(TokenResponseInvalidError("HTML"), "invalid", 0.5, id="an unusable answer"),
        pytest.param(REFUSED, "refused", 67.5, id="a refusal"),
        pytest.param(TokenRequestRefusedError("no", retry_after=100.0), "refused", 112.5, id="a refusal with a time"),
        pytest.param(TokenFetchError("strange"), "unexpected", 0.5, id="a failure of no kind"),
        pytest.param(ValueError("boo"), "unexpected", 0.5, id="an exception that nobody foresaw"),
        pytest.param(asyncio.CancelledError(), "unexpected", 0.5, id="a cancellation from within"),
        pytest.param(TimeoutError(), "unexpected", 0.5, id="a timeout from within"),
    ],
)
@pytest.mark.parametrize("has_token", [True, False], ids=["with a token", "without a token"])
async def test_a_failed_fetch_keeps_the_token_and_is_tried_again(
    error: BaseException, outcome: str, delay: float, *, has_token: bool
) -> None:
    """Each in its lane; the next fetch is sent at its time, not before."""
    world = World()
    world.fetcher.answers = [1000.0, error] if has_token else [error]
    async with world.running():
        if has_token:
            await world.clock.advance(800.0)
        calls = world.fetcher.calls
        assert world.generation == (1 if has_token else None)
        (failure,) = world.told(TokenRefreshFailed)
        assert (failure.outcome, failure.retry_in, failure.consecutive_failures) == (outcome, delay, 1)
        assert failure.token_usable_for == (190.0 if has_token else None)
        await world.clock.advance(delay - 0.001)
        assert world.fetcher.calls == calls
        await world.clock.advance(0.001)
        assert world.fetcher.calls == calls + 1
        await world.fetcher.answer(1000.0)
        assert world.generation == (2 if has_token else 1)
        assert world.told(TokenRefreshed)[-1].after_failures == 1
        assert world.manager.status().consecutive_failures == 0


async def test_an_outage_longer_than_the_tokens_life() -> None:
    """Requests pass while the token lasts, fail after it, and pass again within one retry of the server's return."""
    world = World()
    world.fetcher.answers = [1000.0]
    world.fetcher.always = DOWN
    async with world.running():
        await world.clock.advance(989.0)
        assert world.generation == 1
        await world.clock.advance(1000.0)
        assert world.manager.peek() is None
        assert "the token endpoint is down" in (await world.refused(timeout=5)).reason
        calls = world.fetcher.calls
        world.fetcher.always = 1000.0
        await world.clock.advance(60.0)
        assert world.generation == 2
    # Windows of 1, 2, 4, … 60 s, halved by the jitter: 1188 s are seven windows and then one in 30 s.
    assert calls == pytest.approx(1 + 7 + (1189 - 61) / 30, abs=2)


async def test_a_wrong_secret_costs_less_than_a_hundred_tries_a_day() -> None:
    """Auth0's limit for an address that keeps failing."""
    world = World(jitter=0.0)
    world.fetcher.always = REFUSED
    async with world.running():
        await world.clock.advance(86400.0)
        assert world.fetcher.calls == 5 + (86400 - 60 - 120 - 240 - 480) // 900
        assert world.fetcher.calls < 101
        assert world.manager.status().failing_since == 1000.0


async def test_trouble_is_news_once() -> None:
    """A log without repetitions has a line for each kind of failure, not for each retry."""
    world = World()
    world.fetcher.answers = [DOWN, DOWN, REFUSED, REFUSED, DOWN, 1000.0, DOWN]
    async with world.running():
        await world.clock.advance(2000.0)
    assert [event.is_first_occurrence for event in world.told(TokenRefreshFailed)] == [
        True,
        False,
        True,
        False,
        True,
        True,
    ]


async def test_an_unforeseen_exception_is_located_and_its_text_left_out() -> None:
    """The text of a library's exception may hold anything."""
    world = World()
    world.fetcher.answers = [ValueError(f"cannot encode {SECRET}")]
    async with world.running():
        error = world.told(TokenRefreshFailed)[0].error
        assert error.startswith("unexpected ValueError at ")
        assert error.endswith("; a defect of the proxy")
        assert SECRET not in error
        assert (await world.refused()).reason == f"the last fetch failed: {error}"


async def test_a_fetch_that_does_not_end_is_given_up() -> None:
    """A fetcher has a timeout of its own; if it does not keep to it, the credential goes on."""
    world = World()
    world.manager._longest_fetch = 0.01
    async with world.running():
        await until(lambda: world.told(TokenRefreshFailed))
        (failure,) = world.told(TokenRefreshFailed)
        assert failure.error == "the token request did not end within 0.01 seconds"
        await world.clock.advance(0.5)
        assert world.fetcher.calls == 2


async def test_a_token_that_arrives_too_late_is_no_token() -> None:
    world = World()
    async with world.running():
        world.clock.skip(20.0)
        await world.fetcher.answer(10.0)
        assert world.generation is None
        assert world.told(TokenRefreshed) == []
        assert world.told(TokenRefreshFailed)[0].outcome == "invalid"


async def test_errors_are_kept_without_the_frames_they_came_through() -> None:
    """Frames hold the secret and the response."""
    world = World()
    world.fetcher.answers = [REFUSED]
    async with world.running():
        error = world.manager._state.error
        assert error is not None
        assert error.__traceback__ is None
        assert error.__context__ is None


async def test_an_observer_that_fails_stops_nothing() -> None:
    """It is reported to the loop's handler, which logs it; without the exception's text."""
    world = World()
    world.observer_fails = True
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with world.running():
        await world.fetcher.answer(1000.0)
        assert world.generation == 1
    assert [list(context) for context in told] == [["message"], ["message"]]
    assert "the observer of credential switch failed at token.refreshed" in told[1]["message"]
    assert SECRET not in str(told)


# --- the secret ----------------------------------------------------------------------------------------------------


async def test_a_token_that_is_not_valid_yet_does_not_replace_one_that_is() -> None:
    """Its nbf lies ahead: the API would refuse it until then."""
    world = World()
    world.fetcher.answers = [1000.0, 1000.0]
    async with world.running():
        world.fetcher.valid_in = 30.0
        await world.clock.advance(800.0)
        assert world.fetcher.calls == 2
        await world.clock.advance(29.0)
        assert world.generation == 1
        await world.clock.advance(1.0)
        assert world.generation == 2
        # Its life counts from its request.
        assert world.manager.status().expires_at == 1000.0 + 800.0 + 1000.0


async def test_a_token_that_is_not_valid_yet_is_used_when_the_other_ends() -> None:
    world = World()
    world.fetcher.answers = [1000.0, 1000.0]
    async with world.running():
        world.fetcher.valid_in = 1e9
        await world.clock.advance(989.0)
        assert world.generation == 1
        await world.clock.advance(1.0)
        assert world.generation == 2


async def test_a_token_that_is_not_valid_yet_is_used_if_there_is_no_other() -> None:
    world = World()
    world.fetcher.answers = [1000.0]
    world.fetcher.valid_in = 30.0
    async with world.running():
        assert world.generation == 1


async def test_what_is_odd_in_the_answers_is_told_once() -> None:
    world = World()
    world.fetcher.always = 1000.0
    world.fetcher.notes = ("the response has no token_type",)
    async with world.running():
        await world.clock.advance(810.0)
        world.fetcher.notes = ("the response has no token_type", "the granted scope lacks 'write'")
        await world.clock.advance(2000.0)
        assert world.fetcher.calls > 2
    assert [event.note for event in world.told(TokenNoted)] == [
        "the response has no token_type",
        "the granted scope lacks 'write'",
    ]


async def test_another_secret_is_tried_at_once_while_the_old_token_serves() -> None:
    world = World()
    world.fetcher.answers = [1000.0]
    async with world.running():
        world.source.put(Secret("second"))
        await world.clock.settle()
        assert world.fetcher.secrets == [SECRET, "second"]
        assert world.generation == 1
        await world.fetcher.answer(1000.0)
        assert world.generation == 2
    assert len(world.told(SecretLoaded)) == len(world.told(SecretReloaded)) == 1


async def test_another_secret_ends_the_slow_lane() -> None:
    world = World()
    world.fetcher.answers = [1000.0, REFUSED, 1000.0]
    async with world.running():
        await world.clock.advance(810.0)
        assert world.manager.status().phase == "backing_off"
        world.source.put(Secret("second"))
        await world.clock.settle()
        assert world.fetcher.secrets == [SECRET, SECRET, "second"]
        assert world.fetcher.began_at == [1000.0, 1800.0, 1810.0]
        assert world.generation == 2


async def test_a_refresh_tries_a_refused_credential_at_once() -> None:
    """With the same secret: what refused it may have been mended at the server."""
    world = World()
    world.fetcher.answers = [1000.0, REFUSED, 1000.0]
    async with world.running():
        await world.clock.advance(810.0)
        world.manager.refresh()
        await world.clock.settle()
        assert world.fetcher.began_at == [1000.0, 1800.0, 1810.0]
        assert world.generation == 2


async def test_a_refresh_reads_the_secret_again_and_tries_another_one() -> None:
    world = World()
    world.fetcher.answers = [1000.0, 1000.0]
    async with world.running():
        world.source.content = Secret("second")
        world.manager.refresh()
        await world.clock.settle()
        assert world.fetcher.secrets == [SECRET, "second"]


@pytest.mark.parametrize("answers", [[1000.0], [DOWN]], ids=["while all is well", "after an outage"])
async def test_a_refresh_costs_no_token_request_otherwise(answers: list[float | BaseException]) -> None:
    """Tokens are billed, and an outage is waited out."""
    world = World()
    world.fetcher.answers = answers
    async with world.running():
        world.manager.refresh()
        await world.clock.settle()
        assert world.fetcher.calls == 1


async def test_a_refresh_before_the_start_and_after_the_end_does_nothing() -> None:
    world = World()
    world.fetcher.always = REFUSED
    world.manager.refresh()
    async with world.running():
        pass
    world.manager.refresh()
    await world.clock.settle()
    assert world.fetcher.calls == 1


async def test_another_secret_during_a_fetch_causes_exactly_one_more() -> None:
    world = World()
    async with world.running():
        for secret in ("second", "third"):
            world.source.put(Secret(secret))
        await world.clock.settle()
        assert world.fetcher.secrets == [SECRET]
        await world.fetcher.answer(REFUSED)
        assert world.fetcher.secrets == [SECRET, "third"]
        await world.fetcher.answer(1000.0)
        assert world.fetcher.secrets == [SECRET, "third"]
        assert world.generation == 1


async def test_a_secret_that_is_missing_at_the_start_is_waited_for() -> None:
    """Nothing is sent; the reason names the file; its arrival ends the wait."""
    world = World(secret="no client secret: the file /secret does not exist")
    async with world.running():
        assert world.fetcher.calls == 0
        error = await world.refused(timeout=5)
        assert error.reason == "the last fetch failed: no client secret: the file /secret does not exist"
        assert error.retry_after == 67.5
        status = world.manager.status()
        assert status.secret_error == "no client secret: the file /secret does not exist"
        assert status.fetches == {"ok": 0, "no_secret": 1}
        await world.clock.advance(10.0)
        world.fetcher.always = 1000.0
        world.source.put(Secret("late"))
        await world.clock.settle()
        assert world.fetcher.secrets == ["late"]
        assert world.generation == 1
        assert world.manager.status().secret_error is None
    assert world.told(SecretLoaded) == [SecretLoaded(credential="switch", source="the file /secret")]
    assert world.told(SecretReloaded) == []


async def test_a_secret_that_breaks_later_stays_in_use() -> None:
    world = World()
    world.fetcher.always = 1000.0
    async with world.running():
        world.source.put("no client secret: the file /secret is empty")
        await world.clock.settle()
        assert world.manager.status().secret_error == "no client secret: the file /secret is empty"
        await world.clock.advance(800.0)
        assert world.fetcher.secrets == [SECRET, SECRET]
        world.source.put(Secret(SECRET))
        await world.clock.settle()
        assert world.manager.status().secret_error is None
    assert world.fetcher.calls == 2
    assert world.told(SecretBroken) == [
        SecretBroken(
            credential="switch",
            source="the file /secret",
            error="no client secret: the file /secret is empty",
            has_last_good=True,
        )
    ]
    assert world.told(SecretRestored) == [SecretRestored(credential="switch", source="the file /secret")]


async def test_a_secret_that_no_server_has_accepted_is_not_called_good() -> None:
    """Neither the first one nor one that came later; the previous secret counts as long as it may be tried."""
    world = World()
    world.fetcher.answers = [WRONG, 1000.0, WRONG, WRONG, 1000.0]
    readings: list[Secret | str] = [
        "it is gone",
        Secret("accepted"),
        "it is gone again",
        Secret("refused"),
        "and once more",
        Secret("refused too"),
        "with a previous one",
    ]
    async with world.running():
        for reading in readings:
            if reading == Secret("refused too"):
                world.source.other = Secret("previous")
            world.source.put(reading)
            await world.clock.settle()
        assert world.fetcher.secrets == [SECRET, "accepted", "refused", "refused too", "previous"]
    assert [(event.error, event.has_last_good) for event in world.told(SecretBroken)] == [
        ("it is gone", False),
        ("it is gone again", True),
        ("and once more", False),
        ("with a previous one", True),
    ]


async def test_a_watch_that_fails_stops_nothing() -> None:
    """The token is refreshed as before, and the watch taken up again after a while."""
    world = World()
    world.fetcher.always = 1000.0
    async with world.running():
        world.source.put(RuntimeError(f"cannot start a thread for {SECRET}"))
        world.source.put(Secret("second"))
        await world.clock.settle()
        (broken,) = world.told(SecretBroken)
        assert "the file /secret was not read because of an unexpected RuntimeError" in broken.error
        assert broken.has_last_good is True
        await world.clock.advance(59.9)
        assert world.fetcher.secrets == [SECRET]
        await world.clock.advance(0.1)
        assert world.fetcher.secrets == [SECRET, "second"]
        await world.clock.advance(800.0)
        assert world.fetcher.calls == 3
    assert SECRET not in broken.error


# --- lives of all lengths ------------------------------------------------------------------------------------------


async def test_lives_that_shrink_from_one_fetch_to_the_next_are_followed() -> None:
    """Each token is replaced by its own life: of ten years (held to be 30 days by then), an hour, a minute, a second."""
    world = World()
    lives = [2_592_000.0, 3600.0, 60.0, 1.0, 1.0]
    world.fetcher.answers = [*lives]
    world.fetcher.always = 3600.0
    async with world.running():
        for number, life in enumerate(lives, start=1):
            assert world.generation == number
            await world.clock.advance(0.8 * life - 0.001)
            assert world.fetcher.calls == number
            await world.clock.advance(0.001)
        assert world.generation == 6
    gaps = [later - earlier for earlier, later in itertools.pairwise(world.fetcher.began_at)]
    assert gaps == pytest.approx([0.8 * life for life in lives])


# --- two secrets ---------------------------------------------------------------------------------------------------


WRONG = TokenRequestRefusedError("the client is refused", is_about_client=True)


async def test_the_previous_secret_is_tried_in_the_same_fetch_when_the_first_is_refused() -> None:
    """No request notices; log and status tell until the first is taken."""
    world = World()
    world.source.other = Secret("previous")
    world.fetcher.answers = [WRONG, 1000.0, WRONG, 1000.0, 1000.0]
    async with world.running():
        assert world.generation == 1
        assert world.manager.status().uses_previous_secret
        await world.clock.advance(800.0)
        assert world.fetcher.secrets == [SECRET, "previous"] * 2
        assert world.manager.status().consecutive_failures == 0
        await world.clock.advance(800.0)
        assert world.fetcher.secrets == [SECRET, "previous"] * 2 + [SECRET]
        assert not world.manager.status().uses_previous_secret
    told = [(event.source, event.error, event.is_first_occurrence) for event in world.told(SecretRefused)]
    assert told == [
        ("the file /secret", "the client is refused", True),
        ("the file /secret", "the client is refused", False),
    ]


async def test_secrets_that_are_both_refused_take_turns() -> None:
    """Two calls at the first refusal, one at each try of the slow lane; the error is the first one's."""
    world = World()
    world.source.other = Secret("previous")
    world.fetcher.answers = [WRONG, TokenRequestRefusedError("the previous one too", is_about_client=True)]
    world.fetcher.always = WRONG
    async with world.running():
        assert world.manager.status().last_error == "the client is refused"
        await world.clock.advance(600.0)
        assert world.fetcher.secrets == [SECRET, "previous", SECRET, "previous", SECRET]
        assert world.manager.status().fetches == {"ok": 0, "refused": 4}


@pytest.mark.parametrize("error", [DOWN, REFUSED], ids=["an outage", "a scope that is refused"])
async def test_the_previous_secret_is_for_a_refused_client_alone(error: TokenFetchError) -> None:
    world = World()
    world.source.other = Secret("previous")
    world.fetcher.answers = [error]
    async with world.running():
        assert world.fetcher.secrets == [SECRET]


async def test_a_secret_is_read_anew_for_each_fetch() -> None:
    """An assertion may have been replaced a moment ago, before the next look at its file."""
    world = World()
    world.fetcher.always = 1000.0
    async with world.running():
        world.source.content = Secret("second")
        await world.clock.advance(800.0)
        assert world.fetcher.secrets == [SECRET, "second"]
        await world.clock.settle()
        # The change that the fetch itself has read causes no other fetch.
        assert world.fetcher.calls == 2
    assert len(world.told(SecretLoaded)) == len(world.told(SecretReloaded)) == 1


async def test_a_source_that_cannot_be_read_at_a_fetch_leaves_the_last_good_secret_in_use() -> None:
    world = World()
    world.fetcher.always = 1000.0
    async with world.running():
        world.source.content = RuntimeError("no threads left")
        await world.clock.advance(800.0)
        assert world.fetcher.secrets == [SECRET, SECRET]


# --- the window of a rotation --------------------------------------------------------------------------------------


async def test_the_status_says_since_when_the_client_is_refused_and_what_is_awaited() -> None:
    """Also through an outage in between; a success ends it."""
    world = World()
    world.fetcher.answers = [1000.0, WRONG, DOWN, 1000.0]
    async with world.running():
        assert world.manager.status().refused_since is None
        await world.clock.advance(800.0)
        status = world.manager.status()
        assert (status.refused_since, status.usable_until) == (1800.0, 1990.0)
        assert status.remedy == "another content of the file /secret"
        await world.clock.advance(67.5)
        assert world.manager.status().last_error == "the token endpoint is down"
        assert world.manager.status().refused_since == 1800.0
        await world.clock.advance(60.0)
        assert world.generation == 2
        assert world.manager.status().refused_since is None
    told = [(event.refused_for, event.remedy) for event in world.told(TokenRefreshFailed)]
    assert told == [(0.0, "another content of the file /secret"), (67.5, "another content of the file /secret")]


# --- 401 -----------------------------------------------------------------------------------------------------------


async def test_a_rejected_token_is_replaced_once_for_all_who_met_the_refusal() -> None:
    world = World()
    world.fetcher.answers = [1000.0]
    async with world.running(), asyncio.TaskGroup() as tasks:
        requests = []
        for _ in range(100):
            world.manager.reject(1)
            requests.append(tasks.create_task(world.manager.acquire(5, newer_than=1)))
        await world.clock.settle()
        assert world.fetcher.calls == 2
        # Others are served in the meantime: the API may have refused only that one request.
        assert world.generation == 1
        await world.fetcher.answer(1000.0)
    assert {request.result().generation for request in requests} == {2}
    assert world.fetcher.calls == 2


async def test_who_met_the_refusal_of_a_token_that_has_been_replaced_gets_the_new_one_at_once() -> None:
    world = World()
    world.fetcher.always = 1000.0
    async with world.running():
        await world.clock.advance(800.0)
        world.manager.reject(1)
        assert (await world.manager.acquire(0, newer_than=1)).generation == 2
    assert world.fetcher.calls == 2


async def test_who_met_a_refusal_within_the_interval_is_told_that_no_other_token_will_come() -> None:
    """The 401 is then passed on; all others get the token."""
    world = World(min_forced_refresh_interval=30.0)
    world.fetcher.always = 1000.0
    async with world.running():
        world.manager.reject(1)
        await world.clock.settle()
        assert world.generation == 2
        await world.clock.advance(29.0)
        world.manager.reject(2)
        error = await world.refused(timeout=5, newer_than=2)
        assert error.retry_after == 1.0
        assert "refused the newest token" in error.reason
        assert world.generation == 2
        await world.clock.advance(1.0)
        world.manager.reject(2)
        assert (await world.manager.acquire(5, newer_than=2)).generation == 3
    assert world.fetcher.calls == 3


async def test_a_forced_fetch_that_fails_leaves_the_rejected_token_in_use() -> None:
    world = World()
    world.fetcher.answers = [1000.0, DOWN]
    async with world.running():
        world.manager.reject(1)
        assert "the token endpoint is down" in (await world.refused(timeout=5, newer_than=1)).reason
        assert world.generation == 1


async def test_a_rejection_before_the_start_and_after_the_end_does_nothing() -> None:
    world = World()
    world.manager.reject(1)
    world.fetcher.always = 1000.0
    async with world.running():
        pass
    world.manager.reject(1)
    assert world.fetcher.calls == 1


# --- the end -------------------------------------------------------------------------------------------------------


async def test_who_waits_at_the_end_is_told() -> None:
    world = World()
    async with world.running():
        request = asyncio.get_running_loop().create_task(world.manager.acquire(5))
        await world.clock.settle()
    with pytest.raises(TokenUnavailableError, match="the proxy is shutting down"):
        await request
    assert world.fetcher.cancelled == 1
    assert world.told(TokenRefreshFailed) == []


async def test_a_token_serves_beyond_the_end() -> None:
    """Requests that are in flight still may need it."""
    world = World()
    world.fetcher.always = 1000.0
    async with world.running():
        pass
    assert world.generation == 1
    assert (await world.manager.acquire(0)).generation == 1
    world.clock.skip(990.0)
    assert "shutting down" in (await world.refused()).reason


async def test_tasks_do_not_pile_up() -> None:
    """However long it runs: the loop of the secret, and a timer or a fetch."""
    world = World()
    world.fetcher.always = 10.0
    async with world.running():
        before = len(asyncio.all_tasks())
        await world.clock.advance(2000.0)
        assert world.fetcher.calls == 251
        assert len(asyncio.all_tasks()) == before


# --- reports -------------------------------------------------------------------------------------------------------


async def test_its_repr_says_how_it_is() -> None:
    world = World()
    assert repr(world.manager) == "<TokenManager switch ABSENT gen=0 refresh_in=0s failures=0>"
    async with world.running():
        world.clock.skip(2.0)
        assert repr(world.manager) == "<TokenManager switch ABSENT gen=0 fetching_for=2s failures=0>"
        await world.fetcher.answer(1000.0)
        world.clock.skip(584.0)
        assert repr(world.manager) == "<TokenManager switch FRESH gen=1 refresh_in=214s failures=0>"
        world.fetcher.always = REFUSED
        await world.clock.advance(214.0)
        assert repr(world.manager) == "<TokenManager switch STALE gen=1 refresh_in=68s failures=1>"
    assert repr(world.manager) == "<TokenManager switch STALE gen=1 stopped failures=1>"


async def test_the_status_counts_fetches_by_their_outcome() -> None:
    world = World()
    world.fetcher.answers = [DOWN, REFUSED, TokenResponseInvalidError("HTML"), ValueError(), 1000.0, 1000.0]
    async with world.running():
        await world.clock.advance(1000.0)
        status = world.manager.status()
    assert status.fetches == {"ok": 2, "unavailable": 1, "refused": 1, "invalid": 1, "unexpected": 1}
    assert (status.name, status.freshness, status.generation) == ("switch", Freshness.FRESH, 2)
    assert status.last_error is None


async def test_the_status_counts_tokens_that_were_issued_those_included_that_could_not_be_used() -> None:
    world = World()
    unusable = TokenResponseInvalidError("what?", may_have_cost_token=True)
    world.fetcher.answers = [unusable, 1000.0, DOWN, TokenResponseInvalidError("a page")]
    async with world.running():
        await world.clock.advance(900.0)
    assert world.manager.status().tokens_issued == 2


async def test_neither_secret_nor_token_is_in_anything_that_is_told() -> None:
    """Events, status, errors and reprs, through a life with every kind of failure."""
    world = World()
    world.fetcher.answers = [1000.0, REFUSED, DOWN, ValueError(SECRET), TokenResponseInvalidError("HTML"), 1000.0]
    shown: list[str] = []
    async with world.running():
        for _ in range(40):
            await world.clock.advance(97.0)
            shown += [repr(world.manager), repr(world.manager.status()), repr(world.manager.peek())]
            error = await world.refused(timeout=0.001, newer_than=99)
            # Without the test's own frame, which knows everything.
            stack = None if error.__traceback__ is None else error.__traceback__.tb_next
            told = traceback.TracebackException(type(error), error, stack, capture_locals=True)
            shown += [repr(error), *told.format()]
        world.source.put("no client secret: the file /secret is empty")
        world.source.put(Secret("zebra-second"))
        await world.clock.settle()
    shown += [text for event in world.events for text in (repr(event), str(event))]
    assert {type(event) for event in world.events} >= {TokenRefreshed, TokenRefreshFailed, SecretBroken}
    assert not [text for text in shown if "zebra" in text]


async def test_a_look_into_the_store_without_a_secret_is_no_attempt(tmp_path: Path) -> None:
    """It is every minute; the attempts are after one minute, two, four. A failed look does not count, and puts nothing off."""
    world = World(
        secret="no client secret: the file /secret does not exist",
        jitter=0.0,
        store=DirectoryStore(str(tmp_path / "tokens")),
    )
    async with world.running():
        failures = []
        for _ in range(8):
            failures.append(world.manager.status().consecutive_failures)
            await world.clock.advance(60.0)
        assert failures == [1, 2, 2, 3, 3, 3, 3, 4]


async def test_a_reading_that_is_cancelled_from_within_does_not_stop_the_fetches() -> None:
    world = World()
    world.fetcher.always = 1000.0
    async with world.running():
        assert world.generation == 1
        world.source.content = CancellingError()
        await world.clock.advance(800.0)
        assert world.generation == 2
