"""`python -m trainer landmarks …`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.options import DETECTOR_BUNDLE, Unpacked

app = typer.Typer(no_args_is_help=True, help="Train the net that refines the detector's landmarks.")

Config = Annotated[Path, typer.Option(help="YAML with the run's settings.")]
CONFIG = Path("configs/landmarks.yaml")


@app.command()
def train(
    data: Annotated[list[Path], typer.Option(help="Folder or zip in Ultralytics pose format; repeatable.")],
    yunet: Annotated[Path, typer.Option(help="YuNet's ONNX file, which labels the canvases.")],
    canvases: Annotated[
        Path | None, typer.Option(help="Folder of pictures of one face each, as a further source.")
    ] = None,
    at_most: Annotated[int, typer.Option(min=1, help="Canvases that are looked at, drawn by chance.")] = 12_000,
    config: Config = CONFIG,
    output: Annotated[Path, typer.Option(help="Run folder: checkpoints and figures.")] = Path("runs/landmarks"),
    work: Unpacked = Path("runs/data/detection"),
    resume: Annotated[bool, typer.Option(help="Go on from the run folder's last checkpoint.")] = False,
) -> None:
    """Learn where five landmarks lie in a face that a detector found, and how sure each of them is.

    The faces of the data set's `val` choose the checkpoint.
    """
    from trainer.archives import unpack
    from trainer.detector.finders import YuNet
    from trainer.landmarks import faces, training
    from trainer.landmarks.config import LandmarkConfig

    folder = unpack(data, work)
    parts = [faces.labelled_faces(folder, "train")]
    if canvases is not None:
        parts.append(faces.found_faces(canvases, YuNet(yunet), 0.85, at_most))
    known, held_out = faces.join(parts), faces.labelled_faces(folder, "val")
    typer.echo(f"{len(known)} faces to learn from, {len(held_out)} to choose by")
    best = training.train(LandmarkConfig.load(config), known, held_out, output, resume)
    typer.echo(f"best checkpoint: {best}")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Option(help="What `train` wrote.")],
    bundle: Annotated[Path, typer.Option(help="Detector bundle that it becomes a part of.")] = DETECTOR_BUNDLE,
    config: Config = CONFIG,
) -> None:
    """Make a trained refiner a part of a detector bundle."""
    from trainer.landmarks import export as exporting

    manifest = exporting.export(checkpoint, config, bundle)
    size = (bundle / exporting.GRAPH).stat().st_size
    typer.echo(f"{bundle}: {manifest.model_id} with landmarks refined at {size / 1e6:.1f} MB")
