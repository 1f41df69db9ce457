"""Lists the faces to prepare, and the file of each aligned crop."""

import csv
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from service.inference.engine import Box
from trainer.configuration import ConfigError
from trainer.pictures import pictures_by_identity

COLUMNS = ("photo", "identity", "x_min", "y_min", "x_max", "y_max")


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


def faces_by_identity(photos: Path, output: Path) -> list[Source]:
    """Returns one face of each `<identity>/<photo>`."""
    targets = _Targets(output)
    return [
        Source(path, targets.unused(name, path.stem)) for name, paths in pictures_by_identity(photos) for path in paths
    ]


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


def faces_by_box(table: Path, photos: Path, output: Path) -> list[Source]:
    """Returns the faces that a CSV file lists; a photo may have several.

    Raises:
        ConfigError: A column is missing, or a row has an invalid box or identity or names no photo.
    """
    with table.open(newline="") as file:
        reader = csv.DictReader(file)
        if missing := set(COLUMNS) - set(reader.fieldnames or ()):
            raise ConfigError(f"{table} has no column {', '.join(sorted(missing))}; it needs {', '.join(COLUMNS)}")
        rows = list(reader)
    targets = _Targets(output)
    return [_source(row, f"{table}, line {line}", photos, targets) for line, row in enumerate(rows, 2)]


def _source(row: dict[str, str], place: str, photos: Path, targets: _Targets) -> Source:
    photo, name = photos / row["photo"], row["identity"].strip()
    try:
        x0, y0, x1, y1 = (float(row[column]) for column in COLUMNS[2:])
    except (TypeError, ValueError):
        raise ConfigError(f"{place}: the box is not four numbers") from None
    if not photo.is_file():
        raise ConfigError(f"{place}: the photo {photo} does not exist")
    if not name or Path(name).name != name:
        raise ConfigError(f"{place}: the identity {name!r} is not a folder name")
    if not (x0 < x1 and y0 < y1):
        raise ConfigError(f"{place}: the box has no area; x_min < x_max and y_min < y_max are required")
    return Source(photo, targets.unused(name, photo.stem), (x0, y0, x1, y1))
