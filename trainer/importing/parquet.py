"""Reads face data sets of the Hugging Face hub: Parquet files of labelled pictures, row by row."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image, UnidentifiedImageError

from trainer.configuration import ConfigError

BATCH_ROWS = 64
PATH_COLUMN = "file that the row is from"
SUFFIXES = {"jpeg": "jpg", "mpo": "jpg"}
"""File suffixes by Pillow's format where they differ. An MPO file of a phone starts with a JPEG picture."""
FORBIDDEN_CHARACTERS = "/\\\0"


@dataclass(frozen=True)
class Row:
    """An encoded picture and the name of its label."""

    data: bytes
    label: str


@dataclass(frozen=True)
class Limits:
    """How many rows are used; None means no limit.

    Attributes:
        classes: maximum number of people; the first ones in the file.
        per_class: maximum number of pictures per person.
        samples: maximum number of pictures.
        probability: probability with which a picture is used, 0 to 1.
        seed: seed of the random selection.
    """

    classes: int | None = None
    per_class: int | None = None
    samples: int | None = None
    probability: float = 1.0
    seed: int = 0


def write_first_row(source: str, file: Path) -> None:
    """Writes names, types and the values of the first row of every column as CSV; of pictures their size in bytes.

    Raises:
        ConfigError: the file does not exist or has no rows.
    """
    try:
        frame = pl.scan_parquet(source).head(1).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigError(f"{source}: {error}") from None
    if frame.is_empty():
        raise ConfigError(f"{source} has no rows")
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(("column", "type", "value"))
        for name, kind in frame.schema.items():
            writer.writerow((name, str(kind), _shown(frame[name][0])))


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_shown(part)}" for key, part in value.items())
    return f"{len(value):,} bytes" if isinstance(value, bytes) else str(value)


def read(source: str, image: str, label: str, chunk_rows: int = BATCH_ROWS) -> Iterator[Row]:
    """Yields the rows of Parquet files that have a picture and a label. A few rows are in memory at a time.

    Args:
        source: a path, a pattern, or `hf://datasets/<owner>/<name>/<pattern>`.
        image: column of pictures, as bytes or as the `datasets` library stores them.
        label: column of identities.
        chunk_rows: number of rows that are in memory at a time.

    Raises:
        ConfigError: the file does not exist, or a column is missing or contains no pictures.
    """
    try:
        frame = pl.scan_parquet(source)
        columns = frame.collect_schema()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigError(f"{source}: {error}") from None
    if missing := [name for name in (image, label) if name not in columns]:
        raise ConfigError(
            f"{source} has no column {', '.join(missing)}; its columns are {', '.join(columns)}. "
            "Name the columns with --image and --label"
        )
    names = _label_names(source, label)
    for batch in frame.select(image, label).collect_batches(chunk_size=chunk_rows, maintain_order=True):
        for row in batch.iter_rows(named=True):
            cell = row[image]
            data = cell.get("bytes") if isinstance(cell, dict) else cell
            if data is not None and not isinstance(data, bytes):
                raise ConfigError(
                    f"{source}: the column {image} contains {type(cell).__name__} instead of pictures; name the column "
                    "of pictures with --image"
                )
            identity = _identity(row[label], names)
            if data is not None and identity is not None:
                yield Row(data, identity)


def limited(rows: Iterator[Row], limits: Limits) -> Iterator[Row]:
    """Yields the rows within the limits and stops reading when no further row can be used."""
    rng = np.random.default_rng(limits.seed)
    used = Counter[str]()
    for row in rows:
        if limits.samples is not None and used.total() >= limits.samples:
            return
        if rng.random() >= limits.probability or _is_full(row.label, used, limits):
            continue
        used[row.label] += 1
        yield row


def write_identities(rows: Iterator[Row], output: Path) -> tuple[int, int]:
    """Writes the pictures unchanged as `<output>/<label>/<number>.<suffix>`; existing files are kept.

    Returns:
        The numbers of written pictures and of rows without a valid picture.
    """
    next_numbers: dict[str, int] = {}
    count = rejected = 0
    for row in rows:
        name = _folder_name(row.label)
        try:
            with Image.open(io.BytesIO(row.data)) as picture:
                kind = (picture.format or "").lower()
        except (UnidentifiedImageError, OSError):
            rejected += 1
            continue
        folder = output / name
        if name not in next_numbers:
            folder.mkdir(parents=True, exist_ok=True)
            next_numbers[name] = sum(1 for _ in folder.iterdir())  # continues after the files of an earlier import
        (folder / f"{next_numbers[name]:05}.{SUFFIXES.get(kind, kind)}").write_bytes(row.data)
        next_numbers[name] += 1
        count += 1
    return count, rejected


def _identity(label: object, names: list[str] | None) -> str | None:
    """Returns the label's name, or None for rows without a label, which have null or -1."""
    if label is None or names is None or not isinstance(label, int):
        return None if label is None else str(label)
    return names[label] if 0 <= label < len(names) else None


def _label_names(source: str, label: str) -> list[str] | None:
    """Returns the names of a ClassLabel's numbers, which the `datasets` library stores in the file's metadata."""
    try:
        first = pl.scan_parquet(source, include_file_paths=PATH_COLUMN).select(PATH_COLUMN).head(1).collect().item()
        metadata = pl.read_parquet_metadata(first).get("huggingface")
        features = json.loads(metadata)["info"]["features"] if metadata else {}
    except (OSError, pl.exceptions.PolarsError, ValueError, KeyError, TypeError):
        return None
    names = (features.get(label) or {}).get("names")
    return [str(name) for name in names] if names else None


def _is_full(label: str, used: Counter[str], limits: Limits) -> bool:
    if label not in used and limits.classes is not None and len(used) >= limits.classes:
        return True
    return limits.per_class is not None and used[label] >= limits.per_class


def _folder_name(label: str) -> str:
    safe = "".join("_" if character in FORBIDDEN_CHARACTERS else character for character in label)
    return safe.strip(". ") or "unnamed"
