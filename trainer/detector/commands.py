"""`python -m trainer detector …`"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.options import DETECTOR_BUNDLE, DetectorBundle, Provenance, Unpacked

if TYPE_CHECKING:
    from service.inference.engine import FaceFinder
    from trainer.detector.report import Contestant

app = typer.Typer(no_args_is_help=True, help="Train, evaluate and export the face detector.")

Data = Annotated[list[Path], typer.Option(help="Folder or zip archive in Ultralytics pose format; repeatable.")]
Yunet = Annotated[Path | None, typer.Option(help="YuNet's ONNX file, in the bundle's place.")]
Checkpoint = Annotated[Path | None, typer.Option(help="Ultralytics .pt that finds faces, in the bundle's place.")]
LOWEST_SCORE = 0.02
"""From which on detections are read for a precision-recall curve."""


@app.command()
def train(
    data: Data,
    config: Annotated[Path, typer.Option(help="YAML with the run's settings.")] = Path("configs/detector.yaml"),
    initial: Annotated[Path | None, typer.Option(help="Checkpoint that initialises the model.")] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Detector bundle to go on from, such as the shipped one, in its place.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Run folder: checkpoints, curves, logs.")] = Path("runs/detector"),
    work: Unpacked = Path("runs/data/detection"),
    resume: Annotated[bool, typer.Option(help="Go on from the run folder's last checkpoint.")] = False,
) -> None:
    """Fine-tune a YOLO pose model on faces with five landmarks, from COCO's weights or from a bundle."""
    from trainer.archives import unpack
    from trainer.detector import restoring, training
    from trainer.detector.config import DetectorConfig

    if initial is not None and bundle is not None:
        raise typer.BadParameter("begin with a checkpoint or with a bundle, not with both")
    settings, folder = DetectorConfig.load(config), unpack(data, work)
    if bundle is not None and not resume:
        initial = restoring.restored_checkpoint(bundle, settings, folder, output)
    best = training.train(settings, folder, initial, output, resume)
    typer.echo(f"best checkpoint: {best}")


@app.command()
def prepare(
    pictures: Annotated[Path, typer.Option(help="Folder of pictures, searched with its subfolders.")],
    output: Annotated[Path, typer.Option(help="The data set: images, labels, dataset.yaml, prepared.csv, look.jpg.")],
    boxes: Annotated[
        Path | None, typer.Option(help="Boxes drawn by people: <picture's path without suffix>.txt in YOLO format.")
    ] = None,
    bundle: DetectorBundle = DETECTOR_BUNDLE,
    yunet: Yunet = None,
    checkpoint: Checkpoint = None,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="From which on a machine's face is labelled.")] = 0.6,
    validation_share: Annotated[float, typer.Option(min=0, max=1, help="Of the pictures, to choose by.")] = 0.1,
) -> None:
    """Label a folder of pictures with a detector, keep the boxes that people drew, and split.

    The labels come from YuNet or from an Ultralytics checkpoint where one is named, else from the bundle. Machine
    labels are machine labels: look at look.jpg before you train on them.
    """
    from trainer.detector import preparation

    rows = preparation.prepare(
        pictures, boxes, _labeller(bundle, yunet, checkpoint), output, min_score, validation_share
    )
    taken = [row for row in rows if row.split]
    for row in rows:
        if row.problem:
            typer.echo(f"left out {row.picture}: {row.problem}", err=True)
    typer.echo(
        f"{len(taken)} pictures ({sum(row.split == 'val' for row in taken)} to choose by), "
        f"{sum(row.human_boxes for row in taken)} faces drawn by people, "
        f"{sum(row.machine_boxes for row in taken)} by the machine, "
        f"{sum(row.with_landmarks for row in taken)} with landmarks, {len(rows) - len(taken)} left out. "
        f"Look at {output / 'look.jpg'}; the rows are in {output / 'prepared.csv'}."
    )


