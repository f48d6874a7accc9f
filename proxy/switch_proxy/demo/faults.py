"""
The faults of a fake as data, and the script that decides which requests they apply to.

A fault is a value that names one thing that goes wrong. Several faults can apply to one request, in the order of the
table. A `FaultScript` holds the faults to come: each entry applies to the next requests that match it, `times` times or
until it is cleared.

    before the response   Delay · then one of Hang, Reset, Close
    the response          Status · Field · Body (HTML_PAGE, MALFORMED_JSON)
    its token             Lifetime · TokenField · WithoutTokenField   (authorization server only)
    its sending           one of TruncatedBody, StalledBody, SlowBody · CloseAfterwards

Everything here is plain values; `fake_server` performs them.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """Wait before doing anything else with the request."""

    seconds: float

    def __post_init__(self) -> None:
        _require(self.seconds >= 0, "Delay(seconds=…) must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang:
    """Never respond: the connection stays open until the client closes it or the fake stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Reset the connection (TCP RST) instead of responding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """Close the connection (TCP FIN) instead of responding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """
    Respond with this status and the fake's usual error body for it, without reading the request.

    `retry_after` is sent as Retry-After: seconds, or any text (an HTTP date, or a malformed value).
    """

    code: int
    retry_after: int | str | None = None

    def __post_init__(self) -> None:
        _require(HTTPStatus.OK <= self.code <= _LAST_STATUS, "Status(code=…) must be a final status, 200 to 599")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Send this header field; it replaces any of the same name in the response."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """Send this body instead of the response's own, with this content type if one is given."""

    content: bytes
    content_type: str | None = None


HTML_PAGE = Body(
    content=b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Sign in</h1></body></html>",
    content_type="text/html; charset=utf-8",
)
"""A page such as a captive portal or a failing gateway sends instead of JSON."""

MALFORMED_JSON = Body(content=b'{"access_token": "eyJ', content_type="application/json; charset=utf-8")
"""A body that is complete by its Content-Length but is not JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime:
    """Issue a token that lives this many seconds, with the same `expires_in`."""

    seconds: float

    def __post_init__(self) -> None:
        _require(self.seconds > 0, "Lifetime(seconds=…) must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenField:
    """Put this value into the token response, even if it is wrong: `TokenField(name="token_type", value="mac")`."""

    name: str
    value: object

    def __post_init__(self) -> None:
        json.dumps(self.value)  # a value that JSON cannot hold fails here, in the test that wrote it


@dataclass(frozen=True, slots=True, kw_only=True)
class WithoutTokenField:
    """Leave this member out of the token response: `WithoutTokenField(name="expires_in")`."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncatedBody:
    """Announce the whole body, send this many bytes of it and close the connection."""

    after: int
    is_chunked: bool = False
    """Send it as chunks, without the last chunk, instead of with a Content-Length."""

    def __post_init__(self) -> None:
        _require(self.after >= 0, "TruncatedBody(after=…) must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class StalledBody:
    """Announce the whole body, send only this many bytes of it, and leave the connection open."""

    after: int
    is_chunked: bool = False

    def __post_init__(self) -> None:
        _require(self.after >= 0, "StalledBody(after=…) must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowBody:
    """Send the body in pieces of `piece` bytes with a `pause` (seconds) before each."""

    pause: float
    piece: int = 1
    is_chunked: bool = False

    def __post_init__(self) -> None:
        _require(self.pause >= 0, "SlowBody(pause=…) must not be negative")
        _require(self.piece > 0, "SlowBody(piece=…) must be at least one byte")


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseAfterwards:
    """Respond in full, then close the connection unannounced, as if a kept-alive connection had become stale."""


TokenFault = Lifetime | TokenField | WithoutTokenField
"""Faults of token responses only."""

Fault = Delay | Hang | Reset | Close | Status | Field | Body | TruncatedBody | StalledBody | SlowBody | CloseAfterwards
"""Faults of any response."""

_LAST_STATUS = 599

F = TypeVar("F")

_ENDINGS = (Hang, Reset, Close)
_SENDINGS = (TruncatedBody, StalledBody, SlowBody)


@dataclass(slots=True, kw_only=True, eq=False)
class _Entry(Generic[F]):
    faults: tuple[F, ...]
    times: int | None
    method: str | None
    path: str | None

    def matches(self, method: str, path: str) -> bool:
        return self.method in (None, method) and self.path in (None, path)


class FaultScript(Generic[F]):
    """
    The faults to come, first in first out.

    The first entry that matches the method and path of a request applies to it, and one of the entry's times is used up.
    Entries that do not match wait for a request that does.
    """

    def __init__(self) -> None:
        self._entries: list[_Entry[F]] = []

    def add(self, *faults: F, times: int | None = 1, method: str | None = None, path: str | None = None) -> None:
        """
        Apply these faults together to the next `times` requests; `times=None` means to all of them until `clear`.

        `method` and `path` (as sent, without a query) limit it to some requests. Raises ValueError for faults that cannot
        be combined.
        """
        self._entries.append(_entry(faults, times=times, method=method, path=path))

    @contextmanager
    def during(self, *faults: F, method: str | None = None, path: str | None = None) -> Iterator[None]:
        """Apply these faults to every request within the `with` block, before any that were added earlier."""
        entry = _entry(faults, times=None, method=method, path=path)
        self._entries.insert(0, entry)
        try:
            yield
        finally:
            self._entries[:] = [kept for kept in self._entries if kept is not entry]

    def clear(self) -> None:
        """Remove all faults that are still to be applied."""
        self._entries.clear()

    def take(self, method: str, path: str) -> tuple[F, ...]:
        """Return the faults that apply to a request with this method and path, and count the request."""
        for entry in self._entries:
            if entry.matches(method, path):
                if entry.times is not None:
                    entry.times -= 1
                    if entry.times == 0:
                        self._entries.remove(entry)
                return entry.faults
        return ()

    @property
    def is_empty(self) -> bool:
        """Return whether all faults have been applied; a test can assert this at its end."""
        return not self._entries

    def __repr__(self) -> str:
        told = "; ".join(f"{entry.faults}, {entry.times or 'any number of'} times" for entry in self._entries)
        return f"<FaultScript {told or 'behaves'}>"


def _entry(faults: tuple[F, ...], *, times: int | None, method: str | None, path: str | None) -> _Entry[F]:
    _require(len(faults) > 0, "no fault was given")
    _require(times is None or times >= 1, f"times must be at least 1, or None for until cleared; got {times}")
    _require(path is None or "?" not in path, f"path is compared without the query; got {path!r}")
    for kinds in (_ENDINGS, _SENDINGS):
        both = [type(fault).__name__ for fault in faults if isinstance(fault, kinds)]
        _require(len(both) <= 1, f"{' and '.join(both)} cannot both happen to one request")
    return _Entry(faults=faults, times=times, method=method, path=path)


def _require(condition: object, message: str) -> None:
    if not condition:
        raise ValueError(message)
