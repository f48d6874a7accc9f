"""What each method needs, reads, signs and sends."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from switch_proxy.core.authentication.method import AssertionClaims
from switch_proxy.core.authentication.registry import METHODS, describe_credential, method_of, plans_of, section_of
from switch_proxy.core.config.models import (
    AssertionSource,
    CredentialSettings,
    PrivateKeySettings,
    SecretSource,
    TlsSettings,
)
from switch_proxy.core.errors import SecretUnavailableError
from switch_proxy.core.secret import Secret

_SECRET: Final = {"client_secret": SecretSource(file="/secret"), "previous_client_secret": SecretSource(env="OLD")}
_NEEDS: Final[dict[str, dict[str, Any]]] = {
    "client_secret_post": _SECRET,
    "client_secret_basic": _SECRET,
    "client_secret_jwt": _SECRET,
    "private_key_jwt": {"private_key": PrivateKeySettings(file="/key", certificate_file="/crt")},
    "tls_client_auth": {"tls": TlsSettings(client_certificate_file="/tls.crt")},
    "self_signed_tls_client_auth": {"tls": TlsSettings(client_certificate_file="/tls.crt")},
    "client_assertion": {"client_assertion": AssertionSource(file="/token")},
}
_KEY: Final = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    .decode("ascii")
)
CLAIMS: Final = AssertionClaims(client_id="c", audience="https://a.example/", wall=1.7e9, assertion_id="id-1")


def _settings(method: str) -> CredentialSettings:
    return CredentialSettings(token_url="https://a.example/t", client_id="c", auth_method=method, **_NEEDS[method])


def test_every_method_is_tried_here() -> None:
    assert list(METHODS) == list(_NEEDS)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_found_by_its_name_and_uses_the_key_that_it_needs(name: str) -> None:
    settings = _settings(name)
    method = method_of(settings)
    assert method.name == name
    assert method.key in method.keys
    assert section_of(settings) is not None


@pytest.mark.parametrize(
    ("name", "main", "previous", "described"),
    [
        pytest.param(
            "client_secret_basic",
            (("/secret",), None),
            ((), "OLD"),
            ("client secret", "from the file /secret, or else from the environment variable OLD"),
            id="a secret and the one before it",
        ),
        pytest.param(
            "private_key_jwt", (("/key", "/crt"), None), None, ("private key", "from the file /key"), id="a key"
        ),
        pytest.param(
            "client_assertion",
            (("/token",), None),
            None,
            ("client assertion", "from the file /token"),
            id="an assertion",
        ),
        pytest.param("tls_client_auth", None, None, None, id="a certificate"),
    ],
)
def test_a_method_says_where_its_credential_is_read_from(
    name: str, main: object, previous: object, described: object
) -> None:
    plans = plans_of(_settings(name))
    assert [None if plan is None else (plan.paths, plan.variable) for plan in plans] == [main, previous]
    assert plans[1] is None or plans[1].is_optional
    assert describe_credential(_settings(name)) == described


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        pytest.param("client_secret_post", b"a\nb", "more than one line", id="two lines"),
        pytest.param("client_secret_jwt", b"x" * 31, "fewer than the 32 bytes", id="too short to sign with"),
        pytest.param("client_assertion", b"no JWT", "something else than a signed JWT", id="no JWT"),
        pytest.param("private_key_jwt", b"no key", "holds no private key", id="no key"),
    ],
)
def test_a_content_that_cannot_be_used_is_an_error_that_names_its_source(
    name: str, content: bytes, problem: str
) -> None:
    plan, _ = plans_of(_settings(name))
    assert plan is not None
    with pytest.raises(SecretUnavailableError, match=f"no {plan.kind}: the file /x .*{problem}"):
        plan.parse(content, source="the file /x")


def test_a_certificate_that_is_no_text_is_an_error_that_names_its_own_file() -> None:
    plan, _ = plans_of(_settings("private_key_jwt"))
    assert plan is not None
    with pytest.raises(SecretUnavailableError, match="no private key: the file /crt is empty"):
        plan.parse(_KEY.encode(), b"", source="the file /key")


@pytest.mark.parametrize(
    ("name", "credential", "algorithm"),
    [("client_secret_jwt", "x" * 32, "HS256"), ("private_key_jwt", _KEY, "ES256")],
)
def test_a_method_that_signs_makes_an_assertion_of_what_is_read(name: str, credential: str, algorithm: str) -> None:
    settings = _settings(name)
    sign = method_of(settings).sign
    assert sign is not None
    parts = sign(section_of(settings), Secret(credential), CLAIMS).reveal().split(".")
    header, claims = (json.loads(urlsafe_b64decode(part + "==")) for part in parts[:2])
    assert (header["alg"], claims["iss"], claims["aud"], claims["jti"]) == (
        algorithm,
        "c",
        "https://a.example/",
        "id-1",
    )


def test_a_key_that_has_become_another_kind_is_an_error_that_names_its_file() -> None:
    settings = _settings("private_key_jwt")
    sign = method_of(settings).sign
    assert sign is not None
    with pytest.raises(SecretUnavailableError, match="no private key: the file /key holds no private key"):
        sign(section_of(settings), Secret("no key"), CLAIMS)


def test_a_key_is_read_with_what_stands_beside_it() -> None:
    plan, _ = plans_of(_settings("private_key_jwt"))
    assert plan is not None
    assert plan.parse(_KEY.encode(), source="the file /key") == Secret(_KEY)


@pytest.mark.parametrize(
    ("method", "key"),
    [
        ("client_secret_basic", "client_secret_post"),
        ("client_secret_jwt", "assertion_audience"),
        ("private_key_jwt", "assertion_audience"),
    ],
)
def test_what_servers_differ_in_is_named_when_a_client_is_refused(method: str, key: str) -> None:
    assert key in METHODS[method].refusal_hint
