"""Keys that lie outside the database: from the settings, or made beside the embedded one."""

import contextlib
import logging
import os
import secrets
from pathlib import Path

from service.errors import StartupError
from service.gallery.access.audit import AuditTrail
from service.gallery.people.crops import CropCipher
from service.runtime.settings import Settings

AUDIT, CROPS = "audit.key", "crops.key"
BYTES = 32
log = logging.getLogger(__name__)


def open_audit_trail(settings: Settings) -> AuditTrail:
    """The audit trail under its key.

    With the embedded database a key is made at the first start, in the data folder and not in the database. Several
    services on a database of their own must be given one in common; without any there is no trail.

    Raises:
        StartupError: the key's file can't be read or written.
    """
    if (given := settings.audit.key) is not None:
        return AuditTrail(given.get_secret_value().encode())
    if settings.database_url is not None:
        log.warning("there is no audit trail: set audit.key, the same for all services on this database")
        return AuditTrail(None)
    return AuditTrail(_kept(settings.data_dir / AUDIT))


def open_crop_cipher(settings: Settings) -> CropCipher | None:
    """What crops are sealed with, its key found as the audit trail's; None: there is none.

    Raises:
        StartupError: the key's file can't be read or written, or there are old keys and no present one.
    """
    older = [key.get_secret_value().encode() for key in settings.crops.old_keys]
    if (given := settings.crops.key) is not None:
        return CropCipher([given.get_secret_value().encode(), *older])
    if settings.database_url is not None:
        if older:
            raise StartupError(
                "crops.old_keys are set and crops.key is not: with what are crops to be kept from now on?"
            )
        return None
    return CropCipher([_kept(settings.data_dir / CROPS), *older])


def _kept(file: Path) -> bytes:
    """The key in a file, made where there is none. Raises StartupError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            _make(file)
        return file.read_text().strip().encode()
    except OSError as error:
        raise StartupError(f"the key {file} can't be kept: {error.strerror}") from error


def _make(file: Path) -> None:
    """Whole or not at all, and never in the place of another."""
    if file.exists():
        raise FileExistsError
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
        output.write(secrets.token_hex(BYTES) + "\n")
    try:
        os.link(partial, file)
    finally:
        partial.unlink()
