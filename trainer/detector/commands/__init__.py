"""The commands `identity-trainer detector …`"""

from collections.abc import Callable

import typer

from trainer.detector.commands.data import complete, compose, prepare
from trainer.detector.commands.measurement import evaluate, hard_cases
from trainer.detector.commands.models import add_first_look, export, quantise, train

HELP = """Train, measure and export the face detector.

A detector of your own in four commands:

1. identity-trainer detector prepare --pictures my-pictures --output my-faces (labels pictures; check samples.jpg)

2. identity-trainer detector train --data my-faces --bundle service/bundles/detector --output runs/mine

3. identity-trainer detector export --checkpoint runs/mine/weights/best.pt --model-id mine-1 --output my-bundle

4. identity-trainer detector evaluate --data my-faces --bundle my-bundle --bundle service/bundles/detector
"""

app = typer.Typer(no_args_is_help=True, help=HELP)
COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Data": (prepare, complete, compose),
    "Model": (train, quantise, export, add_first_look),
    "Measurement": (evaluate, hard_cases),
}
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
