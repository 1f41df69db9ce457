"""The commands `identity-trainer detector train`, `quantise` and `export`."""

from pathlib import Path
from typing import Annotated

import typer

from trainer.detector.commands.options import WORK, Data
from trainer.options import CONFIGS, DETECTOR_BUNDLE, DetectorBundle, Provenance, Unpacked

TrainingConfig = Annotated[Path, typer.Option(help="YAML file that trained the checkpoint.")]


def train(
    data: Data,
    config: Annotated[Path, typer.Option(help="YAML file with the settings of the run.")] = CONFIGS / "detector.yaml",
    initial: Annotated[
        Path | None, typer.Option(help="Ultralytics checkpoint with the initial weights; unset: random weights.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Detector bundle with the initial weights, such as the shipped one.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Run folder for checkpoints, curves and logs.")] = Path("runs/detector"),
    work: Unpacked = WORK,
    resume: Annotated[bool, typer.Option(help="Continue from the last checkpoint of the run folder.")] = False,
) -> None:
    """Fine-tune a YOLO pose model on faces with five landmarks.

    Training starts from --bundle, from --initial (for example COCO weights of Ultralytics) or from random weights. The
    checkpoint with the highest mAP on the split `val` is weights/best.pt in the run folder; `detector export` packs it.
    """
    from trainer.archives import unpack
    from trainer.detector import restoration, training
    from trainer.detector.config import DetectorConfig

    if initial is not None and bundle is not None:
        raise typer.BadParameter("--initial and --bundle exclude each other; name one of them")
    settings, folder = DetectorConfig.load(config), unpack(data, work)
    if bundle is not None and not resume:
        initial = restoration.restored_checkpoint(bundle, settings, folder, output)
    best = training.train(settings, folder, initial, output, resume)
    typer.echo(f"best checkpoint: {best}")


def add_first_look(
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint of a small detector: configs/detector-first-look.yaml.")],
    bundle: Annotated[Path, typer.Option(help="Detector bundle to which it is added; it is changed.")],
    config: TrainingConfig = CONFIGS / "detector-first-look.yaml",
) -> None:
    """Add a small detector to a bundle, which the service tries first if a request needs one prominent face.

    If it finds none, or one that is too small to be chosen for certain, the bundle's own detector processes the
    picture. So it saves time, and does not decide what is detected.
    """
    from trainer.detector import export as exporting

    manifest = exporting.add_first_look(checkpoint, config, bundle)
    size = (bundle / exporting.FIRST_LOOK_GRAPH).stat().st_size
    typer.echo(f"{bundle}: {manifest.model_id}, first look of {size / 1e6:.1f} MB")


def quantise(
    data: Data,
    output: Annotated[Path, typer.Option(help="Folder of the 8-bit bundle, which OpenVINO runs; it is replaced.")],
    bundle: DetectorBundle = DETECTOR_BUNDLE,
    split: Annotated[
        str, typer.Option(help="Split whose pictures determine the ranges; not one that you report on.")
    ] = "train",
    work: Unpacked = WORK,
) -> None:
    """Write an 8-bit copy of a detector bundle, quantised with NNCF.

    Quantisation changes the detections. Measure the copy before you use it: `identity-trainer detector evaluate
    --bundle <copy>`.
    """
    from trainer.archives import unpack
    from trainer.detector import quantisation

    pictures = sorted(path for path in (unpack(data, work) / "images" / split).glob("*") if path.is_file())
    manifest = quantisation.quantise(bundle, pictures, output)
    typer.echo(f"{output}: {manifest.model_id}")


def export(
    checkpoint: Annotated[
        Path, typer.Option(help="Ultralytics checkpoint of faces: a pose model with five landmarks, or boxes alone.")
    ],
    output: Annotated[Path, typer.Option(help="Bundle folder to write.")],
    model_id: Annotated[str, typer.Option(help="Permanent name of this model.")],
    config: TrainingConfig = CONFIGS / "detector.yaml",
    min_score: Annotated[
        float, typer.Option(help="Minimum score of a detection, 0 to 1; choose it on the split `val`.")
    ] = 0.35,
    provenance: Provenance = None,
) -> None:
    """Pack a checkpoint into a bundle that the service loads.

    `detector evaluate` reports the score with the highest F1 on `val`, which is a good --min-score.
    """
    from trainer.detector import export as exporting
    from trainer.provenance import complete, load_stated, of_checkpoint

    stated = None if provenance is None else load_stated(provenance)
    terms = complete(stated, of_checkpoint(checkpoint))
    manifest = exporting.export(checkpoint, output, model_id, config, min_score, terms)
    typer.echo(f"{output}: {manifest.model_id}, {(output / manifest.graph).stat().st_size / 1e6:.1f} MB")
