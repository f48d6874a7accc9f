"""The fixtures as users use them: plain functions, and a client that blocks."""

from __future__ import annotations

import gc
import json
import os
import random
import threading
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from switch_proxy.core.errors import ConfigurationError
from switch_proxy.demo.faults import Delay, Hang, Lifetime, Reset, Status
from switch_proxy.testing import CONFIGURATION, AuthorizationServer, BackgroundLoop, Proxy, SwitchAPI

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

METERS = "/api/meter?organizationId=1"
READINGS = "/api/readings"
POSTED = json.dumps(
    {
        "meters": [
            {
                "id": "1",
                "registers": [
                    {
                        "id": "7",
                        "values": [
                            {"timestamp": "2025-11-03T16:00:00Z", "periodTo": "2025-11-03T17:00:00Z", "value": 42}
                        ],
                    }
                ],
            }
        ]
    }
).encode()


def get(url: str) -> tuple[int, Any]:
    """Return status and content of a response, as an app without an HTTP library gets them."""
    return send(Request(url))


def post(url: str) -> tuple[int, Any]:
    return send(Request(url, data=POSTED, headers={"Content-Type": "application/json"}))


def send(request: Request) -> tuple[int, Any]:
    try:
        with urlopen(request, timeout=20) as response:
            status, body = response.status, response.read()
    except HTTPError as error:
        with error:
            status, body = error.code, error.read()
    return status, json.loads(body) if body else None


def eventually(predicate: Callable[[], object]) -> None:
    """Wait for a condition that another thread makes true."""
    deadline = time.monotonic() + 20  # noqa: TID251 - threads run in real time
    while not predicate():
        assert time.monotonic() < deadline, "it did not come true"  # noqa: TID251 - threads run in real time
        time.sleep(0.005)


# --- defaults ------------------------------------------------------------------------------------------------------


def test_app_reads_through_the_proxy(switch_proxy: Proxy, fake_switch_api: SwitchAPI) -> None:
    """The app knows one URL and no token; the API sees one."""
    status, meters = get(switch_proxy.url + METERS)

    assert status == HTTPStatus.OK
    assert meters
    [request] = fake_switch_api.requests
    assert request.target == METERS
    assert request.bearer_token is not None


def test_world_starts_with_one_token_fetched(
    switch_proxy: Proxy, fake_authorization_server: AuthorizationServer
) -> None:
    """A test can count from a known state."""
    assert switch_proxy.is_ready
    [token] = fake_authorization_server.issued
    assert fake_authorization_server.find(token.value) == token
    assert fake_authorization_server.introspect(token.value)["active"]
    assert [request.path for request in fake_authorization_server.requests] == ["/oauth/token"]


@pytest.mark.parametrize("turn", ["first", "second"])
def test_each_test_has_a_world_of_its_own(turn: str, switch_proxy: Proxy, fake_switch_api: SwitchAPI) -> None:
    """A test sees nothing of the one before it: no requests, no faults, no posted readings."""
    assert fake_switch_api.requests == ()
    assert fake_switch_api.faults.is_empty
    get(switch_proxy.url + METERS)
    fake_switch_api.faults.add(Status(code=500), times=None)


def test_admin_listener_is_there(switch_proxy: Proxy) -> None:
    with urlopen(switch_proxy.admin_url + "/metrics", timeout=20) as metrics:
        assert b"switch_proxy_" in metrics.read()


def test_requests_can_be_counted_from_anywhere(switch_proxy: Proxy, fake_switch_api: SwitchAPI) -> None:
    get(switch_proxy.url + METERS)
    fake_switch_api.forget_requests()
    get(switch_proxy.url + METERS)

    assert len(fake_switch_api.wait_for_requests(1)) == 1


def test_waiting_for_requests_that_do_not_come_says_how_many_there_were(fake_switch_api: SwitchAPI) -> None:
    with pytest.raises(TimeoutError, match=r"0 of 2 requests came within 0\.01 s"):
        fake_switch_api.wait_for_requests(2, within=0.01)


