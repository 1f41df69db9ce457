"""A photo with the name of the person that it shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from service.inference.engine import Box


class SourcePart(StrEnum):
    """The part that a data set itself assigns to a photo, in its folders or in a column."""

    TRAIN = "train"
    HELD_OUT = "held out"


@dataclass(frozen=True)
class LabelledPhoto:
    """A photo of a person.

    Attributes:
        identity: name of the person; it is also the name of the person's folder of aligned crops.
        part: None if the data set has no division of its own.
        box: position of the face in pixels of the upright photo; None: the detector locates it.
    """

    path: Path
    identity: str
    part: SourcePart | None = None
    box: Box | None = None


PART_NAMES = {
    "train": SourcePart.TRAIN,
    "val": SourcePart.HELD_OUT,
    "valid": SourcePart.HELD_OUT,
    "validation": SourcePart.HELD_OUT,
    "test": SourcePart.HELD_OUT,
}
"""Names of folders and values of the column `split`, in lower case."""


def by_identity(photos: Sequence[LabelledPhoto]) -> list[tuple[str, list[Path]]]:
    """Returns (identity, photos) for each person, sorted by identity."""
    people: dict[str, list[Path]] = {}
    for photo in photos:
        people.setdefault(photo.identity, []).append(photo.path)
    return sorted(people.items())
