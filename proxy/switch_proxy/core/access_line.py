"""
The access log: which exchanges get a line, its level, and the line itself.

There are two renderings with the same content; a test compares them. `access_event` returns the fields of a line as
structlog takes them. `AccessLineRenderer` writes the same fields as JSON by hand, because it runs for every request:
parts that repeat (route, method, status) are rendered once and remembered, the rest is added by one formatting operation.

Only the path of the target is written: a query may hold anything, secrets included. What a client has sent is cut before it
is searched for secrets, so that no request costs more than a usual one: `…` at the end says so.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from switch_proxy.core.http.problems import Problem
from switch_proxy.core.redaction import CUT
from switch_proxy.core.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Literal

    from switch_proxy.core.exchange_record import ExchangeRecord

_REMEMBERED: Final = 1024
"""Number of openings and of paths that are remembered. A full memory is emptied, which costs little."""

_LONGEST_REMEMBERED: Final = 256
"""Bytes. Longer paths are rendered each time, so that the memory stays below half a megabyte."""

_LONGEST_PATH: Final = 2048
"""Bytes of a path that are logged: longer than what browsers and most servers take."""

_LONGEST_DETAIL: Final = 2048
"""Characters of a failure's detail that are logged; an authorization server's own words are shorter."""

_LONGEST_ID: Final = 128
"""Bytes of a request id that are logged; a client's longer one was replaced."""

_CUT: Final = CUT.encode()

_LONGEST_CHARACTER: Final = 4
"""Bytes of a character in UTF-8."""

_SERVER_ERRORS: Final = 500

_LETTERS_AND_DIGITS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_PLAIN_IN_ID: Final = _LETTERS_AND_DIGITS + b"-_:/"
"""
The usual characters of request ids, which JSON writes unchanged. The dot (every JWT has one) and the equals sign (of
`client_secret=…`) are not among them: an id that contains one is passed through the redactor.
"""

_LINE: Final = (
    b'{"timestamp":"%b%03dZ",%b"path":"%b","request_bytes":%d,"response_bytes":%d,'
    b'"duration":%.6f,"upstream_duration":%.6f,"request_id":"%b"}\n'
)
_LINE_WITHOUT_RESPONSE: Final = _LINE.replace(b'"upstream_duration":%.6f', b'"upstream_duration":null')


def access_level(record: ExchangeRecord) -> Literal["info", "warning"]:
    """
    Return the log level of a finished exchange.

    A client that disconnects is not a warning: that is how server-sent events end.
    """
    if record.failure == Problem.CLIENT_GONE.value.name:
        return "info"
    return "warning" if record.failure is not None or record.status >= _SERVER_ERRORS else "info"


def is_logged(record: ExchangeRecord, *, access: str, level: str) -> bool:
    """
    Return whether an exchange gets a line; `access` and `level` are `log.access` and `log.level` of the configuration.

    A failure of the proxy is an error first and an access second, so `access: off` does not hide it.
    """
    severity = access_level(record)
    if level == "error" or (level == "warning" and severity == "info"):
        return False
    if access == "all":
        return True
    return severity == "warning" and (access == "errors" or record.failure is not None)


def access_event(record: ExchangeRecord) -> dict[str, object]:
    """Return the fields of a record's line in order, without `level`, which follows the timestamp."""
    event: dict[str, object] = {
        "timestamp": rfc3339(record.started_at_wall + record.duration),
        "event": _event_name(record),
        "route": record.route,
        "method": _text(record.method),
        "status": record.status,
    }
    if record.failure is not None:
        event["failure"] = record.failure
    if record.detail is not None:
        event["detail"] = _cut_text(record.detail)
    upstream_duration = record.upstream_duration
    return event | {
        "path": _text(_cut(record.target.partition(b"?")[0], _LONGEST_PATH)),
        "request_bytes": record.request_body_bytes,
        "response_bytes": record.response_body_bytes,
        "duration": round(record.duration, 6),
        "upstream_duration": None if upstream_duration is None else round(upstream_duration, 6),
        "request_id": _text(_cut(record.request_id, _LONGEST_ID)),
    }


def _event_name(record: ExchangeRecord) -> str:
    if record.failure is not None:
        return "request.failed"
    # No response came and nothing failed: the proxy itself was the last recipient (RFC 9110 §7.6.2).
    return "request.answered" if record.upstream_duration is None else "request.forwarded"


