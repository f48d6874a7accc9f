"""The log of one proxy: events, access lines, redaction and the writer, wired together, opened and closed as one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Self

from switch_proxy.core.access_line import AccessLineRenderer
from switch_proxy.core.events import LinesDropped, log_fields
from switch_proxy.core.redaction import Redactor
from switch_proxy.logs.events import AccessEvents, EventRenderer, make_logger
from switch_proxy.logs.writer import LogWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from switch_proxy.core.config.models import LogSettings
    from switch_proxy.core.events import Event
    from switch_proxy.core.exchange_record import ExchangeRecord

STANDARD_OUTPUT: Final = 1

_LAST_WAIT: Final = 1.0
"""Seconds that writing the last lines may take; then the process ends without them."""


class Log:
    """The log of one proxy. Logging never blocks and never fails."""

    def __init__(
        self,
        settings: LogSettings,
        *,
        environ: Mapping[str, str],
        wall: Callable[[], float],
        descriptor: int = STANDARD_OUTPUT,
    ) -> None:
        """
        Begin to write to a duplicate of the file descriptor; `wall` returns Unix time in seconds.

        Do this before anything else is opened: if the descriptor is closed, the next socket would get its number, and its
        peer the log lines.
        """
        try:
            self._descriptor = os.dup(descriptor)
        except OSError:
            # Started with standard output closed: run without a log.
            self._descriptor = os.open(os.devnull, os.O_WRONLY)
        self._is_json = as_json = settings.format == "json"
        self.redactor = Redactor()
        renderer = EventRenderer(
            as_json=as_json,
            has_colours=os.isatty(self._descriptor) and not environ.get("NO_COLOR"),
            redactor=self.redactor,
            wall=wall,
        )
        self._writer = LogWriter(
            self._descriptor,
            describe_loss=lambda count, why: renderer.render(
                LinesDropped.level, {"event": LinesDropped.name, **log_fields(LinesDropped(count=count, reason=why))}
            ),
        )
        self.events = make_logger(level=settings.level, renderer=renderer, write=self._writer.write)
        self._render_exchanges: Callable[[Iterable[ExchangeRecord]], bytes]
        if as_json:
            self._render_exchanges = AccessLineRenderer(
                access=settings.access, level=settings.level, redact=self.redactor.redact
            ).render
        else:
            self._render_exchanges = AccessEvents(
                access=settings.access, level=settings.level, renderer=renderer
            ).render

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def lines_dropped(self) -> int:
        """Return how many lines could not be written since the start."""
        return self._writer.lines_dropped

    def flush(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until all lines so far are written; return whether they are."""
        return self._writer.flush(timeout)

    def write(self, event: Event) -> None:
        """Write a line for an event."""
        getattr(self.events, event.level)(event.name, **log_fields(event))

    def log_exchanges(self, records: Iterable[ExchangeRecord]) -> None:
        """Write a line for each of these exchanges that gets one by the configuration."""
        lines = self._render_exchanges(records)
        if self._is_json and self.redactor.knows_any_in(lines):
            lines = b"".join(map(self.redactor.redact_json_line, lines.splitlines()))
        if lines:
            self._writer.write(lines)

    def close(self) -> None:
        """Write the pending lines, for a second at most."""
        if self._writer.close(_LAST_WAIT):
            os.close(self._descriptor)
