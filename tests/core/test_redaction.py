"""The last line of defence: known secrets in any spelling, and what has the shape of one, never pass."""

from __future__ import annotations

import base64
import json
import pickle
from time import process_time
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from switch_proxy.core.redaction import MASK, Redactor, find_repeated
from switch_proxy.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = 'wK9"x\\é/+ 27'
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhcHAifQ.c2lnbmF0dXJl-_"


def knowing(*values: str) -> Redactor:
    redactor = Redactor()
    for number, value in enumerate(values):
        redactor.learn(f"source {number}", Secret(value))
    return redactor


@pytest.mark.parametrize(
    "spell",
    [
        pytest.param(str, id="as it is"),
        pytest.param(json.dumps, id="in JSON"),
        pytest.param(lambda text: json.dumps(text, ensure_ascii=False), id="in JSON beyond ASCII"),
        pytest.param(repr, id="printed by Python"),
        pytest.param(lambda text: quote(text, safe=""), id="in a URL"),
        pytest.param(quote_plus, id="in a form"),
    ],
)
@pytest.mark.parametrize("secret", [SECRET, "plain-secret-of-letters"])
def test_a_known_secret_is_masked_however_it_is_spelled(secret: str, spell: Callable[[str], str]) -> None:
    spelled = spell(secret).strip("\"'")
    assert knowing(secret).redact(f"before {spelled} after") == f"before {MASK} after"


@given(st.text(min_size=6), st.text(max_size=20), st.text(max_size=20))
def test_nothing_of_a_known_secret_is_left_in_any_text(secret: str, before: str, after: str) -> None:
    redacted = knowing(secret).redact(before + secret + after)
    assert secret not in redacted.replace(MASK, "")


@given(st.text(alphabet="ab", min_size=6, max_size=9), st.text(alphabet="ab", min_size=6, max_size=9))
@example("aaaaaa", "baaaaaab")
def test_of_two_secrets_that_overlap_the_longer_is_masked_whole(one: str, other: str) -> None:
    longer = max(one, other, key=len)
    assert knowing(one, other).redact(f"<{longer}>") == f"<{MASK}>"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        pytest.param(f"token {JWT} was refused", f"token {MASK} was refused", id="a JWT"),
        pytest.param("eyJhbGciOi.A.B.C.D=", f"{MASK}=", id="an encrypted JWT"),
        pytest.param(f"v1.app-{JWT}", f"v1.app-{MASK}", id="a JWT behind other words"),
        pytest.param(f"{JWT}/{JWT}", f"{MASK}/{MASK}", id="two JWTs"),
        pytest.param("eyJhbGciOi.A.B.C.D.eyJhbGciOi.E.x", f"{MASK}.{MASK}", id="two JWTs with a dot between"),
        pytest.param("Authorization: Bearer abcdefghij0123.-_~+/==", f"Authorization: Bearer {MASK}", id="bearer"),
        pytest.param("authorization: bearer  abcdefghij0123", f"authorization: bearer {MASK}", id="in lower case"),
        pytest.param("Basic YXBwOnNlY3JldA==", f"Basic {MASK}", id="basic"),
        pytest.param("id=a&client_secret=s%2B1&x=y", f"id=a&client_secret={MASK}&x=y", id="a form"),
        pytest.param("CLIENT_SECRET=hunter2", f"CLIENT_SECRET={MASK}", id="a variable"),
        pytest.param('{"access_token":"abc","n":1}', f'{{"access_token":"{MASK}","n":1}}', id="JSON"),
        pytest.param('{"access_token": "a\\"b", "n": 1}', f'{{"access_token": "{MASK}", "n": 1}}', id="with quotes"),
        pytest.param('{"access_token":"abc', f'{{"access_token":"{MASK}', id="JSON cut short"),
        pytest.param("{'client_secret': 'abc'}", f"{{'client_secret': '{MASK}'}}", id="a dictionary"),
        pytest.param('"{\\"access_token\\": \\"abc\\"}"', f'"{{\\"access_token\\": \\"{MASK}\\"}}"', id="JSON in JSON"),
        pytest.param(
            "x -----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY----- y", f"x {MASK} y", id="a key"
        ),
        pytest.param("-----BEGIN PRIVATE KEY-----\nMII", MASK, id="a key cut short"),
        pytest.param("via http://user:pass@proxy:3128/", f"via http://{MASK}@proxy:3128/", id="a URL's user"),
    ],
)
def test_what_has_the_shape_of_a_secret_is_masked_though_it_is_not_known(text: str, redacted: str) -> None:
    assert Redactor().redact(text) == redacted
    assert Redactor().redact(redacted) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "the Bearer token is missing",
        "client_secret_basic is not supported",
        "write client_secret: {file: …}",
        "GET /api/readings?registerId=1 at http://127.0.0.1:8080/a@b",
        "token_type is not bearer",
        "expires_in=3600",
    ],
)
def test_prose_about_secrets_is_left_alone(text: str) -> None:
    assert Redactor().redact(text) == text


