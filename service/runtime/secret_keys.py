"""Reads the keys that are stored outside the database: in the settings or in files of the data folder."""

import contextlib
import logging
import os
import secrets
from pathlib import Path

from service.errors import StartupError
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.people.crop_cipher import CropCipher
from service.runtime.settings import Settings

AUDIT, CROPS = "audit.key", "crops.key"
KEY_BYTES = 32
log = logging.getLogger(__name__)


def open_audit_trail(settings: Settings) -> AuditTrail:
    """Returns the audit trail with its key.

    With the embedded database, the first start creates a key in the data folder. With a configured database
    (`database.url`), all services need the same `audit.key`; without it the returned audit trail is disabled.

    Raises:
        StartupError: the key's file cannot be read or written.
    """
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
    old_keys = [key.get_secret_value().encode() for key in settings.crops.old_keys]
    if (key := settings.crops.key) is not None:
        return CropCipher([key.get_secret_value().encode(), *old_keys])
    if settings.database_url is not None:
        if old_keys:
            raise StartupError("crops.old_keys is set but crops.key is not; set crops.key.")
        return None
    return CropCipher([_key_in(settings.data_dir / CROPS), *old_keys])


def _key_in(file: Path) -> bytes:
    """Returns the key in a file; creates it if the file does not exist. Raises StartupError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            _create(file)
        return file.read_text().strip().encode()
    except OSError as error:
        raise StartupError(
            f"the key file {file} cannot be created or read: {error.strerror}; check the permissions of its folder"
        ) from error


def _create(file: Path) -> None:
    """Creates a key file atomically. Raises FileExistsError: the file exists; it is not changed."""
    if file.exists():
        raise FileExistsError
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
        output.write(secrets.token_hex(KEY_BYTES) + "\n")
    try:
        os.link(partial, file)
    finally:
        partial.unlink()
