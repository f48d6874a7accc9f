"""
Text that must not be shown: client secrets, access tokens, assertions.

A `Secret` is masked wherever it may appear by accident: `repr`, `str`, `format`, f-strings, tracebacks with locals. It
cannot be pickled, and is compared in constant time. `reveal()` is the only way to the value, and easy to search for.

Secrets are read from sources (files, environment variables) that may break while the proxy runs; the last good secret
stays in use. proxy/switch_proxy/tokens/sources.py reads them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest
from typing import Final, NoReturn, SupportsIndex, TypeAlias, final

from switch_proxy.core.errors import SecretUnavailableError
from switch_proxy.core.jwt_claims import read_claims

MAX_SECRET: Final = 64 * 1024
"""Bytes that are read from a source, at most: real secrets have about 64, signed assertions a few thousand."""

Mask: TypeAlias = Callable[[str, "Secret"], None]
"""
Masks a secret in everything that is written from now on (core/redaction.py); the text says what it is an instance of. What
reads, fetches or makes a secret calls this before anything else has the secret.
"""

_INVISIBLE: Final = frozenset({"Zs", "Zl", "Zp", "Cf"})
"""Unicode's categories of blanks, and of characters that only affect others: no-break space, zero-width space, byte order mark."""

_MASK: Final = "[secret]"


@final
class Secret:
    """Holds a text that only `reveal()` returns."""

    __slots__ = ("_value",)
    _value: str

    def __init__(self, value: str) -> None:
        object.__setattr__(self, "_value", value)

    def reveal(self) -> str:
        """Return the text, which is then no longer masked."""
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return compare_digest(_encode(self._value), _encode(other._value))

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return f"Secret({_MASK})"

    def __str__(self) -> str:
        return _MASK

    def __format__(self, specification: str) -> str:
        return format(_MASK, specification)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Secret cannot be changed; make another")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a Secret cannot be changed; make another")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a Secret cannot be pickled: the pickle would hold it in the clear")


def _encode(value: str) -> bytes:
    # What came from the environment may hold lone surrogates (PEP 383).
    return value.encode("utf-8", "surrogatepass")


# --- sources -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchanged:
    """The source holds the secret that is in use, or is broken as before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """The source holds another secret, or the first one."""

    secret: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The source cannot be read, for another reason than before; the last good secret, if any, stays in use."""

    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The source can be read again, and holds the secret that was in use all the time."""


Outcome: TypeAlias = Unchanged | Changed | Broken | Restored
"""The outcome of reading a source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """The state of a source: the last good secret, and why it cannot be read now, or None."""

    last_good: Secret | None = None
    error: str | None = None

    def current(self, source: str) -> Secret:
        """Return the last good secret. Raises SecretUnavailableError, which names the `source`, if there never was one."""
        if self.last_good is not None:
            return self.last_good
        raise SecretUnavailableError(self.error or f"{source} has not been read yet")


def take_reading(state: SourceState, reading: Secret | str) -> tuple[SourceState, Outcome]:
    """
    Return the state after a reading, and the outcome.

    `reading` is a secret, or the reason why there is none; that never removes the last good secret.
    """
    if isinstance(reading, str):
        after = SourceState(last_good=state.last_good, error=reading)
        if reading == state.error:
            return after, Unchanged()
        return after, Broken(error=reading)
    after = SourceState(last_good=reading)
    if reading != state.last_good:
        return after, Changed(secret=reading)
    return after, Unchanged() if state.error is None else Restored()


def parse_secret(raw: bytes, *, source: str, shortest: int = 1, kind: str = "client secret") -> Secret:
    """
    Return the secret in the content of a source: all of it but one newline at its end.

    A content that cannot be a client secret (RFC 6749 §A.2: printable characters) is a mistake on its way into the source,
    and an error here is clearer than a refusal later. The same holds for fewer than `shortest` bytes. Raises
    SecretUnavailableError, which names the `source`; `kind` says what the secret is.
    """
    secret = _parse_line(raw, source=source, kind=kind)
    if len(_encode(secret.reveal())) < shortest:
        need = "an HS256 signature needs (RFC 7518 section 3.2)" if kind == "client secret" else "are needed"
        raise SecretUnavailableError(f"no {kind}: {source} holds fewer than the {shortest} bytes that {need}")
    return secret


def parse_assertion(raw: bytes, *, source: str) -> Secret:
    """Return the signed JWT in the content of a source, as parse_secret does. Raises SecretUnavailableError."""
    assertion = _parse_line(raw, source=source, kind="client assertion")
    if read_claims(assertion.reveal()) is None:
        raise SecretUnavailableError(f"no client assertion: {source} holds something else than a signed JWT (RFC 7519)")
    return assertion


def parse_pem(raw: bytes, *, source: str, kind: str) -> Secret:
    """
    Return a text of several lines, PEM or JSON, in the content of a source.

    `kind` is the expected kind, for the error. Raises SecretUnavailableError.
    """
    fault = find_text_fault(raw)
    if fault is not None:
        raise SecretUnavailableError(f"no {kind}: {source} {fault}")
    return Secret(raw.decode("utf-8"))


def _parse_line(raw: bytes, *, source: str, kind: str) -> Secret:
    for newline in (b"\r\n", b"\n"):
        if raw.endswith(newline):
            raw = raw.removesuffix(newline)
            break
    fault = find_text_fault(raw) or _find_fault_of_line(raw, kind)
    if fault is not None:
        raise SecretUnavailableError(f"no {kind}: {source} {fault}")
    return Secret(raw.decode("utf-8"))


def _find_fault_of_line(raw: bytes, kind: str) -> str | None:
    if b"\n" in raw or b"\r" in raw:
        return f"holds more than one line; it must hold the {kind.rpartition(' ')[2]} and nothing else"
    if any(byte < 0x20 or byte == 0x7F for byte in raw):  # noqa: PLR2004 - ASCII's control characters
        return f"holds control characters; it must hold the {kind.rpartition(' ')[2]} as text"
    return _find_invisible_end(raw.decode("utf-8"))


def _find_invisible_end(text: str) -> str | None:
    """Return what is wrong with a text whose first or last character cannot be seen: it came along when it was copied."""
    for place, character in (("begins", text[:1]), ("ends", text[-1:])):
        if character != " " and unicodedata.category(character) in _INVISIBLE:
            name = unicodedata.name(character, "a character without a name").lower()
            return f"{place} with an invisible character (U+{ord(character):04X}, {name}); remove it"
    return None


def find_text_fault(raw: bytes) -> str | None:
    """Return why bytes are not a text that may be a secret, as a predicate; None if they are."""
    if len(raw) > MAX_SECRET:
        return f"holds more than {MAX_SECRET // 1024} KiB"
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return "begins with a byte order mark; save it as plain UTF-8"
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return "is not UTF-8 text"
    return None if text.strip() else "is empty"
