"""
A response of an authorization server as it was received, and strict readers of its parts.

No exception of a parser leaves here, because some quote the body.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final, NoReturn, SupportsIndex

MAX_BODY: Final = 64 * 1024
"""Bytes of a response. Real token responses have 1 to 4 KiB; tokens that carry groups are the largest."""

_GZIP: Final = frozenset({"gzip", "x-gzip"})  # RFC 9110 §8.4.1.3
_GZIP_FORMAT: Final = 16 + zlib.MAX_WBITS
"""zlib's number of the format of RFC 1952."""

_LONGEST_NUMBER: Final = 30
"""Characters of a Retry-After that are read; no real number of seconds is longer."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ServerResponse:
    """
    A response of the token endpoint or of the metadata's URL. Its body may hold a token in the clear.

    `body` is cut off after MAX_BODY bytes if `is_complete` is False. `fields` are all fields of the message's head, the others
    those that are read most; `content_encoding` is empty if there was none. `received_at` is on the clock
    of `Clock.now`.
    """

    status: int
    content_type: str = ""
    content_encoding: str = ""
    retry_after: str | None = None
    location: str | None = None
    date: str | None = None
    fields: tuple[tuple[str, str], ...] = ()
    received_at: float = 0.0
    body: bytes
    is_complete: bool = True

    def __repr__(self) -> str:
        return f"<ServerResponse {self.status} with {len(self.body)} bytes>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a ServerResponse cannot be pickled: the pickle would hold the token in the clear")


class _RepeatedMemberError(ValueError):
    pass


def read_object(response: ServerResponse) -> dict[str, object] | str:
    """Return the JSON object of a body, or what is wrong with it as a predicate."""
    if not response.is_complete or len(response.body) > MAX_BODY:
        return f"is larger than {MAX_BODY // 1024} KiB"
    coding = response.content_encoding.strip().lower()
    body: bytes | str = response.body
    if coding in _GZIP:
        body = _unpacked(response.body)
    elif coding not in {"", "identity"}:
        body = "has a content coding, which was not requested"
    if isinstance(body, str):
        return body
    try:
        # A byte order mark may be ignored (RFC 8259 §8.1), and .NET servers send one.
        text = body.decode("utf-8-sig")
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        return "is not in UTF-8"
    except _RepeatedMemberError:
        return "is a JSON object with a repeated member"
    except RecursionError:
        return "is JSON nested too deeply"
    except ValueError:
        return "is not JSON" if response.body.strip() else "is empty"
    return document if isinstance(document, dict) else "is JSON, but no object"


def _unpacked(body: bytes) -> bytes | str:
    """
    Return the content of a gzip body, or what is wrong with it as a predicate.

    It was not requested, but some gateways compress every response. A few bytes could expand to gigabytes, so no more than
    one byte above the limit is made.
    """
    decoder = zlib.decompressobj(wbits=_GZIP_FORMAT)
    try:
        content = decoder.decompress(body, MAX_BODY + 1)
    except zlib.error:
        return "is not in the content coding that it names"
    if len(content) > MAX_BODY:
        return f"is larger than {MAX_BODY // 1024} KiB"
    return content if decoder.eof else "breaks off within its content coding"


def _object(members: list[tuple[str, object]]) -> dict[str, object]:
    # Parsers differ in which of two members they take (RFC 8259 §4), so a repeated one is refused.
    document = dict(members)
    if len(document) != len(members):
        raise _RepeatedMemberError
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are no JSON (RFC 8259 §6)


def status_text(status: int) -> str:
    """Return a status code with its phrase, if it has one."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def parse_retry_after(value: str | None, *, wall: float) -> float | None:
    """
    Return the seconds that a Retry-After asks for (RFC 9110 §10.2.3), or None if it is missing or malformed.

    A date is compared with `wall`, Unix time in seconds; a date in the past is zero seconds.
    """
    text = (value or "").strip(" \t")
    if text.isascii() and text.isdigit():
        return float(text[:_LONGEST_NUMBER])
    at = parse_date(text)
    return None if at is None else max(0.0, at - wall)


def parse_date(text: str | None) -> float | None:
    """Return the Unix time of an HTTP date (RFC 9110 §5.6.7), or None if it is missing or malformed."""
    try:
        date = parsedate_to_datetime(text or "")
        # An obsolete form has no zone; all dates of HTTP are in UTC.
        date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
        return date.timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
