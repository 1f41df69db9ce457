"""Reassigns templates: merges identities, splits one, and moves one to another collection."""

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CollectionNotFound, IdentityExists, IdentityNotFound, NoTemplateLeft, TemplateNotFound
from service.gallery.index import centroids
from service.gallery.jobs import rows as job_rows
from service.gallery.people import corrections, crops, identities
from service.gallery.people.collections import Collection
from service.gallery.storage.tables import centroid, correction, crop, idempotency, identity, job_row, template
from service.names import as_sent, comparable


async def merge(
    connection: AsyncConnection, collection_id: uuid.UUID, target: uuid.UUID, sources: Sequence[uuid.UUID]
) -> int:
    """Moves the templates of the sources to the target and deletes the sources. The collection must be locked.

    A face that several of them have is stored once. Label, metadata and external id of the target remain.

    Returns:
        The number of moved templates.

    Raises:
        IdentityNotFound
    """
    await _lock(connection, collection_id, [target, *sources])
    moved = 0
    for source in sources:
        merged_identity = await identities.get(connection, collection_id, source)
        await job_rows.delete_person_rows(connection, collection_id, source, merged_identity.external_id)
        moved += await _move_templates(connection, collection_id, source, target)
    # A repeated request that created one of the sources gets its stored response and does not create it again.
    responses = update(idempotency).where(idempotency.c.collection_id == collection_id)
    await connection.execute(responses.where(idempotency.c.identity_id.in_(sources)).values(identity_id=target))
    merged = [target, *sources]
    await corrections.delete_showing(connection, collection_id, merged, of_identities=merged)
    for source in sources:
        await crops.reassign(connection, collection_id, source, target)
    of_sources = update(correction).where(correction.c.collection_id == collection_id)
    await connection.execute(of_sources.where(correction.c.identity_id.in_(sources)).values(identity_id=target))
    deletion = delete(identity).where(identity.c.collection_id == collection_id, identity.c.id.in_(sources))
    await connection.execute(deletion)
    await _recompute(connection, collection_id, [target])
    return moved


async def split(
    connection: AsyncConnection,
    collection: Collection,
    source: uuid.UUID,
    template_ids: Sequence[uuid.UUID],
    external_id: str,
    label: str | None,
    metadata: dict[str, Any] | None,
) -> uuid.UUID:
    """Creates an identity from some of another's templates, under every model. The collection must be locked.

    Returns:
        The new identity's id.

    Raises:
        IdentityNotFound, IdentityExists
        TemplateNotFound: the source does not have one of the templates.
        NoTemplateLeft: the source would have no template.
    """
    collection_id = collection.id
    await _lock(connection, collection_id, [source])
    of_source = template.c.collection_id == collection_id, template.c.identity_id == source
    statement = select(template.c.id, template.c.source_sha256).where(
        *of_source, template.c.model_id == collection.model_id
    )
    owned = {row.id: row.source_sha256 for row in await connection.execute(statement)}
    if unknown := sorted(map(str, set(template_ids) - owned.keys())):
        raise TemplateNotFound(f"the identity {source} has no template {unknown[0]}", pointer="/template_ids")
    if owned.keys() == set(template_ids):
        raise NoTemplateLeft(
            f"the identity {source} would have no template; change its label with PATCH instead",
            pointer="/template_ids",
        )
    created = uuid.uuid4()
    await _insert(connection, collection_id, created, external_id, label, metadata)
    faces = [owned[template_id] for template_id in template_ids]
    moving = update(template).where(*of_source, template.c.source_sha256.in_(faces))
    moved = (await connection.execute(moving.values(identity_id=created).returning(template.c.id))).scalars().all()
    await crops.reassign(connection, collection_id, source, created, only=faces)
    results = update(job_row).where(job_row.c.collection_id == collection_id, job_row.c.template_id.in_(moved))
    names = {"external_id": comparable(external_id), "external_id_sent": as_sent(external_id)}
    await connection.execute(results.values(identity_id=created, **names))
    await _recompute(connection, collection_id, [source, created])
    return created


