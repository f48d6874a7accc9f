"""The image's configuration and the Dockerfile fit the proxy and each other, and docs/kubernetes.md describes them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sysconfig
from importlib.metadata import requires
from typing import TYPE_CHECKING, Final

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from switch_proxy.cli import make_parser
from switch_proxy.core.errors import ConfigurationError
from switch_proxy.settings import parse
from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from switch_proxy.core.config.models import Settings

_CARRIED: Final = (ROOT / "docker" / "config.yaml").read_text(encoding="utf-8")
_DOCKERFILE: Final = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
_PAGE: Final = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
_REQUIRED: Final = {"SWITCH_TOKEN_URL": "https://login.example.com/oauth/token", "SWITCH_CLIENT_ID": "an-id"}


def carried(**environ: str) -> Settings:
    """Return the image's configuration with these variables and the required ones."""
    return parse(_CARRIED.encode(), source="docker/config.yaml", environ={**_REQUIRED, **environ})


def instructions(name: str) -> list[str]:
    """Return the arguments of each occurrence of an instruction in the Dockerfile."""
    return re.findall(rf"^(?:HEALTHCHECK .*)?{name} (.*)$", _DOCKERFILE, flags=re.MULTILINE)


# --- the configuration in the image --------------------------------------------------------------------------------


def test_variables_alone_suffice() -> None:
    settings = carried(SWITCH_CLIENT_SECRET="made-up", SWITCH_AUDIENCE="https://api.switchmarket.se")

    credential = settings.credentials["switch"]
    assert (credential.token_url, credential.client_id) == tuple(_REQUIRED.values())
    assert str(credential.client_secret) == "the environment variable SWITCH_CLIENT_SECRET"
    assert (credential.audience, credential.scope) == ("https://api.switchmarket.se", None)
    assert str(settings.routes[0].upstream) == "https://api.switchmarket.se"


def test_a_secret_from_a_file_needs_its_path_alone() -> None:
    source = carried(SWITCH_CLIENT_SECRET_FILE="/run/secret").credentials["switch"].client_secret

    assert str(source) == "the file /run/secret"


@pytest.mark.parametrize(
    "secret",
    [{}, {"SWITCH_CLIENT_SECRET": "made-up", "SWITCH_CLIENT_SECRET_FILE": "/run/secret"}],
    ids=["none", "both"],
)
def test_it_takes_one_secret(secret: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="client_secret"):
        carried(**secret)


def test_what_is_not_set_is_at_its_default() -> None:
    """The image's defaults are those of `switch-proxy run`."""
    text = """
    credentials: {switch: {token_url: "https://a.example", client_id: b, client_secret: {env: C}}}
    routes: [{name: switch-api, listen: "127.0.0.1:8080", upstream: "https://api.switchmarket.se", credential: switch}]
    """
    plain = parse(text.encode(), source="", environ={})

    settings = carried(SWITCH_CLIENT_SECRET="made-up")

    assert (settings.routes, settings.admin, settings.log, settings.shutdown) == (
        plain.routes,
        plain.admin,
        plain.log,
        plain.shutdown,
    )
    assert settings.token_store is not None
    assert not settings.token_store.is_on


def test_tokens_are_kept_in_a_directory_that_a_variable_names() -> None:
    store = carried(SWITCH_CLIENT_SECRET="made-up", SWITCH_PROXY_TOKEN_STORE_DIRECTORY="/tokens").token_store

    assert store is not None
    assert (store.is_on, store.directory) == (True, "/tokens")


def test_every_value_is_a_variable() -> None:
    """Everything except the names of the parts can be set from outside."""
    values = re.findall(r"^\s*(?:- )?(\w+): (.+)$", _CARRIED, flags=re.MULTILINE)
    fixed = {key: value for key, value in values if not value.startswith("${")}
    assert fixed == {"name": "switch-api", "credential": "switch"}


def test_every_variable_is_in_the_page_with_its_default_and_no_other() -> None:
    known = {
        name: f"`{default}`" if default else ""
        for name, default in re.findall(r"\$\{(\w+)(?::-([^}]*)|:\+\w+)?\}", _CARRIED)
    }
    rows = dict(re.findall(r"^\| `(SWITCH_\w+)` \| ([^|]*) \|", _PAGE, flags=re.MULTILINE))
    told = {name: default if default.startswith("`") else "" for name, default in rows.items()}
    assert told == known


# --- the Dockerfile ------------------------------------------------------------------------------------------------


def test_hadolint_finds_nothing_to_say() -> None:
    program = shutil.which("hadolint", path=sysconfig.get_path("scripts")) or shutil.which("hadolint")
    if program is None:
        pytest.skip("no hadolint here")
    told = subprocess.run([program, str(ROOT / "Dockerfile")], capture_output=True, text=True, timeout=60, check=False)
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_image_is_made_of_what_was_collected_and_of_no_base() -> None:
    """The base's shell, package manager and pip are not copied."""
    bases = [base.split()[0] for base in instructions("FROM")]
    assert bases == ["${BASE}", "scratch"]


def test_image_runs_the_proxy_as_a_user_who_is_not_root() -> None:
    (user,) = instructions("USER")
    assert re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", user)
    assert instructions("STOPSIGNAL") == ["SIGTERM"]


def test_commands_of_the_image_are_known_to_the_command_line() -> None:
    """Start and health check, each without a shell."""
    (entrypoint,) = instructions("ENTRYPOINT")
    assert yaml.safe_load(entrypoint) == ["switch-proxy"]
    health, start = (yaml.safe_load(command) for command in instructions("CMD"))
    assert make_parser().parse_args(health[1:]).command == "health"
    assert make_parser().parse_args(start).command == "run"


def test_image_is_installed_from_what_is_locked() -> None:
    """Each installation requires hashes and wheels, or uses nothing from outside."""
    installations = [command for command in re.split(r"&&|\n", _DOCKERFILE) if " install " in command]
    assert len(installations) == 3
    for command in installations:
        words = shlex.split(command)
        assert {"--require-hashes", "--only-binary"} <= set(words) or {"--no-index", "--no-deps"} <= set(words)


def test_what_the_image_is_made_of_is_let_through_to_the_builder() -> None:
    """.dockerignore keeps everything else out."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_through = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {word for command in instructions("COPY") if "--from" not in command for word in shlex.split(command)[:-1]}
    assert copied == let_through
    assert all((ROOT / name).exists() for name in copied)


_PYTHONS: Final = ("3.11.0", "3.11.2", "3.12.0", "3.13.0")
"""The oldest that is supported, that of Debian's stable release when this was written, and later ones."""


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-image.lock", "requirements-dev.lock"])
def test_lock_has_all_that_its_packages_need_on_every_supported_python(lock: str) -> None:
    """It is made with one Python, and pip refuses with hashes what is not in it."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    locked = {canonicalize_name(name) for name in re.findall(r"^([\w.-]+)==", text, flags=re.MULTILINE)}
    missing = {
        f"{name} needs {requirement} with Python {python}"
        for name in locked
        for requirement in map(Requirement, requires(name) or ())
        for python in _PYTHONS
        if requirement.marker is None or requirement.marker.evaluate(_environment(python))
        if canonicalize_name(requirement.name) not in locked
    }
    assert missing == set()


def _environment(python: str) -> dict[str, str]:
    """Return how a marker sees this Python on Linux, without extras."""
    return {
        "python_version": python.rpartition(".")[0],
        "python_full_version": python,
        "implementation_version": python,
        "extra": "",
    }
