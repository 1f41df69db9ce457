"""Writes a cohort into a copy of a bundle, and compares error rates with and without it."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.inference.bundle import file_sha256, read_embedder, write_manifest
from service.inference.cohort import Cohort, write_cohort
from service.inference.embedder import FaceEmbedder
from service.inference.manifest import CohortNormalisation, EmbedderManifest, UncorrectedModel
from trainer.embedder.aligned_crops import AlignedCrops
from trainer.embedder.calibration import MIN_PAIRS_ABOVE, Sample, held_out_sample, rows_of_part
from trainer.embedder.calibration_record import copy_bundle
from trainer.embedder.cohort_config import CohortConfig
from trainer.embedder.embedding import embed_crops
from trainer.embedder.scores import all_pairs
from trainer.embedder.split import Part
from trainer.embedder.split_config import SplitConfig
from trainer.tables import table

Floats = npt.NDArray[np.float32]
FILE = "cohort.npy"
UNCORRECTED_PLOT = "det-uncorrected.svg"
RATES = (1e-2, 1e-3, 1e-4)


def embed_people(embedder: FaceEmbedder, crops: AlignedCrops, split: SplitConfig) -> tuple[list[Floats], Sample | None]:
    """Returns the embeddings of each training person with several pictures, and those of validation people, if any."""
    rows = rows_of_part(crops, split, Part.TRAIN, len(crops))
    embeddings, _ = embed_crops(embedder, crops, rows)
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(crops.identities[row], []).append(place)
    people = [embeddings[chosen] for chosen in places.values() if len(chosen) > 1]
    held_out = bool(rows_of_part(crops, split, Part.VALIDATION))
    return people, held_out_sample(embedder, crops, split, Part.VALIDATION) if held_out else None


def record(
    bundle: Path,
    output: Path,
    uncorrected: EmbedderManifest,
    cohort: Cohort,
    model_id: str,
    config: CohortConfig,
    data: str,
) -> None:
    """Writes a copy of the bundle with the cohort; the model without it stays available under its own id.

    Args:
        uncorrected: Manifest of the model without the cohort.
    """
    copy_bundle(bundle, output)
    write_cohort(output / FILE, cohort)
    files = read_embedder(bundle).files | {FILE: file_sha256(output / FILE)}
    calibration = uncorrected.calibration
    if calibration is not None and calibration.picture is not None and calibration.picture != UNCORRECTED_PLOT:
        (output / calibration.picture).rename(output / UNCORRECTED_PLOT)
        files[UNCORRECTED_PLOT] = files.pop(calibration.picture)
        calibration = calibration.model_copy(update={"picture": UNCORRECTED_PLOT})
    settings = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    normalisation = CohortNormalisation(
        file=FILE,
        sharpness=cohort.sharpness,
        data=[data],
        config_sha256=hashlib.sha256(settings.encode()).hexdigest(),
        uncorrected=UncorrectedModel(
            model_id=uncorrected.model_id,
            calibration=calibration,
            further_calibrations=uncorrected.further_calibrations,
            supersedes=uncorrected.supersedes,
        ),
    )
    changes = {"model_id": model_id, "files": files, "cohort": normalisation, "calibration": None}
    nothing: dict[str, object] = {"further_calibrations": [], "evaluation": {}, "supersedes": []}
    write_manifest(output, uncorrected.model_copy(update=changes | nothing))


def comparison(cohort: Cohort, held_out: Sample | None) -> str:
    """Returns a table: true accept rates of people who did not train the model, with and without the cohort."""
    if held_out is None:
        return "the split holds out nobody for a comparison"
    rows = [
        (label, *_true_accept_rates(embeddings, held_out.names))
        for label, embeddings in (
            ("without the cohort", held_out.embeddings),
            ("with it", cohort.correct(held_out.embeddings)),
        )
    ]
    people = len(set(held_out.names))
    head = (f"TAR of {people} people who selected the model", *(f"FMR {rate:g}" for rate in RATES))
    return table(head, rows)


def _true_accept_rates(embeddings: Floats, names: Sequence[str]) -> list[str]:
    pairs = all_pairs(embeddings, list(names))
    if not len(pairs.genuine):
        return ["" for _ in RATES]
    return [
        f"{pairs.true_accept_rate(pairs.threshold_at(rate)):.3f}"
        if rate * len(pairs.impostor) >= MIN_PAIRS_ABOVE
        else ""
        for rate in RATES
    ]
