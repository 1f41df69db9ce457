"""`identity-trainer run`"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.choices import DeviceName, FinderName, Training
from trainer.options import Device, FinderOption, MinScore, ModelFile

if TYPE_CHECKING:
    from trainer.run.plan import Plan

MODEL_ID = r"[a-z0-9][a-z0-9._-]{2,56}"


def run(
    photos: Annotated[
        list[Path],
        typer.Argument(
            help="Folder or zip archive of <identity>/<photo>, CSV of photo and identity, Parquet, or WebDataset tar."
        ),
    ],
    name: Annotated[str, typer.Option(help="Name of the run, and model id of the model that it trains.")],
    training: Annotated[
        Training, typer.Option(help="Train if the people suffice (auto), always, or never (calibrate only).")
    ] = Training.AUTO,
    finder: FinderOption = FinderName.YOLO,
    model_file: ModelFile = None,
    min_score: MinScore = None,
    provenance: Annotated[
        Path | None,
        typer.Option(
            help="YAML file with the origin and the terms of your photos. Unset: your photos, terms not stated."
        ),
    ] = None,
    plan_only: Annotated[bool, typer.Option("--plan", help="Print the plan and exit.")] = False,
    output: Annotated[Path | None, typer.Option(help="Folder of the run. Unset: runs/NAME.")] = None,
    device: Device = DeviceName.AUTO,
) -> None:
    """Make a calibrated model from photos of your people: align, check, train, compare, calibrate, report.

    The command prints its plan first. It continues the training of the shipped model and compares both models on the
    same held-out people. The better one becomes the bundle in runs/NAME/bundle; runs/NAME/report/report.html shows
    figures, curves, hardest pairs and problems of the data. If the people are too few to train, the command calibrates
    the shipped model on them. The same command resumes an interrupted run and includes new photos.
    """
    from trainer.configuration import ConfigError
    from trainer.datasets.photos import without_copies
    from trainer.datasets.reading import read_photos
    from trainer.finders import Finder
    from trainer.provenance import load_stated
    from trainer.run.decisions import describe
    from trainer.run.execution import Request, execute

    if re.fullmatch(MODEL_ID, name) is None:
        raise ConfigError(f"--name {name!r}: use 3 to 57 lower-case letters, digits, dots, dashes and underscores")
    folder = output or Path("runs") / name
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output {folder} is a file; name a folder")
    terms = None if provenance is None else load_stated(provenance)
    every = read_photos(photos, folder / "photos")
    listed = without_copies(every)
    if len(listed) < len(every):
        typer.echo(f"{len(every) - len(listed):,} exact copies of photos of the same person do not count")
    request = Request(name, photos, listed, folder, Finder(finder, model_file, min_score), training, terms, device)
    _show(request.plan([photo.identity for photo in listed]), device)
    if plan_only:
        return
    result, report = execute(request, typer.echo)
    typer.echo(f"\n{result.outcome.summary}")
    typer.echo(describe(result.outcome.chosen.calibrated.calibration, result.templates).replace("`", ""))
    if result.outcome.alternative:
        typer.echo(result.outcome.alternative)
    typer.echo(f"\nReport: {report}\nServe the model:\n  {result.serve}")


def _show(planned: "Plan", device: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"{planned.photos:,} photos of {len(planned.counts):,} people", highlight=False)
    table = Table("people who", "people", "photos")
    for part, purpose in planned.purposes.items():
        if people := planned.people_of(part):
            table.add_row(purpose, f"{len(people):,}", f"{planned.photos_of(part):,}")
    console.print(table)
    if planned.config is None:
        console.print(f"No training: {planned.reason}.", highlight=False)
    else:
        for stage in planned.config.stages:
            console.print(
                f"Training: stage {stage.name}, {stage.epochs} epochs, batches of {stage.identities_per_batch} people "
                f"x {stage.images_per_identity} photos",
                highlight=False,
            )
    minutes = planned.seconds(device) / 60
    console.print(f"Estimated time: {max(minutes, 1):.0f} min", highlight=False)
