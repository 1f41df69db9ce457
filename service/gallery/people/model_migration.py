"""A second model beside a collection's own: whom it knows, and the two changing places."""

import uuid
from collections.abc import Collection as Several
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Select, Text, cast, delete, exists, func, insert, select, text, union
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import Conflict, ModelIncomplete
from service.gallery.people import collections, identities, templates
from service.gallery.people.collections import Collection
from service.gallery.people.identities import Identity
from service.gallery.storage.paging import PageCursor
from service.gallery.storage.tables import centroid, collection, correction, identity, template

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ReembeddedFace:
    """What the standby model makes of a face that is enrolled."""

    embedding: Floats
    quality: float | None


@dataclass(frozen=True, slots=True)
class Coverage:
    """Whom the standby model knows of those whom the collection's own model knows.

    Attributes:
        people: known to the collection's own model.
        missing: of them, those without any template under the standby model: they need new photos.
        partial: those with fewer templates than under their own model.
        corrections_missing: corrections that the standby model would not respect.
    """

    people: int
    missing: int
    partial: int
    corrections_missing: int

    @property
    def complete(self) -> bool:
        """Whether nobody is lost by the change, and no correction."""
        return self.missing == 0 and self.corrections_missing == 0


async def start(connection: AsyncConnection, found: Collection, model_id: str, auto_activate: bool) -> Collection:
    """Embed every new face by this model as well from now on. Raises Conflict."""
    await collections.take_model_lock(connection, found.id)
    found = await collections.get(connection, found.name)
    if model_id == found.model_id:
        raise Conflict(f"model {model_id!r} is the collection's own already", pointer="/model_id")
    if found.secondary_model_id not in (None, model_id):
        raise Conflict(
            f"model {found.secondary_model_id!r} stands by; DELETE /collections/{found.name}/model-migration first",
            pointer="/model_id",
        )
    return await collections.change(connection, found.name, secondary_model_id=model_id, auto_activate=auto_activate)


async def activate(connection: AsyncConnection, found: Collection, force: bool = False) -> Collection:
    """Let the two models change places, in the moment in which the transaction is committed.

    `force`: also where people are lost by it, who are found no more until they are enrolled again.

    Raises:
        Conflict: no model stands by.
        ModelIncomplete
    """
    await _take(connection, found)
    model_id = required(found)
    covered = await coverage(connection, found)
    if not (covered.complete or force):
        raise ModelIncomplete(
            f"model {model_id!r} does not know {covered.missing} of {covered.people} people and "
            f"{covered.corrections_missing} corrections: GET /collections/{found.name}/model-migration/missing names the "
            "people; register photos of them, or send `force`",
            missing=covered.missing,
            corrections_missing=covered.corrections_missing,
        )
    return await collections.change(
        connection, found.name, model_id=model_id, secondary_model_id=found.model_id, auto_activate=False
    )


async def drop(connection: AsyncConnection, found: Collection, force: bool = False) -> dict[str, int]:
    """Delete all that the standby model made; how many rows of each kind. Enrolments wait meanwhile.

    Raises:
        Conflict: no model stands by.
        ModelIncomplete: there are people whom only this model knows. `force`: they are lost, too.
    """
    await _take(connection, found)
    model_id = required(found)
    if not force and (only_there := await _known_only_to(connection, found, model_id)):
        raise ModelIncomplete(
            f"{only_there} people are known to model {model_id!r} alone, and can't be found any more without it; "
            "register photos of them, or send `force=true`",
            missing=only_there,
        )
    await collections.change(connection, found.name, secondary_model_id=None, auto_activate=False)
    deleted = {}
    for name, table in (("templates", template), ("centroids", centroid), ("corrections", correction)):
        statement = delete(table).where(table.c.collection_id == found.id, table.c.model_id == model_id)
        deleted[name] = (await connection.execute(statement)).rowcount
    return deleted


async def to_activate(connection: AsyncConnection) -> list[Collection]:
    """Collections whose standby model is to become active by itself. The transaction must be for everything."""
    statement = select(collection).where(collection.c.auto_activate).order_by(collection.c.name)
    return [Collection(**row._mapping) for row in await connection.execute(statement)]


async def _take(connection: AsyncConnection, found: Collection) -> None:
    """Have the collection's models for oneself, as they were when it was read, and time for many rows.

    Raises:
        Conflict: they were changed meanwhile.
    """
    await connection.execute(text("SET LOCAL statement_timeout = 0"))
    await collections.take_model_lock(connection, found.id)
    now = await collections.get(connection, found.name)
    if (now.id, now.models) != (found.id, found.models):
        raise Conflict("somebody else changed the collection's models just now; look again")


async def _known_only_to(connection: AsyncConnection, found: Collection, model_id: str) -> int:
    await disable_nested_loops(connection)
    own, other = centroid.alias("own"), centroid.alias("other")
    known = exists().where(
        own.c.collection_id == found.id, own.c.identity_id == other.c.identity_id, own.c.model_id == found.model_id
    )
    statement = select(func.count()).where(other.c.collection_id == found.id, other.c.model_id == model_id, ~known)
    return (await connection.execute(statement)).scalar_one()


def required(found: Collection) -> str:
    """The standby model. Raises Conflict."""
    if found.secondary_model_id is None:
        raise Conflict(f"no model stands by; POST /collections/{found.name}/model-migration names one")
    return found.secondary_model_id