@app.command()
def complete(
    data: Data,
    yunet: Annotated[Path, typer.Option(help="YuNet's ONNX file: the second opinion, and the landmarks.")],
    output: Annotated[Path, typer.Option(help="Where the split goes; name it as the last --data when you train.")],
    split: Annotated[str, typer.Option(help="To complete; never one to report on.")] = "train",
    bundle: DetectorBundle = DETECTOR_BUNDLE,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="From which on the bundle sees a face.")] = 0.2,
    yunet_min_score: Annotated[float, typer.Option(min=0, max=1, help="From which on YuNet sees it too.")] = 0.5,
    work: Unpacked = Path("runs/data/detection"),
) -> None:
    """Add the faces that nobody labelled: those that a bundle and YuNet both see."""
    from service.inference.detector import YoloFaceDetector
    from service.inference.graph import RuntimeOptions
    from trainer.archives import unpack
    from trainer.detector import completing
    from trainer.detector.finders import YuNet

    ours = YoloFaceDetector(bundle, RuntimeOptions(precision="auto"), min_score=min_score)
    agreement = completing.Agreement(ours, min_score, YuNet(yunet, yunet_min_score), yunet_min_score)
    added = completing.complete(unpack(data, work), split, agreement, output)
    typer.echo(f"{output}: {added} faces added. Look at {output / 'added.jpg'} before you train on them.")


@app.command()
def compose(
    canvases: Annotated[list[Path], typer.Option(help="Folder or zip of pictures of one face each; repeatable.")],
    output: Annotated[Path, typer.Option(help="Data set to write; name it as a further --data when you train.")],
    scenes: Annotated[
        Path | None, typer.Option(help="Folder of pictures whose parts without a face fill some of the tiles.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many composites.")] = 400,
    at_most: Annotated[int, typer.Option(min=1, help="Canvases that are looked at, drawn by chance.")] = 20_000,
    bundle: DetectorBundle = DETECTOR_BUNDLE,
    yunet: Yunet = None,
    checkpoint: Checkpoint = None,
    seed: Annotated[int, typer.Option(help="Another seed, other composites.")] = 0,
    work: Unpacked = Path("runs/data/canvases"),
) -> None:
    """Compose training pictures of many faces: turned by any angle and partly covered, with known landmarks."""
    from trainer.archives import unpack
    from trainer.detector import composites

    config = composites.CompositeConfig(seed=seed)
    finder = _labeller(bundle, yunet, checkpoint)
    faces = composites.compose(unpack(canvases, work), scenes, finder, output, count, at_most, config)
    typer.echo(f"{output}: {count} pictures with {faces} faces")


@app.command()
def evaluate(
    data: Data,
    bundle: Annotated[list[Path] | None, typer.Option(help="Detector bundle; repeatable.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Splits to report on; repeatable.")] = None,
    image_size: Annotated[
        list[int] | None, typer.Option(help="Input size, one row each; unset: chosen for each picture.")
    ] = None,
    yunet: Annotated[Path | None, typer.Option(help="YuNet's ONNX file, measured beside it.")] = None,
    checkpoint: Annotated[list[Path] | None, typer.Option(help="Ultralytics .pt that finds faces; repeatable.")] = None,
    output: Annotated[Path, typer.Option(help="Report, curves and picture sheets.")] = Path("runs/evaluation/detector"),
    work: Unpacked = Path("runs/data/detection"),
) -> None:
    """Average precision on human boxes, by face size too, landmarks, false alarms; what was missed, as pictures.

    A bundle runs as the service runs it. A checkpoint is run by Ultralytics at 640 px: loading it executes code that it
    holds, so name only files that you trust.
    """
    from trainer.archives import unpack
    from trainer.detector import report
    from trainer.detector.finders import YUNET_MIN_SCORE, YuNet
    from trainer.detector.steadying import Steadied

    folder = unpack(data, work)
    contestants = _contestants(bundle or [DETECTOR_BUNDLE], image_size or [None], yunet, checkpoint or [])
    reference = None
    if yunet is not None:
        second = Steadied(YuNet(yunet, YUNET_MIN_SCORE / 2), first=False)
        reference = report.Reference("YuNet", report.Contestant(second, YUNET_MIN_SCORE))
    output.mkdir(parents=True, exist_ok=True)
    splits = {name: report.measure(contestants, folder, name, reference, output) for name in split or ["val"]}
    alarms = report.false_alarms(contestants)
    text = report.markdown(splits, alarms)
    (output / "report.md").write_text(text)
    (output / "report.json").write_text(report.as_json(splits, alarms))
    typer.echo(text)
    typer.echo(f"report, curves and picture sheets: {output}")


