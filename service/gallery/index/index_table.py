"""Rows of an index in memory, and how the rows of ids are found."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from service.gallery.index.fields import Field, Path
from service.gallery.storage.tables import CODE_BITS

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]
ID_BYTES, CODE_BYTES = 16, CODE_BITS // 8


@dataclass(frozen=True, slots=True)
class Entries:
    """n centroids: (n, 16) ids, (n, 64) codes, (n, dim) embeddings and (n,) numbers of templates."""

    ids: Bytes
    codes: Bytes
    embeddings: Floats
    template_counts: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class FieldValues:
    """A field of n identities with these (n, 16) ids."""

    ids: Bytes
    values: Field


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of the index. A row without templates is empty: all of its values are zero.

    Attributes:
        quantised: (rows, dim) embeddings in steps of `steps`, (rows,).
        fields: of the identities' metadata, as far as filters need them.
    """

    ids: Bytes
    codes: Bytes
    quantised: npt.NDArray[np.int8]
    steps: Floats
    template_counts: npt.NDArray[np.int32]
    fields: Mapping[Path, Field] = field(default_factory=dict)

    @classmethod
    def empty(cls, rows: int, dim: int, fields: Iterable[Path] = ()) -> "Table":
        return cls(
            np.zeros((rows, ID_BYTES), np.uint8),
            np.zeros((rows, CODE_BYTES), np.uint8),
            np.zeros((rows, dim), np.int8),
            np.zeros(rows, np.float32),
            np.zeros(rows, np.int32),
            {path: Field.empty(rows) for path in fields},
        )

    @property
    def centroids(self) -> Sequence[npt.NDArray[Any]]:
        """The columns of centroids."""
        return self.ids, self.codes, self.quantised, self.steps, self.template_counts

    @property
    def columns(self) -> Sequence[npt.NDArray[Any]]:
        """All columns."""
        of_fields = [column for item in self.fields.values() for column in (item.hashes, item.numbers)]
        return *self.centroids, *of_fields

    def enlarged(self, rows: int) -> "Table":
        larger = self.empty(rows, self.quantised.shape[1], self.fields)
        for old, new in zip(self.columns, larger.columns, strict=True):
            new[: len(old)] = old
        return larger


@dataclass(frozen=True, slots=True)
class Near:
    """The identities near a probe, best first by their centroids.

    Attributes:
        ids: (n, 16).
        several: (n,), True for an identity with several templates, of which one can be nearer than the centroid.
        scores: (n,) cosines of the 8-bit embeddings to the probe.
        margin: two identities whose scores differ by more are in the order of their exact cosines.
    """

    ids: Bytes
    several: npt.NDArray[np.bool_]
    scores: Floats
    margin: float

    @classmethod
    def nobody(cls) -> "Near":
        return cls(np.empty((0, ID_BYTES), np.uint8), np.empty(0, np.bool_), np.empty(0, np.float32), 0.0)

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Near":
        return Near(self.ids[chosen], self.several[chosen], self.scores[chosen], self.margin)

    def first(self, count: int) -> "Near":
        return Near(self.ids[:count], self.several[:count], self.scores[:count], self.margin)

    def contenders(self, count: int) -> Bytes:
        """Returns the ids of those that can be among the best `count`, by their scores or templates."""
        if len(self.ids) <= count:
            return self.ids
        return self.ids[self.several | (self.scores >= self.scores[count - 1] - self.margin)]


@dataclass(frozen=True, slots=True)
class Lookup:
    """Finds the rows of ids: by the sorted keys of ids and their rows, and in a dictionary of later insertions."""

    keys: npt.NDArray[np.uint64]
    rows: Rows
    later: dict[bytes, int]

    @classmethod
    def of(cls, ids: Bytes) -> "Lookup":
        keys = _keys(ids)
        rows = np.argsort(keys)
        return cls(keys[rows], rows, {})

    def find(self, table: Table, ids: Bytes) -> Rows:
        """Returns the row of each of (n, 16) ids; -1: there is none."""
        keys = _keys(ids)
        found = np.full(len(ids), -1, np.int64)
        positions = np.searchsorted(self.keys, keys)
        pending = np.arange(len(ids))
        while len(pending):  # once, and again for different ids with the same key
            pending = pending[positions[pending] < len(self.keys)]
            pending = pending[self.keys[positions[pending]] == keys[pending]]
            candidates = self.rows[positions[pending]]
            same = (table.ids[candidates] == ids[pending]).all(axis=1)
            found[pending[same]] = candidates[same]
            pending = pending[~same]
            positions[pending] += 1
        if self.later:
            for position in np.flatnonzero(found < 0):
                row = self.later.get(ids[position].tobytes(), -1)
                found[position] = row if row < len(table.ids) else -1  # inserted after the table was enlarged
        return found


def _keys(ids: Bytes) -> npt.NDArray[np.uint64]:
    """Returns the last 8 of the 16 bytes of each id as a number. They are random in every version of UUIDs we use."""
    return np.ascontiguousarray(ids[:, 8:]).view(np.uint64)[:, 0]


def literal(ids: Bytes) -> str:
    """Returns (n, 16) ids in PostgreSQL's text form of an array."""
    digits = ids.tobytes().hex()
    width = 2 * ID_BYTES
    return "{" + ",".join(digits[start : start + width] for start in range(0, len(digits), width)) + "}"
