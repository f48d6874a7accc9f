"""What `make dist` refuses, and that the version is set in one place."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final

import pytest

import switch_proxy
from tests.docs.pages import ROOT
from tools.dist import (
    copy_sources,
    missing_from_sdist,
    one,
    same_bytes,
    source_date,
    tracked_files,
    wrong_in_wheel,
)
from tools.installation import ReleaseError, run, version

if TYPE_CHECKING:
    from pathlib import Path

TRACKED: Final = ["Makefile", "proxy/switch_proxy/__init__.py", "proxy/switch_proxy/core/lifecycle.py"]


def test_sdist_must_hold_all_that_git_has() -> None:
    """Members are in the folder of the version; setuptools may add files."""
    whole = ["switch_proxy-1/PKG-INFO", *(f"switch_proxy-1/{name}" for name in TRACKED)]

    assert missing_from_sdist(TRACKED, whole) == []
    assert missing_from_sdist(TRACKED, whole[:-1]) == ["proxy/switch_proxy/core/lifecycle.py"]


@pytest.mark.parametrize(
    ("members", "wrong"),
    [
        pytest.param([], [], id="the package"),
        pytest.param(["switch_proxy-1.dist-info/METADATA"], [], id="and what describes it"),
        pytest.param(["tests/test_oauth.py"], ["tests/test_oauth.py is too much"], id="with tests"),
        pytest.param(["switch_proxy/old.py"], ["switch_proxy/old.py is too much"], id="with what git does not have"),
    ],
)
def test_wheel_must_hold_the_package_and_nothing_else(members: list[str], wrong: list[str]) -> None:
    assert wrong_in_wheel(TRACKED, ["switch_proxy/__init__.py", "switch_proxy/core/lifecycle.py", *members]) == wrong


def test_wheel_must_not_lack_a_module() -> None:
    assert wrong_in_wheel(TRACKED, ["switch_proxy/__init__.py"]) == ["switch_proxy/core/lifecycle.py is missing"]


def test_wheels_that_differ_in_a_byte_are_not_the_same(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in "abc")
    for file, content in ((first, b"same"), (second, b"same"), (third, b"sane")):
        file.write_bytes(content)

    assert same_bytes(first, second)
    assert not same_bytes(first, third)


@pytest.mark.parametrize("count", [0, 2])
def test_a_build_makes_one_file_of_a_kind(tmp_path: Path, count: int) -> None:
    for number in range(count):
        (tmp_path / f"{number}.whl").touch()
    with pytest.raises(ReleaseError, match=rf"made {count} files of the form \*\.whl"):
        one(tmp_path, "*.whl")


def test_time_in_the_wheel_is_what_the_environment_says(tmp_path: Path) -> None:
    assert source_date(tmp_path, {"SOURCE_DATE_EPOCH": "1767225600"}) == 1767225600


def test_a_time_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="SOURCE_DATE_EPOCH is 'today'; write seconds since 1970"):
        source_date(tmp_path, {"SOURCE_DATE_EPOCH": "today"})


def test_releases_are_made_from_a_checkout(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"there is no \.git here"):
        tracked_files(tmp_path)


def test_copies_have_one_time_and_git_s_modes(tmp_path: Path) -> None:
    """Umask and file times of the checkout do not matter."""
    copy_sources(["README.md", ".ci/run"], tmp_path, modified_at=1767225600)

    copied = {name: (tmp_path / name).stat() for name in ("README.md", ".ci/run")}
    assert {status.st_mtime for status in copied.values()} == {1767225600}
    assert [status.st_mode & 0o777 for status in copied.values()] == [0o644, 0o755]


def test_a_command_that_fails_is_told_with_what_it_said() -> None:
    with pytest.raises(ReleaseError, match=r"failed \(3\):\nout\nerr"):
        run([sys.executable, "-c", "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(3)"])


def test_version_stands_in_one_place() -> None:
    """pyproject.toml, the command line and the release read it from the package."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert version() == switch_proxy.__version__
    assert 'version = { attr = "switch_proxy.__version__" }' in project
    assert switch_proxy.__version__ not in re.sub(r"[<>=]=[^\"]*", "", project)


def test_changelog_is_kept_as_it_says() -> None:
    """Unreleased comes first, then versions from new to old with their dates."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first, *released = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert first == "[Unreleased]"
    numbers = []
    for heading in released:
        found = re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - \d{4}-\d\d-\d\d", heading)
        assert found is not None, heading
        numbers.append(tuple(map(int, found.groups())))
    current = tuple(map(int, re.findall(r"[0-9]+", switch_proxy.__version__)[:3]))
    assert numbers == sorted(set(numbers), reverse=True)
    assert not numbers or numbers[0] <= current
    kinds = set(re.findall(r"^### (.+)$", text, flags=re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
