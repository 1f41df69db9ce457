"""An index of one collection's centroids in memory, which returns the identities that are nearest to a probe.

A search compares the binary codes of all centroids with FAISS, then the 8-bit embeddings of the nearest ones. Its
result is a shortlist of ids. The database compares their current embeddings, so that an entry that is out of date can
cost time, but cannot become a candidate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from service.gallery.index import comparison
from service.gallery.index.fields import BYTES_PER_ROW, Field, Path, mask_of
from service.gallery.index.index_table import (
    CODE_BYTES,
    ID_BYTES,
    Bytes,
    Entries,
    FieldValues,
    Floats,
    Lookup,
    Near,
    Rows,
    Table,
)
from service.gallery.index.snapshots import Snapshot

MAX_SHARE = 1 / 4
"""A field that fits more of the rows saves no time: copying the codes of these rows takes as long as comparing all."""
SPARE = 1.5
"""Ratio of allocated to stored rows. The operating system provides memory for rows only when they are written."""
MIN_SPARE_ROWS = 16_384
CHANGED_SHARE, MIN_CHANGED = 1 / 64, 4_096
"""Inserted rows after which all rows are sorted again (0.1 s for a million), and empty rows after which the table is
copied without them (0.2 s)."""


@dataclass(frozen=True, slots=True)
class State:
    """What a search reads: the first `used` rows of a table that contains every change visible in `snapshot`."""

    table: Table
    used: int
    lookup: Lookup
    snapshot: Snapshot


class MemoryIndex:
    """The index of one collection under one model. One thread may change it while others search.

    A search reads `state` once. A change writes rows in place and publishes a new state afterwards. A search that reads
    a row during the change may miss the row's identity in the index. It finds the identity nevertheless, because its
    statement also compares all identities that have changed since `state.snapshot`.

    Attributes:
        people, templates: numbers of identities and of their templates.
    """

    def __init__(self, dim: int, rows: int, snapshot: Snapshot) -> None:
        self.people = 0
        self.templates = 0
        table = Table.empty(_with_spare(rows), dim)
        self.state = State(table, 0, Lookup.of(table.ids[:0]), snapshot)
        self._empty_rows: list[int] = []

    @staticmethod
    def bytes_of(people: int, dim: int, fields: int = 0) -> int:
        """Returns the memory in bytes that an index of this size takes."""
        key_and_row = 16
        return people * (ID_BYTES + CODE_BYTES + dim + 8 + key_and_row + BYTES_PER_ROW * fields)

    @property
    def size(self) -> int:
        """Its memory in bytes."""
        table = self.state.table
        return self.bytes_of(self.state.used, table.quantised.shape[1], len(table.fields))

    @property
    def bytes_of_field(self) -> int:
        """The memory in bytes that a field of the metadata takes."""
        return BYTES_PER_ROW * self.state.used

    @property
    def has_several_templates(self) -> bool:
        """True if an identity has more than one template."""
        return self.templates > self.people

    def fill(self, entries: Entries) -> None:
        """Inserts centroids of identities that the index does not contain. `put` needs a call of `sort` before."""
        self._write(self._allocate(len(entries.ids)), entries)
        self.people += len(entries.ids)

    def sort(self) -> None:
        """Enables `put` and `remove` to find the rows of all identities."""
        self.state = replace(self.state, lookup=Lookup.of(self.state.table.ids[: self.state.used]))

    def put(self, entries: Entries) -> None:
        """Inserts or replaces centroids of different identities."""
        if not len(entries.ids):
            return
        rows = self.state.lookup.find(self.state.table, entries.ids)
        new = rows < 0
        rows[new] = self._allocate(int(new.sum()))
        self._write(rows, entries)
        self.people += int(new.sum())
        later = self.state.lookup.later
        later.update(
            (identity_id.tobytes(), int(row)) for identity_id, row in zip(entries.ids[new], rows[new], strict=True)
        )
        if self._are_many(len(later)):
            self.sort()

    def remove(self, ids: Bytes) -> None:
        """Removes the identities with these (n, 16) ids and overwrites their data with zeros."""
        table = self.state.table
        rows = self.state.lookup.find(table, ids)
        rows = rows[rows >= 0]
        self.templates -= int(table.template_counts[rows].sum())
        self.people -= len(rows)
        for column in table.columns:
            column[rows] = 0
        self._empty_rows.extend(rows.tolist())
        for identity_id in ids:
            self.state.lookup.later.pop(identity_id.tobytes(), None)
        if self._are_many(len(self._empty_rows)):
            self._compact()

    def publish(self, snapshot: Snapshot) -> None:
        """States that the index contains every change that is visible in the snapshot."""
        self.state = replace(self.state, snapshot=snapshot)

    def add_field(self, path: Path, field: FieldValues, snapshot: Snapshot) -> None:
        """Adds a field of the metadata of all identities.

        The index then contains every change that is visible in its older snapshot and in this one. A refresh applies
        the changes since the older one again.
        """
        state = self.state
        table = replace(state.table, fields={**state.table.fields, path: Field.empty(len(state.table.ids))})
        _write_field(replace(state, table=table), path, field)
        older = min(state.snapshot, snapshot, key=Snapshot.position)
        self.state = replace(state, table=table, snapshot=older)

    def drop_field(self, path: Path) -> None:
        """Removes a field."""
        fields = {name: field for name, field in self.state.table.fields.items() if name != path}
        self.state = replace(self.state, table=replace(self.state.table, fields=fields))

    def put_field(self, path: Path, field: FieldValues) -> None:
        """Replaces a field of identities that the index contains."""
        _write_field(self.state, path, field)

    def rows_of(self, state: State, metadata_filter: Mapping[str, Any], hashes: Mapping[str, int]) -> Rows | None:
        """Returns the rows of the identities that can fulfil a filter; None: they are too many, or a field is missing.

        Args:
            hashes: see `mask_of`.
        """
        fields = {path: field.first(state.used) for path, field in state.table.fields.items()}
        mask = mask_of(metadata_filter, fields, hashes)
        if mask is None or np.count_nonzero(mask) > MAX_SHARE * state.used:
            return None
        return np.flatnonzero(mask)

    def find(self, state: State, ids: Bytes) -> Rows:
        """Returns the rows of those of the identities with these (n, 16) ids that the index contains."""
        rows = state.lookup.find(state.table, ids)
        return rows[rows >= 0]

    def nearest(
        self, state: State, probes: Sequence[Floats], count: int, by_code: int = 0, within: Rows | None = None
    ) -> list[Near]:
        """Returns up to `count` identities whose centroids are nearest to each (dim,) probe.

        Args:
            by_code: minimum number of those that the codes select.
            within: the rows to compare; None: all.
        """
        empty = len(self._empty_rows)
        return comparison.nearest(state.table, state.used, empty, probes, count, by_code, within)

    def _write(self, rows: Rows, entries: Entries) -> None:
        table = self.state.table
        self.templates += int(entries.template_counts.sum()) - int(table.template_counts[rows].sum())
        largest = np.abs(entries.embeddings).max(axis=1)
        steps = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        quantised = np.rint(entries.embeddings / steps[:, None]).astype(np.int8)
        written = entries.ids, entries.codes, quantised, steps, entries.template_counts
        for column, values in zip(table.centroids, written, strict=True):
            column[rows] = values

    def _allocate(self, count: int) -> Rows:
        """Returns empty rows; enlarges the table if necessary."""
        reused = [self._empty_rows.pop() for _ in range(min(count, len(self._empty_rows)))]
        table, used = self.state.table, self.state.used
        end = used + count - len(reused)
        if end > len(table.ids):
            table = table.enlarged(_with_spare(end))
        self.state = replace(self.state, table=table, used=end)
        return np.array([*reused, *range(used, end)], np.int64)

    def _are_many(self, rows: int) -> bool:
        return rows > max(MIN_CHANGED, self.state.used * CHANGED_SHARE)

    def _compact(self) -> None:
        """Copies the table without its empty rows."""
        table, used = self.state.table, self.state.used
        kept = np.flatnonzero(table.template_counts[:used])
        smaller = Table.empty(_with_spare(len(kept)), table.quantised.shape[1], table.fields)
        for old, new in zip(table.columns, smaller.columns, strict=True):
            new[: len(kept)] = old[kept]
        self._empty_rows = []
        lookup = Lookup.of(smaller.ids[: len(kept)])
        self.state = State(smaller, len(kept), lookup, self.state.snapshot)


def _write_field(state: State, path: Path, field: FieldValues) -> None:
    rows = state.lookup.find(state.table, field.ids)
    is_stored = rows >= 0
    column = state.table.fields[path]
    column.hashes[rows[is_stored]] = field.values.hashes[is_stored]
    column.numbers[rows[is_stored]] = field.values.numbers[is_stored]


def _with_spare(rows: int) -> int:
    return int(rows * SPARE) + MIN_SPARE_ROWS
