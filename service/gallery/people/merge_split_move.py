"""Templates that belonged to somebody else: merging people, splitting one, moving one to another collection."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, exists, func, insert, literal, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CollectionNotFound, IdentityExists, IdentityNotFound, NothingLeft, TemplateNotFound
from service.gallery.jobs import jobs
from service.gallery.people import corrections, crops, identities, templates
from service.gallery.people.collections import Collection
from service.gallery.storage.tables import (
    centroid,
    collection,
    correction,
    crop,
    idempotency,
    identity,
    job_row,
    template,
)


async def merge(
    connection: AsyncConnection, collection_id: uuid.UUID, into: uuid.UUID, others: Sequence[uuid.UUID]
) -> int:
    """Give the templates of other people to one, and delete the others; how many templates were taken over.

    A picture that both have is kept once. Label, metadata and `external_id` are those of the one who stays.

    Raises:
        IdentityNotFound
    """
    await _lock(connection, collection_id, [into, *others])
    moved = 0
    for other in others:
        person = await identities.get(connection, collection_id, other)
        await jobs.delete_person_rows(connection, collection_id, other, person.external_id)
        moved += await _take_over(connection, collection_id, other, into)
    kept = update(idempotency).where(idempotency.c.collection_id == collection_id)
    # Who sends the request again that made one of the others gets its answer, and not the person back.
    await connection.execute(kept.where(idempotency.c.identity_id.in_(others)).values(identity_id=into))
    await corrections.delete_showing(connection, collection_id, [into, *others], among=[into, *others])
    for other in others:  # those of forgotten corrections are gone
        await crops.reassign(connection, collection_id, other, into)
    theirs = update(correction).where(correction.c.collection_id == collection_id)
    await connection.execute(theirs.where(correction.c.identity_id.in_(others)).values(identity_id=into))
    people = delete(identity).where(identity.c.collection_id == collection_id, identity.c.id.in_(others))
    await connection.execute(people)
    await _touch(connection, collection_id, into)
    await _recompute(connection, collection_id, into)
    return moved


async def split(
    connection: AsyncConnection,
    found: Collection,
    origin: uuid.UUID,
    template_ids: Sequence[uuid.UUID],
    external_id: str,
    label: str | None,
    metadata: dict[str, Any] | None,
) -> uuid.UUID:
    """Make a new person of some of another's templates, with what other models made of the same faces; its id.

    Raises:
        IdentityNotFound, IdentityExists
        TemplateNotFound: one of the templates is not the origin's.
        NothingLeft: the origin would have no template any more.
    """
    collection_id = found.id
    await _lock(connection, collection_id, [origin])
    is_theirs = template.c.collection_id == collection_id, template.c.identity_id == origin
    statement = select(template.c.id, template.c.source_sha256).where(*is_theirs, template.c.model_id == found.model_id)
    owned = {row.id: row.source_sha256 for row in await connection.execute(statement)}
    if unknown := sorted(map(str, set(template_ids) - owned.keys())):
        raise TemplateNotFound(f"identity {origin} has no template {unknown[0]}", pointer="/template_ids")
    if owned.keys() == set(template_ids):
        raise NothingLeft(
            f"identity {origin} would have no template any more; PATCH it to rename it", pointer="/template_ids"
        )
    made = uuid.uuid4()
    await _add(connection, collection_id, made, external_id, label, metadata)
    faces = [owned[template_id] for template_id in template_ids]
    moving = update(template).where(*is_theirs, template.c.source_sha256.in_(faces))
    moved = (await connection.execute(moving.values(identity_id=made).returning(template.c.id))).scalars().all()
    await crops.reassign(connection, collection_id, origin, made, only=faces)
    results = update(job_row).where(job_row.c.collection_id == collection_id, job_row.c.template_id.in_(moved))
    await connection.execute(results.values(identity_id=made, external_id=external_id))
    await _touch(connection, collection_id, origin)
    await _recompute(connection, collection_id, origin)
    await _recompute(connection, collection_id, made)
    return made


async def move(connection: AsyncConnection, origin: Collection, target: Collection, identity_id: uuid.UUID) -> None:
    """Take a person to another collection, with what the target's models know of them; the id stays.

    Whoever moves people decides; the target's rules for newcomers are not asked. Crops come along where it keeps some.

    Raises:
        IdentityNotFound, IdentityExists
    """
    await _lock(connection, origin.id, [identity_id])
    person = await identities.get(connection, origin.id, identity_id)
    await connection.execute(
        select(collection.c.id).where(collection.c.id == target.id).with_for_update(read=True, key_share=True)
    )
    await _add(
        connection,
        target.id,
        identity_id,
        person.external_id,
        person.label,
        person.metadata,
        created_at=person.created_at,
        retain_until=person.retain_until,
    )
    models = [target.model_id, target.secondary_model_id]
    for table in (template, centroid, correction, *([crop] if target.store_crops else [])):
        names = [column.name for column in table.columns if column.name != "collection_id"]
        rows = select(literal(target.id), *(table.c[name] for name in names)).where(
            table.c.collection_id == origin.id, table.c.identity_id == identity_id
        )
        if table is not crop:
            rows = rows.where(table.c.model_id.in_(models))
        await connection.execute(insert(table).from_select(["collection_id", *names], rows))
    await identities.remove(connection, origin.id, identity_id)


async def _lock(connection: AsyncConnection, collection_id: uuid.UUID, ids: Sequence[uuid.UUID]) -> None:
    """The collection first and then people in one order, so that nobody waits for one who waits.

    Raises:
        IdentityNotFound
    """
    whole = select(collection.c.id).where(collection.c.id == collection_id)
    await connection.execute(whole.with_for_update(read=True, key_share=True))
    found = await identities.lock_all(connection, collection_id, ids)
    if missing := sorted(map(str, set(ids) - found)):
        raise IdentityNotFound(f"there is no identity {missing[0]} in this collection")


async def _take_over(connection: AsyncConnection, collection_id: uuid.UUID, source: uuid.UUID, into: uuid.UUID) -> int:
    theirs = template.alias("theirs")
    same = exists().where(
        theirs.c.collection_id == collection_id,
        theirs.c.identity_id == into,
        theirs.c.model_id == template.c.model_id,
        theirs.c.source_sha256 == template.c.source_sha256,
    )
    statement = (
        update(template)
        .where(template.c.collection_id == collection_id, template.c.identity_id == source, ~same)
        .values(identity_id=into)
    )
    return (await connection.execute(statement)).rowcount


async def _add(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    identity_id: uuid.UUID,
    external_id: str,
    label: str | None,
    metadata: dict[str, Any] | None,
    **times: datetime | None,
) -> None:
    values: dict[str, Any] = {"external_id": external_id, "label": label or external_id, "metadata": metadata or {}}
    values |= {name: value for name, value in times.items() if value is not None}
    try:
        await connection.execute(insert(identity).values(collection_id=collection_id, id=identity_id, **values))
    except IntegrityError as error:
        if "uq_identity" not in str(error.orig):
            raise CollectionNotFound("the collection was deleted meanwhile", pointer="/to") from error
        raise IdentityExists(
            f"somebody is enrolled as {external_id!r} already; choose another external_id, or merge the two",
            pointer="/external_id",
        ) from error


async def _touch(connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID) -> None:
    statement = update(identity).where(identity.c.collection_id == collection_id, identity.c.id == identity_id)
    await connection.execute(statement.values(updated_at=func.now()))


async def _recompute(connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID) -> None:
    """The centroids of a locked person under every model that it has templates or a centroid of."""
    models: set[str] = set()
    for table in (template, centroid):
        statement = select(table.c.model_id).where(
            table.c.collection_id == collection_id, table.c.identity_id == identity_id
        )
        models |= set((await connection.execute(statement.distinct())).scalars())
    for model_id in models:
        await templates.recompute_centroid(connection, collection_id, identity_id, model_id)
