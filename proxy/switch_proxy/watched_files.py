"""
Files that may be replaced at any time, or hang, or be no files at all: secrets, keys, certificates.

A file is read again every few seconds and its content compared. Nothing else is as reliable: Kubernetes swaps a symlink two
folders up, others rename or write in place, within one tick of the clock and without a change of size. It is read in a
thread of its own and within a time limit, because nothing else must wait for a volume that hangs.
"""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from switch_proxy.core.descriptors import RAN_OUT, has_run_out
from switch_proxy.core.errors import SecretUnavailableError, TlsFilesError
from switch_proxy.core.secret import Outcome, Secret, SourceState, Unchanged, take_reading
from switch_proxy.shared_call import CallHangsError, SharedCall

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from switch_proxy.clock import Clock

POLL_INTERVAL: Final = 5.0
"""Seconds between two readings. A kubelet takes a minute or more to bring a change, so this adds little to it."""


READING_TIMEOUT: Final = 5.0
"""Seconds for files to be read. A local volume takes microseconds, one on a network that is up far less than this."""

_Content = TypeVar("_Content")


class FileUnreadableError(Exception):
    """A file cannot be read; `problem` is a predicate: "may not be read by this process"."""

    def __init__(self, problem: str, *, is_missing: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.is_missing = is_missing


class FileReading(Generic[_Content]):
    """Reads files in threads of their own, within a time limit."""

    def __init__(
        self,
        read: Callable[[], _Content],
        *,
        now: Callable[[], float],
        hang_error: Callable[[str], Exception],
        on_read: Callable[[_Content], None] | None = None,
    ) -> None:
        """
        Take what reads the files, which runs in a thread; `now` returns seconds.

        `hang_error` returns the exception for a reading that takes too long; its argument is a predicate. `on_read` is called
        with everything that is read, also if nobody waits for it any more.
        """
        self._hang_error = hang_error
        self._on_read = on_read
        self._call = SharedCall(read, now=now, on_done=self._take)

    async def __call__(self, *, within: float = READING_TIMEOUT) -> _Content:
        """Return what is read. Raises what reading raises, and the error of a reading that takes longer than `within` s."""
        try:
            return await self._call.result(within=within)
        except CallHangsError:
            problem = f"was not read within {within:g} seconds; does its volume respond?"
        raise self._hang_error(problem)

    def _take(self, done: asyncio.Future[_Content]) -> None:
        if self._on_read is not None and done.exception() is None:
            self._on_read(done.result())


class WatchedFile:
    """The content of a file that may be replaced at any time, or of several that belong together."""

    def __init__(
        self,
        *,
        path: str,
        clock: Clock,
        read: Callable[[], Awaitable[Secret]],
        on_read: Callable[[Secret], None] | None = None,
        poll_interval: float = POLL_INTERVAL,
    ) -> None:
        """
        Take the file's path, for messages, and what reads it.

        `read` does so within a time limit. It raises SecretUnavailableError or TlsFilesError if there is no content that can be
        used. `on_read` is called with each content before anybody else gets it.
        """
        self.source = name_of(path)
        self.remedy = f"another content of {self.source}"
        self.state = SourceState()
        self._path = path
        self._clock = clock
        self._poll_interval = poll_interval
        self._read = read
        self._on_read = on_read
        self._reading = asyncio.Lock()

    def current(self) -> Secret:
        """Return the last good content. Raises SecretUnavailableError if there never was one."""
        return self.state.current(self.source)

    def previous(self) -> Secret | None:
        """Return None: there is no other secret to try."""

    async def load(self) -> Outcome:
        """Read the file now and return the outcome."""
        # One reading at a time, so that an older one cannot come in last.
        async with self._reading:
            try:
                reading: Secret | str = await self._read()
            except (SecretUnavailableError, TlsFilesError) as error:
                reading = str(error)
            except Exception as error:  # noqa: BLE001 - who watches must go on; the text may hold anything
                reading = f"{self.source} was not read: unexpected {type(error).__name__}"
            if isinstance(reading, Secret) and self._on_read is not None:
                self._on_read(reading)
            self.state, outcome = take_reading(self.state, reading)
        return outcome

    async def wait_for_change(self) -> Outcome:
        """Return the first outcome that is not Unchanged."""
        while True:
            await self._clock.sleep_until(self._clock.now() + self._poll_interval)
            outcome = await self.load()
            if not isinstance(outcome, Unchanged):
                return outcome

    def __repr__(self) -> str:
        return f"<WatchedFile {_printable(self._path)}>"


def read_file(path: str, *, longest: int) -> bytes:
    """Return a file's bytes, at most one more than `longest`. Blocks: for a thread. Raises FileUnreadableError."""
    try:
        # Do not wait for the other end of a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return file.read(longest + 1)
            problem = "is not a regular file"
    except FileNotFoundError:
        raise FileUnreadableError("does not exist", is_missing=True) from None
    except PermissionError:
        problem = f"may not be read by this process (user {os.geteuid()}, group {os.getegid()})"
    except OSError as error:
        reason = RAN_OUT if has_run_out(error) else error.strerror or type(error).__name__
        problem = f"cannot be read: {reason}"
    except ValueError:
        problem = "is no path: it has a NUL in it"
    raise FileUnreadableError(problem)


def name_of(path: str) -> str:
    """Return how messages name a file."""
    return f"the file {_printable(path)}"


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode("utf-8")