async def coverage(connection: AsyncConnection, found: Collection) -> Coverage:
    """Compares the centroids of both models: about a second for a million people."""
    await disable_nested_loops(connection)
    own, other = centroid.alias("own"), centroid.alias("other")
    same_person = (
        (other.c.collection_id == found.id)
        & (other.c.identity_id == own.c.identity_id)
        & (other.c.model_id == required(found))
    )
    statement = (
        select(
            func.count(),
            func.count().filter(other.c.identity_id.is_(None)),
            func.count().filter(other.c.template_count < own.c.template_count),
        )
        .select_from(own.outerjoin(other, same_person))
        .where(own.c.collection_id == found.id, own.c.model_id == found.model_id)
    )
    people, missing, partial = (await connection.execute(statement)).one()
    corrections = select(func.count()).where(missing_corrections(found))
    return Coverage(people, missing, partial, (await connection.execute(corrections)).scalar_one())


async def people_missing(
    connection: AsyncConnection, found: Collection, limit: int, after: PageCursor | None = None
) -> list[Identity]:
    """Up to `limit` of the people who need new photos, in the order of their enrolment."""
    await disable_nested_loops(connection)
    among = _knows(found, found.model_id) & ~_knows(found, required(found))
    return await identities.page(connection, found.id, limit, after, among=among)


async def disable_nested_loops(connection: AsyncConnection) -> None:
    """Keep what compares a collection's models, to the transaction's end, from going through one once for each person.

    Where tables have no statistics yet (after an import, a restore or pg_upgrade), PostgreSQL takes them for empty and
    does that: 90 seconds for 20,000 people instead of 0.1.
    """
    await connection.execute(text("SET LOCAL enable_nestloop = off"))


def identities_to_reembed(found: Collection) -> Select[tuple[int, str, str]]:
    """Everybody (number from 0, id, external_id) of whom the standby model lacks a template or correction."""
    wanting = union(
        select(template.c.identity_id).where(missing_templates(found)),
        select(correction.c.identity_id).where(missing_corrections(found)),
    )
    number = func.row_number().over(order_by=(identity.c.created_at, identity.c.id)) - 1
    return select(number, cast(identity.c.id, Text), identity.c.external_id).where(
        identity.c.collection_id == found.id, identity.c.id.in_(wanting)
    )


async def missing_faces(
    connection: AsyncConnection, found: Collection, identity_ids: Several[uuid.UUID]
) -> dict[uuid.UUID, set[bytes]]:
    """Of which faces of each of these people, by their `source_sha256`, there is nothing under the standby model."""
    missing: dict[uuid.UUID, set[bytes]] = {identity_id: set() for identity_id in identity_ids}
    for table, missing in ((template, missing_templates(found)), (correction, missing_corrections(found))):
        statement = select(table.c.identity_id, table.c.source_sha256).where(
            missing, table.c.identity_id.in_(identity_ids), table.c.source_sha256.is_not(None)
        )
        for row in await connection.execute(statement):
            missing[row.identity_id].add(row.source_sha256)
    return missing


async def store_reembedded(
    connection: AsyncConnection, found: Collection, faces: Mapping[uuid.UUID, Mapping[bytes, ReembeddedFace]]
) -> None:
    """Store what the standby model made of people's faces, where it is still missing; who is gone stays so."""
    await identities.lock_all(connection, found.id, faces.keys())
    model_id = required(found)
    for table, missing in ((template, missing_templates(found)), (correction, missing_corrections(found))):
        rows = []
        for row in await connection.execute(select(table).where(missing, table.c.identity_id.in_(faces))):
            if (made := faces[row.identity_id].get(row.source_sha256)) is None:
                continue
            values = {"id": uuid.uuid4(), "model_id": model_id, "dim": len(made.embedding), "embedding": made.embedding}
            rows.append(dict(row._mapping) | values | ({"quality": made.quality} if table is template else {}))
        if rows:
            await connection.execute(insert(table), rows)
    await templates.recompute_centroids(connection, found.id, faces.keys(), model_id)


def missing_templates(found: Collection) -> ColumnElement[bool]:
    """Templates of the collection's own model of whose face there is none under the standby model."""
    other = template.alias("other")
    made = exists().where(
        other.c.collection_id == found.id,
        other.c.identity_id == template.c.identity_id,
        other.c.model_id == required(found),
        other.c.source_sha256 == template.c.source_sha256,
    )
    return (template.c.collection_id == found.id) & (template.c.model_id == found.model_id) & ~made


def missing_corrections(found: Collection) -> ColumnElement[bool]:
    """Corrections of the collection's own model that there are not under the standby model."""
    other = correction.alias("other")
    made = exists().where(
        other.c.collection_id == found.id,
        other.c.identity_id == correction.c.identity_id,
        other.c.model_id == required(found),
        other.c.source_sha256 == correction.c.source_sha256,
    )
    return (correction.c.collection_id == found.id) & (correction.c.model_id == found.model_id) & ~made


def _knows(found: Collection, model_id: str) -> ColumnElement[Any]:
    return exists().where(
        centroid.c.collection_id == found.id,
        centroid.c.identity_id == identity.c.id,
        centroid.c.model_id == model_id,
    )
