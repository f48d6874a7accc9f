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
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from switch_proxy.core.errors import TlsFilesError
from switch_proxy.core.secret import MAX_SECRET, Secret, find_text_fault
from switch_proxy.watched_files import FileUnreadableError, WatchedFile, name_of, read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from switch_proxy.clock import Clock
    from switch_proxy.core.config.models import TlsSettings

LARGEST_CA_FILE: Final = 1024 * 1024
"""Bytes: all public authorities together have some 220 KiB."""

Context = TypeVar("Context", bound=ssl.SSLContext)

_NO_TLS_RECORD: Final = frozenset({"wrong version number", "packet length too long"})
"""What OpenSSL 3.0 and later versions say of bytes that are no record of TLS."""


class TlsFiles(Generic[Context]):
    """The files of one `tls` section, and the context made of the last ones that could be used."""

    def __init__(self, settings: TlsSettings, *, owner: str, new_context: Callable[[], Context]) -> None:
        """Take the settings and, for errors, whose they are; nothing is read yet."""
        self._settings = settings
        self._owner = owner
        self._new_context = new_context
        self.trust_fault: str | None = None
        """Why the system's authorities may be none: a sentence for people, if they are used."""
        self._last_good: tuple[Secret, Context] | None = None
        keys = ("client_certificate_file", "client_key_file", "ca_file")
        self._paths = {key: path for key in keys if (path := getattr(settings, key)) is not None}

    @property
    def context(self) -> Context:
        """Return the context of the last good files, without reading them again."""
        if self._last_good is None:
            raise RuntimeError("the TLS files have not been read yet")
        return self._last_good[1]

    def read(self) -> Secret:
        """
        Read the files, make a context if they have changed, and return their content.

        Blocks: for a thread. Raises TlsFilesError; the context before stays in use.
        """
        content = self._read_content()
        if self._last_good is None or content != self._last_good[0]:
            context = self._new_context()
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["http/1.1"])
            # Whoever is in ca_file is trusted, an intermediate authority without its root too, as curl and Go do.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            if self._settings.ca_file is None:
                self.trust_fault = find_system_trust_fault(os.environ)
                context.load_default_certs(ssl.Purpose.SERVER_AUTH)
            self._load_into(context)
            self._last_good = content, context
        return content

    def renew_context(self) -> Context:
        """Return the context of the files as they are now, or else of the last good ones. Raises as `read` does."""
        try:
            self.read()
        except TlsFilesError:
            # Files of one rotation may come one after the other; who watches them reports the error.
            if self._last_good is None:
                raise
        return self.context

    def watch(self, clock: Clock) -> WatchedFile | None:
        """Return the files as one that is watched; None if the section names none."""
        paths = tuple(self._paths.values())
        return WatchedFile(path=paths[0], clock=clock, read=self.read) if paths else None

    def _read_content(self) -> Secret:
        """Return certificate and key as they are, and a digest of the authorities, which are large and no secret."""
        texts = []
        for key, path in self._paths.items():
            is_large = key == "ca_file"
            try:
                raw = read_file(path, longest=LARGEST_CA_FILE if is_large else MAX_SECRET)
            except FileUnreadableError as error:
                problem: str | None = error.problem
            else:
                problem = None if is_large else find_text_fault(raw)
                texts.append(hashlib.sha256(raw).hexdigest() if is_large else raw.decode("utf-8", "replace"))
            if problem is not None:
                raise TlsFilesError(key=key, owner=self._owner, source=name_of(path), problem=problem)
        return Secret("\n".join(texts))

    def _load_into(self, context: ssl.SSLContext) -> None:
        settings = self._settings
        key, form = "ca_file", "certificates in PEM form"
        try:
            if settings.ca_file is not None:
                context.load_verify_locations(cafile=settings.ca_file)
            key, form = "client_certificate_file", "a certificate and its key in PEM form, without a password"
            if settings.client_certificate_file is not None:
                # Without a password of its own, OpenSSL would ask the terminal for that of an encrypted key.
                context.load_cert_chain(settings.client_certificate_file, settings.client_key_file, password="")
        except OSError as error:
            problem = f"cannot be loaded as {form}: {reason_of(error)}"
        else:
            return
        raise TlsFilesError(key=key, owner=self._owner, source=name_of(self._paths[key]), problem=problem)


def find_system_trust_fault(environ: Mapping[str, str]) -> str | None:
    """
    Return what is wrong with the variables that name the system's authorities, as a sentence; None if nothing is.

    OpenSSL ignores files that it cannot use, and then trusts nobody: its error says only that the issuer is unknown. Blocks.
    """
    path = environ.get("SSL_CERT_FILE")
    if path is not None and (problem := _find_authorities_fault(path)) is not None:
        return f"the variable SSL_CERT_FILE names {name_of(path)}, which {problem}"
    folders = environ.get("SSL_CERT_DIR")
    if folders is not None and not any(Path(folder).is_dir() for folder in folders.split(os.pathsep) if folder):
        return f"the variable SSL_CERT_DIR names {folders.encode('utf-8', 'backslashreplace').decode()}, which is no folder"
    return None


def _find_authorities_fault(path: str) -> str | None:
    try:
        read_file(path, longest=LARGEST_CA_FILE)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
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
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number)
        case _:
            return str(error) or type(error).__name__
