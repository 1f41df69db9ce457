"""`identity-trainer evaluate`"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.choices import FinderName, LandmarkFinderName, PartName, PhotoFace, PrecisionName
from trainer.options import (
    BUNDLE,
    WORK,
    FaceOption,
    FinderOption,
    LandmarksFile,
    LandmarksOption,
    MinScore,
    ModelFile,
    Unpacked,
)

if TYPE_CHECKING:
    from service.inference.calibration import Precision
    from service.inference.embedder import FaceEmbedder
    from service.inference.engine import FaceFinder
    from service.inference.manifest import EmbedderManifest
    from trainer.embedder.report import HeldOutFigures


def evaluate(
    pairs: Annotated[
        Path | None, typer.Option(help="Folder or zip archive with pairs.csv and <identity>/<photo>.jpg.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Checkpoint of a training run, which is measured on --part of --identities without pairs."),
    ] = None,
    part: Annotated[
        PartName,
        typer.Option(help="For --checkpoint: part of its split to measure; train and all include training people."),
    ] = PartName.VALIDATION,
    landmarks: LandmarksOption = LandmarkFinderName.YOLO,
    landmarks_file: LandmarksFile = None,
    identities: Annotated[
        list[Path] | None,
        typer.Option(help="Training data, whose held-out people show whether quality predicts errors; repeatable."),
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(help="FairFace as aligned crops with fairface.csv, for the errors of each group.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Embedder bundle. Unset: the shipped one.")] = None,
    finder: FinderOption = FinderName.YOLO,
    model_file: ModelFile = None,
    min_score: MinScore = None,
    config: Annotated[
        Path | None,
        typer.Option(help="For --identities: YAML file that trained a model whose bundle does not record its split."),
    ] = None,
    face: FaceOption = PhotoFace.STRONGEST,
    precision: Annotated[
        PrecisionName | None, typer.Option(help="Number format. Unset: that of the bundle's first calibration.")
    ] = None,
    record: Annotated[bool, typer.Option(help="Write the figures into the embedder's manifest.")] = False,
    output: Annotated[Path, typer.Option(help="Folder for report and plots.")] = Path("runs/evaluation/embedder"),
    work: Unpacked = WORK,
) -> None:
    """Measure verification and identification errors on photos through the whole engine, and write a report.

    With --checkpoint it measures all pairs of held-out aligned crops instead; a list of pairs is not needed.

    The report also checks the calibrated thresholds on these photos. With --identities it shows whether quality
    predicts errors; with --groups it shows false match rates by race, gender and age.
    """
    from trainer.configuration import ConfigError

    if checkpoint is not None:
        if pairs is not None:
            raise ConfigError("name either --pairs or --checkpoint")
        _evaluate_checkpoint(checkpoint, part, (landmarks, landmarks_file), identities, output, work)
        return

    import json

    from service.inference.bundle import read_embedder, write_manifest
    from service.inference.embedder import FaceEmbedder
    from service.inference.engine import FaceChoice
    from service.inference.graph import RuntimeOptions
    from service.inference.pipeline import FacePipeline
    from trainer.archives import unpack
    from trainer.embedder import evaluation, plots, report
    from trainer.embedder.groups import measure_groups
    from trainer.embedder.training_people import require_untrained
    from trainer.finders import Finder, as_detector

    if pairs is None:
        raise ConfigError("name photos with --pairs, or a checkpoint with --checkpoint and its data with --identities")
    if record and bundle is None:
        raise ConfigError("--record changes a bundle; name it with --bundle")
    bundle = bundle or BUNDLE
    manifest = read_embedder(bundle)
    number_format = _number_format(manifest, precision, record)
    calibration = manifest.calibration_for(number_format)
    embedder = FaceEmbedder(bundle, RuntimeOptions(precision=number_format))
    detector = Finder(finder, model_file, min_score, "auto")()
    pair_list = next(unpack([pairs], work / "pairs").rglob("pairs.csv"), None)
    if pair_list is None:
        raise ConfigError(f"{pairs} has no pairs.csv; add one with the columns image_a, image_b and same (0 or 1)")
    require_untrained(bundle, embedder.manifest, {path.parent.name for path in pair_list.parent.rglob("*.jpg")})
    engine = FacePipeline(as_detector(detector), [embedder])
    figures = evaluation.evaluate(engine, pair_list.parent, calibration, FaceChoice(face))
    held_out = _measure_held_out(bundle, embedder, detector, identities, config, work)
    by_group = []
    if groups is not None:
        by_group = measure_groups(unpack([groups], work / "unlabelled"), detector, embedder, calibration)
    output.mkdir(parents=True, exist_ok=True)
    plots.report_plots(figures, held_out.discard, by_group, output)
    text = report.evaluation_report(embedder.manifest, figures, pairs.name, held_out, by_group)
    (output / "report.md").write_text(text)
    (output / "figures.json").write_text(json.dumps(figures.summary(), indent=2) + "\n")
    if record:
        write_manifest(bundle, embedder.manifest.model_copy(update={"evaluation": figures.summary()}))
    typer.echo(text)
    typer.echo(f"report and plots: {output / 'report.md'}")


def _number_format(manifest: "EmbedderManifest", chosen: PrecisionName | None, record: bool) -> "Precision":
    """Returns the chosen number format, or that of the first calibration, whose figures the manifest contains."""
    from trainer.configuration import ConfigError

    first: Precision = "f32" if manifest.calibration is None else manifest.calibration.precision
    if chosen is None:
        return first
    if record and chosen.value != first:
        raise ConfigError(f"--record needs {first}, the number format of the bundle's first calibration")
    return chosen.value


def _evaluate_checkpoint(
    checkpoint: Path,
    part: PartName,
    finder: tuple[LandmarkFinderName, Path | None],
    identities: list[Path] | None,
    output: Path,
    work: Path,
) -> None:
    import json

    from trainer.archives import unpack
    from trainer.configuration import ConfigError
    from trainer.embedder.aligned_crops import load_aligned_crops
    from trainer.embedder.checkpoint_evaluation import checkpoint_report, measure_checkpoint
    from trainer.embedder.split import named_part

    if not identities:
        raise ConfigError("--checkpoint needs the data of its training run; name it with --identities")
    crops = load_aligned_crops(unpack(identities, work / "identities"), None, work / "cache")
    figures = measure_checkpoint(checkpoint, crops, None if part is PartName.ALL else named_part(part), *finder)
    output.mkdir(parents=True, exist_ok=True)
    text = checkpoint_report(figures, checkpoint, output)
    (output / "report.md").write_text(text)
    (output / "figures.json").write_text(json.dumps(figures.summary(), indent=2) + "\n")
    typer.echo(text)
    typer.echo(f"report and plot: {output / 'report.md'}")


def _measure_held_out(
    bundle: Path,
    embedder: "FaceEmbedder",
    detector: "FaceFinder",
    identities: list[Path] | None,
    config: Path | None,
    work: Path,
) -> "HeldOutFigures":
    from trainer.archives import unpack
    from trainer.embedder import calibration, discard, evaluation
    from trainer.embedder.aligned_crops import load_aligned_crops
    from trainer.embedder.conditions import measure_conditions
    from trainer.embedder.report import HeldOutFigures
    from trainer.embedder.split import Part
    from trainer.embedder.training_people import recorded_split, require_untrained

    if not identities:
        return HeldOutFigures()
    crops = load_aligned_crops(unpack(identities, work / "identities"), None, work / "cache")
    split = recorded_split(bundle, embedder.manifest, config, crops.identities)
    sample = calibration.held_out_sample(embedder, crops, split, Part.CALIBRATION)
    require_untrained(bundle, embedder.manifest, sample.names)
    table = embedder.manifest.calibration
    rows = calibration.rows_of_part(crops, split, Part.CALIBRATION)
    return HeldOutFigures(
        closed_set=evaluation.closed_set(embedder, crops),
        discard=discard.error_versus_discard(sample.embeddings, sample.names, sample.lengths),
        templates=[] if table is None else evaluation.several_templates(sample.embeddings, sample.names, table),
        conditions=[] if table is None else measure_conditions(embedder, crops, rows, detector, table),
    )
