"""The command `populate`."""

from pathlib import Path
from typing import Annotated

import typer

from trainer.options import Photos, Unpacked

ATTEMPTS = 8
"""Attempts per request, more than the client's default: parallel requests may exceed the rate limit repeatedly."""


def populate(
    photos: Photos,
    url: Annotated[str, typer.Option(help="URL of the running registry.")] = "http://127.0.0.1:8000",
    api_key: Annotated[
        str | None, typer.Option(envvar="REGISTRY_API_KEY", help="API key with the scope `enrol`.")
    ] = None,
    collection: Annotated[str, typer.Option(help="Collection that receives the identities.")] = "default",
    clients: Annotated[int, typer.Option(min=1, max=64, help="Number of identities registered in parallel.")] = 4,
    pictures: Annotated[int, typer.Option(min=1, max=32, help="Maximum number of pictures in one request.")] = 8,
    output: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("runs/populate"),
    work: Unpacked = Path("runs/data/photos"),
) -> None:
    """Register a data set of <identity>/<photo> in a running registry; the name of a folder is the label.

    A repeated command enrols no picture twice. On the machine of the registry, `POST /jobs/enrolments` enrols a folder
    without a client.
    """
    import time

    from identity_registry import Registry, RetryPolicy
    from identity_registry.errors import Unavailable
    from trainer.configuration import ConfigError
    from trainer.datasets.photos import by_identity
    from trainer.datasets.reading import read_photos
    from trainer.populate import enrolment
    from trainer.populate.report import write_report

    identities = by_identity(read_photos(photos, work))
    started = time.monotonic()
    try:
        with Registry(url, api_key, retries=RetryPolicy(max_attempts=ATTEMPTS)) as registry:
            batches = enrolment.batches_of(identities, pictures)
            outcomes = list(enrolment.populate(registry, batches, collection, clients))
    except Unavailable as error:
        raise ConfigError(f"{url}: {error.detail}") from None
    typer.echo(write_report(outcomes, time.monotonic() - started, output))
    typer.echo(f"{output / 'report.md'}")
    if all(outcome.status == enrolment.REJECTED for outcome in outcomes):
        raise typer.Exit(1)
