"""`python -m trainer populate`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.options import Photos, Unpacked


def populate(
    photos: Photos,
    url: Annotated[str, typer.Option(help="Of the running registry.")] = "http://127.0.0.1:8000",
    api_key: Annotated[str | None, typer.Option(envvar="REGISTRY_API_KEY", help="With the scope `enrol`.")] = None,
    collection: Annotated[str, typer.Option(help="That they are enrolled in.")] = "default",
    clients: Annotated[int, typer.Option(min=1, max=64, help="People at once.")] = 4,
    pictures: Annotated[int, typer.Option(min=1, max=32, help="Of one person in one request.")] = 8,
    output: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("runs/populate"),
    work: Unpacked = Path("runs/data/photos"),
) -> None:
    """Register a whole data set into a running registry; the folder's name is the person's.

    The same command may be given again: what is enrolled already is not enrolled twice. For 100,000 pictures on the
    registry's own machine, `POST /jobs/enrolments` from a folder needs no client.
    """
    import time

    from service.client import Registry
    from service.errors import Unavailable
    from trainer.archives import unpack
    from trainer.configuration import ConfigError
    from trainer.pictures import pictures_by_identity
    from trainer.populate import enrolment
    from trainer.populate.report import write_report

    people = pictures_by_identity(unpack(photos, work))
    if not people:
        raise ConfigError("no <identity>/<photo> in " + ", ".join(str(source) for source in photos))
    started = time.monotonic()
    try:
        with Registry(url, api_key) as registry:
            portions = enrolment.portions(people, pictures)
            outcomes = list(enrolment.populate(registry, portions, collection, clients))
    except Unavailable as error:
        raise ConfigError(f"{url}: {error.detail}") from None
    typer.echo(write_report(outcomes, time.monotonic() - started, output))
    typer.echo(f"{output / 'report.md'}")
    if all(outcome.status == enrolment.REJECTED for outcome in outcomes):
        raise typer.Exit(1)
