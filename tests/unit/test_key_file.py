"""The encrypted file of keys: content, passphrase and alterations."""

from pathlib import Path

import pytest

from service.errors import StartupError
from service.gallery.maintenance import key_file

KEYS = {"audit.key": ["a" * 64], "crops.old_keys": ["b" * 64, "c" * 64]}
PASSPHRASE = "a passphrase of a test, with ä"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("keys") / "keys"
    key_file.write(file, KEYS, PASSPHRASE)
    assert file.stat().st_mode & 0o777 == 0o600
    return file.read_bytes()


def test_the_keys_are_read_with_the_passphrase_only(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    assert b"aaaa" not in content
    assert key_file.read(file, PASSPHRASE) == KEYS
    with pytest.raises(StartupError, match="another passphrase, or was altered"):
        key_file.read(file, PASSPHRASE + " ")


@pytest.mark.parametrize("position", [0, 8, 9, 10, 11, 26, 27, 38, 39, -1])
def test_an_altered_byte_is_detected(content: bytes, tmp_path: Path, position: int) -> None:
    altered = bytearray(content)
    altered[position] ^= 1
    (tmp_path / "keys").write_bytes(altered)
    with pytest.raises(StartupError, match=r"altered|not a file of keys"):
        key_file.read(tmp_path / "keys", PASSPHRASE)


@pytest.mark.parametrize("length", [0, 7, 27, 38, 39, 54])
def test_a_truncated_file_is_refused(content: bytes, tmp_path: Path, length: int) -> None:
    (tmp_path / "keys").write_bytes(content[:length])
    with pytest.raises(StartupError, match=r"altered|not a file of keys"):
        key_file.read(tmp_path / "keys", PASSPHRASE)


def test_a_file_that_demands_much_memory_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(content[:8] + b"\xff" + content[9:])
    with pytest.raises(StartupError, match="not a file of keys"):
        key_file.read(tmp_path / "keys", PASSPHRASE)


def test_a_short_passphrase_and_an_existing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="at least 12 characters"):
        key_file.write(tmp_path / "keys", KEYS, "short")
    (tmp_path / "keys").touch()
    with pytest.raises(StartupError, match="File exists"):
        key_file.write(tmp_path / "keys", KEYS, PASSPHRASE)
    with pytest.raises(StartupError, match="No such file"):
        key_file.read(tmp_path / "nothing", PASSPHRASE)
