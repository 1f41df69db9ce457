"""`db`: migrates, backs up, restores and purges the database."""

from pathlib import Path
from typing import Annotated

import typer

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
) -> None:
    """Write the whole registry to one file. The service may run; the backup is a consistent snapshot."""
    from service.gallery.maintenance import backup
    from service.gallery.storage.server import database_url
    from service.runtime.settings import load_settings

    settings = load_settings()
    with database_url(settings.owner_url, settings.postgres_folder) as url:
        size = backup.backup(url, output)
    typer.echo(f"{output}: {size / 1e6:.1f} MB")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="File that `db backup` wrote.")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace the content of the database.")] = False,
) -> None:
    """Restore a backup in one transaction and migrate it to this release.

    Stop the service first if it uses the database. Identities that were erased and keys that were revoked after the
    backup exist again: erase and revoke them again.
    """
    from service.gallery.maintenance import backup
    from service.gallery.storage import schema
    from service.gallery.storage.server import database_url
    from service.runtime.settings import load_settings

    settings = load_settings()
    with database_url(settings.owner_url, settings.postgres_folder) as url:
        backup.restore(url, file, replace)
        schema.after_restore(url)
        schema.upgrade(url, app_password=settings.app_password)
    typer.echo(f"restored; the schema is at revision {schema.this_release().wanted}")


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