# --- misbehaviour --------------------------------------------------------------------------------------------------


def test_a_fault_is_met_by_the_next_request_alone(switch_proxy: Proxy, fake_switch_api: SwitchAPI) -> None:
    fake_switch_api.faults.add(Status(code=503, retry_after=7))

    assert [get(switch_proxy.url + METERS)[0] for _ in range(2)] == [503, 200]
    assert fake_switch_api.faults.is_empty


def test_a_fault_lasts_as_long_as_its_block(switch_proxy: Proxy, fake_switch_api: SwitchAPI) -> None:
    with fake_switch_api.faults.during(Status(code=500), method="GET"):
        assert get(switch_proxy.url + METERS)[0] == 500
        assert post(switch_proxy.url + READINGS)[0] == 204
    assert get(switch_proxy.url + METERS)[0] == 200


def test_faults_are_cleared(switch_proxy: Proxy, fake_switch_api: SwitchAPI) -> None:
    fake_switch_api.faults.add(Reset(), times=None)
    assert post(switch_proxy.url + READINGS)[0] == 502
    fake_switch_api.faults.clear()
    assert post(switch_proxy.url + READINGS)[0] == 204


def test_faults_that_cannot_go_together_are_refused_where_they_are_written(fake_switch_api: SwitchAPI) -> None:
    with pytest.raises(ValueError, match="cannot both happen"):
        fake_switch_api.faults.add(Reset(), Hang())
    assert "behaves" in repr(fake_switch_api.faults)


def test_an_outage_of_the_api_is_a_502_and_over_when_it_starts_again(
    switch_proxy: Proxy, fake_switch_api: SwitchAPI
) -> None:
    """On the same port."""
    fake_switch_api.stop()
    assert get(switch_proxy.url + METERS)[0] == 502
    fake_switch_api.start()
    assert get(switch_proxy.url + METERS)[0] == 200


def test_an_outage_of_the_authorization_server_is_not_noticed_while_the_token_lasts(
    switch_proxy: Proxy, fake_authorization_server: AuthorizationServer
) -> None:
    fake_authorization_server.stop()
    assert get(switch_proxy.url + METERS)[0] == 200


def test_an_app_meets_refused_connections_while_the_proxy_is_away(switch_proxy: Proxy) -> None:
    """The restarted fake has the same address."""
    url = switch_proxy.url
    switch_proxy.stop()
    with pytest.raises(URLError):
        get(url + METERS)
    assert not switch_proxy.is_ready
    switch_proxy.start()
    assert switch_proxy.url == url
    assert get(url + METERS)[0] == 200


def test_a_start_without_a_token_is_a_503_that_says_why(
    switch_proxy: Proxy, fake_authorization_server: AuthorizationServer
) -> None:
    """With is_awaited=False the fixture does not wait for the first token."""
    fake_authorization_server.faults.add(Status(code=503), times=None)
    switch_proxy.restart(is_awaited=False)

    status, problem = get(switch_proxy.url + METERS)

    assert status == 503
    assert "503" in problem["detail"]


def test_a_proxy_that_does_not_become_ready_says_what_is_missing(
    switch_proxy: Proxy, fake_authorization_server: AuthorizationServer
) -> None:
    fake_authorization_server.rotate_secret()
    switch_proxy.restart(is_awaited=False)

    with pytest.raises(TimeoutError, match=r"not ready after 0\.1 s: .*"):
        switch_proxy.wait_until_ready(within=0.1)


def test_a_rotated_secret_is_taken_up_from_its_file(
    switch_proxy: Proxy, fake_authorization_server: AuthorizationServer
) -> None:
    """The old secret stops working immediately; the proxy is not restarted."""
    secret = fake_authorization_server.rotate_secret()
    switch_proxy.secret_file.write_text(secret)
    switch_proxy.restart()

    assert fake_authorization_server.client_secret == secret
    assert len(fake_authorization_server.issued) == 2


