"""Files of TLS and secrets that hang, grow without end, or are replaced while they are read."""

from __future__ import annotations

import os
import ssl
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trustme

from switch_proxy.core.config.models import TlsSettings
from switch_proxy.core.errors import SecretUnavailableError, TlsFilesError
from switch_proxy.core.secret import Broken, Restored, Secret
from switch_proxy.tls import LARGEST_CA_FILE, TlsFiles
from switch_proxy.watched_files import FileReading, WatchedFile
from tests.manual_clock import ManualClock, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def new_context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def tls_files(
    settings: TlsSettings, *, made_by: Callable[[], ssl.SSLContext] = new_context
) -> TlsFiles[ssl.SSLContext]:
    return TlsFiles(settings, owner="route 'api'", new_context=made_by, now=lambda: 0.0)


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    path = tmp_path / "authority.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


async def test_an_authoritys_file_that_has_grown_too_large_leaves_the_last_good_one_in_use(authority: Path) -> None:
    files = tls_files(TlsSettings(ca_file=str(authority)))
    await files.read()
    good = files.context
    os.truncate(authority, LARGEST_CA_FILE + 1)
    with pytest.raises(TlsFilesError, match=r"authority\.pem holds more than 1024 KiB"):
        await files.read()
    assert files.context is good
    assert await files.renew_context() is good


async def test_a_context_is_made_of_what_was_read_although_the_files_are_others_by_then(
    authority: Path, tmp_path: Path
) -> None:
    """A pipe in the place of a file would hang, a huge file would be read whole."""
    certificate = trustme.CA().issue_cert("client.example.com")
    pair = {"client_certificate_file": tmp_path / "client.pem", "client_key_file": tmp_path / "client.key"}
    certificate.cert_chain_pems[0].write_to_path(pair["client_certificate_file"])
    certificate.private_key_pem.write_to_path(pair["client_key_file"])

    def replace_files() -> ssl.SSLContext:
        for path in (authority, *pair.values()):
            path.unlink()
            os.mkfifo(path)
        return new_context()

    settings = TlsSettings(ca_file=str(authority), **{key: str(path) for key, path in pair.items()})
    files = tls_files(settings, made_by=replace_files)
    await files.read()
    assert files.context is not None
    assert files.context.cert_store_stats()["x509_ca"] == 1
    with pytest.raises(TlsFilesError, match=r"client\.pem is not a regular file"):
        await files.read()


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        pytest.param(os.mkfifo, "is not a regular file", id="pipe"),
        pytest.param(
            lambda path: path.write_bytes(bytes(LARGEST_CA_FILE + 1)), "holds more than 1024 KiB", id="too large"
        ),
    ],
)
async def test_authorities_of_the_environment_that_never_end_are_not_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[[Path], object], fault: str
) -> None:
    """OpenSSL would read them whole."""
    path = tmp_path / "authorities.pem"
    make(path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    files = tls_files(TlsSettings())
    await files.read()
    assert files.trust_fault == f"the variable SSL_CERT_FILE names the file {path}, which {fault}"
    assert files.context is not None
    assert files.context.cert_store_stats()["x509"] == 0


async def test_a_file_that_hangs_is_told_in_time_and_read_as_soon_as_it_can_be() -> None:
    """Its last good content stays in use meanwhile."""
    responds = threading.Event()
    responds.set()

    def read() -> Secret:
        responds.wait()
        return Secret("the content")

    clock = ManualClock()
    reading = FileReading(
        read, now=clock.now, hang_error=lambda problem: SecretUnavailableError(f"no secret: {problem}")
    )
    file = WatchedFile(path="/a", clock=clock, read=partial(reading, within=0.05))
    await file.load()
    responds.clear()
    outcome = await file.load()
    assert outcome == Broken(error="no secret: was not read within 0.05 seconds; does its volume respond?")
    assert file.current() == Secret("the content")
    responds.set()
    await until(lambda: not reading._call.is_under_way)
    assert await file.load() == Restored()
