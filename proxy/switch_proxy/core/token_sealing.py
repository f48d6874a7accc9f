"""
How entries of a token store are named and encrypted, so that nothing in it is readable.

An entry is named by a digest of its *identity*: all that the token depends on. It is encrypted with AES-256-GCM, with a key that is
derived (HKDF, RFC 5869) from the client secret or private key itself: whoever could read the entry could have fetched the token.
The name is associated data, so that an entry cannot be put in the place of another.

cryptography is imported when the first entry is read or written, and so only if a store is configured.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final, final

from switch_proxy.core.token_sharing import MAX_ENTRY, UnusableEntryError

if TYPE_CHECKING:
    from switch_proxy.core.config.models import CredentialSettings
    from switch_proxy.core.secret import Secret

NONCE_BYTES: Final = 12
"""Random bytes of an entry's nonce (NIST SP 800-38D §8.2.2). Entries are written some hundred times a day, so none repeats."""

_MAGIC: Final = b"SPT\x01"
"""The format: its last byte is the version."""

_KEY_BYTES: Final = 32
_TAG_BYTES: Final = 16
_FINGERPRINT_BYTES: Final = 8


def identity_of(settings: CredentialSettings) -> str:
    """Return the identity of a credential's tokens as a digest in hex: credentials that differ in any of these never share."""
    parts = {
        "token_url": settings.token_url,
        "issuer": settings.issuer,
        "client_id": settings.client_id,
        "auth_method": settings.auth_method,
        "audience": settings.audience,
        "scope": settings.scope,
        "resource": list(settings.resource),
        "extra_params": settings.extra_params,
        "extra_headers": settings.extra_headers,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8")).hexdigest()


def failure_name(identity: str, fingerprint: str) -> str:
    """Return the name of the failure entry: one for each secret, so that another secret looks past it."""
    return hashlib.sha256(f"failure {identity} {fingerprint}".encode("ascii")).hexdigest()


@final
class SealingKey:
    """The key that entries are encrypted with, derived from a secret; masked as that is."""

    __slots__ = ("_key",)

    def __init__(self, secret: Secret) -> None:
        self._key = _derive(secret, b"switch-proxy token store: key", _KEY_BYTES)

    def seal(self, content: bytes, *, name: str, nonce: bytes) -> bytes:
        """Return an entry with this content; `nonce` has NONCE_BYTES random bytes that are used once."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - see above

        return _MAGIC + nonce + AESGCM(self._key).encrypt(nonce, content, _MAGIC + name.encode("ascii"))

    def open(self, entry: bytes, *, name: str) -> bytes:
        """Return the content of an entry. Raises UnusableEntryError."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - see above
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        if len(entry) > MAX_ENTRY:
            raise UnusableEntryError("too large")
        if not entry.startswith(_MAGIC) or len(entry) < len(_MAGIC) + NONCE_BYTES + _TAG_BYTES:
            raise UnusableEntryError("not one of ours")
        nonce, sealed = entry[len(_MAGIC) :][:NONCE_BYTES], entry[len(_MAGIC) + NONCE_BYTES :]
        try:
            return AESGCM(self._key).decrypt(nonce, sealed, _MAGIC + name.encode("ascii"))
        except InvalidTag:
            raise UnusableEntryError("encrypted with another key") from None

    def __repr__(self) -> str:
        return "SealingKey([secret])"

    def __reduce__(self) -> str:
        raise TypeError("a SealingKey cannot be pickled: the pickle would hold it in the clear")


def fingerprint(secret: Secret) -> str:
    """Return a short digest in hex that tells one secret from another, from which the secret cannot be computed."""
    return _derive(secret, b"switch-proxy token store: fingerprint", _FINGERPRINT_BYTES).hex()


def _derive(secret: Secret, purpose: bytes, length: int) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

    material = secret.reveal().encode("utf-8", "surrogatepass")
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=purpose).derive(material)
