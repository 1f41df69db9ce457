"""Rows of an index in memory, and how the rows of ids are found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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
class Table:
    """Rows of the index. A row without templates is empty: all of its values are zero.

    Attributes:
        quantised: (rows, dim) embeddings in steps of `steps`, (rows,).
    """

    ids: Bytes
    codes: Bytes
    quantised: npt.NDArray[np.int8]
    steps: Floats
    template_counts: npt.NDArray[np.int32]

    @classmethod
    def empty(cls, rows: int, dim: int) -> "Table":
        return cls(
            np.zeros((rows, ID_BYTES), np.uint8),
            np.zeros((rows, CODE_BYTES), np.uint8),
            np.zeros((rows, dim), np.int8),
            np.zeros(rows, np.float32),
            np.zeros(rows, np.int32),
        )

    @property
    def columns(self) -> Sequence[npt.NDArray[Any]]:
        return self.ids, self.codes, self.quantised, self.steps, self.template_counts

    def enlarged(self, rows: int) -> "Table":
        larger = self.empty(rows, self.quantised.shape[1])
        for old, new in zip(self.columns, larger.columns, strict=True):
            new[: len(old)] = old
        return larger


@dataclass(frozen=True, slots=True)
class Near:
    """The identities near a probe, best first by their centroids.

    Attributes:
        ids: (n, 16).
        several: (n,), True for an identity with several templates, of which one can be nearer than the centroid.
    """

    ids: Bytes
    several: npt.NDArray[np.bool_]

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Near":
        return Near(self.ids[chosen], self.several[chosen])

    def first(self, count: int) -> "Near":
        return Near(self.ids[:count], self.several[:count])

    def contenders(self, count: int) -> Bytes:
        """Returns the ids of those that can be among the best `count`: the first, and all with several templates."""
        several = self.several.copy()
        several[:count] = True
        return self.ids[several]


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
