"""A configuration file and the environment in, settings or all problems out."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from switch_proxy import settings as settings_module
from switch_proxy.core.addresses import Address
from switch_proxy.core.errors import ConfigurationError
from switch_proxy.core.schema.problem import render_path
from switch_proxy.settings import load, load_admin_address, parse

if TYPE_CHECKING:
    from pathlib import Path

_VALID = """\
credentials:
  switch:
    token_url: https://login.example.com/oauth/token
    client_id: ${SWITCH_CLIENT_ID}
    client_secret:
      file: /var/run/secrets/switch/client_secret
    audience: https://api.switchmarket.se
routes:
  - name: switch-api
    listen: 127.0.0.1:8080
    upstream: https://api.switchmarket.se
    credential: switch
"""

_ENVIRON = {"SWITCH_CLIENT_ID": "the-client"}

_SECRET = "hunter2-hunter2"


@pytest.fixture(params=["libyaml", "PyYAML's own"], autouse=True)
def _parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test with both of the parsers that PyYAML may come with."""
    loader = getattr(yaml, "CSafeLoader", None) if request.param == "libyaml" else yaml.SafeLoader
    if loader is None:
        pytest.skip("this PyYAML was built without libyaml")
    monkeypatch.setattr(settings_module, "_Loader", loader)


def _problems(text: str | bytes, environ: dict[str, str] | None = None) -> list[str]:
    content = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigurationError) as caught:
        parse(content, source="config.yaml", environ=_ENVIRON if environ is None else environ)
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(problem) for problem in caught.value.problems]


# --- files ---------------------------------------------------------------------------------------------------------


def test_file_is_read_with_its_variables_replaced(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(_VALID)
    read = load(path, _ENVIRON)
    assert read.credentials["switch"].client_id == "the-client"
    assert read.routes[0].listen == Address(host="127.0.0.1", port=8080)


def test_file_that_the_variable_names_is_read_where_none_is_given(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(_VALID)
    assert load(None, {**_ENVIRON, "SWITCH_PROXY_CONFIG": str(path)}) == load(path, _ENVIRON)


@pytest.mark.parametrize("environ", [{}, {"SWITCH_PROXY_CONFIG": ""}], ids=["unset", "empty"])
def test_no_file_named_is_an_error_that_tells_both_ways(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(None, environ)
    assert (
        str(caught.value)
        == "configuration: no file is named; give --config FILE, or set SWITCH_PROXY_CONFIG to the file"
    )


def test_file_that_is_not_there_is_told_of_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    with pytest.raises(ConfigurationError) as caught:
        load(path, {})
    assert str(caught.value) == f"{path}: there is no such file; check the path and the mount"


def test_directory_in_place_of_a_file_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a directory; name the file in it"):
        load(tmp_path, {})


def test_file_that_may_not_be_read_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(_VALID)
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read every file, nobody may not
    try:
        with pytest.raises(ConfigurationError, match="may not be read by this user"):
            load(path, {})
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000], ids=["zero byte", "too long"])
def test_name_that_no_file_can_have_is_told_of(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: "):
        load(tmp_path / name, {})


def test_file_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    """A device or a log named by mistake must not fill the memory."""
    path = tmp_path / "config.yaml"
    with path.open("wb") as file:
        file.truncate(1024 * 1024 + 1)
    with pytest.raises(ConfigurationError, match="is larger than 1 MiB"):
        load(path, {})


def test_byte_order_mark_is_passed_over() -> None:
    assert parse(b"\xef\xbb\xbf" + _VALID.encode(), source="f", environ=_ENVIRON).routes


# --- what is no configuration --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", "config.yaml: is empty; ", id="empty"),
        pytest.param("# a comment\n", "config.yaml: is empty; ", id="comment alone"),
        pytest.param("---\n", "config.yaml: is empty; ", id="document without content"),
        pytest.param("text", "config.yaml:1:1: must be keys with values", id="text alone"),
        pytest.param("\n- a\n", "config.yaml:2:1: must be keys with values", id="list"),
        pytest.param("a: [b\n", "breaks off inside braces or brackets", id="bracket left open"),
        pytest.param("a:\n\tb: c", "config.yaml:2:1: has a tab where YAML allows none; indent with spaces", id="tab"),
        pytest.param("a: b\n\tc: d", "config.yaml:2:1: has a tab where YAML allows none", id="tab below a value"),
        pytest.param(
            "a:\n  b: c\n  \td: e", "config.yaml:3:3: has a tab where YAML allows none", id="tab after blanks"
        ),
        pytest.param("a: @b", "config.yaml:1:4: begins with a character that YAML keeps for itself", id="at sign"),
        pytest.param("a: 'b\nc: d\n", "config.yaml:1:4: opens a quote that is never closed", id="quote left open"),
        pytest.param("a: b: c", "config.yaml:1:5: has a colon where no key can end", id="two colons"),
        pytest.param("a: b\nc\nd: e", "config.yaml:2:1: is not a key with a value", id="line without a colon"),
        pytest.param("a: b\n  c: d", "config.yaml:2:4: has a colon where no key can end", id="indented too far"),
        pytest.param(
            "a:\n    b: c\n  d: e", "config.yaml:3:3: does not fit what is above it", id="indented too little"
        ),
        pytest.param("{a: ${B}}", "config.yaml:1:6: breaks off inside braces or brackets", id="reference in braces"),
        pytest.param("a: *b", "config.yaml:1:4: is an alias (*) without an anchor", id="alias of nothing"),
        pytest.param(
            "a: &b [*b]", "config.yaml:1:8: is an alias (*) without an anchor", id="alias within its own anchor"
        ),
        pytest.param('a: "\\q"', "has an unknown escape", id="unknown escape"),
        pytest.param("a: !x!y z", "config.yaml:1:4: has a YAML tag", id="tag with an unknown handle"),
        pytest.param("a: b\n---\nc: d", "config.yaml:2:1: begins a second document (---)", id="two documents"),
        pytest.param("a: \x07", "config.yaml:1:4: has the character U+0007", id="control character"),
        pytest.param("[" * 100_000, "config.yaml:1:51: is nested too deeply", id="a hundred thousand brackets"),
        pytest.param("- " * 100_000, "config.yaml:1:101: is nested too deeply", id="a hundred thousand hyphens"),
    ],
)
def test_what_is_no_configuration_is_told_of_with_its_place(text: str, problem: str) -> None:
    (told,) = _problems(text)
    assert problem in told


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"\xff\xfea", "1:1"),
        (b"a: b\nc: \xff", "2:4"),
        ("ä: b\nc: ".encode() + b"\xc3", "2:4"),
        ("a: b".encode("utf-16"), "1:1"),
    ],
    ids=["first byte", "second line", "cut in a character", "UTF-16"],
)
def test_file_that_is_not_utf_8_is_told_of_where_it_stops_being_so(content: bytes, place: str) -> None:
    assert _problems(content) == [f"config.yaml:{place}: is not UTF-8 from here on; save the file as UTF-8"]


