"""Keys, assertions, certificates and previous secrets as they change beneath the proxy, alone and together."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from blockbuster import blockbuster_ctx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from switch_proxy.core.config.models import (
    AssertionSource,
    CredentialSettings,
    PrivateKeySettings,
    SecretSource,
    TlsSettings,
)
from switch_proxy.core.errors import SecretUnavailableError
from switch_proxy.core.secret import Broken, Changed, Outcome, Restored, Secret, Unchanged
from switch_proxy.tokens.sources import CombinedCredentials, credentials_from
from switch_proxy.watched_files import POLL_INTERVAL, WatchedFile
from tests.manual_clock import ManualClock, until
from tests.masking import Masked, ignore

if TYPE_CHECKING:
    from pathlib import Path


def _settings(**changes: Any) -> CredentialSettings:
    return CredentialSettings(**{"token_url": "https://a.example/t", "client_id": "c", **changes})


def _source(clock: ManualClock | None = None, **changes: Any) -> Any:
    return credentials_from(
        _settings(**changes), environ={"NEW": "new", "OLD": "old"}, clock=clock or ManualClock(), mask=ignore
    )


def _key() -> str:
    key = ed25519.Ed25519PrivateKey.generate()
    encryption = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode("ascii")


def _jwt(number: int) -> str:
    parts = ({"alg": "RS256"}, {"jti": number})
    return ".".join(
        [*(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts), "c2ln"]
    )


# --- one file ------------------------------------------------------------------------------------------------------


async def test_a_private_key_is_taken_up_when_it_can_sign(tmp_path: Path) -> None:
    """Another key is a change; what is no key leaves the last good one in use."""
    path, keys = tmp_path / "key.pem", [_key(), _key()]
    source = _source(auth_method="private_key_jwt", private_key=PrivateKeySettings(file=str(path)))
    assert isinstance(source, WatchedFile)
    outcomes: list[Outcome] = []
    for content in (keys[0], keys[0], "half of it", keys[1]):
        path.write_text(content)
        outcomes.append(await source.load())
    complaint = f"no private key: the file {path} holds no private key in PEM or JWK form"
    assert outcomes == [
        Changed(secret=Secret(keys[0])),
        Unchanged(),
        Broken(error=complaint),
        Changed(secret=Secret(keys[1])),
    ]


async def test_a_key_and_its_certificate_change_at_once_or_not_at_all(tmp_path: Path) -> None:
    """A certificate of another key is half of a rotation: the pair before it goes on."""
    authority = trustme.CA()
    pairs = [authority.issue_cert("a.example", key_type=trustme.KeyType.RSA) for _ in range(2)]
    settings = PrivateKeySettings(file=str(tmp_path / "tls.key"), certificate_file=str(tmp_path / "tls.crt"))
    source = _source(auth_method="private_key_jwt", private_key=settings)
    outcomes = []
    for key, certificate in ((0, 0), (1, 0), (1, 1)):
        pairs[key].private_key_pem.write_to_path(tmp_path / "tls.key")
        pairs[certificate].cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
        outcomes.append(type(await source.load()))
    assert outcomes == [Changed, Broken, Changed]


async def test_an_assertion_is_taken_up_when_it_is_one(tmp_path: Path) -> None:
    path = tmp_path / "token"
    source = _source(auth_method="client_assertion", client_assertion=AssertionSource(file=str(path)))
    with pytest.raises(SecretUnavailableError, match=r"the file .* has not been read yet"):
        source.current()
    outcomes = []
    for content in (_jwt(1) + "\n", _jwt(2), "", _jwt(2)):
        path.write_text(content)
        outcomes.append(type(await source.load()))
    assert outcomes == [Changed, Changed, Broken, Restored]
    assert source.current() == Secret(_jwt(2))


async def test_reading_a_key_does_not_block_the_loop(tmp_path: Path) -> None:
    """Nor does what it takes to be imported for that."""
    (tmp_path / "key.pem").write_text(_key())
    key = PrivateKeySettings(file=str(tmp_path / "key.pem"))
    source = _source(auth_method="private_key_jwt", private_key=key)
    with blockbuster_ctx():
        assert isinstance(await source.load(), Changed)


# --- the files of TLS ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["tls_client_auth", "client_secret_post"])
async def test_another_certificate_or_authority_is_a_change(tmp_path: Path, method: str) -> None:
    """Even if it does not authenticate the client: a fetch shows whether it works."""
    authorities = [trustme.CA() for _ in range(2)]
    certificates = [authority.issue_cert("a.example") for authority in authorities]
    tls = TlsSettings(
        ca_file=str(tmp_path / "ca.pem"),
        client_certificate_file=str(tmp_path / "tls.crt"),
        client_key_file=str(tmp_path / "tls.key"),
    )
    secret = SecretSource(env="NEW") if method == "client_secret_post" else None
    source = _source(auth_method=method, tls=tls, client_secret=secret)
    outcomes = []
    for authority, certificate, key in ((0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 1)):
        authorities[authority].cert_pem.write_to_path(tmp_path / "ca.pem")
        certificates[certificate].cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
        certificates[key].private_key_pem.write_to_path(tmp_path / "tls.key")
        outcomes.append(type(await source.load()))
    assert outcomes == [Changed, Changed, Broken, Changed, Unchanged]


@pytest.mark.parametrize("content", [None, "no certificates"])
async def test_tls_files_that_cannot_be_used_are_told_by_name(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    source = _source(client_secret=SecretSource(env="NEW"), tls=TlsSettings(ca_file=str(path)))
    first, second = await source.load(), await source.wait_for_change()
    assert first == Changed(secret=Secret("new"))
    assert isinstance(second, Broken)
    assert second.error.startswith(f"tls.ca_file of the credential cannot be used: the file {path} ")


# --- two secrets ---------------------------------------------------------------------------------------------------


async def test_both_secrets_are_known() -> None:
    source = _source(client_secret=SecretSource(env="NEW"), previous_client_secret=SecretSource(env="OLD"))
    assert source.previous() is None
    assert await source.load() == Changed(secret=Secret("new"))
    assert (source.current(), source.previous()) == (Secret("new"), Secret("old"))


@pytest.mark.parametrize("content", [None, "", "\n", "new\n"], ids=["missing", "empty", "blank", "the same"])
async def test_there_need_not_be_a_previous_secret(tmp_path: Path, content: str | None) -> None:
    """Between two rotations there is none."""
    path = tmp_path / "previous"
    if content is not None:
        path.write_text(content)
    source = _source(client_secret=SecretSource(env="NEW"), previous_client_secret=SecretSource(file=str(path)))
    assert await source.load() == Changed(secret=Secret("new"))
    assert source.previous() is None
    unset = _source(client_secret=SecretSource(env="NEW"), previous_client_secret=SecretSource(env="UNSET"))
    assert await unset.load() == Changed(secret=Secret("new"))


async def test_secrets_that_move_up_together_are_one_change(tmp_path: Path) -> None:
    """A rotation writes both files: one token request, not two."""
    clock, paths = ManualClock(), (tmp_path / "current", tmp_path / "previous")
    paths[0].write_text("one")
    source = _source(
        clock,
        client_secret=SecretSource(file=str(paths[0])),
        previous_client_secret=SecretSource(file=str(paths[1])),
    )
    assert isinstance(source, CombinedCredentials)
    await source.load()
    outcomes: list[Outcome] = []

    async def watch() -> None:
        while True:
            outcomes.append(await source.wait_for_change())

    task = asyncio.get_running_loop().create_task(watch())
    for text, path in zip(("two", "one"), paths, strict=True):
        path.write_text(text)
    for _ in range(2):
        await until(lambda: clock.next_wake_at is not None)
        await clock.advance(POLL_INTERVAL)
    await until(lambda: clock.next_wake_at is not None)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert outcomes == [Changed(secret=Secret("two"))]


async def test_what_is_wrong_with_one_file_does_not_hold_up_the_other(tmp_path: Path) -> None:
    """A new secret is used beside a broken previous one, and the error is reported until it is mended."""
    paths = tmp_path / "current", tmp_path / "previous"
    source = _source(
        client_secret=SecretSource(file=str(paths[0])), previous_client_secret=SecretSource(file=str(paths[1]))
    )
    outcomes = []
    for current, previous in (("one", "a\nb"), ("two", "a\nb"), ("two", "one"), ("two", "a\nb"), ("two", "one")):
        paths[0].write_text(current)
        paths[1].write_text(previous)
        outcomes.append(await source.load())
        if isinstance(outcomes[-1], Changed) and previous == "a\nb":
            outcomes.append(await source.wait_for_change())
    two_lines = (
        f"no client secret: the file {paths[1]} holds more than one line; it must hold the secret and nothing else"
    )
    told = Broken(error=two_lines)
    assert outcomes == [
        Changed(secret=Secret("one")),
        told,
        Changed(secret=Secret("two")),
        told,
        Changed(secret=Secret("two")),
        told,
        Restored(),
    ]
    assert repr(source) == f"<CombinedCredentials <WatchedFile {paths[0]}>, <WatchedFile {paths[1]}>>"


# --- masking -------------------------------------------------------------------------------------------------------


async def test_each_secret_is_masked_as_it_is_read(tmp_path: Path) -> None:
    """The current and the previous one, the first and those after it, before anything else has it."""
    paths = tmp_path / "current", tmp_path / "previous"
    masked = Masked()
    settings = _settings(
        client_secret=SecretSource(file=str(paths[0])), previous_client_secret=SecretSource(file=str(paths[1]))
    )
    source = credentials_from(settings, environ={}, clock=ManualClock(), mask=masked)
    for current, previous in (("one", ""), ("two", "one"), ("a\nb", "two")):
        paths[0].write_text(current)
        paths[1].write_text(previous)
        await source.load()
    kinds = [f"the file {path}" for path in paths]
    # Both are read at once, so either may come first.
    seen = [(kinds.index(kind), secret.reveal()) for kind, secret in masked.secrets if secret.reveal()]
    assert sorted(seen, key=lambda each: each[0]) == [(0, "one"), (0, "two"), (1, "one"), (1, "two")]


async def test_a_secret_of_the_environment_a_key_and_an_assertion_are_masked_as_they_are_read(tmp_path: Path) -> None:
    key, assertion = _key(), _jwt(1)
    (tmp_path / "key").write_text(key)
    (tmp_path / "assertion").write_text(assertion)
    masked = Masked()
    for settings in (
        _settings(client_secret=SecretSource(env="NEW")),
        _settings(auth_method="private_key_jwt", private_key=PrivateKeySettings(file=str(tmp_path / "key"))),
        _settings(auth_method="client_assertion", client_assertion=AssertionSource(file=str(tmp_path / "assertion"))),
    ):
        await credentials_from(settings, environ={"NEW": "new"}, clock=ManualClock(), mask=masked).load()
    assert [secret.reveal() for _, secret in masked.secrets] == ["new", key, assertion]
