"""`python -m service`: runs the identity registry."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from service.errors import StartupError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
database = typer.Typer(no_args_is_help=True, help="The registry's database.")
app.add_typer(database, name="db")
gallery = typer.Typer(no_args_is_help=True, help="The enrolled people.")
app.add_typer(gallery, name="gallery")


@app.command()
def api(
    host: Annotated[str | None, typer.Option(help="Address to bind to.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind to.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that serve.")] = None,
) -> None:
    """Serve the HTTP API. Without a configured database it runs its own PostgreSQL below the data folder."""
    import uvicorn

    from service.settings import load_settings

    # Worker processes read the environment, so that is where options go.
    for name, value in {"HOST": host, "PORT": port, "WORKERS": workers}.items():
        if value is not None:
            os.environ[f"REGISTRY_SERVER__{name}"] = str(value)
    server = load_settings().server
    uvicorn.run(
        "service.app:from_environment",
        factory=True,
        host=server.host,
        port=server.port,
        workers=server.workers,
        timeout_graceful_shutdown=30,
        server_header=False,
    )


@database.command()
def upgrade() -> None:
    """Bring the schema to this release's revision (`alembic upgrade head` does the same)."""
    from service.gallery import schema
    from service.gallery.server import database_url
    from service.settings import load_settings

    settings = load_settings()
    with database_url(settings.database_url, settings.postgres_folder) as url:
        schema.upgrade(url)
        typer.echo(f"the schema is at revision {schema.wanted_revision()}")


@gallery.command()
def report(
    collection: Annotated[str, typer.Option(help="Which collection.")] = "default",
    output: Annotated[Path, typer.Option(help="Where report.md and its pictures go.")] = Path("gallery-report"),
    threshold: Annotated[
        float | None, typer.Option(help="Report on this threshold instead of the collection's default.")
    ] = None,
) -> None:
    """How healthy a gallery is: scores, lookalikes, templates in the wrong place, and what growing would cost."""
    from service.gallery.server import database_url
    from service.inference.bundle import read_embedder
    from service.recognition.decision import DecisionPolicy, OperatingPoint
    from service.report import run
    from service.settings import load_settings

    settings = load_settings()
    manifest = read_embedder(settings.embedder.bundle)
    default = OperatingPoint("fmr", settings.recognition.fmr)
    policy = DecisionPolicy(manifest.calibration, settings.inference.precision, default)
    asked = OperatingPoint.one_of(threshold=threshold)
    with database_url(settings.database_url, settings.postgres_folder) as url:
        typer.echo(f"written: {run.report(url, manifest, policy, collection, output, asked)}")


@app.command()
def demo(
    photos: Annotated[Path | None, typer.Option(help="Your own folder of <name>/*.jpg instead of ours.")] = None,
    output: Annotated[Path, typer.Option(help="Where the annotated picture goes.")] = Path("demo-output"),
) -> None:
    """Enrol, verify and find real people through the HTTP API, and say whether every decision was right."""
    from service.demo.run import run

    raise typer.Exit(run(photos, output))


def main() -> None:
    """Run a command; what an operator must know stands in one line."""
    try:
        app()
    except StartupError as error:
        sys.exit(f"identity-registry: {error}")


if __name__ == "__main__":
    main()