def test_revoked_tokens_are_refused_by_the_api(
    switch_proxy: Proxy, fake_authorization_server: AuthorizationServer
) -> None:
    """The request bypasses the proxy, which would fetch another token."""
    [token] = fake_authorization_server.issued
    fake_authorization_server.revoke_all()

    assert fake_authorization_server.introspect(token.value) == {"active": False}


def test_short_lived_tokens_are_replaced_while_the_app_goes_on(
    switch_proxy: Proxy, fake_authorization_server: AuthorizationServer, fake_switch_api: SwitchAPI
) -> None:
    fake_authorization_server.lifetime = 2
    switch_proxy.restart()

    statuses = set()
    while len({request.bearer_token for request in fake_switch_api.requests}) < 3:
        statuses.add(get(switch_proxy.url + METERS)[0])

    assert statuses == {200}


def test_a_lifetime_of_one_token_is_a_fault_too(
    switch_proxy: Proxy, fake_authorization_server: AuthorizationServer
) -> None:
    fake_authorization_server.faults.add(Lifetime(seconds=77))
    switch_proxy.restart()

    token = fake_authorization_server.issued[-1]
    assert token.expires_at - token.issued_at == pytest.approx(77)


def test_a_quota_that_is_used_up_reaches_the_app_as_a_503_that_says_so(
    switch_proxy: Proxy, fake_authorization_server: AuthorizationServer
) -> None:
    """A proxy that holds a token goes on; a new one is told until when there is none."""
    fake_authorization_server.use_up_quota()
    assert get(switch_proxy.url + METERS)[0] == 200
    switch_proxy.restart(is_awaited=False)
    fake_authorization_server.wait_for_requests(2)

    with pytest.raises(TimeoutError, match=r"quota of tokens \(50 a day\) is used up until 00:00 UTC"):
        switch_proxy.wait_until_ready(within=0.2)
    status, body = get(switch_proxy.url + METERS)
    assert (status, "(50 a day) is used up until 00:00 UTC" in body["detail"]) == (503, True)

    fake_authorization_server.clock.advance(86400)
    switch_proxy.restart()
    assert get(switch_proxy.url + METERS)[0] == 200


def test_a_quota_that_is_counted_late_can_be_overrun(
    switch_proxy: Proxy, fake_authorization_server: AuthorizationServer
) -> None:
    """The proxy has taken one that counts, and takes twelve more that do not count yet."""
    fake_authorization_server.quota_lag = 3600.0
    for _ in range(12):
        switch_proxy.restart()
    assert len(fake_authorization_server.issued) == 13
    assert fake_authorization_server.quota_lag == 3600.0


# --- time ----------------------------------------------------------------------------------------------------------


def test_rate_limits_pass_without_waiting(switch_proxy: Proxy, fake_switch_api: SwitchAPI) -> None:
    """The fakes' clock jumps on `advance`; the sixth post within a second is refused."""
    fast = [post(switch_proxy.url + READINGS)[0] for _ in range(6)]
    fake_switch_api.clock.advance(1.0)

    assert (fast, post(switch_proxy.url + READINGS)[0]) == ([204] * 5 + [429], 204)


def test_the_fakes_clock_goes_on_only() -> None:
    with BackgroundLoop() as loop, pytest.raises(ValueError, match="cannot be set back"):
        AuthorizationServer(loop).clock.advance(-1.0)


def test_a_test_that_stops_time_stops_neither_fakes_nor_proxy(
    monkeypatch: pytest.MonkeyPatch, switch_proxy: Proxy, fake_switch_api: SwitchAPI
) -> None:
    """As libraries freeze time: in all threads."""
    for name in ("time", "monotonic"):
        monkeypatch.setattr(time, name, lambda: 0.0)
    fake_switch_api.faults.add(Delay(seconds=0.01))

    assert get(switch_proxy.url + METERS)[0] == 200


