"""Trains, measures and packs the models of the identity registry.

A calibrated model from photos of your people, in one command:

identity-trainer run photos/ --name mine

The same in single steps:

1. identity-trainer prepare --photos photos --output crops (detects and aligns the faces of <identity>/<photo>)

2. identity-trainer train --identities crops --output runs/mine (trains stage by stage; the same command resumes)

3. identity-trainer export --checkpoint runs/mine/…/best.ckpt --model-id mine-1 --output my-bundle

4. identity-trainer calibrate --identities crops --bundle my-bundle (measures the thresholds)

Every command explains its options with --help. Settings are YAML files; examples are in configs/.
"""

import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer
from pydantic import ValidationError

from service.errors import RegistryError, StartupError
from trainer.boxes.commands import boxes
from trainer.classifier.commands import app as classifier
from trainer.classifier.commands import predict
from trainer.configuration import ConfigError
from trainer.detector.commands import app as detector
from trainer.embedder import commands as embedder
from trainer.explore.commands import explore
from trainer.importing.commands import import_checkpoint, import_parquet
from trainer.landmarks.commands import app as landmarks
from trainer.populate.commands import populate
from trainer.run.commands import run
from trainer.shape.commands import app as shape
from trainer.sweep.commands import sweep
from trainer.tuning.commands import tune

PROGRAM = "identity-trainer"
COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Everything in one command": (run,),
    "Data": (import_parquet, boxes, embedder.prepare, explore),
    "Embedder": (
        embedder.slim,
        embedder.train,
        embedder.export,
        embedder.cohort,
        embedder.calibrate,
        embedder.evaluate,
        import_checkpoint,
        sweep,
        tune,
    ),
    "Use": (predict, populate),
}
GROUPS = {"detector": detector, "landmarks": landmarks, "classifier": classifier, "shape": shape}

app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False, help=__doc__)


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


for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
for name, group in GROUPS.items():
    app.add_typer(group, name=name, rich_help_panel="Other models")


def main() -> None:
    """Runs a command; errors that the user can correct are printed without a traceback."""
    try:
        app(prog_name=PROGRAM)
    except (ConfigError, StartupError, RegistryError, FileNotFoundError, ValidationError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
