"""
The proxy as a process: log, event loop, signals and exit code.

Exit codes: 0 after a signal and an orderly shutdown; 1 if it could not start, or if a part of it died; 128 plus the
signal's number if a second signal ended it immediately (143 for SIGTERM, 130 for SIGINT, 131 for SIGQUIT, as in shells).

SIGHUP makes it read secrets again and try refused credentials at once. SIGUSR1 and SIGUSR2, which other servers take as
"reopen the log" or "upgrade", are logged and do nothing: their default would end the process and cut every request.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING, Final

from switch_proxy.app import Application
from switch_proxy.clock import SystemClock
from switch_proxy.core.descriptors import has_run_out
from switch_proxy.core.errors import SwitchProxyError
from switch_proxy.core.events import (
    LoopErrorCaught,
    ProxyAborted,
    ProxyStartFailed,
    ProxyStopped,
    SignalReceived,
    TaskDied,
)
from switch_proxy.descriptor_watch import DescriptorWatch, raise_descriptor_limit
from switch_proxy.harmless_signals import HARMLESS, ignore_harmless_signals
from switch_proxy.logs.events import LibraryHandler
from switch_proxy.logs.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from switch_proxy.clock import Clock
    from switch_proxy.core.config.models import Settings

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_SIGNAL: Final = 128

_LAST_STEPS: Final = 2.0
"""Longest time from the proxy's end to the process's end, in seconds; writing the last log lines takes less."""

_LAST_WORD: Final = 0.1
"""Time to flush the log before an immediate exit, in seconds."""


_ENDS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""SIGQUIT too: it is the orderly stop of nginx and of images that follow it (STOPSIGNAL)."""


def run(settings: Settings) -> int:
    """Run a proxy as this process until a signal or a failure ends it; return the exit code."""
    ignore_harmless_signals()
    raise_descriptor_limit()
    clock = SystemClock()
    # The log is opened first and closed last; logs/log.py gives the reason.
    with Log(settings.log, environ=os.environ, wall=clock.wall) as log:
        logging.basicConfig(handlers=[LibraryHandler(log.write)], level=logging.WARNING, force=True)
        logging.captureWarnings(capture=True)
        with asyncio.Runner(loop_factory=_find_loop_factory()) as runner:
            exit_code = runner.run(_run(settings, log=log, clock=clock))
            _end_within(_LAST_STEPS, exit_code)
    return exit_code


def _find_loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return uvloop's, which needs half of asyncio's CPU time, or asyncio's if the platform has no uvloop."""
    try:
        import uvloop  # noqa: PLC0415 - it may be missing
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _end_within(seconds: float, exit_code: int) -> None:
    """End the process after this time at the latest: Python waits forever for a thread that hangs on a lost volume."""
    timer = threading.Timer(seconds, os._exit, [exit_code])
    timer.daemon = True
    timer.start()


async def _run(settings: Settings, *, log: Log, clock: Clock) -> int:
    loop = asyncio.get_running_loop()
    descriptors = DescriptorWatch(now=clock.now, observe=log.write)
    loop.set_exception_handler(lambda _, context: _note_error(log, descriptors, context))
    signalled = _receive_signals(loop, log)
    try:
        return await _run_until(signalled, settings, log=log, clock=clock, descriptors=descriptors)
    finally:
        # A loop that closes gives each signal back its default.
        for number in HARMLESS:
            loop.remove_signal_handler(number)
        ignore_harmless_signals()


async def _run_until(
    signalled: asyncio.Future[None], settings: Settings, *, log: Log, clock: Clock, descriptors: DescriptorWatch
) -> int:
    loop = asyncio.get_running_loop()
    try:
        application = Application(settings, log=log, environ=os.environ, clock=clock, descriptors=descriptors)
        if not await _start(application, signalled):
            log.write(ProxyStopped())
            return EXIT_OK
    except SwitchProxyError as error:
        log.write(ProxyStartFailed(reason=str(error)))
        return EXIT_FAILED
    loop.add_signal_handler(signal.SIGHUP, _refresh, application, log)
    # The objects made so far live until the end. Skipping them saves the garbage collector 20 ms each time.
    gc.freeze()
    failed = loop.create_task(application.failure())
    ends: set[asyncio.Future[Any]] = {signalled, failed}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    exit_code = EXIT_OK
    if failed.done():
        log.write(TaskDied(exc_info=failed.result()))
        exit_code = EXIT_FAILED
    failed.cancel()
    await application.stop()
    return exit_code


async def _start(application: Application, signalled: asyncio.Future[None]) -> bool:
    """Start, and return True; if a signal comes first, give up and return False. A file or DNS may be slow. Raises as `start`."""
    starting = asyncio.get_running_loop().create_task(application.start())
    await asyncio.wait({starting, signalled}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
    if starting.cancelled():
        return False
    starting.result()
    return True


def _receive_signals(loop: asyncio.AbstractEventLoop, log: Log) -> asyncio.Future[None]:
    """Return a future that the first signal to end completes; a second one ends the process immediately."""
    signalled: asyncio.Future[None] = loop.create_future()

    def receive(number: signal.Signals) -> None:
        if signalled.done():
            _abort(number, log)
        log.write(SignalReceived(signal=number.name))
        signalled.set_result(None)

    for number in _ENDS:
        loop.add_signal_handler(number, receive, number)
    for number in HARMLESS:
        loop.add_signal_handler(number, log.write, SignalReceived(signal=number.name))
    return signalled


def _refresh(application: Application, log: Log) -> None:
    log.write(SignalReceived(signal=signal.SIGHUP.name))
    application.refresh_credentials()


def _abort(number: signal.Signals, log: Log) -> NoReturn:
    log.write(ProxyAborted(signal=number.name))
    log.flush(_LAST_WORD)
    os._exit(EXIT_SIGNAL + number)


def _note_error(log: Log, descriptors: DescriptorWatch, context: dict[str, Any]) -> None:
    """
    Log an error in a callback or a forgotten task. It is a defect of the proxy that may have failed one request.

    Except if there was no file descriptor for a connection to be accepted: asyncio's own loop then tries again every second.
    """
    error = context.get("exception")
    if error is not None and has_run_out(error):
        descriptors.note_exhaustion()
        return
    log.write(LoopErrorCaught(message=context["message"], exc_info=error))
