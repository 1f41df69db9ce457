"""Restoring keys: into the data folder, into secret files, and refusals to replace other keys."""

from pathlib import Path

import pytest

from service.errors import StartupError
from service.gallery.maintenance.key_ids import NeededKeys
from service.runtime import key_restore
from service.runtime.secret_keys import open_crop_cipher, stored_keys
from service.runtime.settings import Settings, load_settings

AUDIT, CROPS, OLD = "a" * 64, "c" * 64, "o" * 64
KEYS = {"audit.key": [AUDIT], "crops.key": [CROPS], "crops.old_keys": [OLD]}
OTHER = "x" * 64
FACE = b"\x01" * 32


def restore(settings: Settings, secrets_folder: Path | None = None, replace: bool = False) -> None:
    key_restore.execute(key_restore.plan(settings, KEYS, secrets_folder, replace))


def secrets_of(settings: Settings) -> dict[str, list[str]]:
    keys = stored_keys(settings)
    return {name: [key.secret for key in keys if key.name == name] for name in KEYS}


def test_keys_are_restored_into_the_data_folder(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path / "data")
    restore(settings)
    assert secrets_of(settings) == KEYS
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in settings.data_dir.iterdir())
    restore(settings)
    assert len(list(settings.data_dir.iterdir())) == 3
    assert key_restore.missing(NeededKeys({}, {}), stored_keys(settings)) == []


def test_an_old_key_in_the_data_folder_decrypts(tmp_path: Path) -> None:
    before = load_settings(data_dir=tmp_path)
    (tmp_path / "crops.key").write_text(OLD + "\n")
    old = open_crop_cipher(before)
    assert old is not None
    encrypted = old.encrypt(b"crop", FACE)
    (tmp_path / "crops.key").unlink()
    restore(before)
    restored = open_crop_cipher(before)
    assert restored is not None
    assert restored.decrypt(encrypted, FACE) == b"crop"
    assert restored.encrypt(b"crop", FACE)[:4] != encrypted[:4]


def test_another_key_is_replaced_only_on_request_and_kept(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    (tmp_path / "audit.key").write_text(OTHER + "\n")
    with pytest.raises(StartupError, match=r"audit\.key contains another key, with the id [0-9a-f]{16}"):
        restore(settings)
    assert [file.name for file in tmp_path.iterdir()] == ["audit.key"]
    restore(settings, replace=True)
    assert secrets_of(settings) == KEYS
    [former] = tmp_path.glob("audit.key.*")
    assert former.read_text().strip() == OTHER


def test_a_setting_with_another_key_is_not_replaced(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, audit={"key": OTHER})
    with pytest.raises(StartupError, match=r"setting audit\.key does not contain the key"):
        restore(settings, replace=True)
    assert list(tmp_path.iterdir()) == []
    restore(load_settings(data_dir=tmp_path, audit={"key": AUDIT}))
    assert not (tmp_path / "audit.key").exists()


def test_keys_of_a_configured_database_become_secret_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = {"url": "postgresql+psycopg://u@db/registry"}
    with pytest.raises(StartupError, match="--secrets-folder"):
        restore(load_settings(data_dir=tmp_path, database=server))
    folder = tmp_path / "secrets"
    restore(load_settings(data_dir=tmp_path, database=server), folder)
    monkeypatch.setenv("REGISTRY_SECRETS_DIR", str(folder))
    assert secrets_of(load_settings(database=server)) == KEYS
    (folder / "registry_crops__key").write_text(OTHER)
    with pytest.raises(StartupError, match=r"registry_crops__key contains another key"):
        restore(load_settings(database=server), folder)


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"unknown keys \.\./evil"):
        key_restore.plan(load_settings(data_dir=tmp_path), {"../evil": [OTHER]}, None, False)


def test_missing_keys_are_named_by_their_ids(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    restore(settings)
    ids = {key.name: key.key_id for key in stored_keys(settings)}
    present = NeededKeys({ids["audit.key"]: 3, None: 1}, {ids["crops.key"]: 5, ids["crops.old_keys"]: 2})
    assert key_restore.missing(present, stored_keys(settings)) == []
    assert [problem.split(" without")[0] for problem in key_restore.missing(present, [])] == [
        f"audit.key with the id {ids['audit.key']} is missing: 3 audit chains cannot be verified",
        "audit.key is missing: 1 audit chains cannot be verified",
        f"crops.key with the id {ids['crops.key']} is missing: 5 stored crops cannot be decrypted",
        f"crops.key with the id {ids['crops.old_keys']} is missing: 2 stored crops cannot be decrypted",
    ]


def test_secrets_are_not_in_the_representation(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    restore(settings)
    assert AUDIT not in repr(stored_keys(settings))
