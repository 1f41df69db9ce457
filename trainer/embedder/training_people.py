"""The people of a training, as salted hashes of their names.

A bundle stores them, so that no calibration and no evaluation measures a model on people who trained it. The hashes are
truncated to 48 bits: enough to recognise a name that is at hand. They do not hide a name from somebody who guesses it.
"""

import hashlib
import json
import secrets
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from pydantic import Field

from service.inference.bundle_files import read_listed
from service.inference.manifest import EmbedderManifest
from service.strict_model import Strict
from trainer.configuration import ConfigError
from trainer.embedder.aligned_crops import UNLABELLED
from trainer.embedder.split import Part, part_of
from trainer.embedder.split_config import SplitConfig

FILE = "training-people.json"
HASH_DIGITS = 12
NAMED = 5


class HashedNames(Strict):
    """A set of names. `hashes`: hexadecimal digits of SHA-256 over the salt and the normalised name."""

    salt: str = Field(min_length=16)
    hashes: list[str]

    @classmethod
    def of(cls, names: Iterable[str]) -> Self:
        salt = secrets.token_hex(8)
        return cls(salt=salt, hashes=sorted({_hash(salt, name) for name in names}))

    def find(self, names: Iterable[str]) -> list[str]:
        """Returns the names that are in the set, in alphabetical order."""
        hashes = set(self.hashes)
        return sorted({name for name in names if _hash(self.salt, name) in hashes})


class TrainingPeople(Strict):
    """The people of a training and of the trainings before it.

    Attributes:
        trained: One set for each training, the last one first.
        held_out, wrong_labels: Names in the configuration of the last training; see `SplitConfig`.
    """

    trained: list[HashedNames] = Field(min_length=1)
    held_out: HashedNames
    wrong_labels: HashedNames

    @classmethod
    def of(cls, identities: Iterable[str], split: SplitConfig, before: "TrainingPeople | None" = None) -> Self:
        """Returns the people of a training that continues the training of a model; None: of no model."""
        names = {name for name in identities if name != UNLABELLED}
        trained = HashedNames.of(name for name in names if part_of(name, split) in (Part.TRAIN, Part.VALIDATION))
        return cls(
            trained=[trained, *([] if before is None else before.trained)],
            held_out=HashedNames.of(split.held_out),
            wrong_labels=HashedNames.of(split.wrong_labels),
        )

    def find_trained(self, names: Iterable[str]) -> list[str]:
        """Returns the names of people who trained the model or selected its checkpoint."""
        names = set(names)
        return sorted({name for group in self.trained for name in group.find(names)})


def write(people: TrainingPeople, folder: Path) -> Path:
    """Writes the people into a folder and returns the file."""
    file = folder / FILE
    file.write_text(json.dumps(people.model_dump(mode="json")) + "\n")
    return file


def read(folder: Path, manifest: EmbedderManifest) -> TrainingPeople | None:
    """Returns the people of a bundle; None if it does not record them. Raises StartupError."""
    if FILE not in manifest.files:
        return None
    return TrainingPeople.model_validate_json(read_listed(folder, manifest.files, FILE))


def of_run(checkpoint: Path) -> TrainingPeople | None:
    """Returns the people of the run that has written a checkpoint; None if they are unknown."""
    file = checkpoint.resolve().parent.parent / FILE
    return TrainingPeople.model_validate_json(file.read_bytes()) if file.is_file() else None


def recorded_split(
    folder: Path, manifest: EmbedderManifest, config: Path | None, identities: Sequence[str]
) -> SplitConfig:
    """Returns the split of the training that the bundle records, or else that of the file.

    Args:
        identities: Names among which those that the training held out or left out are recognised.

    Raises:
        ConfigError: The bundle records a split and there is a file, or there is neither.
    """
    if manifest.split is not None:
        if config is not None:
            raise ConfigError(f"{folder} records which people were held out of its training; omit --config")
        people = read(folder, manifest)
        return SplitConfig(
            validation=manifest.split.validation,
            calibration=manifest.split.calibration,
            held_out=() if people is None else tuple(people.held_out.find(identities)),
            wrong_labels=() if people is None else tuple(people.wrong_labels.find(identities)),
        )
    if config is None:
        raise ConfigError(
            f"the bundle of {manifest.model_id} does not record which people were held out of its training: name the "
            "YAML file that trained it with --config, or measure people who are not in the training data: --everybody"
        )
    from trainer.embedder.config import EmbedderConfig

    return EmbedderConfig.load(config).split


def require_untrained(folder: Path, manifest: EmbedderManifest, names: Iterable[str]) -> None:
    """Raises ConfigError if people with some of these names trained the model or selected its checkpoint."""
    people = read(folder, manifest)
    if people is None or not (trained := people.find_trained(names)):
        return
    shown = ", ".join(trained[:NAMED]) + (", …" if len(trained) > NAMED else "")
    raise ConfigError(
        f"{manifest.model_id} was trained with {len(trained)} of these people ({shown}), so that the measurement would "
        "be too good. Remove them; if they are other people with the same names, rename their folders"
    )


def _hash(salt: str, name: str) -> str:
    """Returns the hash of a name; case, accents' encoding, and underscores for spaces make no difference."""
    normalised = " ".join(unicodedata.normalize("NFC", name).casefold().replace("_", " ").split())
    return hashlib.sha256(f"{salt}/{normalised}".encode()).hexdigest()[:HASH_DIGITS]