@app.command("hard-cases")
def hard_cases(
    photos: Annotated[list[Path], typer.Option(help="Folder or zip of photos, most with one face; repeatable.")],
    bundle: DetectorBundle = DETECTOR_BUNDLE,
    yunet: Annotated[
        Path | None, typer.Option(help="YuNet's ONNX file: measured too, and the clean photos' faces are its own then.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Photos with exactly one face that are used.")] = 200,
    output: Annotated[Path, typer.Option(help="Tables and pictures.")] = Path("runs/evaluation/hard-cases"),
    work: Unpacked = Path("runs/data/photos"),
) -> None:
    """What is found when photos are turned, masked, darkened, cut tight or shrunk: tables and pictures."""
    from trainer.archives import unpack
    from trainer.detector import hard_report

    text = hard_report.write(unpack(photos, work), bundle, yunet, count, output)
    typer.echo(text)
    typer.echo(f"tables and pictures: {output}")


@app.command()
def quantise(
    data: Data,
    output: Annotated[Path, typer.Option(help="The 8-bit bundle, for OpenVINO.")],
    bundle: DetectorBundle = DETECTOR_BUNDLE,
    split: Annotated[str, typer.Option(help="Its pictures give the ranges; not one to report on.")] = "train",
    work: Unpacked = Path("runs/data/detection"),
) -> None:
    """Make an 8-bit copy of a detector bundle with NNCF. Measure it before you use it: `evaluate --bundle`."""
    from trainer.archives import unpack
    from trainer.detector import quantisation

    pictures = sorted(path for path in (unpack(data, work) / "images" / split).glob("*") if path.is_file())
    manifest = quantisation.quantise(bundle, pictures, output)
    typer.echo(f"{output}: {manifest.model_id}")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Option(help="Ultralytics checkpoint of a pose model with five landmarks.")],
    output: Annotated[Path, typer.Option(help="Bundle to write.")] = DETECTOR_BUNDLE,
    model_id: Annotated[str, typer.Option(help="Name of this model, for good.")] = "yolo11n-face",
    config: Annotated[Path, typer.Option(help="YAML that trained it.")] = Path("configs/detector.yaml"),
    min_score: Annotated[float, typer.Option(help="Score from which on a detection counts; choose it on val.")] = 0.35,
    provenance: Provenance = Path("configs/provenance-detector.yaml"),
) -> None:
    """Pack a checkpoint into a bundle that the service runs."""
    import yaml

    from trainer.detector import export as exporting

    manifest = exporting.export(checkpoint, output, model_id, config, min_score, yaml.safe_load(provenance.read_text()))
    typer.echo(f"{output}: {manifest.model_id}, {(output / manifest.graph).stat().st_size / 1e6:.1f} MB")


def _labeller(bundle: Path, yunet: Path | None, checkpoint: Path | None) -> "FaceFinder":
    from service.inference.detector import YoloFaceDetector
    from service.inference.graph import RuntimeOptions
    from trainer.detector.finders import UltralyticsCheckpoint, YuNet

    if yunet is not None and checkpoint is not None:
        raise typer.BadParameter("name YuNet or a checkpoint, not both")
    if yunet is not None:
        return YuNet(yunet)
    return UltralyticsCheckpoint(checkpoint) if checkpoint else YoloFaceDetector(bundle, RuntimeOptions())


def _contestants(
    bundles: "list[Path]", sizes: "list[int] | list[None]", yunet: Path | None, checkpoints: "list[Path]"
) -> "dict[str, Contestant]":
    from service.inference.detector import YoloFaceDetector
    from service.inference.graph import RuntimeOptions
    from trainer.detector.finders import YUNET_MIN_SCORE, UltralyticsCheckpoint, YuNet
    from trainer.detector.report import Contestant

    contestants = {}
    for bundle in bundles:
        for size in sizes:
            finder = YoloFaceDetector(bundle, RuntimeOptions(precision="auto"), size, min_score=LOWEST_SCORE)
            name = finder.manifest.model_id + (f" at {size} px" if size else "")
            contestants[name] = Contestant(finder, finder.manifest.min_score)
    if yunet is not None:
        contestants["YuNet"] = Contestant(YuNet(yunet, LOWEST_SCORE), YUNET_MIN_SCORE)
    for path in checkpoints:
        contestants[path.name] = Contestant(UltralyticsCheckpoint(path, min_score=LOWEST_SCORE), 0.25)
    return contestants