def test_random_numbers_of_a_test_are_not_drawn_by_the_proxy(request: pytest.FixtureRequest) -> None:
    """A seed gives the same numbers with and without a running proxy."""
    random.seed(5)
    state = random.getstate()
    proxy: Proxy = request.getfixturevalue("switch_proxy")
    proxy.restart()

    assert random.getstate() == state


# --- configuration -------------------------------------------------------------------------------------------------


class TestOverriddenConfiguration:
    """A fixture of the same name, in a class, a module or a conftest, is the configuration."""

    @pytest.fixture
    def switch_proxy_configuration(self) -> str:
        return """
        credentials:
          switch:
            token_url: ${SWITCH_TOKEN_URL}
            client_id: ${SWITCH_CLIENT_ID}
            client_secret: {file: "${SWITCH_CLIENT_SECRET_FILE}"}
            audience: ${SWITCH_AUDIENCE}
        routes:
          - {name: api, listen: "127.0.0.1:0", upstream: "${SWITCH_API_URL}", credential: switch}
          - {name: readings, listen: "127.0.0.1:0", upstream: "${SWITCH_API_URL}/api", credential: switch}
        admin: {listen: off}
        """

    def test_each_route_has_its_url(self, switch_proxy: Proxy, fake_switch_api: SwitchAPI) -> None:
        assert list(switch_proxy.urls) == ["api", "readings"]
        assert switch_proxy.url == switch_proxy.urls["api"]
        assert post(switch_proxy.urls["readings"] + "/readings")[0] == 204
        assert fake_switch_api.requests[-1].path == "/api/readings"

    def test_an_admin_listener_that_is_off_is_told(self, switch_proxy: Proxy) -> None:
        with pytest.raises(RuntimeError, match=r"admin\.listen: off"):
            _ = switch_proxy.admin_url


class TestSharedListener:
    """Each route on a shared listener has its own URL, and keeps it when the proxy restarts."""

    @pytest.fixture
    def switch_proxy_configuration(self) -> str:
        return """
        credentials:
          switch:
            token_url: ${SWITCH_TOKEN_URL}
            client_id: ${SWITCH_CLIENT_ID}
            client_secret: {file: "${SWITCH_CLIENT_SECRET_FILE}"}
            audience: ${SWITCH_AUDIENCE}
        listeners: {local: {listen: "127.0.0.1:0"}}
        routes:
          - {name: api, listener: local, upstream: "${SWITCH_API_URL}", credential: switch}
          - name: readings
            listener: local
            match: {path: /metered}
            strip_prefix: true
            upstream: ${SWITCH_API_URL}/api
            credential: switch
        admin: {listen: off}
        """

    def test_each_route_has_its_url(self, switch_proxy: Proxy, fake_switch_api: SwitchAPI) -> None:
        assert switch_proxy.urls["readings"] == switch_proxy.url + "/metered"
        assert post(switch_proxy.urls["readings"] + "/readings")[0] == 204
        assert fake_switch_api.requests[-1].path == "/api/readings"

    def test_the_urls_stay_when_the_proxy_starts_again(self, switch_proxy: Proxy) -> None:
        before = dict(switch_proxy.urls)
        switch_proxy.restart()
        assert switch_proxy.urls == before
        assert post(before["readings"] + "/readings")[0] == 204


def test_a_configuration_that_cannot_be_used_says_all_that_is_wrong(
    switch_background_loop: BackgroundLoop,
    fake_authorization_server: AuthorizationServer,
    fake_switch_api: SwitchAPI,
    tmp_path: Path,
) -> None:
    proxy = Proxy(
        switch_background_loop,
        fake_authorization_server,
        fake_switch_api,
        folder=tmp_path,
        configuration=CONFIGURATION.replace("audience", "audiance"),
    )
    with pytest.raises(ConfigurationError, match=r"switch_proxy_configuration:7:.*audiance"):
        proxy.start()
    assert repr(proxy) == "<Proxy stopped>"


