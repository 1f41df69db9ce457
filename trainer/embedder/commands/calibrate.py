"""`identity-trainer calibrate`"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.choices import PrecisionName
from trainer.options import BUNDLE, WORK, Identities, Work

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from service.inference.calibration import Calibration
    from service.inference.embedder import FaceEmbedder
    from trainer.embedder.calibration import Sample


def calibrate(
    identities: Identities,
    distractors: Annotated[
        Path | None, typer.Option(help="Aligned crops of other people, who fill up the largest searched galleries.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle to measure. Unset: the shipped one.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for a copy of the bundle with the table. Unset: the table is written into --bundle."),
    ] = None,
    everybody: Annotated[
        bool, typer.Option("--everybody", help="Measure on all people: the model was trained on none of them.")
    ] = False,
    unrelated: Annotated[
        bool,
        typer.Option(
            "--unrelated",
            help="Each picture of --identities, at any depth, shows another person: measure false matches only.",
        ),
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite a table that covers rarer false matches.")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file that trained a model whose bundle does not record its split."),
    ] = None,
    precision: Annotated[
        PrecisionName, typer.Option(help="Number format; thresholds of one are not valid for the other.")
    ] = PrecisionName.F32,
    work: Work = WORK,
) -> None:
    """Measure the threshold of each false match rate and write the table into the manifest.

    The measurement uses the people of --identities who were held out for calibration when the model was trained. To
    measure a shipped model on your own people: --everybody --output runs/calibrated; start the service with
    REGISTRY_EMBEDDER__BUNDLE=runs/calibrated.

    A rate counts as measured if at least ten impostor pairs lie above its threshold; the table ends there. Confidence
    intervals are bootstrapped over people. The service resolves `fmr` and `fpir` with this table.
    """
    from service.inference.embedder import FaceEmbedder
    from service.inference.graph import RuntimeOptions
    from trainer.archives import unpack
    from trainer.configuration import ConfigError
    from trainer.embedder import calibration
    from trainer.embedder.aligned_crops import load_aligned_crops
    from trainer.embedder.split import EVERYBODY, Part
    from trainer.embedder.training_people import recorded_split, require_untrained

    if bundle is None and output is None:
        raise ConfigError("name --output for a calibrated copy of the shipped bundle, or --bundle to change that one")
    bundle = bundle or BUNDLE
    embedder = FaceEmbedder(bundle, RuntimeOptions(precision=precision.value))
    if unrelated and everybody:
        raise ConfigError("name --everybody for people with several pictures, or --unrelated for one picture of each")
    folder = unpack(identities, work / "identities")
    if unrelated:
        crops = load_aligned_crops(folder, None, work / "cache", labelled=False)
        sample = calibration.unrelated_sample(embedder, crops)
        data = f"{len(sample.names)} unrelated faces, one picture of each: false matches only"
        table = calibration.calibrate(sample, _nobody(embedder), precision.value, data, unrelated=True)
        _write(bundle, output, replace, table, sample)
        return
    crops = load_aligned_crops(folder, None, work / "cache")
    split = EVERYBODY if everybody else recorded_split(bundle, embedder.manifest, config, crops.identities)
    measured = calibration.rows_of_part(crops, split, Part.CALIBRATION)
    require_untrained(bundle, embedder.manifest, {crops.identities[row] for row in measured})
    sample = calibration.held_out_sample(embedder, crops, split, Part.CALIBRATION)
    people = "people, stated not to be in the training data" if everybody else "held-out people of the training data"
    data = f"{len(set(sample.names))} {people}, {len(sample.names)} aligned crops"
    distractor_embeddings = _embed_distractors(embedder, distractors, work)
    _write(bundle, output, replace, calibration.calibrate(sample, distractor_embeddings, precision.value, data), sample)


def _write(bundle: Path, output: Path | None, replace: bool, table: "Calibration", sample: "Sample") -> None:
    from trainer.embedder import calibration_record
    from trainer.embedder.report import calibration_tables

    if output is None and not replace:
        calibration_record.require_not_shorter(bundle, table)
    calibration_record.record(bundle, output or bundle, table, sample)
    typer.echo(calibration_tables(table))
    typer.echo(calibration_record.describe_range(table))
    typer.echo(f"written into {output or bundle}")


def _nobody(embedder: "FaceEmbedder") -> "npt.NDArray[np.float32]":
    import numpy as np

    return np.zeros((0, embedder.manifest.embedding_dim), np.float32)


def _embed_distractors(embedder: "FaceEmbedder", distractors: Path | None, work: Path) -> "npt.NDArray[np.float32]":

    from trainer.archives import unpack
    from trainer.embedder.aligned_crops import load_aligned_crops
    from trainer.embedder.embedding import embed_crops

    if distractors is None:
        return _nobody(embedder)
    folder = unpack([distractors], work / "unlabelled")
    crops = load_aligned_crops(folder, None, work / "cache", labelled=False)
    return embed_crops(embedder, crops, range(len(crops)))[0]
