"""The provenance of a model: its origins, whose terms become its own.

The manifests of the initial weights and of the teachers state their terms. A YAML file states those of the pictures,
and of weights that are files without a manifest.
"""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from service.errors import StartupError
from service.inference.bundle import file_sha256, read_embedder
from service.inference.provenance import NOT_STATED, Origin, Use, combined_terms, combined_use
from service.strict_model import Strict
from trainer.cache import atomic_file
from trainer.configuration import ConfigError
from trainer.embedder import training_people
from trainer.embedder.training_people import TrainingPeople
from trainer.options import SHIPPED

FILE = "origins.json"
EMBEDDERS = tuple(SHIPPED / name for name in ("embedder", "embedder-fairface", "embedder-permissive"))
RANDOM = "random weights"
OWN = (Origin(name="own pictures", terms=NOT_STATED),)


class Stated(Strict):
    """What a YAML file states.

    Attributes:
        data: The pictures.
        weights: Initial weights, teachers and software without a manifest.
    """

    data: tuple[Origin, ...] = Field(min_length=1)
    weights: tuple[Origin, ...] = ()


class RunOrigins(Strict):
    """The weights that a training started from and distilled from.

    Attributes:
        origins: Those that manifests state.
        files: Names of files without a manifest.
    """

    initialised_from: str
    origins: tuple[Origin, ...] = ()
    files: tuple[str, ...] = ()


def load_stated(file: Path) -> Stated:
    """Reads a YAML file with `data` and, optionally, `weights`: lists of texts, or of `name`, `terms` and `use`.

    Raises:
        ConfigError: The file cannot be read, or a key is missing or unknown.
    """
    try:
        values = yaml.safe_load(file.read_text())
        return Stated.model_validate({key: _with_terms(value) for key, value in values.items()})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: {error}") from None
    except (AttributeError, ValidationError) as error:
        details = f": {error.errors()[0]['loc']}" if isinstance(error, ValidationError) else ""
        raise ConfigError(
            f"{file}: a provenance has the keys data and, for initial weights, teachers and software without a "
            f"manifest, weights; each is a list of texts, or of name, terms and use ({', '.join(Use)}){details}"
        ) from None


def complete(stated: Stated | None, run: RunOrigins, own: Sequence[Origin] = OWN) -> dict[str, Any]:
    """Returns the values of `Provenance` other than `created` and `config_sha256`.

    Args:
        stated: None: `own` pictures.
    """
    pictures = own if stated is None else stated.data
    weights = () if stated is None else stated.weights
    unknown = [] if weights else [Origin(name=name, terms=NOT_STATED) for name in run.files]
    origins = list(dict.fromkeys([*pictures, *weights, *unknown, *run.origins]))
    return {
        "data": [origin.name for origin in pictures],
        "terms": combined_terms(origins),
        "use": combined_use(origins),
        "origins": origins,
        "initialised_from": run.initialised_from,
    }


def origins_of(initial: Path | None, teachers: Sequence[Path] = (), published: str | None = None) -> RunOrigins:
    """Describes the weights that a training starts from and distils from.

    Args:
        initial: None: random weights, or those that a library publishes.
        published: backbone of a library whose published weights are the initial ones.

    Raises:
        StartupError: A bundle is invalid.
    """
    paths = [*([] if initial is None else [initial]), *teachers]
    names: dict[Path, str] = {}
    origins: list[Origin] = []
    files: list[str] = []
    for path in paths:
        names[path], stated = _of_weights(path)
        origins += stated
        files += [] if stated else [names[path]]
    library = None if published is None else f"published weights of {published}"
    if library is not None and initial is None:
        files.append(library)
    before = library if initial is None else names[initial]
    started = RANDOM if before is None else f"{before}, changed by further training"
    distilled = [names[path] for path in teachers if initial is None or names[path] != names[initial]]
    text = f"{started}; distilled from {' and '.join(distilled)}" if distilled else started
    return RunOrigins(initialised_from=text, origins=tuple(dict.fromkeys(origins)), files=tuple(dict.fromkeys(files)))


def write(run: RunOrigins, folder: Path) -> None:
    """Writes the origins into the folder of a run, unless it contains them: its processes all call this."""
    file, text = folder / FILE, json.dumps(run.model_dump(mode="json"), indent=2) + "\n"
    if not file.is_file() or file.read_text() != text:
        with atomic_file(file) as unfinished:
            unfinished.write_text(text)


def of_checkpoint(checkpoint: Path) -> RunOrigins:
    """Returns the origins of the run that has written a checkpoint."""
    file = checkpoint.resolve().parent.parent / FILE
    if not file.is_file():
        return RunOrigins(initialised_from="unknown weights", files=("unknown weights",))
    return RunOrigins.model_validate_json(file.read_bytes())


def bundle_of(weights: Path) -> Path | None:
    """Returns the embedder bundle that weights belong to: a bundle, a bundle's graph, or a copy of a shipped graph."""
    if weights.is_dir():
        return weights
    if not weights.is_file():
        return None
    digest = file_sha256(weights)
    for folder in (weights.parent, *EMBEDDERS):
        with contextlib.suppress(StartupError):  # no bundle, or none of an embedder
            if (manifest := read_embedder(folder)).files.get(manifest.graph) == digest:
                return folder
    return None


def trained_people(initial: Path) -> TrainingPeople | None:
    """Returns the people who trained initial weights, if a bundle records them; None: they are unknown."""
    bundle = bundle_of(initial)
    return None if bundle is None else training_people.read(bundle, read_embedder(bundle))


def _of_weights(path: Path) -> tuple[str, tuple[Origin, ...]]:
    """Returns the name of weights and their origins; none if no manifest states them."""
    bundle = bundle_of(path)
    if bundle is None:
        return f"a file with the SHA-256 {file_sha256(path)}", ()
    manifest = read_embedder(bundle).models[-1]  # training continues the graph, without the cohort
    stated = manifest.provenance
    return manifest.model_id, stated.origins or (Origin(name=manifest.model_id, terms=stated.terms, use=stated.use),)


def _with_terms(values: object) -> object:
    return (
        [{"name": item, "terms": NOT_STATED} if isinstance(item, str) else item for item in values]
        if isinstance(values, list)
        else values
    )
