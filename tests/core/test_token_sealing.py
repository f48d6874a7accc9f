"""How entries of the store of shared tokens are named and encrypted."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch_proxy.core.config.models import AssertionSource, CredentialSettings, SecretSource
from switch_proxy.core.secret import Secret
from switch_proxy.core.token_sealing import SealingKey, failure_name, fingerprint, identity_of
from switch_proxy.core.token_sharing import MAX_ENTRY, UnusableEntryError

SECRET: Final = Secret("zebra-quilt-vortex-secret")
NONCE: Final = bytes(range(12))
NAME: Final = "ab" * 32
CONTENT: Final = b'{"token":"zebra-token"}'
SETTINGS: Final = CredentialSettings(
    token_url="https://login.example.com/oauth/token", client_id="app", client_secret=SecretSource(env="SECRET")
)


def test_an_entry_is_opened_with_the_key_and_the_name_it_was_sealed_with() -> None:
    entry = SealingKey(SECRET).seal(CONTENT, name=NAME, nonce=NONCE)
    assert SealingKey(SECRET).open(entry, name=NAME) == CONTENT
    assert b"zebra" not in entry


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        pytest.param(b"", "not one of ours", id="empty"),
        pytest.param(b"SPT\x02" + bytes(40), "not one of ours", id="another version"),
        pytest.param(b"SPT\x01" + bytes(27), "not one of ours", id="too short for nonce and tag"),
        pytest.param(b"SPT\x01" + bytes(28), "encrypted with another key", id="no such ciphertext"),
        pytest.param(b"SPT\x01" + bytes(MAX_ENTRY), "too large", id="too large"),
        pytest.param(
            SealingKey(Secret("other")).seal(CONTENT, name=NAME, nonce=NONCE),
            "encrypted with another key",
            id="another secret",
        ),
        pytest.param(
            SealingKey(SECRET).seal(CONTENT, name="cd" * 32, nonce=NONCE),
            "encrypted with another key",
            id="in the place of another",
        ),
    ],
)
def test_any_other_entry_is_of_no_use(entry: bytes, reason: str) -> None:
    with pytest.raises(UnusableEntryError) as raised:
        SealingKey(SECRET).open(entry, name=NAME)
    assert raised.value.reason == reason


@given(position=st.integers(0, 4 + 12 + len(CONTENT) + 15), bit=st.integers(0, 7))
def test_no_bit_of_an_entry_can_be_changed(position: int, bit: int) -> None:
    entry = bytearray(SealingKey(SECRET).seal(CONTENT, name=NAME, nonce=NONCE))
    entry[position] ^= 1 << bit
    with pytest.raises(UnusableEntryError):
        SealingKey(SECRET).open(bytes(entry), name=NAME)


def test_a_key_is_masked_and_cannot_be_pickled() -> None:
    assert repr(SealingKey(SECRET)) == "SealingKey([secret])"
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(SealingKey(SECRET))


@pytest.mark.parametrize(
    "change",
    [
        {"token_url": "https://login.example.com/other"},
        {"token_url": None, "issuer": "https://login.example.com"},
        {"client_id": "another"},
        {"auth_method": "client_secret_basic"},
        {"audience": "https://api.example.com"},
        {"scope": "a"},
        {"resource": ("urn:a",)},
        {"extra_params": {"organization": "1"}},
        {"extra_headers": {"X-Tenant": "1"}},
    ],
    ids=" and ".join,
)
def test_credentials_that_differ_in_what_a_token_depends_on_never_share(change: dict[str, Any]) -> None:
    assert identity_of(replace(SETTINGS, **change)) != identity_of(SETTINGS)


@pytest.mark.parametrize(
    "change",
    [{"timeout": 3.0}, {"client_secret": SecretSource(file="/secret")}, {"min_forced_refresh_interval": 5.0}],
    ids=lambda change: next(iter(change)),
)
def test_credentials_that_differ_in_nothing_else_share(change: dict[str, Any]) -> None:
    assert identity_of(replace(SETTINGS, **change)) == identity_of(SETTINGS)


def test_a_failure_has_a_name_for_each_secret() -> None:
    assertion = CredentialSettings(
        token_url="https://login.example.com/oauth/token",
        client_id="app",
        auth_method="client_assertion",
        client_assertion=AssertionSource(file="/token"),
    )
    marks = fingerprint(SECRET), fingerprint(Secret("other"))
    names = {failure_name(identity_of(settings), mark) for settings in (SETTINGS, assertion) for mark in marks}
    assert len(names) == 4
    assert all(len(name) == 64 for name in names)
    assert "zebra" not in "".join(marks)