async def move(connection: AsyncConnection, source: Collection, target: Collection, identity_id: uuid.UUID) -> None:
    """Moves an identity to another collection, with the templates of the target's models; its id remains.

    The target's rules for new identities do not apply. Crops move if the target stores crops. Both collections must be
    locked.

    Raises:
        IdentityNotFound, IdentityExists, CollectionNotFound
    """
    await _lock(connection, source.id, [identity_id])
    moved = await identities.get(connection, source.id, identity_id)
    await _insert(
        connection,
        target.id,
        identity_id,
        moved.external_id,
        moved.label,
        moved.metadata,
        created_at=moved.created_at,
        retain_until=moved.retain_until,
        named=moved.named,
    )
    models = [target.model_id, target.secondary_model_id]
    for table in (template, centroid, correction, *([crop] if target.store_crops else [])):
        names = [column.key for column in table.columns if column.key != "collection_id"]
        statement = select(*(table.c[name].label(name) for name in names)).where(
            table.c.collection_id == source.id, table.c.identity_id == identity_id
        )
        if table is not crop:
            statement = statement.where(table.c.model_id.in_(models))
        # Not INSERT ... SELECT: on Citus the two collections may be on different nodes.
        rows = [{"collection_id": target.id, **row._mapping} for row in await connection.execute(statement)]
        if rows:
            await connection.execute(insert(table), rows)
    await identities.remove(connection, source.id, identity_id)


async def _lock(connection: AsyncConnection, collection_id: uuid.UUID, ids: Sequence[uuid.UUID]) -> None:
    """Locks identities. Raises IdentityNotFound."""
    locked = await identities.lock_all(connection, collection_id, ids)
    if missing := sorted(map(str, set(ids) - locked)):
        raise IdentityNotFound(f"the identity {missing[0]} does not exist")


async def _move_templates(
    connection: AsyncConnection, collection_id: uuid.UUID, source: uuid.UUID, target: uuid.UUID
) -> int:
    existing = template.alias("existing")
    is_stored = exists().where(
        existing.c.collection_id == collection_id,
        existing.c.identity_id == target,
        existing.c.model_id == template.c.model_id,
        existing.c.source_sha256 == template.c.source_sha256,
    )
    statement = (
        update(template)
        .where(template.c.collection_id == collection_id, template.c.identity_id == source, ~is_stored)
        .values(identity_id=target)
    )
    return (await connection.execute(statement)).rowcount


async def _insert(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    identity_id: uuid.UUID,
    external_id: str,
    label: str | None,
    metadata: dict[str, Any] | None,
    **columns: Any,
) -> None:
    values: dict[str, Any] = {"external_id": comparable(external_id), "external_id_sent": as_sent(external_id)}
    values |= {"label": label or external_id, "metadata": metadata or {}}
    values |= {name: value for name, value in columns.items() if value is not None}
    try:
        await connection.execute(insert(identity).values(collection_id=collection_id, id=identity_id, **values))
    except IntegrityError as error:
        if "uq_identity" not in str(error.orig):
            raise CollectionNotFound("the collection was deleted during the request", pointer="/to") from error
        raise IdentityExists(
            f"an identity with the external_id {external_id!r} exists; choose another one, or merge the two",
            pointer="/external_id",
        ) from error


async def _recompute(connection: AsyncConnection, collection_id: uuid.UUID, identity_ids: Sequence[uuid.UUID]) -> None:
    """Updates locked identities and recomputes their centroids under every model for which they have a row."""
    of_identities = identity.c.collection_id == collection_id, identity.c.id.in_(identity_ids)
    await connection.execute(update(identity).where(*of_identities).values(updated_at=func.statement_timestamp()))
    models: set[str] = set()
    for table in (template, centroid):
        statement = select(table.c.model_id).where(
            table.c.collection_id == collection_id, table.c.identity_id.in_(identity_ids)
        )
        models |= set((await connection.execute(statement.distinct())).scalars())
    await centroids.recompute(connection, collection_id, identity_ids, sorted(models))
