"""The nearest identities of an index in memory that fulfil a condition, which only the database can check."""

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    LargeBinary,
    Select,
    Text,
    Uuid,
    bindparam,
    cast,
    func,
    select,
    true,
    union,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.index.filter_shares import Shape
from service.gallery.index.index_table import ID_BYTES, Bytes, Near, Rows, literal
from service.gallery.index.memory_index import MemoryIndex, State
from service.gallery.index.memory_indexes import MemoryIndexes
from service.gallery.search.statements import CHANGED, use_any_plans, use_generic_plans
from service.gallery.storage.tables import identity

Floats = npt.NDArray[np.float32]
FIRST_CHECKED, MAX_CHECKED = 200, 4_000
"""Nearest identities that are checked at first if the share of the condition is unknown, and at most, in all."""
MARGIN, GROWTH = 2, 3
"""Ratio of checked identities to those that are expected to suffice, and the factor after too few of them did."""
CHECK_COST = 3
"""Time of checking one identity by its id, in units of the time of reading one by the index of metadata."""
PEOPLE_PER_CODE = 256
"""The identities that the binary codes select are at least one of so many: those that fulfil the condition are rare."""
MIN_READ, READ_SHARE = 20_000, 1 / 20
"""Maximum number, and share of the collection, of identities that are read because they fulfil a condition."""
_IDS = bindparam("ids", type_=Text())


@dataclass(frozen=True)
class FilteredIndex:
    """An index of a collection, restricted to identities that fulfil a condition on `identity`.

    Attributes:
        shape: key of the condition's share.
        since: parameters of the statement `CHANGED`.
        rows: rows of the identities that can fulfil the condition; None: those of all.
    """

    connection: AsyncConnection
    indexes: MemoryIndexes
    index: MemoryIndex
    state: State
    collection_id: uuid.UUID
    condition: ColumnElement[bool]
    shape: Shape
    since: dict[str, Any]
    rows: Rows | None

    async def nearest(self, probes: Sequence[Floats], needed: int, shortlist: int) -> tuple[list[Near], Bytes] | None:
        """Returns up to `shortlist` identities of each probe, and ids of changed ones, that fulfil the condition.

        The database checks the nearest identities, or reads all that fulfil the condition, whichever costs less.

        Args:
            needed: number of identities that suffice for a probe.

        Returns:
            None: too many identities fulfil the condition, but too few of the nearest.
        """
        count = self._first_count(needed, len(probes))
        changed = None
        while self._is_cheap(count * len(probes)):
            found, changed = await self._check(probes, count)
            all_checked = self.rows is not None and count >= len(self.rows)
            if all_checked or min(len(near.ids) for near in found) >= needed:
                return [near.first(shortlist) for near in found], changed
            count = max(self._first_count(needed, len(probes)), GROWTH * count)
        return await self._nearest_of_all(probes, shortlist, await self._changed() if changed is None else changed)

    def _first_count(self, needed: int, probes: int) -> int:
        """Returns how many of the nearest identities of a probe probably contain enough that fulfil the condition."""
        share = self.indexes.shares.expected(self.shape)
        return max(needed, FIRST_CHECKED // probes) if share is None else math.ceil(MARGIN * needed / share)

    def _is_cheap(self, checked: int) -> bool:
        """Returns False if reading all identities that fulfil the condition costs less than checking this many."""
        if checked > MAX_CHECKED or self.rows is not None:
            return checked <= MAX_CHECKED
        share = self.indexes.shares.expected(self.shape)
        return share is None or checked * CHECK_COST < self.index.people * share

    async def _check(self, probes: Sequence[Floats], count: int) -> tuple[list[Near], Bytes]:
        """Returns those of the `count` nearest identities of each probe that fulfil the condition, in the same order.

        Also returns the ids of identities that fulfil it and have changed since the snapshot of the index.
        """
        by_code = 0 if self.rows is not None else self.index.people // PEOPLE_PER_CODE
        nearest = await self.indexes.nearest(self.index, self.state, probes, count, by_code, self.rows)
        known = np.concatenate([near.ids for near in nearest])
        found = await self._fulfilling(known)
        chosen = [np.isin(_as_values(near.ids), _as_values(found)) for near in nearest]
        matches = sum(int(of_probe.sum()) for of_probe in chosen)
        self.indexes.shares.observe(self.shape, max(matches, 0.5) / max(len(known), 1))
        is_new = ~np.isin(_as_values(found), _as_values(known))
        return [near.where(of_probe) for near, of_probe in zip(nearest, chosen, strict=True)], found[is_new]

    async def _changed(self) -> Bytes:
        return await self._fulfilling(np.empty((0, ID_BYTES), np.uint8))

    async def _fulfilling(self, ids: Bytes) -> Bytes:
        """Returns which of these and of the changed identities fulfil the condition."""
        returned = select(func.unnest(cast(_IDS, ARRAY(Uuid)), type_=Uuid()).label("id"))
        near = union(returned, select(CHANGED.c.identity_id)).subquery("near")
        # LIMIT 1 makes PostgreSQL read each identity by its key, whatever a generic plan assumes about the condition.
        one = self._identities().where(identity.c.id == near.c.id).limit(1).lateral("one")
        statement = _as_value(select(one.c.id).select_from(near.join(one, true())))
        return await self._read(statement, self.since | {_IDS.key: literal(ids)})

    async def _nearest_of_all(
        self, probes: Sequence[Floats], shortlist: int, changed: Bytes
    ) -> tuple[list[Near], Bytes] | None:
        limit = max(MIN_READ, int(self.index.people * READ_SHARE))
        await use_any_plans(self.connection)
        found = await self._read(_as_value(self._identities().limit(limit + 1)), {})
        await use_generic_plans(self.connection, self.state.snapshot.server)
        self.indexes.shares.observe(self.shape, max(len(found), 1) / max(self.index.people, 1))
        if len(found) > limit:
            return None
        rows = await self.indexes.find_rows(self.index, self.state, found)
        return await self.indexes.nearest(self.index, self.state, probes, shortlist, within=rows), changed

    def _identities(self) -> Select[Any]:
        """Returns the statement that selects the ids of the identities that fulfil the condition."""
        return select(identity.c.id).where(identity.c.collection_id == self.collection_id, self.condition)

    async def _read(self, statement: Select[Any], parameters: dict[str, Any]) -> Bytes:
        value = (await self.connection.execute(statement, parameters)).scalar_one()
        return np.frombuffer(bytes(value or b""), np.uint8).reshape(-1, ID_BYTES)


def _as_value(identities: Select[Any]) -> Select[Any]:
    """Returns the statement that returns the ids that another statement selects, as one value."""
    rows = identities.subquery("matching")
    return select(func.string_agg(func.uuid_send(rows.c.id), cast(b"", LargeBinary), type_=LargeBinary()))


def _as_values(ids: Bytes) -> npt.NDArray[np.void]:
    """Returns (n, 16) ids as n values that NumPy can compare."""
    return np.ascontiguousarray(ids).view(f"S{ID_BYTES}")[:, 0]
