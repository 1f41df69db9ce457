"""A backup is restored on an empty machine, with and without the keys outside the database."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from service.embedded_postgres.lease import EmbeddedPostgres
from service.errors import CropUnreadable
from service.gallery.people.crop_cipher import CropCipher
from service.runtime.secret_keys import open_crop_cipher
from service.runtime.settings import load_settings
from tests.conftest import open_folder
from tests.photos import COLLINS
from tests.server import running_api

PASSPHRASE = "the passphrase of a test"


@dataclass(frozen=True)
class Saved:
    data: Path
    dump: Path
    keys: Path
    output: str


def command(data: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        env=os.environ | {"REGISTRY_DATA_DIR": str(data)} | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saved]:
    """Enrols a person with a stored crop on one machine and backs it up."""
    data, target = open_folder(), tmp_path_factory.mktemp("backup")
    with running_api(data) as api:
        created = api.client.post("/collections", json={"name": "people", "store_crops": True})
        assert created.status_code == 201, created.text
        files = {"images": ("a.jpg", COLLINS.read_bytes())}
        form = {"external_id": "collins"}
        registered = api.client.post("/register", params={"collection": "people"}, data=form, files=files)
        assert registered.status_code in (200, 201), registered.text
    arguments = ("db", "backup", str(target / "registry.dump"), "--keys", str(target / "keys"))
    without = command(data, *arguments)
    assert (without.returncode, "no terminal" in without.stderr) == (1, True)
    result = command(data, *arguments, IDENTITY_REGISTRY_PASSPHRASE=PASSPHRASE)
    assert result.returncode == 0, result.stderr
    yield Saved(data, target / "registry.dump", target / "keys", result.stdout)
    shutil.rmtree(data)


def decrypted_crops(data: Path, cipher: CropCipher) -> list[bytes]:
    with EmbeddedPostgres(data / "postgres") as url, psycopg.connect(url.replace("+psycopg", "")) as connection:
        rows = connection.execute("SELECT sealed, source_sha256 FROM crop").fetchall()
    return [cipher.decrypt(encrypted, source) for encrypted, source in rows]


def test_the_backup_names_the_keys_and_where_they_are(saved: Saved) -> None:
    for name, digits in (("audit.key", 16), ("crops.key", 8)):
        assert re.search(rf"{name}  id [0-9a-f]{{{digits}}}  file {saved.data / name}", saved.output)
        assert (saved.data / name).read_text().strip() not in saved.output
    assert "WARNING" not in saved.output
    assert saved.keys.stat().st_mode & 0o777 == 0o600


def test_a_backup_with_the_keys_is_complete(saved: Saved, data_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_text(PASSPHRASE + "\n")
    options = ("--keys", str(saved.keys), "--passphrase-file", str(tmp_path / "passphrase"))
    restored = command(data_folder, "db", "restore", str(saved.dump), *options)
    assert restored.returncode == 0, restored.stderr
    assert "WARNING" not in restored.stdout
    verified = command(data_folder, "audit", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert re.search(r"  people  intact, \d+ entries", verified.stdout)
    cipher = open_crop_cipher(load_settings(data_dir=data_folder))
    assert cipher is not None
    [crop] = decrypted_crops(data_folder, cipher)
    assert crop.startswith(b"\x89PNG")


def test_a_restore_without_the_keys_says_which_are_missing(saved: Saved, data_folder: Path) -> None:
    restored = command(data_folder, "db", "restore", str(saved.dump))
    assert restored.returncode == 0, restored.stderr
    assert re.search(r"WARNING: audit\.key with the id [0-9a-f]{16} is missing: \d+ audit chains", restored.stdout)
    assert re.search(r"WARNING: crops\.key with the id [0-9a-f]{8} is missing: 1 stored crops", restored.stdout)
    verified = command(data_folder, "audit", "verify")
    assert (verified.returncode, "without its key" in verified.stderr) == (1, True)
    assert not (data_folder / "audit.key").exists()

    for name in ("audit.key", "crops.key"):  # as a service creates them at its start
        (data_folder / name).write_text("0" * 64 + "\n")
    verified = command(data_folder, "audit", "verify")
    assert (verified.returncode, "ALTERED" in verified.stdout) == (3, False)
    assert re.search(r"  people  NOT VERIFIED: made with another key: entries 1 to \d+ \(key id", verified.stdout)
    assert "audit.key" in verified.stderr
    cipher = open_crop_cipher(load_settings(data_dir=data_folder))
    assert cipher is not None
    with pytest.raises(CropUnreadable):
        decrypted_crops(data_folder, cipher)

    arguments = ("db", "restore", str(saved.dump), "--replace", "--keys", str(saved.keys))
    refused = command(data_folder, *arguments, IDENTITY_REGISTRY_PASSPHRASE=PASSPHRASE)
    assert (refused.returncode, "--replace-keys" in refused.stderr) == (1, True)
    restored = command(data_folder, *arguments, "--replace-keys", IDENTITY_REGISTRY_PASSPHRASE=PASSPHRASE)
    assert restored.returncode == 0, restored.stderr
    assert command(data_folder, "audit", "verify").returncode == 0


def test_a_new_key_of_crops_replaces_the_former_one(saved: Saved, data_folder: Path) -> None:
    environment = {"IDENTITY_REGISTRY_PASSPHRASE": PASSPHRASE}
    assert (
        command(data_folder, "db", "restore", str(saved.dump), "--keys", str(saved.keys), **environment).returncode == 0
    )
    (data_folder / "crops.key").rename(data_folder / "former.key")
    lost = command(data_folder, "crops", "reencrypt")
    assert (lost.returncode, "not decrypted: 1" in lost.stdout) == (1, True)
    assert "crops.old_keys" in lost.stderr
    (data_folder / "former.key").rename(data_folder / "crops.old_keys")
    done = command(data_folder, "crops", "reencrypt")
    assert (done.returncode, "encrypted again: 1 crops; not decrypted: 0" in done.stdout) == (0, True)
    (data_folder / "crops.old_keys").unlink()
    cipher = open_crop_cipher(load_settings(data_dir=data_folder))
    assert cipher is not None
    assert len(decrypted_crops(data_folder, cipher)) == 1
