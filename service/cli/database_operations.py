"""Backs up and restores the registry with the keys outside the database."""

from collections.abc import Iterator
from pathlib import Path

from service.cli import passphrase
from service.errors import StartupError
from service.gallery.maintenance import backup as dumps
from service.gallery.maintenance import key_file, key_ids
from service.gallery.storage import distribution, schema
from service.gallery.storage.server import database_url
from service.runtime import key_restore
from service.runtime.secret_keys import stored_keys
from service.runtime.settings import load_settings


def backup(output: Path, keys: Path | None, passphrase_file: Path | None) -> Iterator[str]:
    """Writes the database to `output`, and the keys outside it to `keys` if that is not None.

    Yields:
        Lines for the operator: the size, and which keys a restore needs and where they are.

    Raises:
        StartupError: a file exists or cannot be written, or the passphrase is missing or too short.
    """
    settings = load_settings()
    existing = stored_keys(settings)
    if keys is not None:
        dumps.require_new_file(keys)
        secret = passphrase.read(passphrase_file, confirm=True)
    with database_url(settings.owner_url, settings.postgres_folder) as url:
        dumps.require_new_file(output)
        needed = key_ids.read(url)
        if keys is not None:  # before the dump, which takes longer
            key_restore.export(existing, keys, secret)
        size = dumps.backup(url, output)
    yield f"{output}: {size / 1e6:.1f} MB"
    if keys is not None:
        yield f"{keys}: the keys, encrypted with the passphrase; store it apart from the backup"
    elif existing:
        yield "A restore also needs these keys, which the backup does not contain:"
    for key in existing:
        yield f"  {key.name}  id {key.key_id}  {key.location}"
    yield from (f"WARNING: {problem}" for problem in key_restore.missing(needed, existing))


def convert(back: bool) -> Iterator[str]:
    """Distributes the tables among the nodes of a Citus cluster, or brings them back. Yields a line for each table.

    Raises:
        StartupError: the database has no Citus worker nodes, or the tables are in use.
    """
    settings = load_settings()
    with database_url(settings.owner_url, settings.postgres_folder) as url:
        schema.upgrade(url, app_password=settings.app_password)
        yield from distribution.convert(url, distribution.undistribute if back else distribution.distribute)
        schema.grant(url, settings.app_password)
    yield "all tables are on the coordinator" if back else "all tables are distributed"


def restore(
    dump: Path,
    replace: bool,
    keys: Path | None,
    passphrase_file: Path | None,
    secrets_folder: Path | None,
    replace_keys: bool,
) -> Iterator[str]:
    """Restores a dump and migrates it, and restores the keys outside the database if `keys` is not None.

    Yields:
        Lines for the operator: which keys were written, and which the database needs and are missing.

    Raises:
        StartupError: the dump or the keys cannot be restored. Keys are checked before the database is changed.
    """
    settings = load_settings()
    if keys is None and (secrets_folder is not None or replace_keys):
        raise StartupError("--secrets-folder and --replace-keys concern the keys of --keys; add it.")
    writes = []
    if keys is not None:
        secrets = key_file.read(keys, passphrase.read(passphrase_file, confirm=False))
        writes = key_restore.plan(settings, secrets, secrets_folder, replace_keys)
    with database_url(settings.owner_url, settings.postgres_folder) as url:
        dumps.restore(url, dump, replace)
        key_restore.execute(writes)
        yield from (f"written: {write.file}" for write in writes)
        schema.after_restore(url)
        schema.upgrade(url, app_password=settings.app_password)
        yield from distribution.convert(url, distribution.after_restore)
        schema.grant(url, settings.app_password)
        needed = key_ids.read(url)
    yield f"restored; the schema is at revision {schema.this_release().wanted}"
    if secrets_folder is None:
        problems = key_restore.missing(needed, stored_keys(settings))
        yield from (f"WARNING: {problem} Restore the key before the service starts." for problem in problems)