def test_a_proxy_that_was_never_started_has_no_url(
    switch_background_loop: BackgroundLoop,
    fake_authorization_server: AuthorizationServer,
    fake_switch_api: SwitchAPI,
    tmp_path: Path,
) -> None:
    proxy = Proxy(switch_background_loop, fake_authorization_server, fake_switch_api, folder=tmp_path)
    with pytest.raises(RuntimeError, match="not been started"):
        _ = proxy.url


def test_a_proxy_is_started_once(switch_proxy: Proxy) -> None:
    with pytest.raises(RuntimeError, match="runs already"):
        switch_proxy.start()


# --- other ways in -------------------------------------------------------------------------------------------------


def test_an_authorization_server_of_ones_own_settings(switch_background_loop: BackgroundLoop, tmp_path: Path) -> None:
    """Without fixtures: unittest, or arguments that the fixtures do not have."""
    with (
        AuthorizationServer(switch_background_loop, client_id="mine", client_secret="made-up", lockout_after=1) as auth,
        SwitchAPI(switch_background_loop, auth, organizations=(1, 2)) as api,
        Proxy(switch_background_loop, auth, api, folder=tmp_path) as proxy,
    ):
        assert get(proxy.url + "/api/meter?organizationId=2")[0] == 200
        auth.rotate_secret()
        proxy.restart(is_awaited=False)
        eventually(lambda: len(auth.requests) == 2)
        secret = auth.client_secret
        proxy.secret_file.write_text(secret)
        proxy.restart(is_awaited=False)
        eventually(lambda: "many" in get(proxy.url + METERS)[1]["detail"])
        auth.unlock()
        proxy.restart()
        assert get(proxy.url + METERS)[0] == 200


def test_a_second_client_has_its_own_audience(fake_authorization_server: AuthorizationServer) -> None:
    secret = fake_authorization_server.add_client("vtn", audience="https://openadr.example.com")
    body = f"grant_type=client_credentials&client_id=vtn&client_secret={secret}&audience=https://openadr.example.com"
    status, answer = send(Request(fake_authorization_server.token_url, data=body.encode()))

    assert status == 200
    issued = fake_authorization_server.find(answer["access_token"])
    assert issued is not None
    assert issued.audience == "https://openadr.example.com"
    assert fake_authorization_server.microsoft_token_url.endswith("/oauth2/v2.0/token")


async def test_coroutines_use_the_same_fixtures(switch_proxy: Proxy, fake_switch_api: SwitchAPI) -> None:
    """They run on their own loop, whichever plugin made it."""
    import aiohttp  # noqa: PLC0415 - what this test's app uses

    fake_switch_api.faults.add(Status(code=503))
    async with aiohttp.ClientSession() as session:
        for expected in (503, 200):
            async with session.get(switch_proxy.url + METERS) as response:
                assert response.status == expected


def test_the_loop_is_not_called_from_itself(switch_background_loop: BackgroundLoop) -> None:
    """It would wait for itself forever."""
    with pytest.raises(RuntimeError, match="calls from other threads"):
        switch_background_loop.call(lambda: switch_background_loop.call(lambda: None))


def test_a_loop_that_has_ended_takes_no_calls() -> None:
    with BackgroundLoop() as loop:
        assert repr(loop) == "<BackgroundLoop runs>"
    with pytest.raises(RuntimeError, match="within its `with` block"):
        loop.call(lambda: None)
    assert repr(loop) == "<BackgroundLoop stopped>"


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """The numbers of threads and file descriptors are as before."""

    def there() -> tuple[int, int]:
        gc.collect()
        return threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - as in a shell

    def use() -> None:
        with (
            BackgroundLoop() as loop,
            AuthorizationServer(loop) as auth,
            SwitchAPI(loop, auth) as api,
            Proxy(loop, auth, api, folder=tmp_path) as proxy,
        ):
            api.faults.add(Hang())
            with pytest.raises(TimeoutError):
                urlopen(proxy.url + METERS, timeout=0.05)

    use()  # Some objects are made once and kept, for example by OpenSSL.
    before = there()
    use()
    eventually(lambda: there() == before)