# --- places --------------------------------------------------------------------------------------------------------


def test_all_problems_are_told_in_the_order_of_the_file() -> None:
    text = """\
credentials:
  switch:
    token_url: http://login.example.com/oauth/token
    client_id: ${UNSET_VARIABLE}
    client_secret: hunter2-hunter2
    audiense: x
routes:
  - name: a
    listen: 0.0.0.0:8080
    credential: swich
    timeouts: {connect: "${SLOW}"}
  - name: b
    name: c
    listen: 127.0.0.1:8080
    upstream: https://api.example.com
    credential: switch
log: {level: loud}
"""
    with pytest.raises(ConfigurationError) as caught:
        parse(text.encode(), source="config.yaml", environ={"SLOW": "not much"})
    assert [
        (problem.mark and (problem.mark.line, problem.mark.column), render_path(problem.path))
        for problem in caught.value.problems
    ] == [
        ((3, 16), "credentials.switch.token_url"),
        ((4, 16), "credentials.switch.client_id"),
        ((5, 20), "credentials.switch.client_secret"),
        ((6, 5), "credentials.switch.audiense"),
        ((8, 5), "routes[0].upstream"),
        ((9, 13), "routes[0].listen"),
        ((10, 17), "routes[0].credential"),
        ((11, 25), "routes[0].timeouts.connect"),
        ((13, 5), "routes[1].name"),
        ((14, 13), "routes[1].listen"),
        ((17, 14), "log.level"),
    ]
    assert str(caught.value.problems[1]) == (
        "config.yaml:4:16: credentials.switch.client_id: the value needs the environment variable UNSET_VARIABLE, which is "
        "not set; set it, or write ${UNSET_VARIABLE:-default}"
    )


def test_file_with_too_many_values_is_told_so_alone() -> None:
    """Not with the problems of its parts, which are many, and some follow from it."""
    content = "routes:\n" + "  - {name: a, nonsense: b}\n" * 4000
    with pytest.raises(ConfigurationError) as caught:
        parse(content.encode(), source="config.yaml", environ={})
    (problem,) = caught.value.problems
    assert "begins too many values: a configuration may have 10000" in str(problem)


