"""Encryption of stored crops: keys, alteration, and the binding of a crop to its face."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import CropUnreadable, StartupError
from service.gallery.people.crop_cipher import CropCipher
from service.runtime.secret_keys import open_crop_cipher
from service.runtime.settings import load_settings

SECRET, OTHER = b"a" * 32, b"b" * 32
FACE = b"\x01" * 32


@given(st.binary(max_size=200), st.binary(min_size=32, max_size=32))
def test_decryption_returns_the_file(file: bytes, face: bytes) -> None:
    crop_cipher = CropCipher([SECRET])
    first, second = crop_cipher.encrypt(file, face), crop_cipher.encrypt(file, face)
    assert first != second
    assert crop_cipher.decrypt(first, face) == crop_cipher.decrypt(second, face) == file


def test_an_old_key_decrypts() -> None:
    encrypted = CropCipher([OTHER]).encrypt(b"crop", FACE)
    crop_cipher = CropCipher([SECRET, OTHER])
    assert crop_cipher.decrypt(encrypted, FACE) == b"crop"
    assert crop_cipher.encrypt(b"crop", FACE)[:4] == CropCipher([SECRET]).encrypt(b"", FACE)[:4] != encrypted[:4]


def test_an_unknown_key_is_reported() -> None:
    with pytest.raises(CropUnreadable, match="old_keys"):
        CropCipher([SECRET]).decrypt(CropCipher([OTHER]).encrypt(b"crop", FACE), FACE)


def test_a_crop_is_bound_to_its_face() -> None:
    crop_cipher = CropCipher([SECRET])
    with pytest.raises(CropUnreadable, match="altered"):
        crop_cipher.decrypt(crop_cipher.encrypt(b"crop", FACE), b"\x02" * 32)


@given(st.integers(0, 35), st.integers(1, 255))
def test_every_altered_byte_is_detected(position: int, change: int) -> None:
    crop_cipher = CropCipher([SECRET])
    encrypted = bytearray(crop_cipher.encrypt(b"crop", FACE))
    assert len(encrypted) == 36
    encrypted[position] ^= change
    with pytest.raises(CropUnreadable):
        crop_cipher.decrypt(bytes(encrypted), FACE)


@pytest.mark.parametrize("length", [0, 3, 4, 15, 16, 31])
def test_a_truncated_crop_is_refused(length: int) -> None:
    crop_cipher = CropCipher([SECRET])
    with pytest.raises(CropUnreadable):
        crop_cipher.decrypt(crop_cipher.encrypt(b"crop", FACE)[:length], FACE)


def test_old_keys_need_a_current_key() -> None:
    """Without a current key the service has no cipher and could not decrypt the crops."""
    server = {"url": "postgresql+psycopg://u@db/registry"}
    assert open_crop_cipher(load_settings(database=server)) is None
    with pytest.raises(StartupError, match=r"crops\.key is not"):
        open_crop_cipher(load_settings(database=server, crops={"old_keys": ["k" * 32]}))
