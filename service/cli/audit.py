"""`audit`: verifies the audit trail and exports its heads."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from service.cli.audit_operations import Verdict

ANOTHER_KEY_ADVICE = (
    "Set audit.key to the key with which these entries were made, or restore it with `db restore --keys`, and verify "
    "again. If audit.key never changed, someone replaced all MACs: treat these chains as altered."
)
app = typer.Typer(no_args_is_help=True, help="Verify the audit trail and export its heads.")


@app.command()
def verify(
    heads: Annotated[Path | None, typer.Option(help="File that `audit heads` wrote earlier.")] = None,
) -> None:
    """Verify every chain and report altered, removed and inserted entries and chains that were cut off.

    Exits with 1 if a chain was altered, and with 3 if chains were made with another key and none was altered.
    """
    from service.cli import audit_operations

    verdicts = audit_operations.verify(heads)
    for verdict in verdicts:
        typer.echo(f"{verdict.collection_id}  {verdict.collection or '(deleted)'}  {_result(verdict)}")
    if any(verdict.problem and not verdict.another_key for verdict in verdicts):
        raise typer.Exit(1)
    if any(verdict.another_key for verdict in verdicts):
        typer.echo(ANOTHER_KEY_ADVICE, err=True)
        raise typer.Exit(3)


def _result(verdict: "Verdict") -> str:
    if verdict.problem is None:
        return f"intact, {verdict.entries:,} entries"
    return f"{'NOT VERIFIED' if verdict.another_key else 'ALTERED'}: {verdict.problem}"


@app.command("heads")
def export_heads(output: Annotated[Path, typer.Argument(help="New file (JSON).")]) -> None:
    """Export the end of every chain. `audit verify --heads` compares this file with the chains later."""
    from service.cli import audit_operations

    typer.echo(f"{output}: the heads of {audit_operations.export_heads(output)} chains")
