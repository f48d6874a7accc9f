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


def test_what_changes_an_interpreter_is_not_inherited() -> None:
    """With PYTHONDONTWRITEBYTECODE in the shell, every start would compile the proxy anew."""
    environ = {"PATH": "/bin", "PYTHONDONTWRITEBYTECODE": "1", "LD_PRELOAD": "x.so", "MALLOC_ARENA_MAX": "1"}
    assert inherited_environment(environ) == {"PATH": "/bin"}
