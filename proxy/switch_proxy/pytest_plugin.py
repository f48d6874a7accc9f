"""
Fixtures for users' own tests: the fakes, and the real proxy in front of them, new for each test and on free ports.

pytest loads this plugin in every run if switch-proxy is installed, so it imports nothing, adds no option and changes
nothing until a test uses a fixture. docs/testing-your-app.md describes the fixtures.
"""

# ruff: noqa: PLC0415 - a fixture's imports are made by the first test that uses it

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from switch_proxy.testing import AuthorizationServer, BackgroundLoop, Proxy, SwitchAPI


@pytest.fixture(scope="session")
def switch_background_loop() -> Iterator[BackgroundLoop]:
    """The event loop on which the fakes and the proxy run, in its own thread; one for all tests."""
    from switch_proxy.testing import BackgroundLoop

    with BackgroundLoop() as loop:
        yield loop


@pytest.fixture
def fake_authorization_server(switch_background_loop: BackgroundLoop) -> Iterator[AuthorizationServer]:
    """A running fake authorization server: `token_url`, `faults`, `requests`, `issued`, `use_up_quota()` and more."""
    from switch_proxy.testing import AuthorizationServer

    with AuthorizationServer(switch_background_loop) as server:
        yield server


@pytest.fixture
def fake_switch_api(
    switch_background_loop: BackgroundLoop, fake_authorization_server: AuthorizationServer
) -> Iterator[SwitchAPI]:
    """A running fake Switch API: `url`, `faults`, `requests`, `wait_for_requests(count)` and more."""
    from switch_proxy.testing import SwitchAPI

    with SwitchAPI(switch_background_loop, fake_authorization_server) as api:
        yield api


@pytest.fixture
def switch_proxy_configuration() -> str:
    """The proxy's configuration in YAML, to be overridden; variables such as SWITCH_API_URL point to the fakes."""
    from switch_proxy.testing import CONFIGURATION

    return CONFIGURATION


@pytest.fixture
def switch_proxy(
    switch_background_loop: BackgroundLoop,
    fake_authorization_server: AuthorizationServer,
    fake_switch_api: SwitchAPI,
    switch_proxy_configuration: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Proxy]:
    """The real proxy in front of both fakes, with its first token: `url`, `admin_url`, `stop()`, `restart()` and more."""
    from switch_proxy.testing import Proxy

    with Proxy(
        switch_background_loop,
        fake_authorization_server,
        fake_switch_api,
        folder=tmp_path_factory.mktemp("switch-proxy"),
        configuration=switch_proxy_configuration,
    ) as proxy:
        yield proxy
