"""Crops are sealed under a key, each for its own face."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import CropUnreadable, StartupError
from service.gallery.people.crops import CropCipher
from service.runtime.secret_keys import open_crop_cipher
from service.runtime.settings import load_settings

SECRET, OTHER = b"a" * 32, b"b" * 32
FACE = b"\x01" * 32


@given(st.binary(max_size=200), st.binary(min_size=32, max_size=32))
def test_what_was_sealed_is_opened(file: bytes, face: bytes) -> None:
    crop_cipher = CropCipher([SECRET])
    first, second = crop_cipher.seal(file, face), crop_cipher.seal(file, face)
    assert first != second
    assert crop_cipher.open(first, face) == crop_cipher.open(second, face) == file


def test_an_older_key_still_opens() -> None:
    sealed = CropCipher([OTHER]).seal(b"crop", FACE)
    crop_cipher = CropCipher([SECRET, OTHER])
    assert crop_cipher.open(sealed, FACE) == b"crop"
    assert crop_cipher.seal(b"crop", FACE)[:4] == CropCipher([SECRET]).seal(b"", FACE)[:4] != sealed[:4]


def test_another_key_is_named_as_the_reason() -> None:
    with pytest.raises(CropUnreadable, match="old_keys"):
        CropCipher([SECRET]).open(CropCipher([OTHER]).seal(b"crop", FACE), FACE)


def test_a_crop_can_not_be_given_to_another_face() -> None:
    crop_cipher = CropCipher([SECRET])
    with pytest.raises(CropUnreadable, match="altered"):
        crop_cipher.open(crop_cipher.seal(b"crop", FACE), b"\x02" * 32)


@given(st.integers(0, 35), st.integers(1, 255))
def test_every_changed_byte_is_seen(place: int, change: int) -> None:
    crop_cipher = CropCipher([SECRET])
    sealed = bytearray(crop_cipher.seal(b"crop", FACE))
    assert len(sealed) == 36
    sealed[place] ^= change
    with pytest.raises(CropUnreadable):
        crop_cipher.open(bytes(sealed), FACE)


@pytest.mark.parametrize("length", [0, 3, 4, 15, 16, 31])
def test_what_was_cut_off_is_not_opened(length: int) -> None:
    crop_cipher = CropCipher([SECRET])
    with pytest.raises(CropUnreadable):
        crop_cipher.open(crop_cipher.seal(b"crop", FACE)[:length], FACE)


def test_old_keys_without_a_present_one_are_told() -> None:
    """Crops under them could not be read: the service has no crop_cipher at all then."""
    server = {"url": "postgresql+psycopg://u@db/registry"}
    assert open_crop_cipher(load_settings(database=server)) is None
    with pytest.raises(StartupError, match=r"crops\.key is not"):
        open_crop_cipher(load_settings(database=server, crops={"old_keys": ["k" * 32]}))