SECRET_IN_PARTS = "s3cr3t-ß-of-the-client"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        pytest.param("/a/s3cr3t-ß…", "/a/[redacted]…", id="eight characters of it"),
        pytest.param("/a/s3cr3t-ß-of-the-clien…", "/a/[redacted]…", id="all but one"),
        pytest.param("/s3cr3t-ß-x/s3cr3t-ß-of…", "/s3cr3t-ß-x/[redacted]…", id="behind what only looks like it"),
        pytest.param("/a/s3cr3t-%C3%9F-of-the…", "/a/[redacted]…", id="in an escaped form"),
        pytest.param("s3cr3t-ß-of…", "[redacted]…", id="nothing else"),
        pytest.param("/a/s3cr3t-…", "/a/s3cr3t-…", id="seven characters tell nothing"),
        pytest.param("/a/s3cr3t-ß-of", "/a/s3cr3t-ß-of", id="not cut"),
        pytest.param("/a/s3cr3t-ß-or…", "/a/s3cr3t-ß-or…", id="another word"),
    ],
)
def test_of_a_secret_that_was_cut_off_with_its_text_the_beginning_is_masked(text: str, redacted: str) -> None:
    assert knowing(SECRET_IN_PARTS).redact(text) == redacted


def test_a_value_too_short_to_be_a_secret_does_not_blot_out_words() -> None:
    assert knowing("is").redact("this is it") == "this is it"


def test_the_latest_values_of_each_source_are_remembered() -> None:
    """A token that has been replaced may still be used, and told of; one from long ago is not searched for."""
    redactor = Redactor()
    for number in range(5):
        redactor.learn("access token", Secret(f"token-number-{number}"))
    redactor.learn("client secret", Secret("secret-of-the-client"))
    told = "token-number-1 token-number-2 token-number-3 token-number-4 secret-of-the-client"
    assert redactor.redact(told) == f"token-number-1 {MASK} {MASK} {MASK} {MASK}"


def test_the_quick_look_finds_a_known_secret_in_rendered_lines() -> None:
    redactor = knowing(SECRET)
    assert redactor.knows_any_in(b'{"path":' + json.dumps(f"/{SECRET}").encode() + b"}\n")
    assert redactor.knows_any_in(quote(SECRET, safe="").encode())
    assert not redactor.knows_any_in(b'{"path":"/api/readings"}\n')


def test_a_line_stays_json_with_all_else_as_it_was() -> None:
    line = json.dumps({"path": f"/a/{SECRET}", "status": 200, "upstream_duration": None}).encode()
    assert json.loads(knowing(SECRET).redact_json_line(line)) == {
        "path": f"/a/{MASK}",
        "status": 200,
        "upstream_duration": None,
    }


class Opaque:
    def __repr__(self) -> str:
        return f"<Opaque {SECRET}>"


def test_values_are_redacted_wherever_they_are_nested() -> None:
    value = {"list": [SECRET, (SECRET,)], SECRET: SECRET.encode(), "object": Opaque(), "number": 1.5, "none": None}
    assert knowing(SECRET).redact_value(value) == {
        "list": [MASK, [MASK]],
        MASK: MASK,
        "object": f"<Opaque {MASK}>",
        "number": 1.5,
        "none": None,
    }


@pytest.mark.parametrize("name", ["access_token", "client_secret", "Password"])
def test_a_field_that_is_named_as_a_secret_is_masked_whatever_its_value(name: str) -> None:
    assert Redactor().redact_value({name: ["abc"]}) == {name: MASK}
    assert Redactor().redact_field(name, 5) == MASK


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_numbers_that_json_has_no_form_for_become_text(number: float) -> None:
    assert Redactor().redact_value(number) == str(number)


