"""A volume that hangs, for a process: a file system in user space whose server never responds, so opening a file takes for ever."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_PROGRAM: Final = """
import ctypes, os, threading, time
libc = ctypes.CDLL(None, use_errno=True)

def check(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

user, group = os.getuid(), os.getgid()
check(libc.unshare(0x10000000 | 0x00020000))  # namespaces of users and of mounts
for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
device = os.open("/dev/fuse", os.O_RDWR)

def mount():
    options = f"fd={device},rootmode=40000,user_id={user},group_id={group}"
    check(libc.mount(b"hangs", FOLDER.encode(), b"fuse", 0, options.encode()))

def mount_later():
    while not os.path.exists(TRIGGER):
        time.sleep(0.01)
    mount()
"""


def hanging_from_the_start(folder: Path) -> str:
    """Return Python statements after which the folder hangs, for this process alone."""
    return _statements(folder, folder, "mount()")


def hanging_once(trigger: Path, folder: Path) -> str:
    """Return Python statements after which the folder hangs as soon as the file `trigger` exists, for this process alone."""
    return _statements(folder, trigger, "threading.Thread(target=mount_later, daemon=True).start()")


def _statements(folder: Path, trigger: Path, last: str) -> str:
    program = "\n".join((f"FOLDER, TRIGGER = {str(folder)!r}, {str(trigger)!r}", _PROGRAM, last))
    return f"exec({program!r}, {{}})"


def can_be_made(folder: Path) -> bool:
    """Return whether this machine lets a process have such a volume: /dev/fuse, and namespaces of its own."""
    ran = subprocess.run([sys.executable, "-c", hanging_from_the_start(folder)], capture_output=True, check=False)
    return ran.returncode == 0
