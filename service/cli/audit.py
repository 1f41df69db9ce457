"""`audit`: verifies the audit trail and exports its heads."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Verify the audit trail and export its heads.")


@app.command()
def verify(
    heads: Annotated[Path | None, typer.Option(help="File that `audit heads` wrote earlier.")] = None,
) -> None:
    """Verify every chain and report altered, removed and inserted entries and chains that were cut off."""
    from service.cli import audit_operations

    verdicts = audit_operations.verify(heads)
    for verdict in verdicts:
        result = f"intact, {verdict.entries:,} entries" if verdict.problem is None else f"BROKEN: {verdict.problem}"
        typer.echo(f"{verdict.collection_id}  {verdict.collection or '(deleted)'}  {result}")
    if any(verdict.problem for verdict in verdicts):
        raise typer.Exit(1)


@app.command("heads")
def export_heads(output: Annotated[Path, typer.Argument(help="New file (JSON).")]) -> None:
    """Export the end of every chain. `audit verify --heads` compares this file with the chains later."""
    from service.cli import audit_operations

    typer.echo(f"{output}: the heads of {audit_operations.export_heads(output)} chains")
