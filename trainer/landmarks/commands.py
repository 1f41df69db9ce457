"""The commands `identity-trainer landmarks …`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.options import CONFIGS, DETECTOR_BUNDLE, DetectorBundle, Unpacked

HELP = """Train the landmark refiner, the second stage of a detector bundle.

The refiner receives a crop of each detected face. It corrects the five landmarks, estimates their confidence, and
verifies that the crop shows a face.
"""

app = typer.Typer(no_args_is_help=True, help=HELP)

Config = Annotated[Path, typer.Option(help="YAML file with the settings of the run.")]
CONFIG = CONFIGS / "landmarks.yaml"


@app.command()
def train(
    data: Annotated[
        list[Path], typer.Option(help="Folder or zip archive of a data set in Ultralytics' pose format; repeatable.")
    ],
    yunet: Annotated[Path, typer.Option(help="ONNX file of YuNet, which labels the landmarks.")],
    crops: Annotated[
        Path | None,
        typer.Option(
            help="Folder of pictures that show one face each, such as aligned crops: a further source of faces."
        ),
    ] = None,
    at_most: Annotated[int, typer.Option(min=1, help="Number of pictures drawn at random from --crops.")] = 12_000,
    scenes: Annotated[
        Path | None, typer.Option(help="Folder of pictures without faces: every detection in them is a false alarm.")
    ] = None,
    initial: Annotated[Path | None, typer.Option(help="Checkpoint of an earlier run with the initial weights.")] = None,
    from_bundle: Annotated[
        bool, typer.Option(help="Start from the refiner of --bundle, for example to add pictures of your own.")
    ] = False,
    bundle: DetectorBundle = DETECTOR_BUNDLE,
    config: Config = CONFIG,
    output: Annotated[Path, typer.Option(help="Run folder for checkpoints and metrics.")] = Path("runs/landmarks"),
    faces: Annotated[Path, typer.Option(help="Cache of the collected faces; later runs reuse it.")] = Path(
        "runs/data/landmarks"
    ),
    work: Unpacked = Path("runs/data/detection"),
    resume: Annotated[bool, typer.Option(help="Continue from the last checkpoint of the run folder.")] = False,
) -> None:
    """Train a refiner on labelled pictures, and on the true and false detections of a detector bundle.

    YuNet labels the landmarks; each is the median over seven views of the picture. The bundle's false alarms train the
    refiner to reject crops without a face. The faces of the split `val` select the checkpoint. Collecting the faces
    takes about a quarter of an hour the first time.
    """
    from trainer.archives import unpack
    from trainer.landmarks import training
    from trainer.landmarks.config import LandmarkConfig
    from trainer.landmarks.sources import Sources

    if initial is not None and from_bundle:
        raise typer.BadParameter("--initial and --from-bundle exclude each other; name one of them")
    settings = LandmarkConfig.load(config)
    sources = Sources(faces, unpack(data, work), bundle, yunet, crops, at_most, scenes)
    training_faces, validation_faces = sources.training_faces(), sources.validation_faces()
    typer.echo(f"training: {training_faces.summary()}; validation: {validation_faces.summary()}")
    start = bundle if from_bundle else None
    best = training.train(settings, training_faces, validation_faces, output, initial, resume, start)
    typer.echo(f"best checkpoint: {best}")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint that `landmarks train` wrote.")],
    bundle: Annotated[Path, typer.Option(help="Detector bundle to which the refiner is added; it is changed.")],
    config: Config = CONFIG,
) -> None:
    """Add a trained refiner to a detector bundle, or replace the refiner of the bundle."""
    from trainer.landmarks import export as exporting

    manifest = exporting.export(checkpoint, config, bundle)
    size = (bundle / exporting.GRAPH).stat().st_size
    typer.echo(f"{bundle}: {manifest.model_id}, landmark refiner of {size / 1e6:.1f} MB")
