"""
The assertion that a client signs to authenticate itself: a JWT of RFC 7523 §2.2, of OpenID Connect Core §9's two methods.

Signed by authlib with joserfc's keys. Both import cryptography, which costs 10 MB and 0.1 s, so this module is imported by
what needs a signature, when it does.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from authlib.oauth2.rfc7523 import client_secret_jwt_sign, private_key_jwt_sign
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from switch_proxy.core.errors import SecretUnavailableError
from switch_proxy.core.secret import Secret

if TYPE_CHECKING:
    from switch_proxy.core.authentication.method import AssertionClaims

ASSERTION_LIFETIME: Final = 60
"""
Seconds. Spring Security's; Auth0 asks for a minute at most. It is used once, at once, so it need not live longer than
clocks may differ.
"""

CLOCK_SKEW: Final = 10
"""
Seconds that an assertion's iat lies in the past: a server whose clock is behind this machine's by less does not think
that it is from the future. As much as a token's own allowance (core/tokens.py).
"""

_SHORTEST_RSA_KEY: Final = 2048  # bits, RFC 7518 §3.3

_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)

_Key: TypeAlias = RSAKey | ECKey | OKPKey


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Signer:
    key: _Key
    algorithm: str
    header: dict[str, str]


class _UnusableKeyError(Exception):
    """What was read makes no signature; the text says what is wrong with it, as a predicate."""


def sign_with_secret(secret: Secret, claims: AssertionClaims) -> Secret:
    """Return a new assertion, signed with a client secret (HS256)."""
    key = OctKey.import_key(secret.reveal().encode("utf-8", "surrogatepass"))
    return Secret(
        client_secret_jwt_sign(key, claims.client_id, claims.audience, header={"typ": claims.typ}, **_render(claims))
    )


def sign_with_key(
    key: Secret, claims: AssertionClaims, *, key_id: str | None, algorithm: str | None, source: str
) -> Secret:
    """Return a new assertion, signed with a private key. Raises SecretUnavailableError, which names the `source`."""
    try:
        signer = _read(key.reveal(), key_id=key_id, algorithm=algorithm)
        return Secret(_sign(signer, claims.client_id, claims.audience, _render(claims), typ=claims.typ))
    except _UnusableKeyError as error:
        problem = str(error)
    raise SecretUnavailableError(f"no private key: {source} {problem}")


def check_private_key(text: str, *, key_id: str | None, algorithm: str | None, source: str) -> None:
    """Check by a trial that a key (and certificate) can sign as configured. Raises SecretUnavailableError."""
    try:
        _sign(_read(text, key_id=key_id, algorithm=algorithm), "client", "audience", {"issued_at": 1}, typ="JWT")
    except _UnusableKeyError as error:
        problem = str(error)
    else:
        return
    raise SecretUnavailableError(f"no private key: {source} {problem}")


def _render(claims: AssertionClaims) -> dict[str, Any]:
    return {
        "claims": {"jti": claims.assertion_id},
        "issued_at": int(claims.wall) - CLOCK_SKEW,
        # authlib's own lifetime is an hour.
        "expires_in": ASSERTION_LIFETIME,
    }


def _sign(signer: _Signer, client_id: str, audience: str, claims: dict[str, Any], *, typ: str) -> str:
    try:
        # authlib writes into the header it is given.
        return private_key_jwt_sign(
            signer.key, client_id, audience, alg=signer.algorithm, header={"typ": typ, **signer.header}, **claims
        )
    except JoseError as error:
        # A JWK that is meant for something else ("use", "key_ops").
        problem = f"holds a key that cannot be used for signatures: {error.error}"
    raise _UnusableKeyError(problem)


def _read(text: str, *, key_id: str | None, algorithm: str | None) -> _Signer:
    """Return what signs: a key, PEM or JWK, and what the header says of it; a certificate may stand beside it."""
    certificates = _CERTIFICATE.findall(text)
    text = _CERTIFICATE.sub("", text).strip()
    key, members = _read_jwk(text) if text.startswith("{") else (_read_pem(text), {})
    header: dict[str, str] = {}
    kid = key_id or members.get("kid")
    if isinstance(kid, str) and kid:
        header["kid"] = kid
    if certificates:
        # The first is the key's own, those after it vouch for it (RFC 8446 §4.4.2 has the same order).
        header["x5t#S256"] = _thumbprint(certificates[0], key)
    return _Signer(key=key, algorithm=_algorithm(key, algorithm or members.get("alg")), header=header)


def _read_pem(text: str) -> _Key:
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except TypeError:
        problem = "is encrypted with a password; save the key without one"
    except (ValueError, UnsupportedAlgorithm):
        problem = "holds no private key in PEM or JWK form"
    else:
        return _wrap(key)
    raise _UnusableKeyError(problem)


def _read_jwk(text: str) -> tuple[_Key, dict[str, object]]:
    try:
        members = json.loads(text)
        kinds: dict[str, type[_Key]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
        key: _Key = kinds[members["kty"]].import_key(members)
        private_key = key.private_key
    except (ValueError, TypeError, KeyError, RecursionError, JoseError):
        problem = "holds no JWK of a private key: RSA, EC or OKP (RFC 7517)"
    else:
        if private_key is None:
            raise _UnusableKeyError("holds a JWK of a public key; the private one is needed")
        _wrap(private_key)
        return key, members
    raise _UnusableKeyError(problem)


def _wrap(key: object) -> _Key:
    match key:
        case RSAPrivateKey(key_size=size) if size >= _SHORTEST_RSA_KEY:
            return RSAKey.import_key(key)
        case RSAPrivateKey(key_size=size):
            raise _UnusableKeyError(f"holds an RSA key of {size} bits; RFC 7518 wants {_SHORTEST_RSA_KEY} at least")
        case EllipticCurvePrivateKey(curve=SECP256R1()):
            return ECKey.import_key(key)
        case Ed25519PrivateKey():
            return OKPKey.import_key(key)
        case _:
            raise _UnusableKeyError("holds a key of another kind than RSA, EC on curve P-256, and Ed25519")


def _algorithm(key: _Key, wanted: object) -> str:
    fitting = {"RSA": ("RS256", "PS256"), "EC": ("ES256",), "OKP": ("EdDSA",)}[key.key_type]
    algorithm = fitting[0] if wanted is None else wanted
    if algorithm not in fitting:
        raise _UnusableKeyError(f"holds a key of type {key.key_type}, which signs with {' or '.join(fitting)} only")
    return str(algorithm)


def _thumbprint(pem: str, key: _Key) -> str:
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        is_of_key = certificate.public_key() == key.public_key
        digest = certificate.fingerprint(SHA256())
    except (ValueError, UnsupportedAlgorithm):
        problem = "has a certificate beside the key that cannot be read"
    else:
        if not is_of_key:
            raise _UnusableKeyError("has a certificate beside the key that is not of that key")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
    raise _UnusableKeyError(problem)
