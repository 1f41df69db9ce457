"""Assigns the file of an aligned crop to each photo."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from service.inference.engine import Box
from trainer.datasets.photos import LabelledPhoto, SourcePart


@dataclass(frozen=True)
class Source:
    """A face to prepare.

    Attributes:
        target: The file of the aligned crop.
        box: Position of the face in pixels of the upright photo; None: the detector locates it.
    """

    photo: Path
    target: Path
    box: Box | None = None


def assign_targets(photos: Sequence[LabelledPhoto], output: Path) -> list[Source]:
    """Returns the faces to prepare, each with its own file `<output>/<identity>/<photo>.webp`."""
    targets = _Targets(output)
    return [Source(photo.path, targets.unused(_folder(photo), photo.path.stem), photo.box) for photo in photos]


def _folder(photo: LabelledPhoto) -> str:
    """Returns the folder of the crop; a data set with `train/` and `val/` keeps them."""
    if photo.part is None:
        return photo.identity
    return f"{'val' if photo.part is SourcePart.HELD_OUT else 'train'}/{photo.identity}"


class _Targets:
    """Assigns each face its own file: IMG.jpg and IMG.heic are two pictures."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._used: set[Path] = set()

    def unused(self, identity: str, stem: str) -> Path:
        stems = chain([stem], (f"{stem}-{number}" for number in count(2)))
        paths = (self._output / identity / f"{candidate}.webp" for candidate in stems)
        target = next(path for path in paths if path not in self._used)
        self._used.add(target)
        return target
