"""Options that several detector commands share, and the detectors that they select."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from service.inference.engine import FaceFinder

Data = Annotated[
    list[Path], typer.Option(help="Folder or zip archive of a data set in Ultralytics' pose format; repeatable.")
]
Yunet = Annotated[Path | None, typer.Option(help="ONNX file of YuNet, which labels pictures instead of the bundle.")]
Checkpoint = Annotated[
    Path | None,
    typer.Option(help="Ultralytics checkpoint (.pt) for faces, which labels pictures instead of the bundle."),
]
WORK = Path("runs/data/detection")


def labelling_detector(bundle: Path, yunet: Path | None, checkpoint: Path | None) -> "FaceFinder":
    """Opens YuNet or a checkpoint if one is named, otherwise the bundle.

    Raises:
        typer.BadParameter: both YuNet and a checkpoint are named.
    """
    from service.inference.detector import YoloFaceDetector
    from service.inference.graph import RuntimeOptions
    from trainer.finders import UltralyticsCheckpoint, YuNet

    if yunet is not None and checkpoint is not None:
        raise typer.BadParameter("--yunet and --checkpoint exclude each other; name one of them")
    if yunet is not None:
        return YuNet(yunet)
    return UltralyticsCheckpoint(checkpoint) if checkpoint else YoloFaceDetector(bundle, RuntimeOptions())
