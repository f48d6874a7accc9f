"""
A store of shared tokens in a directory: for processes on one machine, restarts, and what shares a volume.

An entry is the file `NAME.entry.NUMBER`, a lock `NAME.lock.NUMBER`. NUMBER is that of the lock under which it was written, and the
highest counts: a process that was paused while it held a lock writes a file that nobody reads any more, and no file is ever
overwritten. A lock is a file that exists (made with O_EXCL, so by one process only) and is locked (flock), so it ends with its
process. If that process lives on but is paused, it ends with its lease.

The store's clock is that of the file system: the time that it gives to a file that is touched now.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import secrets
import stat
import threading
from typing import TYPE_CHECKING, Final, TypeVar

from switch_proxy.core.errors import TokenStoreError
from switch_proxy.core.token_sharing import MAX_ENTRY
from switch_proxy.tokens.sharing import LockAttempt, StoreReading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Result = TypeVar("Result")

_FILE: Final = re.compile(r"([0-9a-f]{64})\.(entry|lock)\.([0-9]{1,15})")
_TEMPORARY: Final = re.compile(r"\.[0-9a-f]{16}\.new")
_CLOCK: Final = ".clock"

_MOST_FILES: Final = 10_000
"""Files in the directory, at most: each credential has some three."""

_FORGOTTEN_AFTER: Final = 32 * 86400.0
"""Seconds after which the files of others are removed: no token lives as long, so their credential is no longer used."""

_ABANDONED_AFTER: Final = 3600.0
"""Seconds after which a file that was never finished is removed: its process was killed."""

_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


class DirectoryStore:
    """A directory that belongs to this user alone; it is made if it does not exist, but not the directories above it."""

    def __init__(self, path: str, *, read_clock: Callable[[int], float] | None = None) -> None:
        """Take the path; nothing is opened yet. `read_clock` returns the store's time, given the directory's descriptor."""
        self.description = f"the directory {path.encode('utf-8', 'backslashreplace').decode('utf-8')}"
        self._path = path
        self._now = read_clock or _now
        self._turn = asyncio.Lock()
        self._held: dict[str, int] = {}

    async def read(self, names: tuple[str, ...]) -> StoreReading:
        """Return the newest entries of these names. Raises TokenStoreError."""
        return await self._in_thread(lambda directory: self._read(directory, names))

    async def lock(self, name: str, *, lease: float) -> LockAttempt:
        """Try to take the lock of a name. Raises TokenStoreError."""
        return await self._in_thread(lambda directory: self._lock(directory, name, lease))

    async def write(self, name: str, entry: bytes, *, number: int, lifetime: float) -> None:
        """Write an entry; its file is removed when the next one is written, or after a month. Raises TokenStoreError."""
        await self._in_thread(lambda directory: _write(directory, name, entry, number))

    async def unlock(self, name: str, *, number: int) -> None:
        """Release the lock. Raises TokenStoreError."""
        await self._in_thread(lambda directory: self._unlock(directory, name, number))

    async def close(self) -> None:
        """Release what is still locked."""
        for name in list(self._held):
            self._let_go(name)

    # --- in a thread -----------------------------------------------------------------------------------------------

    async def _in_thread(self, call: Callable[[int], Result]) -> Result:
        """
        Return what the call returns that gets the descriptor of the directory. Raises TokenStoreError.

        Each call has a thread of its own, one at a time: a volume that hangs costs one thread, and the process can end. Whoever calls
        limits the wait; the next call waits for the thread nevertheless.
        """
        await self._turn.acquire()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()

        def finish(result: Result | None, error: BaseException | None) -> None:
            self._turn.release()
            if done.cancelled():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            result, error = None, None
            try:
                result = self._with_directory(call)
            except Exception as raised:  # noqa: BLE001 - it is raised again where the result is awaited
                error = raised
            # The loop may have been closed while the volume hung.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(finish, result, error)

        try:
            threading.Thread(target=work, name="token store", daemon=True).start()
        except RuntimeError:
            self._turn.release()
            raise TokenStoreError(f"{self.description} cannot be used: the system has no more threads") from None
        return await done

    def _with_directory(self, call: Callable[[int], Result]) -> Result:
        try:
            directory = self._open()
            try:
                return call(directory)
            finally:
                os.close(directory)
        except OSError as error:
            problem = f"cannot be used: {os.strerror(error.errno) if error.errno else type(error).__name__}"
        except ValueError:
            problem = "cannot be used: no directory can have this name"
        raise TokenStoreError(f"{self.description} {problem}")

    def _open(self) -> int:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._path, 0o700)  # noqa: PTH102 - as the calls below, which take descriptors
        directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        facts = os.fstat(directory)
        if facts.st_uid == os.geteuid() and not facts.st_mode & _WRITABLE_BY_OTHERS:
            return directory
        os.close(directory)
        who = (
            f"belongs to user {facts.st_uid}, not to this process's ({os.geteuid()})"
            if facts.st_uid != os.geteuid()
            else f"may be written by others (mode {stat.S_IMODE(facts.st_mode):04o})"
        )
        raise TokenStoreError(f"{self.description} {who}; name one that does not exist yet, and it is made")

    def _read(self, directory: int, names: tuple[str, ...]) -> StoreReading:
        newest: dict[str, tuple[int, str]] = {}
        for name, kind, number, file in _files(directory):
            if kind == "entry" and name in names and number >= newest.get(name, (0, ""))[0]:
                newest[name] = number, file
        entries = tuple(_content(directory, newest[name][1]) if name in newest else None for name in names)
        return StoreReading(entries=entries, at=self._now(directory))

    def _lock(self, directory: int, name: str, lease: float) -> LockAttempt:
        self._let_go(name)
        highest, last_lock = 0, 0
        for other, kind, number, _ in _files(directory):
            if other == name:
                highest = max(highest, number)
                last_lock = max(last_lock, number if kind == "lock" else 0)
        with contextlib.ExitStack() as examined:
            if last_lock:
                with contextlib.suppress(FileNotFoundError):
                    # If nobody has it locked, its process has died; it is kept locked until the next one is made.
                    before = os.open(f"{name}.lock.{last_lock}", os.O_RDWR | os.O_CLOEXEC, dir_fd=directory)
                    examined.callback(os.close, before)
                    if not _flock(before) and _now(directory) < os.fstat(before).st_mtime + lease:
                        return LockAttempt(is_ours=False, number=last_lock)
            number = highest + 1
            file = f"{name}.lock.{number}"
            try:
                made = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
            except FileExistsError:
                return LockAttempt(is_ours=False, number=number)
        # Between these two steps another process may have examined it, taken it for abandoned, and made the next one.
        is_latest = _flock(made) and not any(
            other == name and later > number for other, kind, later, _ in _files(directory) if kind == "lock"
        )
        if not is_latest:
            os.close(made)
            return LockAttempt(is_ours=False, number=number)
        self._held[name] = made
        return LockAttempt(is_ours=True, number=number)

    def _unlock(self, directory: int, name: str, number: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{name}.lock.{number}", dir_fd=directory)
        self._let_go(name)

    def _let_go(self, name: str) -> None:
        held = self._held.pop(name, None)
        if held is not None:
            os.close(held)

    def __repr__(self) -> str:
        return f"<DirectoryStore {self.description}>"


def _files(directory: int) -> Iterator[tuple[str, str, int, str]]:
    """Return name, kind, number and file of every entry and lock."""
    with os.scandir(directory) as files:
        for index, file in enumerate(files):
            if index == _MOST_FILES:
                return
            if match := _FILE.fullmatch(file.name):
                yield match[1], match[2], int(match[3]), file.name


def _content(directory: int, file: str) -> bytes | None:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except FileNotFoundError:
        # Another process has written the next one.
        return None
    with open(descriptor, "rb") as opened:  # noqa: PTH123 - of a descriptor
        return opened.read(MAX_ENTRY + 1) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def _now(directory: int) -> float:
    clock = os.open(_CLOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=directory)
    try:
        os.utime(clock)
        return os.fstat(clock).st_mtime
    finally:
        os.close(clock)


def _flock(descriptor: int) -> bool:
    """Return whether the file is locked by this descriptor now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(directory: int, name: str, entry: bytes, number: int) -> None:
    temporary = f".{secrets.token_hex(8)}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with open(os.open(temporary, flags, 0o600, dir_fd=directory), "wb") as file:  # noqa: PTH123 - of a descriptor
            file.write(entry)
        os.rename(temporary, f"{name}.entry.{number}", src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    _clean(directory, name, number)


def _clean(directory: int, name: str, number: int) -> None:
    """Remove what this entry replaces, and what nobody uses any more."""
    now = _now(directory)
    with os.scandir(directory) as files:
        found = [file.name for file in files]
    for file in found:
        match = _FILE.fullmatch(file)
        if match is not None and match[1] == name:
            is_old = int(match[3]) < number
        elif match is not None or _TEMPORARY.fullmatch(file):
            with contextlib.suppress(FileNotFoundError):
                age = now - os.stat(file, dir_fd=directory, follow_symlinks=False).st_mtime
                is_old = age > (_ABANDONED_AFTER if match is None else _FORGOTTEN_AFTER)
        else:
            continue
        if is_old:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file, dir_fd=directory)
