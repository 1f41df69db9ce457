"""`python -m trainer detector …`"""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Train, evaluate and export the face detector.")

Data = Annotated[list[Path], typer.Option(help="Folder or zip archive in Ultralytics pose format; repeatable.")]
Work = Annotated[Path, typer.Option(help="Where archives are unpacked.")]


@app.command()
def train(
    data: Data,
    config: Annotated[Path, typer.Option(help="YAML with the run's settings.")] = Path("configs/detector.yaml"),
    initial: Annotated[Path | None, typer.Option(help="Checkpoint that initialises the model.")] = None,
    output: Annotated[Path, typer.Option(help="Run folder: checkpoints, curves, logs.")] = Path("runs/detector"),
    work: Work = Path("runs/data/detection"),
    resume: Annotated[bool, typer.Option(help="Go on from the run folder's last checkpoint.")] = False,
) -> None:
    """Fine-tune a YOLO pose model on faces with five landmarks."""
    from trainer.archives import unpack
    from trainer.detector import training
    from trainer.detector.config import DetectorConfig

    best = training.train(DetectorConfig.load(config), unpack(data, work), initial, output, resume)
    typer.echo(f"best checkpoint: {best}")
