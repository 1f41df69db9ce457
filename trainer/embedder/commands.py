"""`python -m trainer train`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.options import (
    BUNDLE,
    DETECTOR_BUNDLE,
    WORK,
    Bundle,
    DetectorBundle,
    Device,
    Photos,
    Provenance,
    TrainedBy,
    Unpacked,
    Work,
)

MOST_CROPS = 128
"""Faces that formats are checked on."""


def train(
    identities: Annotated[
        list[Path], typer.Option(help="Folder or zip of <identity>/<picture> with 160 px canvases; repeatable.")
    ],
    nameless: Annotated[
        Path | None, typer.Option(help="Folder or zip of canvases of people without names, for distillation.")
    ] = None,
    nameless_folder: Annotated[str, typer.Option(help="Only this folder of --nameless.")] = ".",
    teacher: Annotated[Path | None, typer.Option(help="ONNX embedder to distil from.")] = None,
    config: Annotated[Path, typer.Option(help="YAML with the run's settings.")] = Path("configs/train.yaml"),
    initial: Annotated[
        Path | None, typer.Option(help="Checkpoint, or published MobileFaceNet weights as ONNX, to begin with.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Run folder; the same command resumes it.")] = Path("runs/embedder"),
    device: Device = "auto",
    landmarks: Annotated[
        str,
        typer.Option(
            help="Who finds landmark_channels' points: yolo, as the service, yunet, mtcnn, mediapipe or dlib."
        ),
    ] = "yolo",
    landmarks_file: Annotated[Path | None, typer.Option(help="Its model file, where it brings none.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="That share each batch: one a GPU, or several on a CPU.")] = 1,
    work: Work = WORK,
) -> None:
    """Train the face embedder stage by stage; batch-hard triplet mining is the last."""
    from trainer.archives import unpack
    from trainer.embedder import training
    from trainer.embedder.canvases import load_canvases
    from trainer.embedder.config import EmbedderConfig
    from trainer.embedder.landmark_finders import named_landmarks

    settings = EmbedderConfig.load(config)  # before an hour's work: a wrong key is told at once
    named = unpack(identities, work / "identities")
    others = unpack([nameless], work / "nameless") / nameless_folder if nameless else None
    canvases = load_canvases(named, others, work / "cache")
    if left_out := sorted(set(settings.split.wrong_labels) & set(canvases.identities)):
        typer.echo(f"left out by split.wrong_labels: {', '.join(left_out)}")
    points = None
    if settings.landmark_channels is not None:
        points = named_landmarks(canvases, landmarks, landmarks_file)
    best = training.train(
        settings, canvases, teacher, work / "cache", output, initial, device, processes, landmarks=points
    )
    typer.echo(f"best checkpoint: {best}")


def export(
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint of a training run.")],
    model_id: Annotated[str, typer.Option(help="Name of this model, for good; embeddings carry it.")],
    output: Annotated[Path, typer.Option(help="Bundle to write.")] = BUNDLE,
    provenance: Provenance = Path("configs/provenance-embedder.yaml"),
    also: Annotated[
        list[str] | None,
        typer.Option(help="Write torchscript, torch-export, openvino, litert or litert-int8 as well; repeatable."),
    ] = None,
    crops: Annotated[
        list[Path] | None, typer.Option(help="Canvases that --also is checked on and int8 is fitted to; repeatable.")
    ] = None,
    work: Work = WORK,
) -> None:
    """Pack a checkpoint into a bundle that the service runs; every format is checked against the model."""
    import numpy as np
    import yaml

    from trainer.archives import unpack
    from trainer.configuration import choice
    from trainer.embedder import export as exporting
    from trainer.embedder.canvases import load_canvases
    from trainer.embedder.checkpoints import load_encoder
    from trainer.embedder.formats import Format
    from trainer.embedder.landmark_finders import served_landmarks

    formats = [choice(Format, name, "also") for name in also or []]
    pictures = points = None
    if crops:
        canvases = load_canvases(unpack(crops, work / "identities"), None, work / "cache")
        chosen = np.random.default_rng(0).permutation(len(canvases))[:MOST_CROPS]
        pictures = np.asarray(canvases.pictures[np.sort(chosen)])
        if load_encoder(checkpoint)[1].landmark_channels is not None:
            points = served_landmarks(canvases)[np.sort(chosen)]
    terms = yaml.safe_load(provenance.read_text())
    manifest = exporting.export(checkpoint, output, model_id, terms, formats, pictures, points)
    if formats:
        typer.echo((output / "formats.md").read_text())
    typer.echo(f"{output}: {manifest.model_id}, {(output / manifest.graph).stat().st_size / 1e6:.1f} MB")


def calibrate(
    identities: Annotated[list[Path], typer.Option(help="The same as in training: its held-out people are taken.")],
    distractors: Annotated[
        Path | None, typer.Option(help="Canvases of other people, to fill up the largest galleries that are searched.")
    ] = None,
    bundle: Annotated[Path, typer.Option(help="Bundle that is measured.")] = BUNDLE,
    output: Annotated[
        Path | None,
        typer.Option(help="Bundle that is written, a copy with the table. Unset: the table goes into --bundle."),
    ] = None,
    everybody: Annotated[
        bool, typer.Option("--everybody", help="Take all people: the model was trained on none of them.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Write over a table that reaches to rarer false matches.")
    ] = False,
    config: TrainedBy = Path("configs/train.yaml"),
    precision: Annotated[str, typer.Option(help="f32 or bf16; thresholds of one are not those of the other.")] = "f32",
    work: Work = WORK,
) -> None:
    """Measure the threshold of each false match rate on people that the model never saw.

    Of the people that a model was trained with, those count that were held out. To measure a shipped model on your
    people: --everybody --output runs/calibrated, which the service runs with REGISTRY_EMBEDDER__BUNDLE.

    A rate is measured where ten impostor pairs or more lie above its threshold; the table ends there. Intervals are by
    bootstrap over people. What goes into the manifest is what the service resolves `fmr` and `fpir` through.
    """
    import numpy as np

    from service.inference.embedder import FaceEmbedder
    from service.inference.graph import RuntimeOptions
    from trainer.archives import unpack
    from trainer.embedder import calibrated, calibration
    from trainer.embedder.canvases import load_canvases
    from trainer.embedder.config import EmbedderConfig
    from trainer.embedder.embedding import embed_canvases
    from trainer.embedder.report import calibration_tables
    from trainer.embedder.split import Part

    embedder = FaceEmbedder(bundle, RuntimeOptions(precision=precision))  # type: ignore[arg-type]
    canvases = load_canvases(unpack(identities, work / "identities"), None, work / "cache")
    split = EmbedderConfig.load(config).split
    if everybody:
        split = split.model_copy(update={"validation": 0.0, "calibration": 1.0})
    sample = calibration.held_out_sample(embedder, canvases, split, Part.CALIBRATION)
    others = np.zeros((0, embedder.manifest.embedding_dim), np.float32)
    if distractors is not None:
        nameless = load_canvases(unpack([distractors], work / "nameless"), None, work / "cache", named=False)
        others = embed_canvases(embedder, nameless, list(range(len(nameless))))[0]
    whose = "people that the model was not trained on" if everybody else "held-out people of the training archives"
    data = f"{len(set(sample.names))} {whose}, {len(sample.names)} aligned crops"
    table = calibration.calibrate(sample, others, precision, data)  # type: ignore[arg-type]
    if output is None and not replace:
        calibrated.require_no_less(bundle, table)
    calibrated.record(bundle, output or bundle, table, sample)
    typer.echo(calibration_tables(table))
    typer.echo(calibrated.reach(table))
    typer.echo(f"written into {output or bundle}")


def evaluate(
    pairs: Annotated[Path, typer.Option(help="Folder or zip with pairs.csv and <identity>/<photo>.jpg.")],
    identities: Annotated[
        list[Path] | None,
        typer.Option(help="The training data: its held-out people tell whether quality predicts error; repeatable."),
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(help="FairFace as canvases with fairface.csv, for the errors of each group.")
    ] = None,
    bundle: Bundle = BUNDLE,
    detector: DetectorBundle = DETECTOR_BUNDLE,
    yunet: Annotated[Path | None, typer.Option(help="YuNet's ONNX file, in the detector's place.")] = None,
    config: TrainedBy = Path("configs/train.yaml"),
    face: Annotated[str, typer.Option(help="Which face of a photo: strongest or largest.")] = "strongest",
    record: Annotated[bool, typer.Option(help="Write the figures into the embedder's manifest.")] = False,
    output: Annotated[Path, typer.Option(help="Where report and plots go.")] = Path("runs/evaluation/embedder"),
    work: Unpacked = WORK,
) -> None:
    """Write a report: errors 1:1 and 1:N on photos through the engine, thresholds replayed, quality, groups."""
    import json

    from service.inference.bundle import read_embedder, write_manifest
    from service.inference.detector import YoloFaceDetector
    from service.inference.embedder import FaceEmbedder
    from service.inference.engine import FaceChoice, FaceFinder
    from service.inference.graph import RuntimeOptions
    from service.inference.local import LocalEngine
    from service.vision.image import ImageLimits
    from trainer.archives import unpack
    from trainer.configuration import ConfigError
    from trainer.detector.finders import YUNET_MIN_SCORE, YuNet
    from trainer.embedder import calibration, discard, evaluation, plots, report
    from trainer.embedder.canvases import load_canvases
    from trainer.embedder.config import EmbedderConfig
    from trainer.embedder.groups import measure_groups
    from trainer.embedder.split import Part

    known = read_embedder(bundle).calibration
    options = RuntimeOptions() if known is None else RuntimeOptions(precision=known.precision)
    embedder = FaceEmbedder(bundle, options)
    finder: FaceFinder = YoloFaceDetector(detector, RuntimeOptions(precision="auto"))
    if yunet is not None:
        finder = YuNet(yunet, YUNET_MIN_SCORE)
    engine = LocalEngine(finder, [embedder], ImageLimits())
    manifest = embedder.manifest
    listed = next(unpack([pairs], work / "pairs").rglob("pairs.csv"), None)
    if listed is None:
        raise ConfigError(f"{pairs} has no pairs.csv: for each pair two photos, and whether they show one person")
    figures = evaluation.evaluate(engine, listed.parent, manifest.calibration, FaceChoice(face))
    curve, several, closed_set = [], [], None
    if identities:
        canvases = load_canvases(unpack(identities, work / "identities"), None, work / "cache")
        sample = calibration.held_out_sample(embedder, canvases, EmbedderConfig.load(config).split, Part.CALIBRATION)
        curve = discard.error_versus_discard(sample.embeddings, sample.names, sample.lengths)
        closed_set = evaluation.closed_set(embedder, canvases)
        if manifest.calibration is not None:
            several = evaluation.several_templates(sample.embeddings, sample.names, manifest.calibration)
    by_group = []
    if groups is not None:
        by_group = measure_groups(unpack([groups], work / "nameless"), finder, embedder, manifest.calibration)
    output.mkdir(parents=True, exist_ok=True)
    plots.report_pictures(figures, curve, by_group, output)
    text = report.evaluation_report(manifest, figures, pairs.name, closed_set, curve, several, by_group)
    (output / "report.md").write_text(text)
    (output / "figures.json").write_text(json.dumps(figures.summary(), indent=2) + "\n")
    if record:
        write_manifest(bundle, manifest.model_copy(update={"evaluation": figures.summary()}))
    typer.echo(text)
    typer.echo(f"report and pictures: {output / 'report.md'}")


def prepare(
    photos: Photos,
    output: Annotated[Path, typer.Option(help="Where the canvases go; give it to `train --identities`.")],
    finder: Annotated[str, typer.Option(help="yolo, yunet, mtcnn or mediapipe.")] = "yolo",
    model_file: Annotated[
        Path | None, typer.Option(help="Bundle of yolo (unset: ours), or the model file of yunet or mediapipe.")
    ] = None,
    face: Annotated[str, typer.Option(help="Which face of a photo: strongest, largest or only.")] = "strongest",
    crop: Annotated[str, typer.Option(help="By five `landmarks`, as the service does, or by the `box`.")] = "landmarks",
    boxes: Annotated[
        Path | None, typer.Option(help="CSV: photo, identity, x_min, y_min, x_max, y_max; only these faces are taken.")
    ] = None,
    padding: Annotated[float, typer.Option(min=0, max=2, help="Around the box, in parts of it, on each side.")] = 0.15,
    clahe: Annotated[bool, typer.Option(help="Equalise contrast; see `filters` in the YAML as well.")] = False,
    bilateral: Annotated[bool, typer.Option(help="Smooth noise; see `filters` in the YAML as well.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; unset: one for each core.")] = None,
    work: Unpacked = Path("runs/data/photos"),
) -> None:
    """Find and align the faces of your own photos, for `train` to learn from.

    `failures.csv` says why a photo has no canvas; look.jpg and failures.jpg are sheets to look at. What is done is
    remembered by content: give the command again when photos were added, or after it was stopped.

    --clahe and --bilateral change the canvases themselves. For a model that our service is to run, name `filters` in
    its YAML instead: training and service then both do it.
    """
    from service.inference.engine import FaceChoice
    from service.vision.filters import Bilateral, Clahe, Filters
    from trainer.archives import unpack
    from trainer.configuration import choice
    from trainer.embedder.preparation import Crop, Recipe
    from trainer.embedder.preparation import prepare as prepare_photos
    from trainer.embedder.sources import faces_by_box, faces_by_identity
    from trainer.finders import Finder, FinderName

    filters = Filters(clahe=Clahe() if clahe else None, bilateral=Bilateral() if bilateral else None)
    recipe = Recipe(choice(FaceChoice, face, "face"), choice(Crop, crop, "crop"), padding, filters)
    chosen = Finder(choice(FinderName, finder, "finder"), model_file)
    folder = unpack(photos, work)
    faces = faces_by_identity(folder, output) if boxes is None else faces_by_box(boxes, folder, output)
    result = prepare_photos(faces, output, chosen, recipe, chosen.described, workers)
    typer.echo(
        f"{result.written} canvases in {output}, {result.kept} photos known from before; {len(result.failures)} photos "
        "without one: failures.csv says why"
    )
