"""`${NAME}`, `${NAME:-default}` and `${NAME:+text}`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.config.interpolation import interpolate
from switch_proxy.core.errors import InvalidValueError

_ENVIRON = {"NAME": "value", "EMPTY": "", "NESTED": "${NAME}", "_2": "two"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        pytest.param("${NAME}", "value", id="name alone"),
        pytest.param("https://${NAME}.example/${_2}", "https://value.example/two", id="names within text"),
        pytest.param("${UNSET:-default}", "default", id="unset, with default"),
        pytest.param("${NAME:-default}", "value", id="set, with default"),
        pytest.param("${EMPTY:-default}", "default", id="empty, with default"),
        pytest.param("${EMPTY}", "", id="empty, without default"),
        pytest.param("${UNSET:-}", "", id="empty default"),
        pytest.param("${UNSET:-a:-b $c {d}", "a:-b $c {d", id="default ends at the first brace"),
        pytest.param("${NAME:+text}", "text", id="set, with text in its place"),
        pytest.param("${EMPTY:+text}", "", id="empty, with text in its place"),
        pytest.param("${UNSET:+text}", "", id="unset, with text in its place"),
        pytest.param("${NAME:+}", "", id="empty text in its place"),
        pytest.param("${NESTED}", "${NAME}", id="reference within a variable"),
        pytest.param("$${NAME}", "${NAME}", id="escaped"),
        pytest.param("$NAME $$ $ {NAME}", "$NAME $$ $ {NAME}", id="no reference"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_reference_is_replaced_as_a_shell_would(text: str, expanded: str) -> None:
    assert interpolate(text, _ENVIRON).text == expanded


def test_names_that_were_asked_for_are_told_even_where_the_default_was_taken() -> None:
    """Their values must not be shown, and whoever reads of a problem has to know where to look."""
    assert interpolate("${NAME}${UNSET:-x}${EMPTY:+x}", _ENVIRON).names == ("NAME", "UNSET", "EMPTY")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${UNSET}", "the environment variable UNSET, which is not set; set it, or write ${UNSET:-default}"),
        ("${UNSET}${OTHER}${UNSET}", "the environment variables UNSET and OTHER, which are not set; set them"),
    ],
)
def test_variable_that_is_unset_and_has_no_default_is_named(text: str, words: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        interpolate(text, _ENVIRON)
    assert words in caught.value.predicate


@pytest.mark.parametrize(
    "text",
    [
        "${",
        "${}",
        "${NAME",
        "${NA-ME}",
        "${1}",
        "${NAME-default}",
        "${NAME+x}",
        "${NAME:=x}",
        "${NAME:-${NAME}}",
        "${ NAME }",
        "a ${NAME} ${",
    ],
    ids=str,
)
def test_beginning_of_a_reference_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError, match=r"write \$\{NAME\} or \$\{NAME:-default\}"):
        interpolate(text, _ENVIRON)


@given(st.text())
def test_text_survives_when_its_references_are_escaped(text: str) -> None:
    assert interpolate(text.replace("${", "$${"), {}).text == text
