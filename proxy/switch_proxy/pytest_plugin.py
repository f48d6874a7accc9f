"""
pytest's fixtures for users' own tests: the fakes, and the real proxy before them, fresh for each test on free ports.

pytest loads this in every run where switch-proxy is installed, so it imports nothing, adds no option and changes
nothing until a test asks for a fixture. docs/testing-your-app.md is about them.
"""

# ruff: noqa: PLC0415 - what a fixture needs is imported by the first test that asks for it

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from switch_proxy.testing import AuthorizationServer, BackgroundLoop, Proxy, SwitchAPI


@pytest.fixture(scope="session")
def switch_background_loop() -> Iterator[BackgroundLoop]:
    """The event loop, in a thread of its own, that the fakes and the proxy run on; one for all tests."""
    from switch_proxy.testing import BackgroundLoop

    with BackgroundLoop() as loop:
        yield loop


@pytest.fixture
def fake_authorization_server(switch_background_loop: BackgroundLoop) -> Iterator[AuthorizationServer]:
    """A running fake authorization server: `token_url`, `faults`, `requests`, `issued`, `rotate_secret()` and more."""
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
    """The proxy's configuration in YAML, to be overridden; variables as SWITCH_API_URL are set to the fakes'."""
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
    """The real proxy before both fakes, with its first token: `url`, `admin_url`, `stop()`, `restart()` and more."""
    from switch_proxy.testing import Proxy

    with Proxy(
        switch_background_loop,
        fake_authorization_server,
        fake_switch_api,
        folder=tmp_path_factory.mktemp("switch-proxy"),
        configuration=switch_proxy_configuration,
    ) as proxy:
        yield proxy
