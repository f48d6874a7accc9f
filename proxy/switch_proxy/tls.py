"""
TLS of the connections that the proxy opens, to APIs and to token endpoints alike: always verified, TLS 1.2 or later.

The files of a `tls` section become a context or an error that names the file. They may be replaced while the proxy
runs; the context of the last good files stays in use while the new ones cannot be used.
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from switch_proxy.core.descriptors import RAN_OUT, has_run_out
from switch_proxy.core.errors import TlsFilesError, TlsFilesHangError
from switch_proxy.core.secret import MAX_SECRET, Secret, find_text_fault
from switch_proxy.watched_files import (
    READING_TIMEOUT,
    FileReading,
    FileUnreadableError,
    WatchedFile,
    name_of,
    read_file,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from switch_proxy.clock import Clock
    from switch_proxy.core.config.models import TlsSettings

LARGEST_CA_FILE: Final = 1024 * 1024
"""Bytes: all public authorities together have some 220 KiB."""

_RENEWAL_PATIENCE: Final = 0.5
"""Seconds to wait for files to be read again while there is a context of the last good ones."""

_SYSTEM: Final = "of the system's authorities"
_FILE_VARIABLE: Final = "SSL_CERT_FILE"

Context = TypeVar("Context", bound=ssl.SSLContext)

_NO_TLS_RECORD: Final = frozenset({"wrong version number", "packet length too long"})
"""What OpenSSL 3.0 and later versions say of bytes that are no record of TLS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded(Generic[Context]):
    """The files as they were read, and the context made of them."""

    content: Secret
    context: Context
    trust_fault: str | None


class TlsFiles(Generic[Context]):
    """The files of one `tls` section, and the context made of the last ones that could be used."""

    def __init__(
        self,
        settings: TlsSettings,
        *,
        owner: str,
        new_context: Callable[[], Context],
        now: Callable[[], float],
    ) -> None:
        """Take the settings and, for errors, whose they are; nothing is read yet. `now` returns seconds."""
        self._settings = settings
        self._owner = owner
        self._new_context = new_context
        self._last_good: _Loaded[Context] | None = None
        keys = ("client_certificate_file", "client_key_file", "ca_file")
        self._paths = {key: path for key in keys if (path := getattr(settings, key)) is not None}
        self._being_read = ("ca_file", _SYSTEM)
        self._reading = FileReading(self._load, now=now, hang_error=self._hang_error, on_read=self._take)

    @property
    def are_named(self) -> bool:
        """Return whether the section names files; otherwise only the system's authorities are read."""
        return bool(self._paths)

    @property
    def context(self) -> Context | None:
        """Return the context of the last good files, without reading them again; None if there are none."""
        return None if self._last_good is None else self._last_good.context

    @property
    def trust_fault(self) -> str | None:
        """Return why the system's authorities may be none: a sentence for people, if they are used."""
        return None if self._last_good is None else self._last_good.trust_fault

    async def read(self, *, within: float = READING_TIMEOUT) -> Secret:
        """
        Read the files, make a context if they have changed, and return their content.

        Raises TlsFilesError; the context before stays in use. It is a TlsFilesHangError after `within` seconds.
        """
        return (await self._reading(within=within)).content

    async def renew_context(self, *, within: float = READING_TIMEOUT) -> Context:
        """Return the context of the files as they are now, or else of the last good ones. Raises as `read` does."""
        before = self._last_good
        try:
            return (await self._reading(within=within if before is None else min(within, _RENEWAL_PATIENCE))).context
        except TlsFilesError:
            # Files of one rotation may come one after the other; who watches them reports the error.
            if before is None:
                raise
            return before.context

    def watch(self, clock: Clock) -> WatchedFile:
        """Return the files as one that is watched."""
        return WatchedFile(path=next(iter(self._paths.values()), _SYSTEM), clock=clock, read=self.read)

    def _take(self, loaded: _Loaded[Context]) -> None:
        self._last_good = loaded

    def _hang_error(self, problem: str) -> TlsFilesHangError:
        key, path = self._being_read
        return TlsFilesHangError(key=key, owner=self._owner, source=name_of(path), problem=problem)

    # In a thread: what follows blocks.

    def _load(self) -> _Loaded[Context]:
        before = self._last_good
        raw = {key: self._read_one(key, path) for key, path in self._paths.items()}
        # Authorities are large and no secret: a digest does.
        content = Secret(
            "\n".join(
                hashlib.sha256(each).hexdigest() if key == "ca_file" else each.decode("utf-8", "replace")
                for key, each in raw.items()
            )
        )
        if before is not None and content == before.content:
            return before
        context = self._new_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # TLS 1.2 alone has it, for nothing that this proxy needs (RFC 9113 §9.2.1 forbids it too).
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        # Whoever is in ca_file is trusted, an intermediate authority without its root too, as curl and Go do.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        trust_fault = None
        if self._settings.ca_file is None:
            self._being_read = ("ca_file", _SYSTEM)
            trust_fault = _load_system_authorities(context, os.environ)
        self._load_into(context, raw)
        return _Loaded(content=content, context=context, trust_fault=trust_fault)

    def _read_one(self, key: str, path: str) -> bytes:
        self._being_read = (key, path)
        is_large = key == "ca_file"
        try:
            raw = read_file(path, longest=LARGEST_CA_FILE if is_large else MAX_SECRET)
            problem = _find_size_fault(raw) if is_large else find_text_fault(raw)
        except FileUnreadableError as error:
            problem = error.problem
        else:
            if problem is None:
                return raw
        raise TlsFilesError(key=key, owner=self._owner, source=name_of(path), problem=problem)

    def _load_into(self, context: ssl.SSLContext, raw: Mapping[str, bytes]) -> None:
        key, form = "ca_file", "certificates in PEM form"
        try:
            if "ca_file" in raw:
                with self._file_of(raw, "ca_file") as path:
                    context.load_verify_locations(cafile=path)
            key, form = "client_certificate_file", "a certificate and its key in PEM form, without a password"
            if "client_certificate_file" in raw:
                of_key = "client_key_file" if "client_key_file" in raw else "client_certificate_file"
                with self._file_of(raw, "client_certificate_file") as path, self._file_of(raw, of_key) as key_path:
                    # Without a password of its own, OpenSSL would ask the terminal for that of an encrypted key.
                    context.load_cert_chain(path, key_path, password="")
        except OSError as error:
            problem = f"cannot be loaded as {form}: {reason_of(error)}"
        else:
            return
        raise TlsFilesError(key=key, owner=self._owner, source=name_of(self._paths[key]), problem=problem)

    def _file_of(self, raw: Mapping[str, bytes], key: str) -> AbstractContextManager[str]:
        return _file_of(raw[key], self._paths[key])


