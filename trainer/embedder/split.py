"""Assigns each identity to training, validation or calibration."""

import hashlib
import itertools
from collections.abc import Iterable
from enum import StrEnum

from trainer.choices import PartName
from trainer.configuration import ConfigError
from trainer.datasets.photos import SourcePart
from trainer.embedder.aligned_crops import AlignedCrops
from trainer.embedder.split_config import SplitConfig

EVERYBODY = SplitConfig(validation=0.0, calibration=1.0)
"""The split of a measurement on people who are not in the training data."""


class Part(StrEnum):
    TRAIN = "train"
    VALIDATION = "validation"
    CALIBRATION = "calibration"
    LEFT_OUT = "left out"


def part_of(identity: str, split: SplitConfig) -> Part:
    """Returns the part of an identity.

    The part depends on a hash of the name alone, so new data moves no identity to another part.
    Pictures without a label always belong to the training part.
    """
    if not identity:
        return Part.TRAIN
    if identity in split.wrong_labels:
        return Part.LEFT_OUT
    if split.by == "picture":
        return Part.TRAIN
    if identity in split.held_out:
        return Part.CALIBRATION
    position = _position(identity)
    if position < split.validation:
        return Part.VALIDATION
    if position < split.validation + split.calibration:
        return Part.CALIBRATION
    return Part.TRAIN


def named_part(name: PartName) -> Part:
    """Returns the part that an option names. Raises ConfigError for `all`, which is not a part."""
    if name is PartName.ALL:
        raise ConfigError("all is not a part of the split; choose train, validation or calibration")
    return Part.VALIDATION if name is PartName.VAL else Part(name.value)


def picture_parts(crops: AlignedCrops, split: SplitConfig) -> list[Part]:
    """Returns the part of each picture.

    The folders `train/` and `val/` of a data set take precedence over the split. A split by picture trains with at
    least one picture of each person.

    Raises:
        ConfigError: The split is by identity, and `train/` and `val/` contain the same people.
    """
    identities, files = crops.identities, crops.files
    parts = [part_of(name, split) for name in identities]
    if crops.parts:
        return _given_parts(crops, split, parts)
    if split.by == "identity":
        return parts
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(identities):
        if name and parts[row] is Part.TRAIN:
            rows_of.setdefault(name, []).append(row)
    for rows in rows_of.values():
        rows.sort(key=lambda row: _position(files[row].name))
        held_out = min(max(1, round(split.validation * len(rows))), len(rows) - 1) if split.validation else 0
        for row in rows[:held_out]:
            parts[row] = Part.VALIDATION
    return parts


def _given_parts(crops: AlignedCrops, split: SplitConfig, parts: list[Part]) -> list[Part]:
    held_out = [part is SourcePart.HELD_OUT for part in crops.parts]
    both = {name for name, out in zip(crops.identities, held_out, strict=True) if out}
    both &= {name for name, out in zip(crops.identities, held_out, strict=True) if not out}
    if both and split.by == "identity":
        raise ConfigError(
            f"train/ and val/ contain the same people ({', '.join(sorted(both)[:3])}, …): they divide pictures. For a "
            "closed set of people use split: {by: picture}; an embedder needs different people in train/ and val/"
        )
    chosen = [Part.VALIDATION if out else Part.TRAIN for out in held_out]
    return [Part.LEFT_OUT if old is Part.LEFT_OUT else new for old, new in zip(parts, chosen, strict=True)]


def fitted_split(identities: Iterable[str], validation: int, calibration: int) -> SplitConfig:
    """Returns the fractions with which exactly these numbers of the identities are held out."""
    positions = sorted(_position(name) for name in identities)
    edges = [0.0, *((low + high) / 2 for low, high in itertools.pairwise(positions)), 1.0]
    first, last = edges[validation], edges[min(validation + calibration, len(edges) - 1)]
    return SplitConfig(validation=first, calibration=last - first)


def _position(identity: str) -> float:
    """Returns a number from 0 to 1 that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") / 2**64
