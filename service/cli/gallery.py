"""`gallery`: reports on the enrolled identities."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Report on the enrolled identities.")


@app.callback()
def _gallery() -> None:
    """Keeps `report` a subcommand although it is the only one."""


@app.command()
def report(
    collection: Annotated[str, typer.Option(help="Name of the collection.")] = "default",
    output: Annotated[Path, typer.Option(help="Folder for report.md and its plots.")] = Path("gallery-report"),
    threshold: Annotated[float | None, typer.Option(help="Threshold. Default: that of the collection's rate.")] = None,
) -> None:
    """Compare all templates of a collection and write a report.

    The report contains the scores, duplicate candidates, outliers, and the error rates at ten times the size.
    """
    from service.gallery.storage.server import database_url
    from service.inference.bundle import read_embedder
    from service.recognition.decision import DecisionPolicy
    from service.recognition.operating_point import OperatingPoint
    from service.report import run
    from service.runtime.settings import load_settings

    settings = load_settings()
    default = OperatingPoint("fmr", settings.recognition.fmr)
    manifests = [manifest for folder in settings.embedder.bundles for manifest in read_embedder(folder).models]
    precision = settings.inference.precision
    policies = {
        item.model_id: DecisionPolicy(item.calibration_for(precision), precision, default) for item in manifests
    }
    requested = OperatingPoint.from_request(threshold=threshold)
    with database_url(settings.owner_url, settings.postgres_folder) as url:
        typer.echo(f"written: {run.report(url, policies, collection, output, requested)}")
