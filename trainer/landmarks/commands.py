"""`python -m trainer landmarks …`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.options import DETECTOR_BUNDLE, DetectorBundle, Unpacked

app = typer.Typer(no_args_is_help=True, help="Train the net that refines the detector's landmarks.")

Config = Annotated[Path, typer.Option(help="YAML with the run's settings.")]
CONFIG = Path("configs/landmarks.yaml")


@app.command()
def train(
    data: Annotated[list[Path], typer.Option(help="Folder or zip in Ultralytics pose format; repeatable.")],
    yunet: Annotated[Path, typer.Option(help="YuNet's ONNX file, which says where landmarks are.")],
    canvases: Annotated[
        Path | None, typer.Option(help="Folder of pictures of one face each, as a further source.")
    ] = None,
    at_most: Annotated[int, typer.Option(min=1, help="Canvases that are looked at, drawn by chance.")] = 12_000,
    scenes: Annotated[
        Path | None, typer.Option(help="Folder of pictures without a face: what is found there is wrong.")
    ] = None,
    initial: Annotated[Path | None, typer.Option(help="Checkpoint of an earlier run to go on from.")] = None,
    bundle: DetectorBundle = DETECTOR_BUNDLE,
    config: Config = CONFIG,
    output: Annotated[Path, typer.Option(help="Run folder: checkpoints and figures.")] = Path("runs/landmarks"),
    faces: Annotated[Path, typer.Option(help="Where gathered faces are kept for the next run.")] = Path(
        "runs/data/landmarks"
    ),
    work: Unpacked = Path("runs/data/detection"),
    resume: Annotated[bool, typer.Option(help="Go on from the run folder's last checkpoint.")] = False,
) -> None:
    """Learn where five landmarks lie in what a detector found, how sure each of them is, and whether it is a face.

    Landmarks are YuNet's, the median of seven looks at each picture. What is no face is learned from the bundle's own
    mistakes in the pictures. The faces of the data set's `val` choose the checkpoint. The gathered faces are kept
    for the next run.
    """
    from trainer.archives import unpack
    from trainer.landmarks import training
    from trainer.landmarks.config import LandmarkConfig
    from trainer.landmarks.sources import Sources

    settings = LandmarkConfig.load(config)
    sources = Sources(faces, unpack(data, work), bundle, yunet, canvases, at_most, scenes)
    known, held_out = sources.to_learn_from(), sources.to_choose_by()
    typer.echo(f"{known.told()} to learn from, {held_out.told()} to choose by")
    best = training.train(settings, known, held_out, output, initial, resume)
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