@contextmanager
def _file_of(raw: bytes, path: str) -> Iterator[str]:
    """
    Make a file in memory of what was read from `path`, for OpenSSL, which takes certificates and keys from files alone.

    The file itself may have been replaced meanwhile, by a larger one or by a pipe that hangs.
    """
    if not hasattr(os, "memfd_create"):
        # Not on Linux.
        yield path
        return
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
        file.write(raw)
        file.flush()
        yield f"/proc/self/fd/{descriptor}"


def _find_size_fault(raw: bytes) -> str | None:
    return f"holds more than {LARGEST_CA_FILE // 1024} KiB" if len(raw) > LARGEST_CA_FILE else None


def _load_system_authorities(context: ssl.SSLContext, environ: Mapping[str, str]) -> str | None:
    """Have a context trust the system's authorities; return what is wrong with them, as find_system_trust_fault does."""
    fault = find_system_trust_fault(environ)
    if fault is None or _FILE_VARIABLE not in fault:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    elif (folder := ssl.get_default_verify_paths().capath) is not None:
        # As OpenSSL does if it cannot read the file. It might read one that never ends.
        context.load_verify_locations(capath=folder)
    return fault


def find_system_trust_fault(environ: Mapping[str, str]) -> str | None:
    """
    Return what is wrong with the variables that name the system's authorities, as a sentence; None if nothing is.

    OpenSSL ignores files that it cannot use, and then trusts nobody: its error says only that the issuer is unknown. Blocks.
    """
    path = environ.get(_FILE_VARIABLE)
    if path is not None and (problem := _find_authorities_fault(path)) is not None:
        return f"the variable {_FILE_VARIABLE} names {name_of(path)}, which {problem}"
    folders = environ.get("SSL_CERT_DIR")
    if folders is not None and not any(Path(folder).is_dir() for folder in folders.split(os.pathsep) if folder):
        return f"the variable SSL_CERT_DIR names {folders.encode('utf-8', 'backslashreplace').decode()}, which is no folder"
    return None


def _find_authorities_fault(path: str) -> str | None:
    try:
        raw = read_file(path, longest=LARGEST_CA_FILE)
        if (fault := _find_size_fault(raw)) is not None:
            return fault
        with _file_of(raw, path) as copy:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=copy)
    except FileUnreadableError as error:
        return error.problem
    except OSError as error:
        return f"cannot be loaded as certificates in PEM form: {reason_of(error)}"
    return None


def protocol_hint(error: ssl.SSLError) -> str:
    """Return what the peer may speak in place of HTTP/1.1 over TLS, for the end of a sentence; empty if that is not the cause."""
    # OpenSSL has no name for the reason of this alert (RFC 7301 §3.2), only a text.
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "no application protocol" in reason:
        return "; it speaks HTTP/2 alone, and this proxy HTTP/1.1"
    if reason in _NO_TLS_RECORD:
        return "; it seems to speak plain HTTP on this port"
    return ""


def reason_of(error: OSError) -> str:
    """Return the text of an error of OpenSSL, the resolver or the system; event loops word the system's differently."""
    match error:
        case socket.gaierror(strerror=str(reason)):
            return reason
        case ssl.SSLError():
            reason = error.reason.replace("_", " ").lower() if error.reason else str(error)
            return reason + protocol_hint(error)
        case OSError() if has_run_out(error):
            return RAN_OUT
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number)
        case _:
            return str(error) or type(error).__name__
