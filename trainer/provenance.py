"""Origin and terms of a model, for the manifest of its bundle."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from service.inference.bundle import file_sha256, read_embedder
from trainer.configuration import ConfigError
from trainer.embedder import training_people
from trainer.embedder.training_people import TrainingPeople
from trainer.options import BUNDLE

KEYS = ("data", "terms", "initialised_from")
RANDOM = "random weights"


def load_provenance(file: Path) -> dict[str, Any]:
    """Reads a YAML file with `data` (a list), `terms` and `initialised_from`.

    Raises:
        ConfigError: The file cannot be read, or a key is missing or unknown.
    """
    try:
        values = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: {error}") from None
    if not isinstance(values, dict) or set(values) != set(KEYS) or not isinstance(values["data"], list):
        raise ConfigError(f"{file}: a provenance has the keys data (a list of texts), terms and initialised_from")
    return values


def of_checkpoint(checkpoint: Path, shipped: Path) -> dict[str, Any]:
    """Describes a checkpoint by the record of its run: the initial weights, and own pictures.

    Args:
        shipped: bundle whose weights are recognised by their hash.
    """
    record = checkpoint.resolve().parent.parent / "run.json"
    if not record.exists():
        return _own("unknown weights")
    return of_initial(json.loads(record.read_text()).get("initial"), shipped)


def of_initial(initial_sha256: str | None, shipped: Path) -> dict[str, Any]:
    """Describes a model of own pictures that was trained from these weights; None: random ones."""
    if initial_sha256 is None:
        return _own(RANDOM)
    manifest = read_embedder(shipped)
    if initial_sha256 == file_sha256(shipped / manifest.graph):
        return from_shipped(["own pictures"], shipped)
    return _own(f"weights of a file with the SHA-256 {initial_sha256}, changed by further training")


def shipped_people(initial: Path) -> TrainingPeople | None:
    """Returns the people who trained initial weights, if these are the shipped ones; None: they are unknown."""
    manifest = read_embedder(BUNDLE)
    is_shipped = file_sha256(initial) == manifest.files[manifest.graph]
    return training_people.read(BUNDLE, manifest) if is_shipped else None


def from_shipped(data: Sequence[str], shipped: Path) -> dict[str, Any]:
    """Describes a model whose training continued from a shipped bundle, whose terms remain."""
    manifest = read_embedder(shipped).models[-1]  # training continues the graph, without the cohort
    return {
        "data": list(data),
        "terms": f"own pictures; the initial weights: {manifest.provenance.terms}",
        "initialised_from": f"{manifest.model_id}, changed by further training",
    }


def _own(initialised_from: str) -> dict[str, Any]:
    return {"data": ["own pictures"], "terms": "own pictures", "initialised_from": initialised_from}