def test_the_quick_look_knows_a_long_token_by_its_end() -> None:
    redactor = knowing("x" * 1000 + "-its-own-end")
    assert redactor.knows_any_in(b"before " + b"x" * 1000 + b"-its-own-end after")
    assert not redactor.knows_any_in(b"x" * 1000)


def test_neither_its_repr_nor_a_pickle_shows_anything() -> None:
    redactor = knowing(SECRET)
    assert SECRET not in repr(redactor)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(redactor)


def test_a_value_that_is_learned_again_takes_no_place_of_another() -> None:
    redactor = Redactor()
    for value in ("the-first-secret", *["the-second-secret"] * 10):
        redactor.learn("client secret", Secret(value))
    assert redactor.redact("the-first-secret") == MASK


# --- somebody else's words -----------------------------------------------------------------------------------------

_LONG = "kT9-zebra-Quilt_42.vortex"


def repeats(text: str, secret: Secret) -> bool:
    return find_repeated(text, [secret]) is not None


@given(before=st.binary(max_size=5), after=st.binary(max_size=5), is_quoted=st.booleans())
def test_a_secret_within_something_in_base64_is_found(before: bytes, after: bytes, *, is_quoted: bool) -> None:
    """A Basic credential has the client's id before it, form-encoded or not."""
    value = quote(_LONG, safe="") if is_quoted else _LONG
    assert repeats(base64.b64encode(before + value.encode() + after).decode(), Secret(_LONG))


@given(start=st.integers(0, len(_LONG) - 8), before=st.text(max_size=5), after=st.text(max_size=5))
def test_eight_characters_of_a_secret_are_found_in_any_case(start: int, before: str, after: str) -> None:
    assert repeats(f"{before}{_LONG[start : start + 8].upper()}{after}", Secret(_LONG))


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        pytest.param("unknown client", _LONG, id="other words"),
        pytest.param(_LONG[:7], _LONG, id="seven characters"),
        pytest.param("any words", "", id="no secret"),
    ],
)
def test_what_repeats_no_secret_may_be_shown(text: str, secret: str) -> None:
    assert not repeats(text, Secret(secret))


@pytest.mark.parametrize("secret", ["z", "zq7", "zq7-ab"])
def test_a_secret_that_is_short_is_found_whole(secret: str) -> None:
    assert repeats(f"not {secret}", Secret(secret))


@given(text=st.text(), secret=st.text(min_size=1))
def test_any_secret_is_found_in_any_text_around_it(text: str, secret: str) -> None:
    assert repeats(text + secret + text, Secret(secret))


def test_the_secret_that_is_repeated_is_the_one_returned() -> None:
    first, second = Secret("a-first-secret"), Secret("the-other-one")
    assert find_repeated("not the-other-one", [first, second]) is second
    assert find_repeated("neither", [first, second]) is None


def test_known_values_are_those_that_are_masked() -> None:
    redactor = Redactor()
    redactor.learn("token", Secret('a "quoted" token'))
    redactor.learn("secret", Secret("another-secret"))
    redactor.learn("short", Secret("short"))
    assert redactor.known_values() == (Secret('a "quoted" token'), Secret("another-secret"))


HOSTILE = [
    *("eyJ", "eyJaaaaaa", "-eyJaaaaaa", "eyJaaaaaa.", "a.", "."),
    *("bearer ", "bearer aaaaaaaaaaaa", "basic", "password", "password=", 'password"', "password\\", 'password" '),
    *('password":', 'password": ', 'password":"', 'password":\\"', 'password":"\\', "password':'"),
    *("-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "-----", "PRIVATE KEY"),
    *("://", "://a:", "://a:a", "a:", "@", " ", "\\", '"'),
]


@pytest.mark.parametrize("before", ["", "bearer", 'password"', 'password":', "-----BEGIN ", "://a", "://a:", "eyJ"])
@pytest.mark.parametrize("unit", HOSTILE)
def test_any_text_is_searched_in_time_that_grows_with_its_length(before: str, unit: str) -> None:
    """What a client sends is searched in the event loop: 80 times the largest path must not take a quarter of a second."""
    text = before + unit * (160_000 // len(unit))
    begun_at = process_time()
    Redactor().redact(text)
    assert process_time() - begun_at < 0.25
