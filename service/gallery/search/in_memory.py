"""1:N searches with an index in memory: the index returns a shortlist, and SQL compares its current embeddings."""

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ARRAY, ColumnElement, LargeBinary, Select, Text, Uuid, bindparam, cast, func, select, text, union
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.index.index_table import ID_BYTES, Bytes
from service.gallery.index.memory_index import MemoryIndex, State
from service.gallery.index.memory_indexes import MemoryIndexes
from service.gallery.index.snapshots import Server, Snapshot
from service.gallery.search.nearest import SHORTLIST_PER_RESULT, SearchOptions, execute, parameters_of
from service.gallery.search.results import SearchPlan, SearchResult
from service.gallery.search.statements import ALL_CHANGED, CHANGED, COLLECTION, MAX_CHANGED, MODEL, NEAR, VISIBLE, XMIN
from service.gallery.storage.tables import identity

Floats = npt.NDArray[np.float32]
FIRST_CHECKED, MAX_CHECKED = 400, 2_000
"""Nearest identities whose metadata a filtered search checks at first and at most, divided among the probes."""
CHECK_COST = 3
"""Time of checking one identity by its id, in units of the time of reading one by the index of metadata."""
MARGIN = 1.5
MIN_READ, READ_SHARE = 20_000, 1 / 20
"""Maximum number, and share of the collection, of identities that are read because they fulfil a filter."""
_GENERIC_PLAN = text("SET LOCAL plan_cache_mode = force_generic_plan")
_ANY_PLAN = text("SET LOCAL plan_cache_mode = auto")
_IDS = bindparam("ids", type_=Text())


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
        shortlists = await self._shortlists(state, probes, options)
        if shortlists is None:
            return None
        parameters = parameters_of(self.collection_id, self.model_id, probes, options) | self._since(state)
        parameters |= {NEAR.key: [_literal(ids) for ids in shortlists], ALL_CHANGED.key: self.condition is None}
        # The plan does not depend on the parameters, and computing it takes longer than executing it.
        await self.connection.execute(_GENERIC_PLAN)
        results, facts = await execute(self.connection, SearchPlan.IN_MEMORY, parameters, options, None)
        await self.connection.execute(_ANY_PLAN)
        return results if facts is not None and _suffices(state.snapshot, *facts) else None

    async def _shortlists(self, state: State, probes: Sequence[Floats], options: SearchOptions) -> list[Bytes] | None:
        """Returns (n, 16) ids of the nearest identities for each probe, best first.

        If a condition applies, the database first checks the nearest identities. If too few of them fulfil it, more are
        checked or all identities that fulfil it are read, whichever costs less. The changed identities that fulfil it
        follow the nearest ones.

        Returns:
            None: too many identities fulfil the condition, but too few of the nearest.
        """
        if self.condition is None:
            return await self.indexes.nearest(self.index, state, probes, options.shortlist)
        nearest = await self.indexes.nearest(self.index, state, probes, MAX_CHECKED // len(probes))
        needed = SHORTLIST_PER_RESULT * options.top_k
        checked = max(needed, FIRST_CHECKED // len(probes))
        shortlists, changed = await self._matching(state, [ids[:checked] for ids in nearest])
        fewest = min(map(len, shortlists))
        if 0 < fewest < needed:
            more = math.ceil(MARGIN * needed * checked / fewest)
            matching = self.index.people * fewest / checked
            if more * len(probes) <= MAX_CHECKED and more * len(probes) * CHECK_COST < matching:
                shortlists, changed = await self._matching(state, [ids[:more] for ids in nearest])
        if min(map(len, shortlists)) < needed:
            within = await self._all_matching(max(MIN_READ, int(self.index.people * READ_SHARE)))
            if within is None:
                return None
            shortlists = await self.indexes.nearest(self.index, state, probes, options.shortlist, within)
        return [np.concatenate([ids[: options.shortlist], changed]) for ids in shortlists]

    async def _matching(self, state: State, nearest: Sequence[Bytes]) -> tuple[list[Bytes], Bytes]:
        """Returns those of the nearest identities of each probe that fulfil the condition, in the same order.

        Also returns the identities that fulfil it and have changed since the snapshot of the index.
        """
        returned = select(func.unnest(cast(_IDS, ARRAY(Uuid)), type_=Uuid()).label("id"))
        near = union(returned, select(CHANGED.c.identity_id)).subquery("near")
        statement = self._ids(select(identity.c.id).join(near, near.c.id == identity.c.id))
        known = np.concatenate(nearest)
        parameters = self._since(state) | {_IDS.key: _literal(known)}
        found = await self._read(statement, parameters)
        is_new = ~np.isin(_as_values(found), _as_values(known))
        return [ids[np.isin(_as_values(ids), _as_values(found))] for ids in nearest], found[is_new]

    def _since(self, state: State) -> dict[str, Any]:
        """Returns the parameters of the statement of changes since the snapshot of the index."""
        scope = {COLLECTION.key: self.collection_id, MODEL.key: self.model_id}
        return scope | {XMIN.key: state.snapshot.xmin, VISIBLE.key: state.snapshot.visible}

    async def _all_matching(self, limit: int) -> Bytes | None:
        """Returns (n, 16) ids of all identities that fulfil the condition; None if they are more than `limit`."""
        found = await self._read(self._ids(select(identity.c.id).limit(limit + 1)), {})
        return None if len(found) > limit else found

    def _ids(self, identities: Select[Any]) -> Select[Any]:
        """Returns the statement that returns the ids of those identities that fulfil the condition, as one value."""
        assert self.condition is not None
        rows = identities.where(identity.c.collection_id == self.collection_id, self.condition).subquery("matching")
        return select(func.string_agg(func.uuid_send(rows.c.id), cast(b"", LargeBinary), type_=LargeBinary()))

    async def _read(self, statement: Select[Any], parameters: dict[str, Any]) -> Bytes:
        value = (await self.connection.execute(statement, parameters)).scalar_one()
        return np.frombuffer(bytes(value or b""), np.uint8).reshape(-1, ID_BYTES)


def _suffices(snapshot: Snapshot, changed: int, started_at: Any, table: int, taken_at: Any) -> bool:
    current = Snapshot(snapshot.visible, Server(started_at, table), taken_at)
    return changed <= MAX_CHANGED and snapshot.precedes(current)


def _as_values(ids: Bytes) -> npt.NDArray[np.void]:
    """Returns (n, 16) ids as n values that NumPy can compare."""
    return np.ascontiguousarray(ids).view(f"S{ID_BYTES}")[:, 0]


def _literal(ids: Bytes) -> str:
    """Returns (n, 16) ids in PostgreSQL's text form of an array."""
    digits = ids.tobytes().hex()
    width = 2 * ID_BYTES
    return "{" + ",".join(digits[start : start + width] for start in range(0, len(digits), width)) + "}"
