"""A photo with the name of the person that it shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from service.inference.engine import Box
from trainer.cache import content_key


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


def without_copies(photos: Sequence[LabelledPhoto]) -> list[LabelledPhoto]:
    """Returns the photos without exact copies under the same person, which would count as genuine pairs."""
    seen: set[tuple[str, str, Box | None]] = set()
    distinct = []
    for photo in photos:
        content = content_key(photo.path) if photo.path.is_file() else str(photo.path)
        key = (photo.identity, content, photo.box)
        if key not in seen:
            distinct.append(photo)
        seen.add(key)
    return distinct


def by_identity(photos: Sequence[LabelledPhoto]) -> list[tuple[str, list[Path]]]:
    """Returns (identity, photos) for each person, sorted by identity."""
    people: dict[str, list[Path]] = {}
    for photo in photos:
        people.setdefault(photo.identity, []).append(photo.path)
    return sorted(people.items())