def test_problem_in_an_alias_is_told_of_at_its_anchor_for_each_of_its_uses() -> None:
    text = _VALID + (
        "    timeouts: &timeouts {connect: 0}\n"
        "  - {name: b, listen: '127.0.0.1:81', upstream: https://b.example, credential: switch, timeouts: *timeouts}\n"
    )
    assert [problem.split(": ")[:2] for problem in _problems(text)] == [
        ["config.yaml:13:35", "routes[0].timeouts.connect"],
        ["config.yaml:13:35", "routes[1].timeouts.connect"],
    ]


def test_anchors_and_merge_keys_spare_repetition() -> None:
    text = _VALID + (
        "    timeouts: &timeouts {connect: 1s, idle: 2s}\n"
        "  - name: b\n    listen: 127.0.0.1:81\n    upstream: https://b.example\n    credential: switch\n"
        "    timeouts: {<<: *timeouts, idle: 3s}\n"
    )
    timeouts = parse(text.encode(), source="f", environ=_ENVIRON).routes[1].timeouts
    assert (timeouts.connect, timeouts.idle) == (1.0, 3.0)


@pytest.mark.parametrize("access", ["off", "'off'", "false"])
def test_word_off_is_off_however_it_is_written(access: str) -> None:
    assert parse(f"{_VALID}log: {{access: {access}}}".encode(), source="f", environ=_ENVIRON).log.access == "off"


def test_default_configuration_of_variables_alone_is_complete_with_an_environment() -> None:
    """The container image carries one like it, so that environment variables suffice."""
    text = """\
credentials:
  switch:
    token_url: ${TOKEN_URL}
    client_id: ${CLIENT_ID}
    client_secret: {file: "${SECRET_FILE:-}", env: "${SECRET_VARIABLE:-}"}
    audience: ${AUDIENCE:-}
    scope: ${SCOPE:-}
routes:
  - {name: api, listen: "${LISTEN:-127.0.0.1:8080}", upstream: "${UPSTREAM}", credential: switch, allow_plaintext: "${PLAINTEXT:-false}"}
"""
    environ = {
        "TOKEN_URL": "https://login.example.com/t",
        "CLIENT_ID": "0123",
        "SECRET_VARIABLE": "SECRET",
        "UPSTREAM": "https://a.example",
    }
    credential = parse(text.encode(), source="f", environ=environ).credentials["switch"]
    assert (credential.client_id, str(credential.client_secret)) == (
        "0123",
        "the environment variable SECRET",
    )
    assert (credential.audience, credential.scope) == (None, None)


# --- secrets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        f"client_secret: {_SECRET}",
        f"client_secret: '{_SECRET}",
        f"client_secret:{_SECRET}",
        f"client_secret: *{_SECRET}",
        f"client_secret: &{_SECRET}",
        f"client_secret: !{_SECRET}",
        f"client_secret: !{_SECRET}!x y",
        f"client_secret: @{_SECRET}",
        f"client_secret: %{_SECRET}",
        f"client_secret: |{_SECRET}",
        f"client_secret: {_SECRET}: x",
        f"client_secret: [{_SECRET}",
        f"client_secret: {{{_SECRET}}}",
        f"client_secret: {{value: {_SECRET}}}",
        f"client_secret: {{file: a, {_SECRET}: b}}",
        f"client_secret: {{env: '{_SECRET} '}}",
        f'client_secret: "\\{_SECRET}"',
        f"client_secret: ${{{_SECRET}}}",
        f"? {_SECRET}: x",
        f"{{client_secret:{_SECRET}}}",
        f"client_secret={_SECRET}: x",
        f"client_secret: |\n      {_SECRET}\n",
        "client_secret: ${THE_SECRET}",
        "client_secret: {env: '${THE_SECRET}!'}",
        "scope: ' ${THE_SECRET}'",
        'audience: "${THE_SECRET}\\n"',
        "timeout: ${THE_SECRET}",
        "allow_plaintext: ${THE_SECRET}",
        "token_url: https://x:${THE_SECRET}@a.example/",
    ],
)
def test_secret_that_stands_where_it_does_not_belong_is_refused_and_never_told(line: str) -> None:
    text = _VALID.replace("    client_secret:\n      file: /var/run/secrets/switch/client_secret\n", f"    {line}\n")
    told = "\n".join(_problems(text, {**_ENVIRON, "THE_SECRET": _SECRET}))
    assert _SECRET not in told


