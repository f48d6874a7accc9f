"""Signing of assertions, and the errors of keys that cannot sign."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from switch_proxy.core.authentication.method import AssertionClaims
from switch_proxy.core.authentication.signing import (
    ASSERTION_LIFETIME,
    CLOCK_SKEW,
    check_private_key,
    sign_with_key,
    sign_with_secret,
)
from switch_proxy.core.errors import SecretUnavailableError
from switch_proxy.core.secret import Secret

# joserfc warns of a name of an algorithm that servers know no other for, and of short keys, which are refused.
pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated|Key size should be")

WALL: Final = 1_700_000_000.75

_KEYS: Final[dict[str, Any]] = {
    "RSA": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "short RSA": rsa.generate_private_key(public_exponent=65537, key_size=1024),
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    "X25519": x25519.X25519PrivateKey.generate(),
}


def _pem(name: str, password: bytes | None = None) -> str:
    encryption: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    )
    pem: bytes = _KEYS[name].private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return pem.decode("ascii")


def _public(name: str) -> str:
    pem: bytes = (
        _KEYS[name]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return pem.decode("ascii")


def _jwk(name: str = "P-256", *, private: bool = True, **members: Any) -> str:
    kind = RSAKey if "RSA" in name else ECKey
    # Not imported, for joserfc warns of short ones.
    key = kind(_KEYS[name], _KEYS[name])
    return json.dumps({**key.as_dict(private=private), **members})


def _certificate(name: str) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "the-client")])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject)
    builder = builder.public_key(_KEYS[name].public_key()).serial_number(1)
    now = datetime.now(UTC)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return builder.sign(_KEYS[name], hashes.SHA256())


def _pem_certificate(name: str) -> str:
    return _certificate(name).public_bytes(serialization.Encoding.PEM).decode("ascii")


CLAIMS: Final = AssertionClaims(client_id="the-client", audience="https://a.example/", wall=WALL, assertion_id="id-1")


def _sign(text: str, *, key_id: str | None = None, algorithm: str | None = None) -> Secret:
    """Sign an assertion with this text."""
    return sign_with_key(Secret(text), CLAIMS, key_id=key_id, algorithm=algorithm, source="the file /key")


def _check(text: str, *, key_id: str | None = None, algorithm: str | None = None) -> None:
    check_private_key(text, key_id=key_id, algorithm=algorithm, source="the file /key")


def _header(text: str, **settings: Any) -> dict[str, Any]:
    """Return the header of an assertion that is signed with this text."""
    assertion = _sign(text, **settings)
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in assertion.reveal().split(".")[:2])
    assert claims == {
        "iss": "the-client",
        "sub": "the-client",
        "aud": "https://a.example/",
        "iat": 1_700_000_000 - CLOCK_SKEW,
        "exp": 1_700_000_000 - CLOCK_SKEW + ASSERTION_LIFETIME,
        "jti": "id-1",
    }
    return dict(header)


@pytest.mark.parametrize(
    ("text", "settings", "header"),
    [
        pytest.param(_pem("RSA"), {}, {"alg": "RS256"}, id="RSA by itself"),
        pytest.param(_pem("RSA"), {"algorithm": "PS256"}, {"alg": "PS256"}, id="RSA with PSS"),
        pytest.param(_pem("P-256"), {}, {"alg": "ES256"}, id="EC"),
        pytest.param(_pem("Ed25519"), {}, {"alg": "EdDSA"}, id="Ed25519"),
        pytest.param(_pem("P-256"), {"key_id": "k1"}, {"alg": "ES256", "kid": "k1"}, id="with a key id"),
        pytest.param(_jwk(kid="own"), {}, {"alg": "ES256", "kid": "own"}, id="JWK with a key id"),
        pytest.param(_jwk(kid="own"), {"key_id": "k1"}, {"alg": "ES256", "kid": "k1"}, id="configured key id first"),
        pytest.param(_jwk("RSA", alg="PS256"), {}, {"alg": "PS256"}, id="JWK with an algorithm"),
        pytest.param(_jwk("RSA"), {}, {"alg": "RS256"}, id="JWK without one"),
        pytest.param(_jwk(use="sig", key_ops=["sign"]), {}, {"alg": "ES256"}, id="JWK that is meant to sign"),
    ],
)
def test_header_names_the_algorithm_and_the_key(text: str, settings: dict[str, Any], header: dict[str, str]) -> None:
    assert _header(text, **settings) == {"typ": "JWT", **header}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(_pem("RSA") + _pem_certificate("RSA"), id="behind the key"),
        pytest.param(_pem_certificate("RSA") + _pem("RSA"), id="before the key"),
        pytest.param(_pem("RSA") + _pem_certificate("RSA") + _pem_certificate("P-256"), id="with its chain"),
        pytest.param(_jwk("RSA") + "\n" + _pem_certificate("RSA"), id="behind a JWK"),
    ],
)
def test_certificate_beside_the_key_gives_its_thumbprint(text: str) -> None:
    """RFC 7515 §4.1.8; Microsoft finds the key by it."""
    read = base64.urlsafe_b64decode(_header(text)["x5t#S256"] + "=")
    assert len(read) == 32
    (block,) = [text[text.index("-----BEGIN CERT") :][: text[text.index("-----BEGIN CERT") :].index("-----END CERT")]]
    certificate = x509.load_pem_x509_certificate((block + "-----END CERTIFICATE-----\n").encode())
    assert read == certificate.fingerprint(hashes.SHA256())


@pytest.mark.parametrize(
    ("text", "settings", "complaint"),
    [
        pytest.param("", {}, "holds no private key in PEM or JWK form", id="nothing"),
        pytest.param("a password", {}, "holds no private key in PEM or JWK form", id="text"),
        pytest.param(_public("RSA"), {}, "holds no private key in PEM or JWK form", id="public key"),
        pytest.param(_pem_certificate("RSA"), {}, "holds no private key in PEM or JWK form", id="certificate alone"),
        pytest.param(_pem("RSA", b"password"), {}, "is encrypted with a password", id="encrypted"),
        pytest.param(_pem("short RSA"), {}, "RSA key of 1024 bits", id="short key"),
        pytest.param(_jwk("short RSA"), {}, "RSA key of 1024 bits", id="short key as JWK"),
        pytest.param(_pem("P-384"), {}, "a key of another kind than", id="another curve"),
        pytest.param(_pem("X25519"), {}, "a key of another kind than", id="another kind"),
        pytest.param(_pem("RSA"), {"algorithm": "ES256"}, "RSA, which signs with RS256 or PS256", id="wrong algorithm"),
        pytest.param(_jwk(alg="ES512"), {}, "EC, which signs with ES256 only", id="JWK with a wrong algorithm"),
        pytest.param(_jwk(private=False), {}, "JWK of a public key", id="public JWK"),
        pytest.param(_jwk(use="enc"), {}, "cannot be used for signatures", id="JWK to encrypt with"),
        pytest.param(_jwk(key_ops=["verify"]), {}, "cannot be used for signatures", id="JWK to verify with"),
        pytest.param('{"kty": "oct", "k": "AAAA"}', {}, "holds no JWK of a private key", id="symmetric JWK"),
        pytest.param('{"keys": []}', {}, "holds no JWK of a private key", id="key set"),
        pytest.param('{"kty": "EC"', {}, "holds no JWK of a private key", id="cut short"),
        pytest.param(_pem("RSA") + _pem_certificate("P-256"), {}, "is not of that key", id="another's certificate"),
        pytest.param(
            _pem("RSA") + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            {},
            "certificate beside the key that cannot be read",
            id="broken certificate",
        ),
    ],
)
def test_key_that_cannot_sign_is_told(text: str, settings: dict[str, Any], complaint: str) -> None:
    """With the file it is in, and nothing of what it is."""
    with pytest.raises(SecretUnavailableError) as caught:
        _check(text, **settings)
    assert str(caught.value).startswith("no private key: the file /key ")
    assert complaint in str(caught.value)
    assert caught.value.__context__ is None


@given(
    st.text()
    | st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.dictionaries(st.text(), inner)).map(
        json.dumps
    )
    | st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "d", "n", "e", "kid", "alg", "use"]),
        st.sampled_from(["EC", "RSA", "OKP", "P-256", "Ed25519", "AQAB", "", "A"]) | st.text() | st.integers(),
    ).map(json.dumps)
)
def test_any_text_signs_or_is_told(text: str) -> None:
    """What a file holds by mistake ends in an error for people, never in another."""
    with suppress(SecretUnavailableError):
        _check(text)


def test_signature_is_that_of_the_key() -> None:
    assertion = _sign(_pem("P-256"))
    assert "[secret]" in repr(assertion)
    assert jwt.decode(assertion.reveal(), ECKey.import_key(_KEYS["P-256"])).claims["jti"] == "id-1"


def test_client_secret_jwt_is_signed_with_the_secret_itself() -> None:
    """OpenID Connect Core 1.0 §9: HS256 over the bytes of client_secret."""
    secret = "a-secret-of-at-least-32-bytes-é-ü"
    assertion = sign_with_secret(Secret(secret), CLAIMS)
    token = jwt.decode(assertion.reveal(), OctKey.import_key(secret.encode()))
    assert (token.header["alg"], token.claims["jti"]) == ("HS256", "id-1")


@pytest.mark.parametrize("typ", ["JWT", "client-authentication+jwt"])
def test_typ_of_an_assertion_is_the_one_that_is_asked_for(typ: str) -> None:
    """RFC 7523bis §4: whatever signs it, and beside a key id."""
    claims = replace(CLAIMS, typ=typ)
    secret = "a-secret-of-at-least-32-bytes-é-ü"
    by_secret = jwt.decode(sign_with_secret(Secret(secret), claims).reveal(), OctKey.import_key(secret.encode()))
    assert by_secret.header == {"typ": typ, "alg": "HS256"}
    by_key = sign_with_key(Secret(_pem("P-256")), claims, key_id="k1", algorithm=None, source="the file /key")
    header = json.loads(base64.urlsafe_b64decode(by_key.reveal().partition(".")[0] + "=="))
    assert header == {"typ": typ, "alg": "ES256", "kid": "k1"}


def test_key_that_cannot_sign_any_more_is_told_with_its_file() -> None:
    """It was checked when it was read; what is signed with it is another matter."""
    with pytest.raises(SecretUnavailableError, match=r"^no private key: the file /key .*RSA key of 1024 bits"):
        _header(_pem("short RSA"))


def test_key_that_can_sign_passes_the_trial() -> None:
    _check(_pem("P-256"))
