"""`crops`: encrypts stored crops again."""

import typer

REMAINING_ADVICE = (
    "Add the keys of the remaining crops to crops.old_keys, restart services that still use a former key, and repeat. "
    "Crops that were altered remain."
)
app = typer.Typer(no_args_is_help=True, help="Encrypt stored crops again.")


@app.callback()
def _crops() -> None:
    """Keeps `reencrypt` a subcommand although it is the only one."""


@app.command()
def reencrypt() -> None:
    """Encrypt stored crops of former keys again under crops.key, in batches. The service may run.

    It can be interrupted and repeated. Exits with 1 if crops remain under other keys.
    """
    from service.cli import crop_operations

    result = crop_operations.reencrypt()
    typer.echo(f"encrypted again: {result.reencrypted:,} crops; not decrypted: {result.undecryptable:,}")
    for key_id, count in sorted(result.remaining.items()):
        typer.echo(f"remaining: {count:,} crops of the key with the id {key_id.hex()}", err=True)
    if result.remaining:
        typer.echo(REMAINING_ADVICE, err=True)
        raise typer.Exit(1)
    typer.echo("All crops are encrypted under crops.key: empty crops.old_keys and restart all services.")
