"""Encryption of stored crops."""

import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from service.errors import CropUnreadable

KEY_BYTES, KEY_ID_BYTES, NONCE_BYTES = 32, 4, 12


class CropCipher:
    """Encrypts crops with AES-256-GCM (NIST SP 800-38D); the associated data binds each crop to its face.

    An encrypted crop consists of the key id (4 bytes, derived from the secret), a random nonce (12 bytes), and the
    ciphertext with its tag.

    Args:
        secrets: the first one encrypts; each one decrypts the crops that it has encrypted.
    """

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._ciphers: dict[bytes, AESGCM] = {}
        for secret in secrets:
            key_id, key = _derive(secret)
            self._ciphers.setdefault(key_id, AESGCM(key))

    @property
    def current_key_id(self) -> bytes:
        """The id of the key that encrypts."""
        return next(iter(self._ciphers))

    def encrypt(self, file: bytes, source_sha256: bytes) -> bytes:
        """Encrypts a crop's file; `source_sha256` identifies the face and must be the same for decryption."""
        key_id, cipher = next(iter(self._ciphers.items()))
        nonce = os.urandom(NONCE_BYTES)
        return key_id + nonce + cipher.encrypt(nonce, file, source_sha256)

    def decrypt(self, encrypted: bytes, source_sha256: bytes) -> bytes:
        """Returns the crop's file.

        Raises:
            CropUnreadable: the key is unknown, or the bytes are not those that were encrypted for this face.
        """
        key_id, nonce = encrypted[:KEY_ID_BYTES], encrypted[KEY_ID_BYTES : KEY_ID_BYTES + NONCE_BYTES]
        if (cipher := self._ciphers.get(key_id)) is None:
            raise CropUnreadable(
                "a crop was encrypted with a key that is neither crops.key nor in crops.old_keys; add it there"
            )
        try:
            return cipher.decrypt(nonce, encrypted[KEY_ID_BYTES + NONCE_BYTES :], source_sha256)
        except (InvalidTag, ValueError):
            raise CropUnreadable("a stored crop was altered; register a new picture") from None


def crop_key_id(secret: bytes) -> bytes:
    """Returns the id with which the crops of a key begin (4 bytes)."""
    return _derive(secret)[0]


def _derive(secret: bytes) -> tuple[bytes, bytes]:
    """Returns key id and key; neither reveals the other (HKDF, RFC 5869)."""
    length = KEY_ID_BYTES + KEY_BYTES
    derived = HKDF(hashes.SHA256(), length, salt=None, info=b"identity-registry crops").derive(secret)
    return derived[:KEY_ID_BYTES], derived[KEY_ID_BYTES:]
