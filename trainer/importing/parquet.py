"""Face data sets of the Hugging Face hub: Parquet files of pictures with labels, read row by row."""

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

PORTION = 64
FILE = "file that the row is from"
KINDS = {"jpeg": "jpg", "mpo": "jpg"}
"""A phone's MPO begins with a JPEG."""
FORBIDDEN = "/\\\0"


@dataclass(frozen=True)
class Row:
    """A picture as it is stored, and its label's name."""

    data: bytes
    label: str


@dataclass(frozen=True)
class Limits:
    """How much is taken.

    Attributes:
        classes: people, the first ones that come.
        per_class: pictures of a person.
        samples: pictures altogether.
        probability: with which each picture is considered at all.
    """

    classes: int | None = None
    per_class: int | None = None
    samples: int | None = None
    probability: float = 1.0
    seed: int = 0


def read(source: str, image: str, label: str) -> Iterator[Row]:
    """The rows of Parquet files: a path, a pattern, or `hf://datasets/<owner>/<name>/<pattern>`.

    Only a few rows are held at once.

    Raises:
        ConfigError: no such file, or a column is missing or holds no pictures.
    """
    try:
        frame = pl.scan_parquet(source)
        columns = frame.collect_schema()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigError(f"{source}: {error}") from None
    if missing := [name for name in (image, label) if name not in columns]:
        raise ConfigError(f"{source} has no column {', '.join(missing)}; it has {', '.join(columns)}")
    names = _label_names(source, label)
    for portion in frame.select(image, label).collect_batches(chunk_size=PORTION, maintain_order=True):
        for row in portion.iter_rows(named=True):
            cell = row[image]
            data = cell.get("bytes") if isinstance(cell, dict) else cell
            if data is not None and not isinstance(data, bytes):
                raise ConfigError(f"{source}: the column {image} holds no pictures, but {type(cell).__name__}")
            named = _named(row[label], names)
            if data is not None and named is not None:  # -1 and null are rows without a label
                yield Row(data, named)


def _named(label: object, names: list[str] | None) -> str | None:
    if label is None or names is None or not isinstance(label, int):
        return None if label is None else str(label)
    return names[label] if 0 <= label < len(names) else None


def _label_names(source: str, label: str) -> list[str] | None:
    """The names that a ClassLabel's numbers stand for, as the `datasets` library writes them beside the schema."""
    try:
        first = pl.scan_parquet(source, include_file_paths=FILE).select(FILE).head(1).collect().item()
        told = pl.read_parquet_metadata(first).get("huggingface")
        features = json.loads(told)["info"]["features"] if told else {}
    except (OSError, pl.exceptions.PolarsError, ValueError, KeyError, TypeError):
        return None
    names = (features.get(label) or {}).get("names")
    return [str(name) for name in names] if names else None


def limited(rows: Iterator[Row], limits: Limits) -> Iterator[Row]:
    """Of the rows those that the limits leave; reading ends as soon as nothing more can be taken."""
    rng = np.random.default_rng(limits.seed)
    taken = Counter[str]()
    for row in rows:
        if limits.samples is not None and taken.total() >= limits.samples:
            return
        if rng.random() >= limits.probability or _is_full(row.label, taken, limits):
            continue
        taken[row.label] += 1
        yield row


def _is_full(label: str, taken: Counter[str], limits: Limits) -> bool:
    new_class = label not in taken
    if new_class and limits.classes is not None and len(taken) >= limits.classes:
        return True
    return limits.per_class is not None and taken[label] >= limits.per_class


def write_identities(rows: Iterator[Row], output: Path) -> tuple[int, int]:
    """`<output>/<label>/<number>.<kind>`: the pictures as they are stored. Returns how many, and how many are none."""
    places: dict[str, int] = {}
    count = refused = 0
    for row in rows:
        name = "".join("_" if character in FORBIDDEN else character for character in row.label).strip(". ") or "unnamed"
        try:
            with Image.open(io.BytesIO(row.data)) as picture:
                kind = (picture.format or "").lower()
        except (UnidentifiedImageError, OSError):
            refused += 1
            continue
        folder = output / name
        if name not in places:
            folder.mkdir(parents=True, exist_ok=True)
            places[name] = sum(1 for _ in folder.iterdir())  # after what another import left
        (folder / f"{places[name]:05}.{KINDS.get(kind, kind)}").write_bytes(row.data)
        places[name] += 1
        count += 1
    return count, refused
