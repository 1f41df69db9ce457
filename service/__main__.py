"""Command line of the identity registry: `identity-registry`, or `python -m service`."""

import sys

import typer

from service.cli import api_keys, audit, database, gallery, serve
from service.errors import StartupError

app = typer.Typer(
    name="identity-registry",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Self-hosted face identity registry.",
)
app.command()(serve.serve)
app.command()(serve.worker)
app.command()(serve.jobs)
app.command()(serve.demo)
app.add_typer(database.app, name="db")
app.add_typer(api_keys.app, name="keys")
app.add_typer(audit.app, name="audit")
app.add_typer(gallery.app, name="gallery")


def main() -> None:
    """Runs a command; prints the message of a StartupError without a traceback."""
    try:
        app()
    except StartupError as error:
        sys.exit(f"identity-registry: {error}")


if __name__ == "__main__":
    main()
