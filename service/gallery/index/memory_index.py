"""An index of one collection's centroids in memory, which returns the identities that are nearest to a probe.

A search compares the binary codes of all centroids with FAISS, then the 8-bit embeddings of the nearest ones. Its
result is a shortlist of ids. The database compares their current embeddings, so that an entry that is out of date can
cost time, but cannot become a candidate.
"""

from dataclasses import dataclass, replace

import faiss
import numpy as np

from service.gallery.index.centroids import codes_of
from service.gallery.index.index_table import CODE_BYTES, ID_BYTES, Bytes, Entries, Floats, Lookup, Near, Rows, Table
from service.gallery.index.snapshots import Snapshot

NEAREST_BY_CODE, PER_RESULT = 2_000, 2
"""Centroids whose 8-bit embeddings are compared after the comparison of all binary codes: at least, and per result."""
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
    def bytes_of(people: int, dim: int) -> int:
        """Returns the memory in bytes that an index of this size takes."""
        key_and_row = 16
        return people * (ID_BYTES + CODE_BYTES + dim + 8 + key_and_row)

    @property
    def size(self) -> int:
        """Its memory in bytes."""
        return self.bytes_of(self.state.used, self.state.table.quantised.shape[1])

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

    def nearest(self, state: State, probe: Floats, count: int, by_code: int = 0) -> Near:
        """Returns up to `count` identities whose centroids are nearest to the (dim,) probe.

        Args:
            by_code: minimum number of those that the codes select.
        """
        empty = min(len(self._empty_rows), NEAREST_BY_CODE)
        compared = min(state.used, max(NEAREST_BY_CODE, PER_RESULT * count, by_code) + empty)
        if compared == 0:
            return Near(np.empty((0, ID_BYTES), np.uint8), np.empty(0, np.bool_))
        # "mc" counts codes by distance, which is faster than a heap for this number of results.
        _, found = faiss.knn_hamming(codes_of(probe[None]), state.table.codes[: state.used], compared, "mc")
        return _best(state.table, found[0], probe, count)

    def nearest_of(self, state: State, ids: Bytes, probe: Floats, count: int) -> Near:
        """Returns the nearest of the identities with these (n, 16) ids, like `nearest`."""
        rows = state.lookup.find(state.table, ids)
        return _best(state.table, rows[rows >= 0], probe, count)

    def _write(self, rows: Rows, entries: Entries) -> None:
        table = self.state.table
        self.templates += int(entries.template_counts.sum()) - int(table.template_counts[rows].sum())
        largest = np.abs(entries.embeddings).max(axis=1)
        steps = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        quantised = np.rint(entries.embeddings / steps[:, None]).astype(np.int8)
        written = entries.ids, entries.codes, quantised, steps, entries.template_counts
        for column, values in zip(table.columns, written, strict=True):
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
        smaller = Table.empty(_with_spare(len(kept)), table.quantised.shape[1])
        for old, new in zip(table.columns, smaller.columns, strict=True):
            new[: len(kept)] = old[kept]
        self._empty_rows = []
        lookup = Lookup.of(smaller.ids[: len(kept)])
        self.state = State(smaller, len(kept), lookup, self.state.snapshot)


def _best(table: Table, rows: Rows, probe: Floats, count: int) -> Near:
    """Returns the identities of the rows that are nearest to the probe by their 8-bit embeddings."""
    rows = rows[table.template_counts[rows] > 0]
    # `take` is four times as fast as an index.
    scores = (np.take(table.quantised, rows, axis=0).astype(np.float32) @ probe) * table.steps[rows]
    if len(rows) > count:
        nearest = np.argpartition(-scores, count)[:count]
        rows, scores = rows[nearest], scores[nearest]
    best = rows[np.argsort(-scores)]
    return Near(table.ids[best], table.template_counts[best] > 1)


def _with_spare(rows: int) -> int:
    return int(rows * SPARE) + MIN_SPARE_ROWS
