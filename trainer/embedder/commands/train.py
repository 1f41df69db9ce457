"""`identity-trainer train`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.choices import DeviceName, LandmarkFinderName
from trainer.options import CONFIGS, WORK, Device, Identities, LandmarksFile, LandmarksOption, Teachers, Work


def train(
    identities: Identities,
    unlabelled: Annotated[
        Path | None,
        typer.Option(help="Folder or zip archive of aligned crops of unknown people, for distillation only."),
    ] = None,
    unlabelled_folder: Annotated[str, typer.Option(help="Subfolder of --unlabelled to use.")] = ".",
    teacher: Teachers = None,
    config: Annotated[Path, typer.Option(help="YAML file with the settings of the run.")] = CONFIGS / "train.yaml",
    initial: Annotated[
        Path | None,
        typer.Option(help="Initial weights: a bundle, a checkpoint, or published MobileFaceNet weights as ONNX."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Run folder; the same command resumes the run.")] = Path("runs/embedder"),
    device: Device = DeviceName.AUTO,
    landmarks: LandmarksOption = LandmarkFinderName.YOLO,
    landmarks_file: LandmarksFile = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes that share each batch: one per GPU, or several on a CPU.")
    ] = 1,
    work: Work = WORK,
) -> None:
    """Train the face embedder stage by stage.

    The YAML file lists the stages with their losses; the usual last stage is batch-hard triplet mining. Checkpoints,
    CSV and TensorBoard logs are written into the run folder. The same command resumes an interrupted run.
    """
    from trainer.archives import unpack
    from trainer.embedder import training
    from trainer.embedder.aligned_crops import load_aligned_crops
    from trainer.embedder.config import EmbedderConfig
    from trainer.embedder.crop_landmarks import configured_landmarks
    from trainer.provenance import trained_people

    settings = EmbedderConfig.load(config)  # before hours of work, so that an invalid key fails at once
    labelled_folder = unpack(identities, work / "identities")
    unlabelled_crops = unpack([unlabelled], work / "unlabelled") / unlabelled_folder if unlabelled else None
    crops = load_aligned_crops(labelled_folder, unlabelled_crops, work / "cache")
    if excluded := sorted(set(settings.split.wrong_labels) & set(crops.identities)):
        typer.echo(f"excluded by split.wrong_labels: {', '.join(excluded)}")
    points = None
    if settings.landmark_channels is not None:
        points = configured_landmarks(crops, settings.landmark_channels, landmarks, landmarks_file)
    best = training.train(
        settings,
        crops,
        teacher or (),
        work / "cache",
        output,
        initial,
        device,
        processes,
        landmarks=points,
        before=None if initial is None else trained_people(initial),
    )
    typer.echo(f"best checkpoint: {best}")
