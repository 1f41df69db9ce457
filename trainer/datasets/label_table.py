"""Reads CSV files that name the person of each photo."""

import csv
from collections.abc import Sequence
from pathlib import Path

from service.inference.engine import Box
from trainer.configuration import ConfigError
from trainer.datasets.photos import PART_NAMES, LabelledPhoto, SourcePart

PHOTO = ("photo", "path", "image", "file", "filename", "id")
IDENTITY = ("identity", "label", "person", "name", "class")
"""Names that the columns of photos and identities may have."""
SPLIT = "split"
BOX = ("x_min", "y_min", "x_max", "y_max")


def read_table(table: Path, photos: Path | None = None) -> list[LabelledPhoto]:
    """Returns the photos that a CSV file lists; a photo may occur several times with different boxes.

    The columns are `photo` (or `path`, `image`, `file`, `filename`, `id`), `identity` (or `label`, `person`, `name`,
    `class`), optionally `x_min`, `y_min`, `x_max` and `y_max` in pixels of the upright photo, and optionally `split`
    (train, val or test). Commas, semicolons or tabs separate the columns.

    Args:
        photos: folder that relative paths start from; None: the folder of the table.

    Raises:
        ConfigError: A column is missing, or a row has an invalid value or names no photo.
    """
    with table.open(newline="", encoding="utf-8-sig") as file:
        first = file.readline()
        file.seek(0)
        separator = max(",;\t", key=first.count)
        reader = csv.DictReader(file, delimiter=separator)
        columns = set(reader.fieldnames or ())
        photo, identity = (_column(names, columns, table) for names in (PHOTO, IDENTITY))
        if (some := columns & set(BOX)) and some != set(BOX):
            raise ConfigError(f"{table} has no column {', '.join(name for name in BOX if name not in columns)}")
        rows = list(reader)
    if not rows:
        raise ConfigError(f"{table} lists no photo")
    folder = table.parent if photos is None else photos
    return [
        _photo(row, row[photo] or "", row[identity] or "", f"{table}, line {line}", folder, bool(some))
        for line, row in enumerate(rows, 2)
    ]


def _column(names: Sequence[str], columns: set[str], table: Path) -> str:
    for name in names:
        if name in columns:
            return name
    raise ConfigError(
        f"{table} has no column {names[0]} (or {', '.join(names[1:])}); its columns are {', '.join(sorted(columns))}"
    )


def _photo(
    row: dict[str, str | None], file: str, identity: str, place: str, folder: Path, has_box: bool
) -> LabelledPhoto:
    path, name = folder / file, identity.strip()
    if not path.is_file():
        raise ConfigError(f"{place}: the photo {path} does not exist")
    if not name or Path(name).name != name:
        raise ConfigError(f"{place}: the identity {name!r} is not a folder name")
    return LabelledPhoto(path, name, _part(row.get(SPLIT), place), _box(row, place) if has_box else None)


def _part(value: str | None, place: str) -> SourcePart | None:
    if not value:
        return None
    try:
        return PART_NAMES[value.strip().lower()]
    except KeyError:
        raise ConfigError(f"{place}: split is {value!r}; use one of {', '.join(PART_NAMES)}") from None


def _box(row: dict[str, str | None], place: str) -> Box:
    try:
        x0, y0, x1, y1 = (float(row[column] or "") for column in BOX)
    except ValueError:
        raise ConfigError(f"{place}: the box is not four numbers") from None
    if not (x0 < x1 and y0 < y1):
        raise ConfigError(f"{place}: the box has no area; x_min < x_max and y_min < y_max are required")
    return x0, y0, x1, y1
