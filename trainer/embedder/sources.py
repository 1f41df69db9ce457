"""Which face of which photo becomes which canvas."""

import csv
from collections import Counter
from dataclasses import dataclass
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
    seen = Counter[tuple[str, str]]()
    sources = []
    for name, paths in pictures_by_identity(photos):
        for path in paths:
            seen[name, path.stem] += 1
            sources.append(Source(path, _target(output, name, path.stem, seen[name, path.stem])))
    return sources


def _target(output: Path, name: str, stem: str, number: int) -> Path:
    """IMG.jpg and IMG.heic are two pictures."""
    return output / name / (f"{stem}.webp" if number == 1 else f"{stem}-{number}.webp")


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
    seen = Counter[tuple[str, str]]()
    sources = []
    for line, row in enumerate(rows, 2):
        photo, name = photos / row["photo"], row["identity"].strip()
        try:
            x0, y0, x1, y1 = (float(row[column]) for column in COLUMNS[2:])
        except (TypeError, ValueError):
            raise ConfigError(f"{table}, line {line}: the box is not four numbers") from None
        if not (x0 < x1 and y0 < y1) or not photo.is_file() or Path(name).name != name or not name:
            raise ConfigError(f"{table}, line {line}: no photo {photo}, no identity, or a box without an area")
        seen[name, photo.stem] += 1
        sources.append(Source(photo, _target(output, name, photo.stem, seen[name, photo.stem]), (x0, y0, x1, y1)))
    return sources
