"""Embeddings that another program has stored: NumPy files, and pickled dictionaries or files of DeepFace."""

import pickle
import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from service.transfer.rest import SourceError

Floats = npt.NDArray[np.float32]
VECTORS = ("embeddings", "embedding", "features", "vectors")
NAMES = ("external_id", "names", "name", "labels", "identities", "ids")
"""Names of arrays in a NumPy archive, the preferred first."""
MAX_BYTES = 4 * 1024**3


@dataclass(frozen=True)
class StoredEmbeddings:
    """n embeddings.

    Attributes:
        sources: where each comes from, for the report.
        vectors: (n, dim), L2-normalised.
        labels: the name to show of each; empty, or None for one: that in `people`.
    """

    people: list[str]
    sources: list[str]
    vectors: Floats
    labels: list[str | None] = field(default_factory=list)


class _PlainUnpickler(pickle.Unpickler):
    """Reads numbers, texts, lists and dictionaries only: other objects, NumPy's arrays included, could run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(
            f"the file contains a {module}.{name}; only lists and numbers are read from pickled files: store arrays "
            "with numpy.savez(file, embeddings=…, names=…)"
        )


def read_embeddings(file: Path, names: Path | None = None) -> StoredEmbeddings:
    """Reads `*.npz` with names, `*.npy` with a text file of names, or `*.pkl`. Raises SourceError.

    Args:
        names: text file with one name for each row, for `*.npy`.
    """
    if file.stat().st_size > MAX_BYTES:
        raise SourceError(f"{file} has more than {MAX_BYTES:,} bytes; split it")
    try:
        if file.suffix in (".pkl", ".pickle"):
            people, sources, vectors = _of_pickle(file)
        elif file.suffix == ".npz":
            people, vectors = _of_archive(file)
            sources = [f"row {number}" for number in range(len(people))]
        elif file.suffix == ".npy" and names is not None:
            people, vectors = names.read_text(encoding="utf-8").splitlines(), np.load(file, allow_pickle=False)
            sources = [f"row {number}" for number in range(len(people))]
        else:
            raise SourceError(f"{file} must be *.npz, *.npy with --names, or *.pkl")
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        zipfile.BadZipFile,
        pickle.UnpicklingError,
    ) as error:
        raise SourceError(f"{file} cannot be read: {error}") from None
    return StoredEmbeddings(people, sources, normalised(file, people, vectors))


def _of_pickle(file: Path) -> tuple[list[str], list[str], Any]:
    """Returns people, sources and embeddings: a dictionary by name, or what `DeepFace.find` writes in its `db_path`."""
    with file.open("rb") as opened:
        rows = _PlainUnpickler(opened).load()
    if isinstance(rows, dict):
        pairs = [(str(name), vector) for name, value in rows.items() for vector in np.atleast_2d(np.asarray(value))]
        return [name for name, _ in pairs], [name for name, _ in pairs], [vector for _, vector in pairs]
    found = [(str(row["identity"]), row["embedding"]) for row in rows if row.get("embedding") is not None]
    paths = [PurePosixPath(path.replace("\\", "/")) for path, _ in found]
    return [path.parent.name or path.stem for path in paths], [path for path, _ in found], [row for _, row in found]


def _of_archive(file: Path) -> tuple[list[str], Any]:
    with np.load(file, allow_pickle=False) as archive:
        vectors = next((name for name in VECTORS if name in archive), None)
        names = next((name for name in NAMES if name in archive), None)
        if vectors is None or names is None:
            raise ValueError(f"it needs an array {VECTORS[0]!r} and an array {NAMES[0]!r}; it has {archive.files}")
        return [str(name) for name in archive[names]], archive[vectors]


def normalised(file: Path, people: list[str], vectors: Any) -> Floats:
    """Returns (n, dim) embeddings of length one. Raises SourceError."""
    array = np.asarray(vectors, np.float64)
    if array.ndim != 2 or len(array) != len(people) or not len(array):
        raise SourceError(f"{file} must have one embedding for each name; it has {len(people)} and {array.shape}")
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise SourceError(f"{file} contains embeddings of length 0 or numbers that are not finite")
    return (array / lengths).astype(np.float32)
