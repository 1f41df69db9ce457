"""Reads the keys that are stored outside the database: in the settings or in files of the data folder."""

import contextlib
import logging
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from service.errors import StartupError
from service.gallery.access.audit_trail import AuditTrail, audit_key_id
from service.gallery.people.crop_cipher import CropCipher, crop_key_id
from service.runtime.settings import Settings

AUDIT, CROPS, OLD_CROPS = "audit.key", "crops.key", "crops.old_keys"
"""Names of the settings, and of the files in the data folder. `OLD_CROPS` has one key per line."""
KEY_BYTES = 32
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key that exists. `location`: its file, or its setting. `key_id`: hexadecimal; does not reveal the key."""

    name: str
    secret: str = field(repr=False)
    location: str

    @property
    def key_id(self) -> str:
        derive = audit_key_id if self.name == AUDIT else crop_key_id
        return derive(self.secret.encode()).hex()


def stored_keys(settings: Settings) -> list[StoredKey]:
    """Returns the existing keys: of the settings, and of the data folder if the database is the embedded one.

    Raises:
        StartupError: a key's file cannot be read.
    """
    configured: dict[str, Sequence[SecretStr | None]] = {
        AUDIT: [settings.audit.key],
        CROPS: [settings.crops.key],
        OLD_CROPS: settings.crops.old_keys,
    }
    keys = []
    for name, secrets_of_name in configured.items():
        values = [secret.get_secret_value() for secret in secrets_of_name if secret is not None]
        keys += [StoredKey(name, value, f"setting {name}") for value in values]
        if settings.database_url is None and (name == OLD_CROPS or not values):
            file = settings.data_dir / name
            keys += [StoredKey(name, value, f"file {file}") for value in _lines(file)]
    return keys


def open_audit_trail(settings: Settings, create_key: bool = True) -> AuditTrail:
    """Returns the audit trail with its key.

    With the embedded database, the first start creates a key in the data folder. With a configured database
    (`database.url`), all services need the same `audit.key`; without it the returned audit trail is disabled.

    Args:
        create_key: create a missing key; False: the returned audit trail is disabled without a key.

    Raises:
        StartupError: the key's file cannot be read or written.
    """
    if not create_key:
        existing = [key.secret.encode() for key in stored_keys(settings) if key.name == AUDIT]
        return AuditTrail(existing[0] if existing else None)
    if (key := settings.audit.key) is not None:
        return AuditTrail(key.get_secret_value().encode())
    if settings.database_url is not None:
        log.warning("no audit trail is kept: set audit.key, the same for all services on this database")
        return AuditTrail(None)
    return AuditTrail(_key_in(settings.data_dir / AUDIT))


def open_crop_cipher(settings: Settings) -> CropCipher | None:
    """Returns the cipher of stored crops; None without a key. The key is read like that of the audit trail.

    Raises:
        StartupError: the key's file cannot be read or written, or there are old keys and no current key.
    """
    old_keys = [key.secret.encode() for key in stored_keys(settings) if key.name == OLD_CROPS]
    if (key := settings.crops.key) is not None:
        return CropCipher([key.get_secret_value().encode(), *old_keys])
    if settings.database_url is not None:
        if old_keys:
            raise StartupError("crops.old_keys is set but crops.key is not; set crops.key.")
        return None
    return CropCipher([_key_in(settings.data_dir / CROPS), *old_keys])


def _lines(file: Path) -> list[str]:
    """Returns the keys in a file, one per line; none if the file does not exist. Raises StartupError."""
    try:
        return [line.strip() for line in file.read_text().splitlines() if line.strip()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StartupError(f"the key file {file} cannot be read: {error.strerror}; check its permissions") from error


def _key_in(file: Path) -> bytes:
    """Returns the key in a file; creates it if the file does not exist. Raises StartupError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            write_key_file(file, [secrets.token_hex(KEY_BYTES)])
        return file.read_text().strip().encode()
    except OSError as error:
        raise StartupError(
            f"the key file {file} cannot be created or read: {error.strerror}; check the permissions of its folder"
        ) from error


def write_key_file(file: Path, keys: Sequence[str]) -> None:
    """Creates a key file atomically, one key per line. Raises FileExistsError: the file exists; it is not changed."""
    if file.exists():
        raise FileExistsError
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
        output.writelines(f"{key}\n" for key in keys)
        output.flush()
        os.fsync(output.fileno())  # before rows that need the key are committed
    try:
        os.link(partial, file)
    finally:
        partial.unlink()
