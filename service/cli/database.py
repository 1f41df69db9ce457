"""`db`: migrates, backs up, restores and purges the database."""

from pathlib import Path
from typing import Annotated

import typer

PassphraseFile = Annotated[
    Path | None,
    typer.Option(help="File with the passphrase. Default: IDENTITY_REGISTRY_PASSPHRASE, else a prompt."),
]
app = typer.Typer(no_args_is_help=True, help="Migrate, back up, restore and purge the database.")


@app.command()
def upgrade() -> None:
    """Migrate the schema to this release's revision, as `alembic upgrade head` does."""
    from service.gallery.storage import schema
    from service.gallery.storage.server import database_url
    from service.runtime.settings import load_settings

    settings = load_settings()
    with database_url(settings.owner_url, settings.postgres_folder) as url:
        schema.upgrade(url, app_password=settings.app_password)
        typer.echo(f"the schema is at revision {schema.this_release().wanted}")


@app.command()
def backup(
    output: Annotated[Path, typer.Argument(help="New file. It contains biometric data: encrypt it.")],
    keys: Annotated[
        Path | None, typer.Option(help="New file for the keys outside the database, encrypted with a passphrase.")
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Write the whole registry to one file. The service may run; the backup is a consistent snapshot.

    The output names the keys outside the database that a restore needs, and where they are.
    """
    from service.cli import database_operations

    for line in database_operations.backup(output, keys, passphrase_file):
        typer.echo(line)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="File that `db backup` wrote.")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace the content of the database.")] = False,
    keys: Annotated[Path | None, typer.Option(help="File that `db backup --keys` wrote: restore the keys too.")] = None,
    passphrase_file: PassphraseFile = None,
    secrets_folder: Annotated[
        Path | None, typer.Option(help="Write the keys to this folder for REGISTRY_SECRETS_DIR. Default: data folder.")
    ] = None,
    replace_keys: Annotated[
        bool, typer.Option("--replace-keys", help="Replace other keys; their files are renamed.")
    ] = False,
) -> None:
    """Restore a backup in one transaction and migrate it to this release.

    Stop the service first if it uses the database. Identities that were erased and keys that were revoked after the
    backup exist again: erase and revoke them again.
    """
    from service.cli import database_operations

    for line in database_operations.restore(file, replace, keys, passphrase_file, secrets_folder, replace_keys):
        typer.echo(line)


@app.command()
def purge() -> None:
    """Remove the bytes of erased identities from the database's files. The database is locked while it runs.

    Rewrites the tables with biometric data and their indexes; takes about as long as restoring a backup.
    """
    from service.gallery.maintenance import purge
    from service.gallery.storage.server import database_url
    from service.runtime.settings import load_settings

    settings = load_settings()
    with database_url(settings.owner_url, settings.postgres_folder) as url:
        for line in purge.purge(url):
            typer.echo(line)


@app.command()
def distribute() -> None:
    """Distribute the tables among the nodes of a Citus cluster: each collection is on one node.

    The database is that of the coordinator, with worker nodes added. Requests wait or answer 503 meanwhile. The
    conversion is one transaction: after an interruption nothing has changed.
    """
    _convert(back=False)


@app.command()
def undistribute() -> None:
    """Bring the tables back from the nodes of a Citus cluster to the coordinator, in one transaction."""
    _convert(back=True)


def _convert(back: bool) -> None:
    from service.cli import database_operations

    for line in database_operations.convert(back):
        typer.echo(line)
