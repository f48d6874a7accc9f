"""
The log's last defence: masks known secrets, and text that looks like a secret.

It should never be needed. Secrets and tokens are held in `Secret`, which is masked wherever it is printed. This catches
secrets in a library's error text, a traceback or a path. Known values are found anywhere and in any escaped form. Text
that looks like a secret (a JWT, `client_secret=…`) is masked even if its value is unknown.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections import deque
from math import isfinite
from typing import TYPE_CHECKING, Final, NoReturn, SupportsIndex
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from switch_proxy.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK: Final = "[redacted]"

CUT: Final = "…"
"""At the end of a text that was cut before it was searched."""

_KEPT: Final = 3
"""
Values remembered for each source: the current one and those before it, because a token stays valid after it is replaced.
Few, because each costs a search through everything that is written.
"""

_SHORTEST: Final = 6
"""Characters. A shorter value would mask ordinary words, and can be guessed anyway."""

_PROBE: Final = 64
"""
Bytes from the end of a known value that the quick search looks for. A token ends in its signature, which is unique. For
a much longer text Python chooses a search method that is slower to start.
"""

_TELLING: Final = 8
"""A text that has this many characters in a row of a secret repeats it: a secret may be quoted in part."""

_NAMES: Final = "access_token|refresh_token|id_token|client_secret|client_assertion|assertion|password|passwd"

_NAME_OF_SECRET: Final = re.compile(_NAMES, re.IGNORECASE)

_ESCAPE: Final = re.compile(r"\\+(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2}))")
"""A character in JSON or Python, also if it was escaped more than once."""

_DOTTED: Final = re.compile(r"(?<![A-Za-z0-9_.-])[A-Za-z0-9_.-]++")
"""A run of the characters of JWTs. It begins where none of them precedes, so that each is looked at once."""

_BEGIN_OF_JWT: Final = re.compile(r"\beyJ[A-Za-z0-9_-]{6,}")

_MOST_PARTS_BEHIND: Final = 4


def _mask_jwts(run: re.Match[str]) -> str:
    """Mask a JWT, or the encrypted kind with five parts: base64url of `{"` is `eyJ` (RFC 7519 §3)."""
    if "eyJ" not in run[0] or "." not in run[0]:
        return run[0]
    parts = run[0].split(".")
    kept = []
    index = 0
    while index < len(parts):
        begin = _BEGIN_OF_JWT.search(parts[index]) if index < len(parts) - 1 else None
        if begin is None:
            kept.append(parts[index])
            index += 1
        else:
            kept.append(parts[index][: begin.start()] + MASK)
            index += 1 + _MOST_PARTS_BEHIND
    return ".".join(kept)


# Each takes time in step with the text's length, whatever the text is: a client's path and id are searched.
_SHAPES: Final = (
    (_DOTTED, _mask_jwts),
    # Authorization lines and quotes from them (RFC 6750 §2.1, RFC 7617 §2); short words are prose.
    (re.compile(r"\b(bearer|basic|dpop) +[A-Za-z0-9._~+/!-]{12,}=*", re.IGNORECASE), rf"\1 {MASK}"),
    # Form bodies and URLs.
    (re.compile(rf"\b({_NAMES})=[^&\s\"'\\;,)]+", re.IGNORECASE), rf"\1={MASK}"),
    # JSON and printed Python dictionaries, also if their quotes are escaped or they are cut short.
    (
        re.compile(
            rf"\b({_NAMES})(\\*[\"']\s*:\s*)(\\*[\"']).*?((?<!\\)\3|\Z)",
            re.IGNORECASE | re.DOTALL,
        ),
        rf"\1\2\3{MASK}\4",
    ),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), MASK),
    # User and password in a URL, for example of an egress proxy.
    (re.compile(r"(?<=://)[^/\s:@\"']+:[^/\s@\"']+@"), f"{MASK}@"),
)


class Redactor:
    """Masks the secrets that it has learned, and text that looks like a secret."""

    def __init__(self) -> None:
        self._known: dict[str, deque[tuple[Secret, ...]]] = {}
        self._needles: tuple[Secret, ...] = ()
        self._probes: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"<Redactor sources={len(self._known)}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a Redactor cannot be pickled: the pickle would hold the secrets in the clear")

    def learn(self, source: str, value: Secret) -> None:
        """Mask this value from now on. The latest few values of each `source` are kept."""
        text = value.reveal()
        if len(text) < _SHORTEST:
            return
        kept = self._known.setdefault(source, deque(maxlen=_KEPT))
        forms = tuple(map(Secret, _forms(text)))
        if forms not in kept:
            kept.append(forms)
            # The longest first: if one contains another, the whole of it must be masked.
            needles = {form.reveal() for values in self._known.values() for forms in values for form in forms}
            self._needles = tuple(map(Secret, sorted(needles, key=len, reverse=True)))
            probes = {_encode(needle)[-_PROBE:] for needle in needles}
            self._probes = tuple(sorted(probes))

    def known_values(self) -> tuple[Secret, ...]:
        """Return every known value as it is."""
        return tuple(forms[0] for values in self._known.values() for forms in values)

    def knows_any_in(self, written: bytes) -> bool:
        """Return whether these bytes may contain a known value; quick, for many lines at once."""
        return any(probe in written for probe in self._probes)

    def redact(self, text: str) -> str:
        """Return `text` with every known value, and all text that looks like a secret, masked."""
        for needle in self._needles:
            text = text.replace(needle.reveal(), MASK)
        if text.endswith(CUT):
            text = self._mask_cut_value(text)
        for shape, replacement in _SHAPES:
            text = shape.sub(replacement, text)
        return text

    def _mask_cut_value(self, text: str) -> str:
        """Mask a known value whose end was cut off, if eight characters or more of it are left."""
        kept = text.removesuffix(CUT)
        for needle in self._needles:
            value = needle.reveal()
            begin = value[:_TELLING]
            at = kept.find(begin, max(0, len(kept) - len(value)))
            while at >= 0:
                if value.startswith(kept[at:]):
                    return kept[:at] + MASK + CUT
                at = kept.find(begin, at + 1)
        return text

    def redact_field(self, name: str, value: object) -> object:
        """Return the value of a field, masked as a whole if the field's name says that it is a secret."""
        return MASK if value is not None and _NAME_OF_SECRET.fullmatch(name) else self.redact_value(value)

    def redact_value(self, value: object) -> object:
        """Return a value with all text in it redacted; objects of other types become text."""
        match value:
            case None | bool() | int():
                return value
            case float():
                # JSON has no form for infinity.
                return value if isfinite(value) else str(value)
            case str():
                return self.redact(value)
            case bytes() | bytearray():
                return self.redact(bytes(value).decode("utf-8", "backslashreplace"))
            case dict():
                return {self.redact(str(name)): self.redact_field(str(name), item) for name, item in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self.redact_value(item) for item in value]
            case _:
                return self.redact(repr(value))

    def redact_json_line(self, line: bytes) -> bytes:
        """Return a line, which is a JSON object, with all text in it redacted; it stays a JSON object."""
        fields: dict[str, object] = json.loads(line)
        redacted = {name: self.redact_field(name, value) for name, value in fields.items()}
        return json.dumps(redacted, separators=(",", ":")).encode("ascii") + b"\n"