class AccessLineRenderer:
    """Renders the lines of all routes; `redact` masks secrets in text that is not plain."""

    __slots__ = ("_access", "_details", "_level", "_openings", "_paths", "_redact", "_second", "_second_text")

    def __init__(self, *, access: str, level: str, redact: Callable[[str], str]) -> None:
        self._access = access
        self._level = level
        self._redact = redact
        self._openings: dict[tuple[str, bytes, int, str | None, bool], bytes] = {}
        self._paths: dict[bytes, bytes] = {}
        self._details: dict[str, bytes] = {}
        self._second = -1
        self._second_text = b""

    def render(self, records: Iterable[ExchangeRecord]) -> bytes:
        """Return the lines of the exchanges that get one, each with its line end."""
        openings = self._openings
        paths = self._paths
        lines = []
        for record in records:
            upstream_duration = record.upstream_duration
            opening = openings.get(
                (record.route, record.method, record.status, record.failure, upstream_duration is None)
            )
            if opening is None:
                opening = self._remember_opening(record)
            if not opening:
                continue
            if record.detail is not None:
                opening += self._render_detail(record.detail)
            path = record.target.partition(b"?")[0]
            shown_path = paths.get(path)
            if shown_path is None:
                shown_path = self._render_path(path)
            request_id = record.request_id
            if request_id.translate(None, _PLAIN_IN_ID):
                request_id = self._render_text(_cut(request_id, _LONGEST_ID))
            duration = record.duration
            second, millisecond = divmod(int((record.started_at_wall + duration) * 1000), 1000)
            if second != self._second:
                self._second = second
                self._second_text = rfc3339(second)[:-4].encode("ascii")
            if upstream_duration is None:
                lines.append(
                    _LINE_WITHOUT_RESPONSE
                    % (
                        self._second_text,
                        millisecond,
                        opening,
                        shown_path,
                        record.request_body_bytes,
                        record.response_body_bytes,
                        duration,
                        request_id,
                    )
                )
            else:
                lines.append(
                    _LINE
                    % (
                        self._second_text,
                        millisecond,
                        opening,
                        shown_path,
                        record.request_body_bytes,
                        record.response_body_bytes,
                        duration,
                        upstream_duration,
                        request_id,
                    )
                )
        return b"".join(lines)

    def _remember_opening(self, record: ExchangeRecord) -> bytes:
        """Return the part of the line between timestamp and path; empty if the exchange gets no line."""
        opening = b""
        if is_logged(record, access=self._access, level=self._level):
            event = access_event(record)
            fields: dict[str, object] = {"level": access_level(record)}
            fields |= {name: event[name] for name in ("event", "route", "method", "status", "failure") if name in event}
            fields["method"] = self._redact(_text(record.method))
            opening = json.dumps(fields, separators=(",", ":"))[1:-1].encode("ascii") + b","
        if len(self._openings) >= _REMEMBERED:
            self._openings.clear()
        if len(record.method) <= _LONGEST_REMEMBERED:
            has_no_response = record.upstream_duration is None
            self._openings[record.route, record.method, record.status, record.failure, has_no_response] = opening
        return opening

    def _render_path(self, path: bytes) -> bytes:
        shown = self._render_text(_cut(path, _LONGEST_PATH))
        if len(path) <= _LONGEST_REMEMBERED:
            if len(self._paths) >= _REMEMBERED:
                self._paths.clear()
            self._paths[path] = shown
        return shown

    def _render_detail(self, detail: str) -> bytes:
        """Return the member of the line. Remembered, because an upstream that is down fails every request alike."""
        shown = self._details.get(detail)
        if shown is None:
            shown = b'"detail":%b,' % json.dumps(self._redact(_cut_text(detail))).encode("ascii")
            if len(detail) <= _LONGEST_REMEMBERED:
                if len(self._details) >= _REMEMBERED:
                    self._details.clear()
                self._details[detail] = shown
        return shown

    def _render_text(self, raw: bytes) -> bytes:
        return json.dumps(self._redact(_text(raw)))[1:-1].encode("ascii")


def _cut_text(text: str) -> str:
    return text if len(text) <= _LONGEST_DETAIL else text[:_LONGEST_DETAIL] + CUT


def _cut(raw: bytes, longest: int) -> bytes:
    if len(raw) <= longest:
        return raw
    # Not within a character: the text before the mark must be as the redactor knows it.
    for end in range(longest, longest - _LONGEST_CHARACTER, -1):
        if raw[end] & 0xC0 != 0x80:  # noqa: PLR2004 - no continuation byte (RFC 3629 §3)
            return raw[:end] + _CUT
    return raw[:longest] + _CUT


def _text(raw: bytes) -> str:
    """Return bytes from the network as text: UTF-8, and hexadecimal escapes for what is none."""
    return raw.decode("utf-8", "backslashreplace")
