"""The steps of a run after the faces are aligned: check, train, compare, calibrate."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from service.inference.bundle import read_embedder
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from service.inference.provenance import NOT_STATED, Origin
from trainer.cache import content_key
from trainer.embedder import export, training, training_people
from trainer.embedder.aligned_crops import AlignedCrops
from trainer.embedder.calibration import Sample, rows_of_part
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.embedding import embed_crops
from trainer.embedder.split import EVERYBODY, Part
from trainer.embedder.split_config import SplitConfig
from trainer.explore.label_errors import duplicate_identities, suspected_errors
from trainer.options import BUNDLE
from trainer.provenance import Stated, complete, origins_of, trained_people
from trainer.run.calibrating import calibrate_shipped, calibrate_trained
from trainer.run.plan import Plan
from trainer.run.result import Candidate, DataProblems, Measured

ONE_PERSON_COSINE = 0.6


def find_problems(crops: AlignedCrops, single: Sequence[str]) -> DataProblems:
    """Embeds every picture with the shipped model and searches for label errors.

    Args:
        single: people with one photo.
    """
    embeddings, _ = embed_crops(_open(BUNDLE), crops, range(len(crops)))
    return DataProblems(
        single=single,
        errors=suspected_errors(embeddings, crops.identities),
        duplicates=duplicate_identities(embeddings, crops.identities, ONE_PERSON_COSINE),
    )


def train(config: EmbedderConfig, crops: AlignedCrops, output: Path, device: str) -> tuple[Path, Path]:
    """Continues the training of the shipped model.

    The folder of the training is named by configuration and pictures: the same call resumes, and other photos start
    anew.

    Returns:
        The folder of the training and the best checkpoint.
    """
    folder = output / "training" / content_key(config.model_dump_json(), crops.key)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "training.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    weights = BUNDLE / read_embedder(BUNDLE).graph
    cache, before = output / "cache", trained_people(weights)
    return folder, training.train(config, crops, [weights], cache, folder, weights, device, before=before)


def export_trained(best: Path, output: Path, model_id: str, provenance: dict[str, Any]) -> Path:
    """Writes the bundle of the trained model, without a calibration."""
    folder = output / "trained"
    shutil.rmtree(folder, ignore_errors=True)
    export.export(best, folder, model_id, provenance)
    return folder


def trained_before(crops: AlignedCrops) -> list[str]:
    """Returns the people who have the name of a person who trained the shipped model."""
    people = training_people.read(BUNDLE, read_embedder(BUNDLE))
    return [] if people is None else people.find_trained(crops.identities)


def measure(bundle: Path, crops: AlignedCrops, split: SplitConfig) -> Measured:
    """Embeds the held-out people of a split, without people who trained the shipped model."""
    others = split.model_copy(update={"wrong_labels": (*split.wrong_labels, *trained_before(crops))})
    rows = rows_of_part(crops, others, Part.CALIBRATION)
    embeddings, lengths = embed_crops(_open(bundle), crops, rows)
    return Measured(Sample(embeddings, lengths, [crops.identities[row] for row in rows]), rows)


def calibrated_shipped(crops: AlignedCrops, output: Path, templates: int) -> Candidate:
    """Measures the shipped model on everybody, since nobody was in its training data, and writes a copy of it."""
    bundle = output / "shipped"
    measured = measure(BUNDLE, crops, EVERYBODY)
    people = _describe(measured.sample, "people who were not in the training data")
    shutil.rmtree(bundle, ignore_errors=True)
    return Candidate(bundle, measured, calibrate_shipped(BUNDLE, bundle, measured.sample, people, templates))


def calibrated_trained(bundle: Path, measured: Measured) -> Candidate:
    """Calibrates the trained model on the held-out people."""
    people = _describe(measured.sample, "held-out people of the run")
    return Candidate(bundle, measured, calibrate_trained(bundle, measured.sample, people))


def choose(candidate: Candidate, bundle: Path) -> None:
    """Makes `bundle` a copy of a candidate's bundle."""
    shutil.rmtree(bundle, ignore_errors=True)
    shutil.copytree(candidate.bundle, bundle)


def provenance(plan: Plan, sources: Sequence[Path], stated: Stated | None) -> dict[str, Any]:
    """Describes a model that was trained from the shipped one, whose terms remain, with the run's own data."""
    names = ", ".join(source.name for source in sources)
    own = f"own photos ({names}): {plan.photos} photos of {len(plan.counts)} people"
    return complete(stated, origins_of(BUNDLE), [Origin(name=own, terms=NOT_STATED)])


def _describe(sample: Sample, people: str) -> str:
    return f"{len(set(sample.names))} {people}, {len(sample.names)} aligned crops"


def _open(bundle: Path) -> FaceEmbedder:
    return FaceEmbedder(bundle, RuntimeOptions(precision="f32"))