def find_repeated(text: str, secrets: Iterable[Secret]) -> Secret | None:
    """
    Return the first secret that a foreign text repeats in whole or in part, as it is or encoded, in upper or lower case.

    A part is eight characters in a row. The text is cut into its parts once, because there may be many secrets.
    """
    readings = {reading.casefold() for reading in _readings(text)}
    pieces = {
        reading[start : start + _TELLING]
        for reading in readings
        for start in range(max(0, len(reading) - _TELLING + 1))
    }
    for secret in secrets:
        value = secret.reveal()
        encoded = (*_forms(value), *_forms_in_base64(value), *_forms_in_hex(value)) if value else ()
        for form in dict.fromkeys(map(str.casefold, encoded)):
            if len(form) < _TELLING:
                is_repeated = form != "" and any(form in reading for reading in readings)
            else:
                is_repeated = any(form[at : at + _TELLING] in pieces for at in range(len(form) - _TELLING + 1))
            if is_repeated:
                return secret
    return None


def _readings(text: str) -> Iterable[str]:
    """Return a text as it is, and with percent-encoding, HTML's references and backslash escapes decoded."""
    return (
        text,
        unquote(text),
        unquote_plus(text),
        html.unescape(text),
        _ESCAPE.sub(lambda found: chr(int(found[1] or found[2], 16)), text),
    )


def _forms(text: str) -> Iterable[str]:
    """Return the forms of a value: as it is, and escaped as in JSON, Python, forms and URLs."""
    raw = _encode(text)
    return dict.fromkeys(
        (
            text,
            json.dumps(text)[1:-1],
            json.dumps(text, ensure_ascii=False)[1:-1],
            repr(text)[1:-1],
            quote(raw, safe=""),
            quote_plus(raw, safe=""),
        )
    )


def _forms_in_base64(text: str) -> Iterable[str]:
    """
    Return the forms of a value inside a base64 text, such as a Basic credential (RFC 7617, RFC 6749 §2.3.1).

    The text before the value shifts it by zero to two bytes. Characters that depend on its neighbours are left out.
    """
    for raw in {_encode(text), quote(_encode(text), safe="").encode("ascii")}:
        for shift in range(3):
            encoded = base64.b64encode(bytes(shift) + raw).decode("ascii").rstrip("=")
            begins_at = -(-8 * shift // 6)
            ends_at = 8 * (shift + len(raw)) // 6
            form = encoded[begins_at:ends_at]
            yield form
            yield form.replace("+", "-").replace("/", "_")  # base64url (RFC 4648 §5)


def _forms_in_hex(text: str) -> Iterable[str]:
    """Return the forms of a value in hexadecimal digits, as a dump has them."""
    raw = _encode(text)
    return raw.hex(), raw.hex(":"), raw.hex(" ")


def _encode(text: str) -> bytes:
    # Text from the environment may hold lone surrogates (PEP 383).
    return text.encode("utf-8", "surrogatepass")
