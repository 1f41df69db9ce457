"""The commands `identity-trainer detector evaluate` and `hard-cases`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.detector.commands.options import WORK, Data
from trainer.options import DETECTOR_BUNDLE, DetectorBundle, Unpacked

if TYPE_CHECKING:
    from trainer.detector.report import DetectorUnderTest

LOWEST_SCORE = 0.02
"""Minimum score of the detections on a precision-recall curve."""
CHECKPOINT_MIN_SCORE = 0.25
"""Operating score of an Ultralytics checkpoint; it is Ultralytics' default."""


def evaluate(
    data: Data,
    bundle: Annotated[
        list[Path] | None, typer.Option(help="Detector bundle; repeatable. Unset: the shipped bundle.")
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="Split to report on; repeatable. Unset: val.")] = None,
    image_size: Annotated[
        list[int] | None,
        typer.Option(
            help="Input size in pixels, one row each; repeatable. Unset: chosen per picture, as the service does."
        ),
    ] = None,
    yunet: Annotated[
        Path | None, typer.Option(help="ONNX file of YuNet, which is measured too and is the reference for landmarks.")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="Ultralytics checkpoint (.pt) that detects faces; repeatable.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for report, curves and picture sheets.")] = Path(
        "runs/evaluation/detector"
    ),
    work: Unpacked = WORK,
) -> None:
    """Measure average precision (also by face size), landmark errors and false alarms, and show missed faces.

    Bundles run as in the service. A checkpoint runs in Ultralytics at 640 px; loading it executes code that the file
    contains, so name only files that you trust.
    """
    from trainer.archives import unpack
    from trainer.detector import report
    from trainer.detector.median_landmarks import MedianLandmarkDetector
    from trainer.finders import YUNET_MIN_SCORE, YuNet

    folder = unpack(data, work)
    detectors = _detectors(bundle or [DETECTOR_BUNDLE], image_size or [None], yunet, checkpoint or [])
    reference = None
    if yunet is not None:
        augmented = MedianLandmarkDetector(YuNet(yunet, YUNET_MIN_SCORE / 2), include_original=False)
        reference = report.Reference("YuNet", report.DetectorUnderTest(augmented, YUNET_MIN_SCORE))
    output.mkdir(parents=True, exist_ok=True)
    splits = {name: report.measure(detectors, folder, name, reference, output) for name in split or ["val"]}
    alarms = report.false_alarms(detectors)
    text = report.markdown(splits, alarms)
    (output / "report.md").write_text(text)
    (output / "report.json").write_text(report.as_json(splits, alarms))
    typer.echo(text)
    typer.echo(f"report, curves and picture sheets: {output}")


def hard_cases(
    photos: Annotated[
        list[Path], typer.Option(help="Folder or zip archive of photos, most of them with one face; repeatable.")
    ],
    bundle: DetectorBundle = DETECTOR_BUNDLE,
    yunet: Annotated[
        Path | None,
        typer.Option(
            help="ONNX file of YuNet, which is measured too; its faces in the photos are then the ground truth."
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of photos with exactly one face to use.")] = 200,
    output: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path("runs/evaluation/hard-cases"),
    work: Unpacked = Path("runs/data/photos"),
) -> None:
    """Measure detection in rotated, masked, dark, blurred and tightly cropped photos, in groups and at a distance."""
    from trainer.archives import unpack
    from trainer.detector import hard_case_report

    text = hard_case_report.write(unpack(photos, work), bundle, yunet, count, output)
    typer.echo(text)
    typer.echo(f"tables and pictures: {output}")


def _detectors(
    bundles: "list[Path]", sizes: "list[int] | list[None]", yunet: Path | None, checkpoints: "list[Path]"
) -> "dict[str, DetectorUnderTest]":
    """Opens every bundle at every size, YuNet and the checkpoints, by the name that the report shows."""
    from service.inference.detector import YoloFaceDetector
    from service.inference.graph import RuntimeOptions
    from trainer.detector.report import DetectorUnderTest
    from trainer.finders import YUNET_MIN_SCORE, UltralyticsCheckpoint, YuNet

    detectors = {}
    for bundle in bundles:
        for size in sizes:
            detector = YoloFaceDetector(bundle, RuntimeOptions(precision="auto"), size, min_score=LOWEST_SCORE)
            name = detector.manifest.model_id + (f" at {size} px" if size else "")
            detectors[name] = DetectorUnderTest(detector, detector.manifest.min_score)
    if yunet is not None:
        detectors["YuNet"] = DetectorUnderTest(YuNet(yunet, LOWEST_SCORE), YUNET_MIN_SCORE)
    for path in checkpoints:
        checkpoint = UltralyticsCheckpoint(path, min_score=LOWEST_SCORE)
        detectors[path.name] = DetectorUnderTest(checkpoint, CHECKPOINT_MIN_SCORE)
    return detectors
