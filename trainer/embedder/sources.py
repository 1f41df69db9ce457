"""Which face of which photo becomes which canvas."""

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
    """A face to prepare. `box`: where somebody said that it is, in pixels of the upright photo; None: to be found."""

    photo: Path
    target: Path
    box: Box | None = None


def faces_by_identity(photos: Path, output: Path) -> list[Source]:
    """One face of every `<identity>/<photo>`."""
    targets = _Targets(output)
    return [
        Source(path, targets.free(name, path.stem)) for name, paths in pictures_by_identity(photos) for path in paths
    ]


class _Targets:
    """Names for canvases, each given once: IMG.jpg and IMG.heic are two pictures."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._given: set[Path] = set()

    def free(self, name: str, stem: str) -> Path:
        names = chain([stem], (f"{stem}-{number}" for number in count(2)))
        target = next(path for tried in names if (path := self._output / name / f"{tried}.webp") not in self._given)
        self._given.add(target)
        return target


def faces_by_box(table: Path, photos: Path, output: Path) -> list[Source]:
    """The faces that a CSV names, several in one photo if it likes.

    Raises:
        ConfigError: a column is missing, or a row is no box or names no photo.
    """
    with table.open(newline="") as file:
        reader = csv.DictReader(file)
        if missing := set(COLUMNS) - set(reader.fieldnames or ()):
            raise ConfigError(f"{table} has no column {', '.join(sorted(missing))}; it needs {', '.join(COLUMNS)}")
        rows = list(reader)
    targets = _Targets(output)
    sources = []
    for line, row in enumerate(rows, 2):
        photo, name = photos / row["photo"], row["identity"].strip()
        try:
            x0, y0, x1, y1 = (float(row[column]) for column in COLUMNS[2:])
        except (TypeError, ValueError):
            raise ConfigError(f"{table}, line {line}: the box is not four numbers") from None
        if not (x0 < x1 and y0 < y1) or not photo.is_file() or Path(name).name != name or not name:
            raise ConfigError(f"{table}, line {line}: no photo {photo}, no identity, or a box without an area")
        sources.append(Source(photo, targets.free(name, photo.stem), (x0, y0, x1, y1)))
    return sources
