"""docs/testing-against-the-fakes.md: its example runs, and it names everything."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from switch_proxy.demo import faults
from switch_proxy.demo.auth_server import FakeAuthorizationServer
from switch_proxy.demo.messages import ReceivedRequest
from switch_proxy.demo.switch_api import FakeSwitchAPI, _Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[2] / "docs" / "testing-against-the-fakes.md").read_text(encoding="utf-8")


def members_of(kind: type) -> Iterator[str]:
    return (name for name, _ in inspect.getmembers(kind) if not name.startswith("_"))


def test_the_complete_example_passes_as_a_test_of_its_own(tmp_path: Path) -> None:
    """The last block of the page, saved as a test."""
    [*_, example] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "test_send_reading.py"
    file.write_text(example, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, str(file)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout


@pytest.mark.parametrize(
    "fault", [*get_args(faults.Fault), *get_args(faults.TokenFault)], ids=lambda kind: kind.__name__
)
def test_every_fault_stands_in_the_table_with_its_arguments(fault: type) -> None:
    """An undocumented fault is not used."""
    arguments = ", ".join(f"{name}=" for name in inspect.signature(fault).parameters)

    assert f"`{fault.__name__}({arguments})`" in PAGE


@pytest.mark.parametrize("server", [FakeAuthorizationServer, FakeSwitchAPI], ids=lambda kind: kind.__name__)
def test_every_argument_of_the_fakes_is_named(server: type) -> None:
    """The arguments are in the order of the signature."""
    arguments = ", ".join(f"{name}=" for name in inspect.signature(server).parameters)

    assert f"`{server.__name__}({arguments})`" in " ".join(PAGE.split())


@pytest.mark.parametrize("name", sorted({*members_of(FakeAuthorizationServer), *members_of(FakeSwitchAPI)}))
def test_every_public_name_of_the_fakes_is_mentioned(name: str) -> None:
    """A reader needs no other page."""
    assert re.search(rf"\b{name}\b", PAGE)


@pytest.mark.parametrize(
    "endpoint", FakeSwitchAPI(introspect=lambda _: {})._endpoints, ids=lambda it: f"{it.method} {it.path.pattern}"
)
def test_every_endpoint_stands_in_the_table(endpoint: _Endpoint) -> None:
    """Method and path, as in the API's reference."""
    path = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", endpoint.path.pattern)

    assert f"| `{endpoint.method} {path}` |" in PAGE


def test_the_attributes_of_a_recorded_request_are_mentioned() -> None:
    """Those that a test would assert on."""
    for name in ("method", "target", "fields", "body", "bearer_token", "parameters", "peer", "is_complete"):
        assert name in dir(ReceivedRequest)
        assert f"`{name}`" in PAGE
