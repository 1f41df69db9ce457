"""Command line of the identity registry: `identity-registry`, or `python -m service`."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

import service.blas_threads
import service.processor  # noqa: F401  before NumPy
from service.cli import api_keys, audit, crops, database, gallery, live, models, people, serve, studio
from service.errors import StartupError

app = typer.Typer(
    name="identity-registry",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Self-hosted face identity registry.",
)


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo(version("identity-registry"))
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Defines the options of the program itself."""


app.command()(serve.serve)
app.command()(serve.worker)
app.command()(serve.jobs)
app.command()(serve.demo)
app.command()(studio.studio)
app.command()(live.live)
app.add_typer(database.app, name="db")
app.add_typer(api_keys.app, name="keys")
app.add_typer(audit.app, name="audit")
app.add_typer(crops.app, name="crops")
app.add_typer(gallery.app, name="gallery")
app.add_typer(models.app, name="models")
app.add_typer(people.app, name="import")


def main() -> None:
    """Runs a command; prints the message of a StartupError without a traceback."""
    try:
        app()
    except StartupError as error:
        sys.exit(f"identity-registry: {error}")


if __name__ == "__main__":
    main()
