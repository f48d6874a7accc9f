"""Text that must not be seen, and the sources it comes from."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import re
import traceback
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.errors import SecretUnavailableError
from switch_proxy.core.secret import (
    MAX_SECRET,
    Broken,
    Changed,
    Outcome,
    Restored,
    Secret,
    SourceState,
    Unchanged,
    parse_assertion,
    parse_pem,
    parse_secret,
    take_reading,
)

VALUE = "s3cr3t-v4lue-of-a-test"

SHOWINGS = {
    "repr": repr,
    "str": str,
    "an f-string": lambda secret: f"{secret}",
    "an f-string with a conversion": lambda secret: f"{secret!r:>40}",
    "an f-string with a width": lambda secret: f"{secret:>40}",
    "the old formatting": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
    "str.format": "{0} {0!s}".format,
    "a list": lambda secret: str([secret]),
    "a dataclass": lambda secret: repr(Changed(secret=secret)),
    "dataclasses.asdict": lambda secret: str(dataclasses.asdict(Changed(secret=secret))),
    "JSON with a fallback": lambda secret: json.dumps({"secret": secret}, default=str),
    "its directory": lambda secret: str(dir(secret)),
}


@pytest.mark.parametrize("show", SHOWINGS.values(), ids=SHOWINGS)
def test_a_secret_is_masked_wherever_it_lands(show: object) -> None:
    """Every ordinary way from a value to text shows a mask."""
    assert callable(show)
    assert VALUE not in show(Secret(VALUE))


def test_a_secret_is_masked_in_a_traceback_with_locals() -> None:
    """A traceback that shows locals, as some logging set-ups do, shows the mask."""

    def fail(secret: Secret) -> None:
        raise ValueError(secret)

    try:
        fail(Secret(VALUE))
    except ValueError as error:
        told = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "secret = Secret([secret])" in told
    assert "Secret(VALUE)" in told
    # The test's own global is named in the source line above, and is not a local.
    assert VALUE not in told


def test_reveal_gives_the_text() -> None:
    assert Secret(VALUE).reveal() == VALUE


@given(st.text(), st.text())
def test_secrets_are_equal_where_their_texts_are(one: str, other: str) -> None:
    """Equality and hash are those of the texts, whatever is in them."""
    assert (Secret(one) == Secret(other)) is (one == other)
    assert Secret(one) == Secret(one)
    assert hash(Secret(one)) == hash(Secret(one))


def test_secrets_with_lone_surrogates_can_be_compared() -> None:
    """What came from an environment that is not UTF-8 is compared like the rest."""
    assert Secret("\udc80") != Secret("\udc81")


def test_a_secret_is_not_equal_to_its_text() -> None:
    """A comparison with plain text is a mistake, and never true."""
    assert Secret(VALUE) != VALUE
    assert VALUE not in {Secret(VALUE): 1}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_cannot_be_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Secret(VALUE), protocol)


def test_a_secret_cannot_be_changed() -> None:
    secret = Secret(VALUE)
    with pytest.raises(AttributeError):
        secret._value = "other"
    with pytest.raises(AttributeError):
        del secret._value
    assert secret.reveal() == VALUE


def test_a_copy_of_a_secret_is_the_secret() -> None:
    """Copies are made by `dataclasses.asdict` and the like, which must not be stopped."""
    secret = Secret(VALUE)
    assert copy.copy(secret) is secret
    assert copy.deepcopy(secret) is secret


# --- what is read from a source ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        pytest.param(b"value", "value", id="the value alone"),
        pytest.param(b"value\n", "value", id="a newline at the end, as editors leave it"),
        pytest.param(b"value\r\n", "value", id="a newline of Windows at the end"),
        pytest.param(b" value ", " value ", id="spaces, which are part of it"),
        pytest.param("pässwörd".encode(), "pässwörd", id="letters beyond ASCII"),
        pytest.param(b"v" * MAX_SECRET, "v" * MAX_SECRET, id="the longest"),
    ],
)
def test_a_secret_is_what_the_source_holds_but_for_one_newline(raw: bytes, value: str) -> None:
    assert parse_secret(raw, source="the file x").reveal() == value


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        pytest.param(b"", "is empty", id="nothing"),
        pytest.param(b"\n", "is empty", id="a newline"),
        pytest.param(b" \t\r\n", "is empty", id="blanks"),
        pytest.param(b"value\n\n", "more than one line", id="two newlines at the end"),
        pytest.param(b"value\nother", "more than one line", id="two lines"),
        pytest.param(b"value\r", "more than one line", id="a carriage return at the end"),
        pytest.param(b"\xef\xbb\xbfvalue", "byte order mark", id="a byte order mark of UTF-8"),
        pytest.param("value".encode("utf-16"), "byte order mark", id="UTF-16"),
        pytest.param(b"val\x00ue", "control characters", id="a NUL"),
        pytest.param(b"val\tue", "control characters", id="a tab"),
        pytest.param(b"val\x7fue", "control characters", id="a DEL"),
        pytest.param(b"val\xffue", "not UTF-8", id="bytes that are no UTF-8"),
        pytest.param(b"v" * (MAX_SECRET + 1), "more than 64 KiB", id="a byte more than the longest"),
    ],
)
def test_what_cannot_be_a_secret_is_told_with_its_source_and_without_its_value(raw: bytes, fault: str) -> None:
    """A mistake on the way into the source is an error that names the source, and shows nothing of what is there."""
    with pytest.raises(SecretUnavailableError) as caught:
        parse_secret(raw, source="the file /var/run/secrets/x")
    assert str(caught.value).startswith("no client secret: the file /var/run/secrets/x ")
    assert fault in str(caught.value)
    assert "val" not in str(caught.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_secret_or_our_error(raw: bytes) -> None:
    """No content of a file makes another exception; a secret is one printable line."""
    try:
        value = parse_secret(raw, source="x").reveal()
    except SecretUnavailableError:
        return
    assert value.strip()
    assert not any(character < " " or character == "\x7f" for character in value)
    assert value.encode() == raw.removesuffix(b"\n").removesuffix(b"\r")


ASSERTION = b"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjIn0.c2ln"


@pytest.mark.parametrize("raw", [ASSERTION, ASSERTION + b"\n", ASSERTION + b"\r\n"])
def test_an_assertion_is_a_jwt_on_one_line(raw: bytes) -> None:
    assert parse_assertion(raw, source="the file x").reveal() == ASSERTION.decode()


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        pytest.param(b"", "is empty", id="nothing"),
        pytest.param(b"not yet", "something else than a signed JWT", id="text"),
        pytest.param(ASSERTION + b"." + ASSERTION, "something else than a signed JWT", id="parts too many"),
        pytest.param(ASSERTION + b"\n" + ASSERTION, "holds more than one line; it must hold the assertion", id="two"),
        pytest.param(b"\x00" + ASSERTION, "control characters; it must hold the assertion as text", id="a NUL"),
    ],
)
def test_what_cannot_be_an_assertion_is_told(raw: bytes, fault: str) -> None:
    with pytest.raises(SecretUnavailableError) as caught:
        parse_assertion(raw, source="the file x")
    assert str(caught.value).startswith("no client assertion: the file x ")
    assert fault in str(caught.value)


@given(st.binary(max_size=200) | st.just(ASSERTION))
def test_any_bytes_are_an_assertion_or_lines_or_our_error(raw: bytes) -> None:
    for parse in (parse_assertion, partial(parse_pem, kind="private key")):
        with suppress(SecretUnavailableError):
            assert parse(raw, source="x").reveal().strip()


ONE, OTHER = Secret("one"), Secret("other")


@pytest.mark.parametrize(
    ("readings", "outcome", "in_use"),
    [
        pytest.param([ONE], Changed(secret=ONE), ONE, id="the first"),
        pytest.param([ONE, ONE], Unchanged(), ONE, id="the same again"),
        pytest.param([ONE, OTHER], Changed(secret=OTHER), OTHER, id="another"),
        pytest.param(["gone"], Broken(error="gone"), None, id="broken from the start"),
        pytest.param([ONE, "gone"], Broken(error="gone"), ONE, id="broken later"),
        pytest.param([ONE, "gone", "gone"], Unchanged(), ONE, id="broken as before"),
        pytest.param([ONE, "gone", "empty"], Broken(error="empty"), ONE, id="broken for another reason"),
        pytest.param([ONE, "gone", ONE], Restored(), ONE, id="as it was before it broke"),
        pytest.param([ONE, "gone", OTHER], Changed(secret=OTHER), OTHER, id="another after it broke"),
        pytest.param(["gone", ONE], Changed(secret=ONE), ONE, id="there at last"),
    ],
)
def test_a_failed_reading_never_removes_the_last_good_secret(
    readings: list[Secret | str], outcome: Outcome, in_use: Secret | None
) -> None:
    """Each reading has one outcome, reported once; the last good secret stays in use until the next good one."""
    state = SourceState()
    for reading in readings:
        state, last = take_reading(state, reading)
    assert last == outcome
    assert state.last_good == in_use


def test_a_source_gives_its_last_good_secret_or_says_why_it_has_none() -> None:
    good = SourceState(last_good=Secret(VALUE), error="the file /s does not exist")
    assert good.current("the file /s") == Secret(VALUE)
    with pytest.raises(SecretUnavailableError, match=r"^the file /s is empty$"):
        SourceState(error="the file /s is empty").current("the file /s")
    with pytest.raises(SecretUnavailableError, match=r"^the file /s has not been read yet$"):
        SourceState().current("the file /s")


def test_a_secret_must_have_the_bytes_that_its_use_needs() -> None:
    """RFC 7518 §3.2: for HS256 as many as its hash; bytes count, not characters."""
    assert parse_secret(b"x" * 32, source="S", shortest=32).reveal() == "x" * 32
    assert parse_secret("é".encode() * 16, source="S", shortest=32).reveal() == "é" * 16
    with pytest.raises(SecretUnavailableError, match="S holds fewer than the 32 bytes"):
        parse_secret(b"x" * 31, source="S", shortest=32)


@pytest.mark.parametrize(
    ("character", "name"),
    [
        ("\u00a0", "U+00A0, no-break space"),
        ("\u200b", "U+200B, zero width space"),
        ("\ufeff", "U+FEFF, zero width no-break space"),
        ("\u3000", "U+3000, ideographic space"),
        ("\u2028", "U+2028, line separator"),
    ],
)
def test_an_invisible_character_at_an_end_is_refused_by_its_name(character: str, name: str) -> None:
    """It came along when the secret was copied, and nobody sees it."""
    with pytest.raises(SecretUnavailableError, match=rf"ends with an invisible character \({re.escape(name)}\)"):
        parse_secret(f"hunter2{character}\n".encode(), source="the file /s")
    with pytest.raises(SecretUnavailableError):
        parse_secret(f"{character}hunter2".encode(), source="the file /s")
    assert parse_secret(f"hun{character}ter2".encode(), source="the file /s").reveal() == f"hun{character}ter2"


def test_a_blank_at_an_end_is_a_part_of_the_secret() -> None:
    assert parse_secret(b" hunter2 ", source="the file /s").reveal() == " hunter2 "
