from __future__ import annotations

import pytest
from processes import inherited_environment
from run import chosen

ITEMS = {"small-plain": 1, "small-tls": 2, "streams-tls": 3}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param("all", [1, 2, 3], id="all"),
        pytest.param("streams-tls,small-plain", [1, 3], id="in their own order"),
        pytest.param("small-*", [1, 2], id="a prefix"),
        pytest.param("small-*,small-tls", [1, 2], id="each once"),
    ],
)
def test_names_choose_items(names: str, expected: list[int]) -> None:
    assert chosen(names, ITEMS) == expected


@pytest.mark.parametrize("names", ["large", "small", "x*", "small-plain,large"])
def test_a_name_that_none_has_is_an_error(names: str) -> None:
    with pytest.raises(KeyError):
        chosen(names, ITEMS)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("PYTHONDONTWRITEBYTECODE", id="every start would compile anew"),
        pytest.param("LD_PRELOAD", id="another allocator"),
        pytest.param("MALLOC_ARENA_MAX", id="other memory"),
        pytest.param("https_proxy", id="a detour"),
        pytest.param("HTTPS_PROXY", id="a detour, loudly"),
        pytest.param("SWITCH_PROXY_CONFIG", id="another configuration"),
    ],
)
def test_what_changes_how_a_program_works_is_not_inherited(name: str) -> None:
    assert inherited_environment({"PATH": "/bin", name: "1"}) == {"PATH": "/bin"}
