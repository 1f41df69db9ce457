"""1:N searches with an index in memory: the index returns a shortlist, and SQL compares its current embeddings."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.index import snapshots
from service.gallery.index.filter_shares import shape_of
from service.gallery.index.index_table import ID_BYTES, Bytes, Near, literal
from service.gallery.index.memory_index import MemoryIndex, State
from service.gallery.index.memory_indexes import MemoryIndexes
from service.gallery.index.snapshots import Snapshot
from service.gallery.search.filtered import FilteredIndex
from service.gallery.search.nearest import SHORTLIST_PER_RESULT, SearchOptions, execute, parameters_of
from service.gallery.search.results import SearchPlan, SearchResult
from service.gallery.search.statements import (
    ALL_CHANGED,
    COLLECTION,
    FACTS,
    MAX_CHANGED,
    MODEL,
    NEAR,
    VISIBLE,
    XMIN,
    use_any_plans,
    use_generic_plans,
)

Floats = npt.NDArray[np.float32]
SUFFICIENT_PER_RESULT = 2
"""Identities per result that suffice if none has several templates: 8-bit embeddings rank them nearly exactly."""
_NOBODY: Bytes = np.empty((0, ID_BYTES), np.uint8)


@dataclass(frozen=True)
class InMemorySearch:
    """A search of one collection with its index.

    Attributes:
        condition: a condition on `identity`; None: all identities are searched.
    """

    connection: AsyncConnection
    indexes: MemoryIndexes
    index: MemoryIndex
    collection_id: uuid.UUID
    model_id: str
    condition: ColumnElement[bool] | None

    async def search(self, probes: Sequence[Floats], options: SearchOptions) -> list[SearchResult] | None:
        """Returns the results in the order of the probes; None if the index does not suffice.

        The statement compares the shortlist and every identity that has changed since the index's snapshot. The index
        does not suffice if too many have changed, or if its snapshot is old or of another server.
        """
        state = self.index.state
        await use_generic_plans(self.connection, state.snapshot.server)
        results = await self._search(state, probes, options)
        await use_any_plans(self.connection)
        return results

    async def _search(
        self, state: State, probes: Sequence[Floats], options: SearchOptions
    ) -> list[SearchResult] | None:
        found = await self._near(state, probes, options)
        if found is None:
            return None
        near, changed = found
        contenders = [item.contenders(options.top_k) for item in near]
        results = await self._compare(state, probes, options, contenders, changed)
        if self._may_miss(results, contenders, near, options.top_k):
            return await self._compare(state, probes, options, [item.ids for item in near], changed)
        return results

    @staticmethod
    def _may_miss(
        results: list[SearchResult] | None, contenders: Sequence[Bytes], near: Sequence[Near], top_k: int
    ) -> bool:
        """Returns True if contenders have expired or were deleted, so that others belong to the result."""
        found = [0] * len(near) if results is None else [len(result.candidates) for result in results]
        return any(
            count < top_k and len(ids) < len(item.ids) for count, ids, item in zip(found, contenders, near, strict=True)
        )

    async def _near(
        self, state: State, probes: Sequence[Floats], options: SearchOptions
    ) -> tuple[list[Near], Bytes] | None:
        """Returns the nearest identities for each probe, and (n, 16) ids of changed identities to compare as well.

        Without a condition the statement finds the changed identities itself.

        Returns:
            None: the index does not suffice.
        """
        if self.condition is None:
            return await self.indexes.nearest(self.index, state, probes, options.shortlist), _NOBODY
        rows = None
        if options.metadata_filter is not None:
            key = self.collection_id, self.model_id
            rows = await self.indexes.rows_of(self.connection, key, state, options.metadata_filter)
        per_result = SHORTLIST_PER_RESULT if self.index.has_several_templates else SUFFICIENT_PER_RESULT
        filtered = FilteredIndex(
            self.connection,
            self.indexes,
            self.index,
            state,
            self.collection_id,
            self.condition,
            shape_of(self.collection_id, options.metadata_filter, rows is not None),
            self._since(state),
            rows,
        )
        return await filtered.nearest(probes, per_result * options.top_k, options.shortlist)

    async def _compare(
        self,
        state: State,
        probes: Sequence[Floats],
        options: SearchOptions,
        ids: Sequence[Bytes],
        changed: Bytes,
    ) -> list[SearchResult] | None:
        """Compares each probe with its ids and the changed ones; None: the index does not suffice."""
        parameters = parameters_of(self.collection_id, self.model_id, probes, options) | self._since(state)
        parameters[ALL_CHANGED.key] = self.condition is None
        parameters[NEAR.key] = [literal(np.concatenate([of_probe, changed])) for of_probe in ids]
        results, facts = await execute(self.connection, SearchPlan.IN_MEMORY, parameters, options, None)
        if facts is None:  # there is no candidate
            facts = tuple((await self.connection.execute(FACTS, self._since(state))).one())
        return results if _suffices(state.snapshot, *facts) else None

    def _since(self, state: State) -> dict[str, Any]:
        """Returns the parameters of the statement of changes since the snapshot of the index."""
        scope = {COLLECTION.key: self.collection_id, MODEL.key: self.model_id}
        return scope | {XMIN.key: state.snapshot.xmin, VISIBLE.key: state.snapshot.visible}


def _suffices(snapshot: Snapshot, changed: int, *server_and_time: Any) -> bool:
    current = Snapshot(snapshot.visible, *snapshots.server_and_time(*server_and_time))
    return changed <= MAX_CHANGED and snapshot.precedes(current)
