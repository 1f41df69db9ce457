"""`keys`: creates, lists and revokes API keys."""

import uuid
from pathlib import Path
from typing import Annotated

import typer

from service.errors import StartupError
from service.gallery.access.scopes import Scope

app = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys. The database stores their hashes only.")


@app.command()
def create(
    name: Annotated[
        str, typer.Option(help="Purpose of the key; shown in lists, refusals and the audit trail.")
    ] = "first",
    scope: Annotated[
        list[Scope] | None,
        typer.Option(metavar="SCOPE", help=f"One of {', '.join(Scope)}; repeatable. Default: all scopes."),
    ] = None,
    collection: Annotated[str | None, typer.Option(help="The only collection that the key may access.")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Days until it expires. Default: never.")] = None,
    rate: Annotated[int | None, typer.Option(min=1, help="Requests per minute. Default: server.rate_limit.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the key to this new file and do not print it.")] = None,
    if_none: Annotated[bool, typer.Option("--if-none", help="Create the key only if no valid key exists.")] = False,
) -> None:
    """Create a key and print it once. Standard error names the data folder or the database."""
    from service.cli import key_operations, location
    from service.runtime.settings import load_settings

    secret = key_operations.create(name, scope or list(Scope), collection, days, output, if_none, rate)
    typer.echo(location.describe(load_settings()), err=True)
    if secret is None:
        typer.echo("a valid key exists; no key was created")
    elif output is None:
        typer.echo(secret)
    else:
        typer.echo(f"the key {name!r} is in {output}")


@app.command("list")
def list_keys() -> None:
    """List every key with its state, scopes, collection and expiry."""
    from service.cli import key_operations

    typer.echo(f"{'id':36}  {'state':8} name  [scopes]  collection  expiry")
    for key in key_operations.list_all():
        state = "revoked" if key.revoked_at else "expired" if key.has_expired else "valid"
        scopes = " ".join(sorted(key.scopes))
        collection = key.collection or "all collections"
        expiry = "never" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d %H:%M %Z}"
        typer.echo(f"{key.id}  {state:8} {key.name}  [{scopes}]  {collection}  {expiry}")


@app.command()
def revoke(key_id: Annotated[uuid.UUID, typer.Argument(help="Id of the key, from `keys list`.")]) -> None:
    """Revoke a key. Every running API refuses it within five seconds."""
    from service.cli import key_operations

    if not key_operations.revoke(key_id):
        raise StartupError(f"no valid key has the id {key_id}; `identity-registry keys list` lists the keys")
    typer.echo(f"revoked {key_id}")
