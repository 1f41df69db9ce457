"""`python -m trainer`: trains the face detector and the face embedder and packs them into bundles."""

import sys
from collections.abc import Callable

import typer
from pydantic import ValidationError

from service.errors import RegistryError, StartupError
from trainer.classifier.commands import app as classifier
from trainer.classifier.commands import predict
from trainer.configuration import ConfigError
from trainer.detector.commands import app as detector
from trainer.embedder import commands as embedder
from trainer.explore.commands import explore
from trainer.importing.commands import import_parquet
from trainer.landmarks.commands import app as landmarks
from trainer.populate.commands import populate
from trainer.shape.commands import app as shape
from trainer.sweep.commands import sweep
from trainer.tuning.commands import tune

app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False, help=__doc__)
app.add_typer(detector, name="detector")
app.add_typer(landmarks, name="landmarks")
app.add_typer(classifier, name="classifier")
app.add_typer(shape, name="shape")
COMMANDS: tuple[Callable[..., None], ...] = (
    import_parquet,
    embedder.prepare,
    explore,
    embedder.train,
    embedder.export,
    embedder.calibrate,
    embedder.evaluate,
    sweep,
    tune,
    predict,
    populate,
)
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """Run a command; what its user can mend is told in words."""
    try:
        app()
    except (ConfigError, StartupError, RegistryError, FileNotFoundError, ValidationError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
