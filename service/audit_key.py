"""The key of the audit trail: from the settings, or made beside the embedded database."""

import contextlib
import logging
import os
import secrets
from pathlib import Path

from service.errors import StartupError
from service.gallery.audit import Trail
from service.settings import Settings

FILE = "audit.key"
BYTES = 32
log = logging.getLogger(__name__)


def open_trail(settings: Settings) -> Trail:
    """The trail under the configured key.

    With the embedded database a key is made at the first start, in the data folder and not in the database. Several
    services on a database of their own must be given one in common; without any there is no trail.

    Raises:
        StartupError: the key's file can't be read or written.
    """
    if (given := settings.audit.key) is not None:
        return Trail(given.get_secret_value().encode())
    if settings.database_url is not None:
        log.warning("there is no audit trail: set audit.key, the same for all services on this database")
        return Trail(None)
    file = settings.data_dir / FILE
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            _make(file)
        return Trail(file.read_text().strip().encode())
    except OSError as error:
        raise StartupError(f"the audit trail's key {file} can't be kept: {error.strerror}") from error


def _make(file: Path) -> None:
    """Whole or not at all, and never in the place of another."""
    if file.exists():
        raise FileExistsError
    partial = file.with_name(f".{FILE}.{os.getpid()}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
        output.write(secrets.token_hex(BYTES) + "\n")
    try:
        os.link(partial, file)
    finally:
        partial.unlink()
