"""Encrypts stored crops again under the current key, with a progress bar."""

import typer

from service.cli.transaction import with_database
from service.errors import StartupError
from service.gallery.maintenance import reencryption
from service.gallery.maintenance.reencryption import Reencryption
from service.gallery.storage.database import Database
from service.runtime.secret_keys import open_crop_cipher
from service.runtime.settings import load_settings


def reencrypt() -> Reencryption:
    """Encrypts all crops of former keys again under `crops.key`.

    Raises:
        StartupError: there is no key, or the database cannot be used.
    """
    cipher = open_crop_cipher(load_settings())
    if cipher is None:
        raise StartupError("Crops cannot be encrypted without a key; set crops.key.")

    async def act(database: Database) -> Reencryption:
        async with database.transaction(all_collections=True) as connection:
            total = sum((await reencryption.remaining(connection, cipher)).values())
        with typer.progressbar(length=total, label="crops") as bar:
            return await reencryption.reencrypt(database, cipher, bar.update)

    return with_database(act)
