"""
A blocking call that may hang for ever, such as name resolution or a file of a volume that is gone, in threads of its own.

A thread that hangs cannot be stopped. In a pool it would take the place of what others have to do, so each such call has its
own threads, and few of them: whoever wants the result while the call is under way shares it.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from concurrent.futures import Executor, Future
from math import inf
from typing import TYPE_CHECKING, Final, Generic, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

DOUBTED_AFTER: Final = (15.0, 60.0, 600.0)
"""
Seconds after which a call under way is taken for lost, and another is begun beside it: the cause may be gone, although the
call does not notice (a volume that was mounted again, another name server). One more than these are under way at most; then
the first that returns makes room.
"""

MOST_THREADS: Final = len(DOUBTED_AFTER) + 1
"""Threads of one call that hang at the same time, at most."""


class CallHangsError(Exception):
    """The call has been under way for longer than its caller waits."""


class _OwnThread(Executor):
    """Runs each job in a new thread, which the interpreter does not wait for at its end."""

    def submit(
        self, fn: Callable[_Parameters, _Result], /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> Future[_Result]:
        """Begin the job. Raises OSError if the system has no thread left."""
        future: Future[_Result] = Future()
        future.set_running_or_notify_cancel()

        def work() -> None:
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - whoever waits gets it
                future.set_exception(error)
            else:
                future.set_result(result)

        try:
            threading.Thread(target=work, daemon=True, name="switch-proxy call").start()
        except RuntimeError:
            raise OSError(errno.EAGAIN, "no thread could be started") from None
        return future


class SharedCall(Generic[_Result]):
    """One blocking function, called in threads of its own; its result is shared by all who wait for it."""

    def __init__(
        self,
        function: Callable[[], _Result],
        *,
        now: Callable[[], float],
        on_done: Callable[[asyncio.Future[_Result]], None] | None = None,
    ) -> None:
        """
        Take the function; nothing is called yet. `now` returns seconds.

        `on_done` is called with each result or exception, whether somebody waits for it or not.
        """
        self._function = function
        self._now = now
        self._on_done = on_done
        self._threads = _OwnThread()
        self._promise: asyncio.Future[_Result] | None = None
        self._begun_at = -inf
        """When the first of the calls under way for this promise was begun."""
        self._latest_at = -inf
        self._under_way = 0
        """Threads at work, those whose result nobody wants any more included."""
        self._serving = 0
        """Those of them that work for this promise."""

    @property
    def is_under_way(self) -> bool:
        """Return whether a thread is at work."""
        return self._under_way > 0

    async def result(self, *, within: float = inf) -> _Result:
        """
        Return the result of the call under way, or of a new one.

        Raises what the function raises, OSError if no thread can be started, and CallHangsError if the call takes longer than
        `within` seconds; that is at once if it has done so already.
        """
        promise = self._join()
        left = self._begun_at + within - self._now()
        if not promise.done() and left > 0:
            await asyncio.wait([promise], timeout=None if left == inf else left)
        if promise.done():
            return promise.result()
        raise CallHangsError

    def _join(self) -> asyncio.Future[_Result]:
        """Return the promise of the call under way; begin one if there is none, or if it is taken for lost."""
        now = self._now()
        if self._promise is None:
            self._promise = asyncio.get_running_loop().create_future()
            self._begun_at = now
            self._serving = 0
        if self._serving == 0 or (
            self._serving < MOST_THREADS and now >= self._latest_at + DOUBTED_AFTER[self._serving - 1]
        ):
            self._begin(self._promise)
        return self._promise

    def _begin(self, promise: asyncio.Future[_Result]) -> None:
        if self._under_way >= MOST_THREADS:
            return
        job = asyncio.get_running_loop().run_in_executor(self._threads, self._function)
        self._latest_at = self._now()
        self._under_way += 1
        self._serving += 1
        job.add_done_callback(lambda done: self._finish(done, promise))

    def _finish(self, done: asyncio.Future[_Result], promise: asyncio.Future[_Result]) -> None:
        self._under_way -= 1
        error = done.exception()
        if promise is not self._promise:
            # Begun for an earlier promise, so older than what is waited for now. Its thread is free again.
            if self._promise is not None and self._serving == 0:
                self._begin(self._promise)
            return
        self._promise = None
        if self._on_done is not None:
            self._on_done(done)
        if error is None:
            promise.set_result(done.result())
        else:
            promise.set_exception(error)
            # Nobody need be waiting.
            promise.exception()
