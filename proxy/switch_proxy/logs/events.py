"""
The log of events: structlog's pipeline, as JSON or for people, with redaction as its last step but one.

Nothing is set up globally: loggers are made here and passed on, so that two proxies in one process (in tests, say) share
nothing. Only `LibraryHandler` belongs to the standard library's logging, where the process installs it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import structlog

from switch_proxy.core.access_line import access_event, access_level, is_logged
from switch_proxy.core.events import LibraryReported
from switch_proxy.core.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

    from switch_proxy.core.events import Event
    from switch_proxy.core.exchange_record import ExchangeRecord
    from switch_proxy.core.redaction import Redactor

_EVENT_WIDTH: Final = 24
"""Characters; the longest names of events are a little longer, most are shorter."""


class EventRenderer:
    """Renders the level and fields of an event as a redacted line."""

    def __init__(self, *, as_json: bool, has_colours: bool, redactor: Redactor, wall: Callable[[], float]) -> None:
        """Take the clock's `wall`, in Unix seconds, for events that have no timestamp of their own."""
        self._redactor = redactor
        self._wall = wall
        render: Processor
        if as_json:
            render = structlog.processors.JSONRenderer(separators=(",", ":"))
        else:
            render = structlog.dev.ConsoleRenderer(
                colors=has_colours,
                sort_keys=False,
                pad_event_to=_EVENT_WIDTH,
                # Not rich's, which prints local variables if it is installed.
                exception_formatter=structlog.dev.plain_traceback,
            )
        self.processors: list[Processor] = [
            structlog.processors.add_log_level,
            self._put_in_order,
            structlog.processors.format_exc_info,
            self._redact,
            *([] if as_json else [_escape_control_characters]),
            render,
        ]

    def render(self, level: str, event: dict[str, object]) -> bytes:
        """Return the line, with its line end, of an event that does not come from a logger."""
        result: object = dict(event)
        for processor in self.processors:
            # Each processor returns a dictionary, and the last one text.
            result = processor(None, level, result)  # type: ignore[arg-type]
        return encode_line(str(result))

    def _put_in_order(self, logger: WrappedLogger, method: str, event_dict: EventDict) -> EventDict:
        first = {
            "timestamp": event_dict.pop("timestamp", None) or rfc3339(self._wall()),
            "level": event_dict.pop("level"),
            "event": event_dict.pop("event"),
        }
        return first | dict(event_dict)

    def _redact(self, logger: WrappedLogger, method: str, event_dict: EventDict) -> EventDict:
        return {name: self._redactor.redact_field(name, value) for name, value in event_dict.items()}


def _escape_control_characters(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    """Escape control characters, so that text from the network cannot control the terminal; tracebacks keep their lines."""
    return {
        name: "\n".join(map(_printable, value.split("\n") if name == "exception" else [value]))
        if isinstance(value, str)
        else value
        for name, value in event_dict.items()
    }


def _printable(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def encode_line(text: str) -> bytes:
    """Return a rendered event as the bytes to write."""
    return text.encode("utf-8", "backslashreplace") + b"\n"


class _Lines:
    """A logger in structlog's sense: takes rendered events."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def msg(self, text: str) -> None:
        """Write a rendered event."""
        self._write(encode_line(text))

    debug = info = warning = error = critical = msg


def make_logger(*, level: str, renderer: EventRenderer, write: Callable[[bytes], None]) -> FilteringBoundLogger:
    """Return a logger that passes events from `level` on to `write`, a line each."""
    logger: FilteringBoundLogger = structlog.wrap_logger(
        _Lines(write),
        processors=renderer.processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
    ).bind()
    return logger


class AccessEvents:
    """Renders the access log for people, by structlog; JSON is rendered by hand, because it must be fast."""

    def __init__(self, *, access: str, level: str, renderer: EventRenderer) -> None:
        self._access = access
        self._level = level
        self._renderer = renderer

    def render(self, records: Iterable[ExchangeRecord]) -> bytes:
        """Return the lines, each with its line end, of the exchanges that get one."""
        return b"".join(
            self._renderer.render(access_level(record), access_event(record))
            for record in records
            if is_logged(record, access=self._access, level=self._level)
        )


class LibraryHandler(logging.Handler):
    """Passes on what libraries log by the standard library's logging."""

    def __init__(self, write: Callable[[Event], None]) -> None:
        super().__init__(logging.WARNING)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        """Log `library.reported`, with the traceback if there is one."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = str(record.msg)
        is_error = record.levelno >= logging.ERROR
        self._write(LibraryReported(library=record.name, message=message, exc_info=record.exc_info, is_error=is_error))
