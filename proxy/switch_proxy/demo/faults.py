"""
How a fake misbehaves, as data: the faults, and the script that says which requests meet them.

A fault is a value that says one thing that goes wrong. Several together make one misbehaviour, in the order of
the table. A `FaultScript` holds what is to come: each entry is met by the next requests that match it, `times`
times or until cleared.

    before the answer    Delay · then one of Hang, Reset, Close
    the answer           Status · Field · Body (HTML_PAGE, MALFORMED_JSON)
    the token in it      Lifetime · TokenField · WithoutTokenField   (authorization server only)
    the sending of it    one of TruncatedBody, StalledBody, SlowBody · CloseAfterwards

Everything here is plain values; `fake_server` acts them out.
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
    """Wait before anything else is done with the request."""

    seconds: float

    def __post_init__(self) -> None:
        _require(self.seconds >= 0, "Delay(seconds=…) must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang:
    """Never answer: the connection stays open until the client closes it or the fake stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Reset the connection (TCP RST) in place of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """Close the connection (TCP FIN) in place of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """
    Answer with this status and the fake's usual error body for it, without looking at the request.

    `retry_after` is sent as Retry-After: seconds, or any text (an HTTP date, or something malformed).
    """

    code: int
    retry_after: int | str | None = None

    def __post_init__(self) -> None:
        _require(HTTPStatus.OK <= self.code <= _LAST_STATUS, "Status(code=…) must be a final status, 200 to 599")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Send this header field in place of any the answer has by that name."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """Send this body in place of the answer's own, as this content type where one is given."""

    content: bytes
    content_type: str | None = None


HTML_PAGE = Body(
    content=b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Sign in</h1></body></html>",
    content_type="text/html; charset=utf-8",
)
"""What a captive portal or a gateway's error page puts where JSON was expected."""

MALFORMED_JSON = Body(content=b'{"access_token": "eyJ', content_type="application/json; charset=utf-8")
"""A body that is complete by its Content-Length and yet no JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime:
    """Issue a token that really lives this many seconds, and say so in `expires_in`."""

    seconds: float

    def __post_init__(self) -> None:
        _require(self.seconds > 0, "Lifetime(seconds=…) must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenField:
    """Say this in the token response, whatever is true: `TokenField(name="token_type", value="mac")`."""

    name: str
    value: object

    def __post_init__(self) -> None:
        json.dumps(self.value)  # a value JSON cannot carry fails here, where it was written


@dataclass(frozen=True, slots=True, kw_only=True)
class WithoutTokenField:
    """Leave this member out of the token response: `WithoutTokenField(name="expires_in")`."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncatedBody:
    """Announce the whole body, send this many bytes of it and close the connection."""

    after: int
    is_chunked: bool = False
    """Frame it as chunks (and leave out the last one) in place of a Content-Length."""

    def __post_init__(self) -> None:
        _require(self.after >= 0, "TruncatedBody(after=…) must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class StalledBody:
    """Announce the whole body, send this many bytes of it and then nothing more, on a connection that stays open."""

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
    """Answer in full and then close the connection, without having said so: a kept-alive connection gone stale."""


TokenFault = Lifetime | TokenField | WithoutTokenField
"""What can go wrong with a token response alone."""

Fault = Delay | Hang | Reset | Close | Status | Field | Body | TruncatedBody | StalledBody | SlowBody | CloseAfterwards
"""What can go wrong with any answer."""

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
    The misbehaviours to come, first in first out.

    A request meets the first entry that matches its method and path, and uses up one of its times. Entries
    that do not match wait for a request that does.
    """

    def __init__(self) -> None:
        self._entries: list[_Entry[F]] = []

    def add(self, *faults: F, times: int | None = 1, method: str | None = None, path: str | None = None) -> None:
        """
        Let the next `times` requests meet these faults together; `times=None` means every one until cleared.

        `method` and `path` (without a query, as sent) confine it to requests of that kind. Raises ValueError
        for faults that cannot go together.
        """
        self._entries.append(_entry(faults, times=times, method=method, path=path))

    @contextmanager
    def during(self, *faults: F, method: str | None = None, path: str | None = None) -> Iterator[None]:
        """Let every request that comes within the `with` block meet these faults, before any added earlier."""
        entry = _entry(faults, times=None, method=method, path=path)
        self._entries.insert(0, entry)
        try:
            yield
        finally:
            self._entries[:] = [kept for kept in self._entries if kept is not entry]

    def clear(self) -> None:
        """Behave again: forget every misbehaviour that was still to come."""
        self._entries.clear()

    def take(self, method: str, path: str) -> tuple[F, ...]:
        """Return the faults that a request with this method and path meets, and count it; none: an empty tuple."""
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
        """Tell whether every misbehaviour has been met, which a test may want to assert at its end."""
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