# --- properties ----------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_give_settings_or_a_configuration_error(content: bytes) -> None:
    with contextlib.suppress(ConfigurationError):
        parse(content, source="f", environ={})


_FRAGMENTS = [
    *"{}[]:,&*!|>'\"%@`#-?~<\n\t \\$",
    "${A}", "${A:-", "- ", ": ", "\n  ", "<<: ", "&a ", "*a", "credentials", "routes", "client_secret", "name", "!!str ", "---\n", "...\n", "\\U00110000",
]  # fmt: skip


@settings(max_examples=300)
@given(st.lists(st.sampled_from(_FRAGMENTS), max_size=25).map("".join))
def test_any_sequence_of_yaml_signs_gives_settings_or_a_configuration_error(text: str) -> None:
    with contextlib.suppress(ConfigurationError):
        parse(text.encode(), source="f", environ={"A": "b"})


@settings(max_examples=200)
@given(st.integers(0, len(_VALID) - 1), st.sampled_from([*_FRAGMENTS, ""]), st.integers(0, 10))
def test_valid_file_with_a_piece_exchanged_gives_settings_or_a_configuration_error(
    start: int, piece: str, length: int
) -> None:
    with contextlib.suppress(ConfigurationError):
        parse((_VALID[:start] + piece + _VALID[start + length :]).encode(), source="f", environ=_ENVIRON)


# --- the probe's part ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        pytest.param(_VALID, Address(host="127.0.0.1", port=9901), id="by default"),
        pytest.param("admin: {listen: '[::1]:1'}", Address(host="::1", port=1), id="written"),
        pytest.param("admin: {listen: '${A}'}", Address(host="127.0.0.1", port=2), id="from the environment"),
        pytest.param("admin: {listen: off}", None, id="off"),
        pytest.param("admin: {listen: null}", None, id="null"),
        pytest.param("admin:\nlog:\n  level: ${UNSET}", Address(host="127.0.0.1", port=9901), id="section of nothing"),
    ],
)
def test_admin_address_is_found_without_the_rest(tmp_path: Path, text: str, address: Address | None) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert load_admin_address(path, {"A": "127.0.0.1:2"}) == address


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("admin: {listen: 9901}", "config.yaml:1:17: admin.listen: the value is not host:port"),
        (
            "admin: {listen: '${UNSET}'}",
            "config.yaml:1:17: admin.listen: the value needs the environment variable UNSET",
        ),
        ("admin: [", "breaks off inside braces or brackets"),
    ],
    ids=["port alone", "variable that is unset", "no YAML"],
)
def test_admin_address_that_cannot_be_found_is_an_error(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_admin_address(path, {})
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "value", ["socks5://egress:1080", "http://", "egress:eighty", "http://[egress:80", "http://egress:0"]
)
def test_egress_proxy_that_cannot_be_used_is_a_problem_of_the_configuration(value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(_VALID.encode(), source="config.yaml", environ={**_ENVIRON, "HTTPS_PROXY": value})
    [problem] = caught.value.problems
    assert str(problem).startswith(
        "the environment: the value of HTTPS_PROXY is not the address of an HTTP proxy; write"
    )


def test_egress_proxy_that_nothing_goes_through_is_not_looked_at() -> None:
    parse(
        _VALID.encode(), source="config.yaml", environ={**_ENVIRON, "HTTPS_PROXY": "socks5://egress", "NO_PROXY": "*"}
    )


def test_password_in_an_egress_proxy_that_cannot_be_used_is_not_told() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(
            _VALID.encode(),
            source="config.yaml",
            environ={**_ENVIRON, "HTTPS_PROXY": "socks5://user:hunter2@egress:1080"},
        )
    assert "hunter2" not in str(caught.value)


def test_problem_of_a_listener_that_routes_share_is_told_with_its_place() -> None:
    text = _VALID.replace("listen: 127.0.0.1:8080", "listener: locl\n    match: {path: switch}")
    assert _problems(f"listeners: {{local: {{listen: '127.0.0.1:8080'}}}}\n{text}") == [
        "config.yaml:1:13: listeners.local: is used by no route; write listener: local in one, or remove it",
        'config.yaml:11:15: routes[0].listener: "locl" names no listener; did you mean "local"?',
        (
            'config.yaml:12:19: routes[0].match.path: "switch" does not begin with a slash; write a path such as '
            "/switch/"
        ),
    ]
