"""docs/testing-your-app.md names every fixture and method, and its smaller examples run too."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from switch_proxy import testing
from switch_proxy.demo.auth_server import FakeAuthorizationServer
from switch_proxy.demo.switch_api import FakeSwitchAPI
from switch_proxy.testing import AuthorizationServer, Proxy, SwitchAPI
from tests.docs.pages import ROOT, blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAGE: Final = ROOT / "docs" / "testing-your-app.md"
_TEXT: Final = PAGE.read_text(encoding="utf-8")
_REFERENCE: Final = (ROOT / "docs" / "testing-against-the-fakes.md").read_text(encoding="utf-8")


def members(kind: type) -> Iterator[str]:
    return (name for name, _ in inspect.getmembers(kind) if not name.startswith("_"))


@pytest.mark.parametrize("name", sorted(members(Proxy)))
def test_everything_the_proxy_has_is_on_the_page(name: str) -> None:
    assert re.search(rf"`{name}\b", _TEXT)


@pytest.mark.parametrize("name", sorted({*members(AuthorizationServer), *members(SwitchAPI)}))
def test_everything_the_fakes_have_is_on_one_of_the_pages(name: str) -> None:
    """The page of the fakes has what both share, this page the rest."""
    assert re.search(rf"\b{name}\b", _TEXT + _REFERENCE)


@pytest.mark.parametrize(
    ("handed", "fake"),
    [(AuthorizationServer, FakeAuthorizationServer), (SwitchAPI, FakeSwitchAPI)],
    ids=["authorization server", "Switch API"],
)
def test_names_are_those_of_the_fakes_themselves(handed: type, fake: type) -> None:
    """Each name is on one of the two pages."""
    for name in set(members(handed)) - set(members(fake)):
        assert re.search(rf"`[\w.]*\b{name}\b", _TEXT)


@pytest.mark.parametrize("configuration", [testing.CONFIGURATION, *blocks(PAGE, "yaml")], ids=["default", "page"])
def test_configurations_work(configuration: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("world_of")(configuration)


@pytest.fixture
def world_of(
    switch_background_loop: testing.BackgroundLoop,
    fake_authorization_server: AuthorizationServer,
    fake_switch_api: SwitchAPI,
    tmp_path: Path,
) -> Callable[[str], None]:
    def start(configuration: str) -> None:
        arguments: dict[str, Any] = {"folder": tmp_path, "configuration": configuration}
        with Proxy(switch_background_loop, fake_authorization_server, fake_switch_api, **arguments) as proxy:
            assert proxy.is_ready

    return start


def test_the_example_without_pytest_runs(tmp_path: Path) -> None:
    """Unchanged, with the names that it uses from elsewhere."""
    _, _, example = blocks(PAGE, "python")
    sent: list[str] = []
    names = {
        **vars(testing),
        "temporary_folder": tmp_path,
        "send_reading": lambda url, _: sent.append(url),
    }
    exec(example, names)

    [url] = sent
    assert url.startswith("http://127.0.0.1:")
