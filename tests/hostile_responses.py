"""
A grammar of whole responses of an authorization server, right and wrong in every part, and what must never be shown of them.

The parts: status line, field lines, framing, content coding, body. Secrets are in all of them, as they are and in the encodings in
which servers, gateways and their libraries quote a request.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SECRET: Final = "kT9/zebra+Quilt=42.vor:tex&fjord"
CLIENT_ID: Final = "the-client"
TOKENS: Final = ("zebraAccess.Token~0123456789-quartz", "walrusRefresh.Token-9876543210", "narwhalId.Token_5555512345")
"""What the members of responses hold whose names say that they are tokens."""

_BASIC: Final = f"{quote_plus(CLIENT_ID)}:{quote_plus(SECRET)}"


def _encodings(secret: str) -> Iterator[str]:
    raw = secret.encode()
    yield secret
    yield secret.upper()
    yield quote(secret, safe="")
    yield quote_plus(secret).lower()
    yield "".join(f"%{byte:02x}" for byte in raw)
    yield "".join(f"\\u{byte:04x}" for byte in raw)
    yield "".join(f"\\x{byte:02x}" for byte in raw)
    yield html.escape(secret)
    yield "".join(f"&#{byte};" for byte in raw)
    yield "".join(f"&#x{byte:X};" for byte in raw)
    yield json.dumps(json.dumps(secret))
    yield raw.hex()
    yield raw.hex().upper()
    yield raw.hex(":")
    for before in ("", "x", "xy", f"{CLIENT_ID}:"):
        yield base64.b64encode(before.encode() + raw + b"!").decode()
        yield base64.urlsafe_b64encode(before.encode() + raw).decode().rstrip("=")
    yield secret[3:17]


ENCODED: Final = tuple(dict.fromkeys([*_encodings(SECRET), *(form for token in TOKENS for form in _encodings(token))]))
ECHOES: Final = (*ENCODED, base64.b64encode(_BASIC.encode()).decode())

echoes = st.sampled_from(ECHOES)
words = st.sampled_from(
    ["", "Unauthorized", "AADSTS7000215: Invalid client secret provided.", "a\r\nb\x1b[31m", "é\u202e"]
)
quotes = st.builds("{} {}{}".format, words, echoes, words) | words | echoes


# --- bodies --------------------------------------------------------------------------------------------------------

_NUMBERS: Final = (
    *(
        "3600",
        "86400",
        "1",
        "0",
        "-1",
        "-0",
        "0.25",
        "3599.5",
        "-3599.5",
        "1e-9",
        "1e308",
        "1e400",
        "-1e400",
        "NaN",
        "-NaN",
    ),
    *(
        "Infinity",
        "-Infinity",
        "9" * 400,
        '"3600"',
        '" 3600 "',
        '"3599.5"',
        '"-1"',
        '"1e3"',
        '"NaN"',
        '"inf"',
        '"0x10"',
    ),
    *('"' + "9" * 400 + '"', '"٣٦٠٠"', "true", "null", "[]", "{}", "[3600]", "03600", "+3600", "3600s"),
)
_OTHERS: Final = (
    "null",
    "true",
    "7",
    "-1.5",
    "[]",
    "{}",
    '""',
    '" "',
    "[" * 500 + "]" * 500,
    "[" * 50_000,
    '{"a":' * 2000,
)


def _text(value: str) -> str:
    return json.dumps(value)


numbers = st.sampled_from(_NUMBERS)
others = st.sampled_from(_OTHERS)
texts = quotes.map(_text)
members = st.one_of(
    st.tuples(st.just("access_token"), st.sampled_from([_text(TOKENS[0]), _text(TOKENS[0] + "\n"), '"a b"']) | others),
    st.tuples(st.sampled_from(["refresh_token", "accessToken", "token"]), st.just(_text(TOKENS[1])) | others),
    st.tuples(st.just("id_token"), st.just(_text(TOKENS[2])) | others),
    st.tuples(st.just("data"), st.just(json.dumps({"list": [{"access_token": TOKENS[0], "refreshToken": TOKENS[1]}]}))),
    st.tuples(st.just("token_type"), st.sampled_from(['"Bearer"', '"bearer"', '"DPoP"', '"mac"']) | texts | others),
    st.tuples(st.just("expires_in"), numbers | others | texts),
    st.tuples(st.sampled_from(["error", "error_description", "error_uri"]), texts | others),
    st.tuples(st.just("error"), st.sampled_from(['"invalid_client"', '"server_error"', '"too_many_attempts"', '"a"'])),
    st.tuples(st.just("scope"), texts | others),
    st.tuples(st.text(max_size=5), others | texts),
)


def _object(parts: Iterable[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{_text(name)}:{value}" for name, value in parts) + "}"


good = st.just(
    _object(
        [("access_token", _text(TOKENS[0])), ("token_type", '"Bearer"'), ("expires_in", "3600"), ("scope", '"read"')]
    )
)
granted = st.builds(
    lambda more: _object([("access_token", _text(TOKENS[0])), ("token_type", '"Bearer"'), *more]),
    st.lists(members, max_size=4),
)
pages = st.builds(
    '<!DOCTYPE html><html><body>{} <input name="access_token" value="{}"></body></html>'.format,
    quotes,
    st.sampled_from(TOKENS),
)
documents = good | granted | st.lists(members, max_size=7).map(_object) | pages | others | numbers | quotes


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Return a body: a document, in some encoding of characters, and perhaps spoilt."""
    document = draw(documents)
    encoding = draw(st.sampled_from(["utf-8"] * 5 + ["utf-8-sig", "utf-16", "latin-1"]))
    body = document.encode(encoding, "replace")
    spoilt = draw(st.sampled_from(["not"] * 5 + ["cut", "invalid", "twice", "blanks", "large"]))
    match spoilt:
        case "cut":
            body = body[: draw(st.integers(0, len(body)))]
        case "invalid":
            at = draw(st.integers(0, len(body)))
            body = body[:at] + draw(st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x00"])) + body[at:]
        case "twice":
            body += body
        case "blanks":
            body = b" \r\n\t" + body + b"\n"
        case "large":
            body = body[:-1] + b" " * (70 * 1024) + body[-1:]
        case _:
            pass
    return draw(st.sampled_from([body] * 4 + [gzip.compress(body), gzip.compress(body)[:-9]]))


# --- heads ---------------------------------------------------------------------------------------------------------

statuses = st.sampled_from(
    [200] * 6 + [201, 204, 206, 299, 301, 302, 307, 400, 401, 403, 404, 408, 413, 429, 429, 500, 502, 503, 504, 599]
)
_DATES: Final = (
    "Tue, 14 Nov 2023 22:13:20 GMT",
    "Thu, 01 Jan 1970 00:00:00 GMT",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "yesterday",
)
_STATED: Final = (
    *(
        "b=per_hour;q=10;r=0;t=3540,b=per_day;q=50;r=47;t=43200",
        "per_hour;q=10;r=7;t=3540",
        "b=per_day;q=50;r=0;t=99999999",
    ),
    *("b=per_hour;q=-1;r=-9;t=-3", "b=;q=;r=;t=", "r=0;t=1e9", ";;;,,,", "b=per_day;q=50;r=0;t=" + "9" * 400),
)
fields = st.one_of(
    st.tuples(
        st.just("Content-Type"), st.sampled_from(["application/json", "text/html", "a/b; charset=x", ""]) | quotes
    ),
    st.tuples(st.just("Content-Encoding"), st.sampled_from(["gzip", "identity", "br", "deflate, gzip", ""]) | quotes),
    st.tuples(st.just("Location"), quotes.map("https://login.example.com/{0}?x={0}#{0}".format) | quotes),
    st.tuples(st.just("Retry-After"), st.sampled_from(["5", "0", "-5", "1e9", "9" * 400, "x", *_DATES]) | quotes),
    st.tuples(st.just("Date"), st.sampled_from(_DATES) | quotes),
    st.tuples(st.just("Auth0-Client-Quota-Limit"), st.sampled_from(_STATED) | quotes.map("b={};q=1;r=0;t=9".format)),
    st.tuples(st.sampled_from(["RateLimit", "RateLimit-Policy"]), quotes.map('"{}";q=1;r=0;t=5;w=9'.format)),
    st.tuples(st.sampled_from(["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]), numbers | quotes),
    st.tuples(st.sampled_from(["WWW-Authenticate", "Set-Cookie", "X-Request-Id"]), quotes),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostileResponse:
    """One response, before it is framed."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes


responses = st.builds(HostileResponse, status=statuses, fields=st.lists(fields, max_size=5).map(tuple), body=contents())

status_lines = st.sampled_from(
    ["HTTP/1.1 {}"] * 6
    + ["HTTP/1.0 {}", "HTTP/2.0 {}", "HTTP/1.1 {} {{}}", "HTTP/1.1 99999 x", "HTTP/1.1 abc x", "ICY {}", "{{}}"]
)
framings = st.sampled_from(
    ["length"] * 4
    + [
        "chunked",
        "close",
        "too long",
        "too short",
        "two lengths",
        "no length",
        "bad chunk",
        "no last chunk",
        "hangs",
        "drips",
    ]
)
lines = st.sampled_from(
    ["", "", "", "no colon here", " folded: {}", "X-Long: " + "x" * 70_000, "Bad Name: {}", "\x00: {}"]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """The bytes of one response, and how they come to an end."""

    data: bytes
    end: str
    """`close`, `hang` without another byte, or `drip` a byte now and then."""


@st.composite
def performances(draw: st.DrawFn) -> Performance:
    """Return a response as bytes, in some framing, and perhaps cut off."""
    response = draw(responses)
    framing = draw(framings)
    body = response.body
    head = [draw(status_lines).format(response.status).format(draw(echoes))]
    head += [f"{name}: {_one_line(value)}" for name, value in response.fields]
    head += [_one_line(line.format(draw(echoes))) for line in [draw(lines)] if line]
    lengths = {
        "length": [len(body)],
        "too long": [len(body) + 10],
        "too short": [max(0, len(body) - 10)],
        "two lengths": [len(body), len(body) + 1],
        "hangs": [len(body) + 10],
        "drips": [10**9],
    }
    head += [f"Content-Length: {length}" for length in lengths.get(framing, [])]
    if framing in {"chunked", "bad chunk", "no last chunk"}:
        head.append("Transfer-Encoding: chunked")
        size = b"zz" if framing == "bad chunk" else b"%x" % len(body)
        body = (size + b"\r\n" + body + b"\r\n" if body else b"") + (
            b"" if framing == "no last chunk" else b"0\r\n\r\n"
        )
    data = "\r\n".join([*head, "", ""]).encode("utf-8", "replace") + body
    if draw(st.integers(0, 9)) == 0:
        data = data[: draw(st.integers(0, len(data)))]
    return Performance(data=data, end={"hangs": "hang", "drips": "drip"}.get(framing, "close"))


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")


# --- what must not be shown ----------------------------------------------------------------------------------------

_SHORTEST_PART: Final = 8
_RUN: Final = re.compile(r"[A-Za-z0-9+/_-]{12,}")
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2}:?){8,}")


def secrets_of(body: bytes, *, is_coded: bool) -> set[str]:
    """Return the client secret, and the tokens that a response shows to be such: in JSON, in gzip if a coding is stated."""
    if is_coded:
        with suppress(OSError, EOFError):
            body = gzip.decompress(body)
    try:
        document = json.loads(body.decode("utf-8-sig"), object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError):
        return {SECRET}
    return {SECRET, *(token for token in TOKENS if isinstance(document, dict) and _holds(document, token))}


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a member is repeated")
    return dict(pairs)


def _holds(value: object, token: str) -> bool:
    match value:
        case dict():
            return any(
                (name.lower().endswith("token") and item == token) or _holds(item, token)
                for name, item in value.items()
            )
        case list():
            return any(_holds(item, token) for item in value)
        case _:
            return False


def find_leak(shown: str, secrets: Iterable[str] = (SECRET, *TOKENS)) -> str | None:
    """
    Return a part of a secret that a text shows, as it is or in any encoding above; None if there is none.

    It decodes the text, and so shares nothing with the code that it judges, which encodes the secrets.
    """
    readings = {read.casefold() for read in _readings(shown)}
    for secret in secrets:
        folded = secret.casefold()
        for at in range(len(folded) - _SHORTEST_PART + 1):
            part = folded[at : at + _SHORTEST_PART]
            if any(part in reading for reading in readings):
                return f"{part!r} of {secret!r}"
    return None


def _readings(shown: str) -> Iterator[str]:
    plain = {shown, unquote(shown), unquote_plus(shown), html.unescape(shown), _without_escapes(shown)}
    yield from plain
    for text in plain:
        for run in _HEX.findall(text):
            yield bytes.fromhex(run.replace(":", "")).decode("latin-1")
        for run in _RUN.findall(text):
            for start in range(4):
                part = run[start:].replace("-", "+").replace("_", "/")
                decoded = base64.b64decode(part[: len(part) // 4 * 4]).decode("latin-1")
                yield decoded
                yield unquote(decoded)


def _without_escapes(text: str) -> str:
    return re.sub(r"\\+(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2}))", lambda found: chr(int(found[1] or found[2], 16)), text)
