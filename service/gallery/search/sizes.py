"""How many people and templates a collection holds: what the error rate of a search depends on."""

import time
import uuid
from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.storage.tables import centroid

COUNTED_EACH_TIME = 1_000
"""Counting this many people takes well below a millisecond."""
REMEMBERED_S_PER_PERSON = 1e-4
"""A count is remembered for 0.1 s in a gallery of 1,000 people and for 100 s in one of a million."""


@dataclass(frozen=True, slots=True)
class GallerySize:
    """People with a template of the model, and their templates."""

    people: int
    templates: int


class GallerySizes:
    """Counts a gallery; the count of a large one costs something, and is remembered the longer the larger it is."""

    def __init__(self) -> None:
        self._remembered: dict[tuple[uuid.UUID, str], tuple[float, GallerySize]] = {}

    async def of(self, connection: AsyncConnection, collection_id: uuid.UUID, model_id: str) -> GallerySize:
        key = collection_id, model_id
        until, size = self._remembered.get(key, (0.0, None))
        if size is not None and time.monotonic() < until:
            return size
        counted = await count(connection, collection_id, model_id)
        if counted.people > COUNTED_EACH_TIME:
            self._remembered[key] = time.monotonic() + REMEMBERED_S_PER_PERSON * counted.people, counted
        else:
            self._remembered.pop(key, None)
        return counted


async def count(connection: AsyncConnection, collection_id: uuid.UUID, model_id: str) -> GallerySize:
    statement = select(func.count(), func.coalesce(func.sum(centroid.c.template_count), 0)).where(
        centroid.c.collection_id == collection_id, centroid.c.model_id == model_id
    )
    people, templates = (await connection.execute(statement)).one()
    return GallerySize(people, int(templates))


async def estimated_rows(connection: AsyncConnection) -> dict[str, int]:
    """Of the tables of people, as the planner thinks; a count would read them."""
    query = text(
        "SELECT relname, greatest(reltuples, 0)::bigint FROM pg_class "
        "WHERE relnamespace = 'public'::regnamespace AND relname IN ('identity', 'template', 'centroid')"
    )
    return {row[0]: row[1] for row in await connection.execute(query)}
